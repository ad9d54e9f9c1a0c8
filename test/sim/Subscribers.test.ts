/**
 * The checker against what subscribers saw: nothing is found where each event came once and in order, and whatever is
 * missed, repeated, out of order, made up or refused is named as G5.
 */
import { describe, expect, it } from "vitest"
import { check } from "../../sim/Checker.ts"
import type { Entry } from "../../sim/History.ts"
import { bodyOf, good } from "./CheckerGood.ts"

const options = { progressMicrosMax: 1_000_000, queueEventsMax: 100, queueBytesMax: 100_000 }

/** What the checker says where a subscriber of `t.a` saw these of the events that it was to see. */
const judged = (
  from: "the beginning" | "now",
  spoil: (events: ReadonlyArray<string>) => ReadonlyArray<string>
): ReadonlyArray<string> => {
  const run = good()
  const events = bodyOf(run, run.stream)
    .split("\n")
    .filter((line) => line !== "")
  const calm = run.history.findIndex(({ kind }) => kind === "calm")
  const { at } = run.history[calm] as Entry
  const subscriber = "subscriber-0"
  const seen = spoil(events).map((event): Entry => ({ kind: "followed", at, subscriber, event }))
  const history = [
    ...run.history.slice(0, calm),
    { kind: "subscribes", at, subscriber, topic: "t.a", from } as const,
    ...seen,
    ...run.history.slice(calm)
  ]
  return check(history, (sql) => run.model.query(sql), options).map(
    ({ guarantee, detail }) => `${guarantee} ${detail}`
  )
}

describe("what a subscriber saw", () => {
  it("is good where it is all that matches, from the beginning or from some moment on", () => {
    expect(judged("the beginning", (events) => events)).toEqual([])
    expect(judged("now", (events) => events.slice(2))).toEqual([])
    expect(judged("now", () => [])).toEqual([])
  })

  it.each<[string, (events: ReadonlyArray<string>) => ReadonlyArray<string>, RegExp]>([
    ["misses the first event", (events) => events.slice(1), /^G5 subscriber-0 missed t\.a\/e1 at 1/],
    [
      "misses one in between",
      (events) => [...events.slice(0, 2), ...events.slice(3)],
      /^G5 subscriber-0 missed/
    ],
    ["misses the last", (events) => events.slice(0, -1), /^G5 subscriber-0 missed/],
    ["sees nothing", () => [], /^G5 subscriber-0 missed/],
    ["sees one twice", (events) => [...events.slice(0, 2), ...events.slice(1)], /2 was sent after 2/],
    ["sees two out of order", ([a = "", b = "", ...rest]) => [b, a, ...rest], /1 was sent after 2/],
    [
      "sees what is not there",
      ([a = "", ...rest]) => [a.replace('"e1"', '"made-up"'), ...rest],
      /t\.a\/made-up was seen at 1, and is not there/
    ],
    [
      "sees what it did not ask for",
      ([a = "", ...rest]) => [a.replace('"t.a"', '"t.b"'), ...rest],
      /t\.b\/e1 was not asked for/
    ],
    ["sees no event", ([_, ...rest]) => ["{}", ...rest], /is not what the contract says/]
  ])("is bad where it %s", (_name, spoil, says) => {
    const violations = judged("the beginning", spoil)
    expect(violations.join("\n")).toMatch(new RegExp(says, "m"))
    for (const violation of violations) expect(violation).toMatch(/^G5 /)
  })
})
