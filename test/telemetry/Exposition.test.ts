/**
 * Figures as text: every type, and whatever stands in a label.
 */
import { MetricBoundaries } from "effect"
import { expect, it } from "vitest"
import { exposition } from "../../src/telemetry/Exposition.ts"
import { makeFigures } from "../../src/telemetry/Figures.ts"

it("writes each metric with its help, its type and its series together", () => {
  const { counter, gauge, histogram, snapshot } = makeFigures()
  counter("one_total", "One\nand \\ more.", { label: 'a "b"\\\n' }).update(2)
  gauge("two", "Two.").update(-0.5)
  counter("one_total", "One\nand \\ more.", { label: "c" }).update(1e21)
  const spread = histogram("three_seconds", "Three.", MetricBoundaries.fromIterable([0.1, 1]))
  for (const value of [0.05, 0.1, 0.5, 7]) spread.update(value)
  gauge("four", "Four.").update(Number.POSITIVE_INFINITY)
  const families = exposition(snapshot()).trimEnd().split("# HELP ").slice(1).sort()
  expect(families.map((family) => family.trimEnd().split("\n"))).toEqual([
    ["four Four.", "# TYPE four gauge", "four +Inf"],
    [
      "one_total One\\nand \\\\ more.",
      "# TYPE one_total counter",
      'one_total{label="a \\"b\\"\\\\\\n"} 2',
      'one_total{label="c"} 1e+21'
    ],
    [
      "three_seconds Three.",
      "# TYPE three_seconds histogram",
      'three_seconds_bucket{le="0.1"} 2',
      'three_seconds_bucket{le="1"} 3',
      'three_seconds_bucket{le="+Inf"} 4',
      "three_seconds_sum 7.65",
      "three_seconds_count 4"
    ],
    ["two Two.", "# TYPE two gauge", "two -0.5"]
  ])
})

it("gives the same figure for the same name and labels, and another one in another registry", () => {
  const figures = makeFigures()
  figures.counter("one_total", "One.", { a: "1" }).update(1)
  figures.counter("one_total", "One.", { a: "1" }).update(1)
  expect(figures.counter("one_total", "One.", { a: "1" }).get().count).toBe(2)
  expect(makeFigures().counter("one_total", "One.", { a: "1" }).get().count).toBe(0)
})
