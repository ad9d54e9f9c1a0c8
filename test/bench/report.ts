/**
 * What is printed: tables of figures, with what each is of another, and beside the loads that the course report of this
 * project's beginning measured as well (5,000 events, 1,000 of them duplicates, 10 topics) its figures for its own
 * design and machine, with one CPU.
 */
import { ratioOf, type Spread, spreadOf } from "./figures.ts"
import type { Measurement } from "./measure.ts"

/** What the course report measured of its design. */
export const courseReport = {
  eventsPerSecond: 735,
  latencyMean: 2.8,
  latencyP99: 12,
  bytesPerEvent: 156
} as const

/** A number with its thousands apart, or a dash where there was nothing to measure. */
export const number = (value: number, digits = 0): string =>
  Number.isNaN(value)
    ? "–"
    : value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })

export const percent = (share: number): string => `${number(share * 100, 1)} %`

/** A median with what it lies between, where there is more than one value. */
export const spread = ({ median, min, max }: Spread, digits = 0): string =>
  min === max
    ? number(median, digits)
    : `${number(median, digits)} (${number(min, digits)}..${number(max, digits)})`

/** Lines of cells in columns; the first column is of words, all others of figures. */
export const table = (lines: ReadonlyArray<ReadonlyArray<string>>): string => {
  const columns = Math.max(...lines.map((line) => line.length))
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...lines.map((line) => (line[column] ?? "").length))
  )
  const shown = (line: ReadonlyArray<string>) =>
    line.map((cell, column) =>
      column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart((widths[column] ?? 0) + 3)
    )
  return lines.map((line) => shown(line).join("").trimEnd()).join("\n")
}

/** The rounds of each contender under one load. */
export type Rounds = Readonly<Record<string, ReadonlyArray<Measurement>>>

const figures: ReadonlyArray<readonly [title: string, of: keyof Measurement, digits: number]> = [
  ["events/s", "eventsPerSecond", 0],
  ["latency of a request, mean, ms", "latencyMean", 1],
  ["latency of a request, p50, ms", "latencyMedian", 1],
  ["latency of a request, p99, ms", "latencyP99", 1],
  ["CPU of the server, µs an event", "cpuMicrosPerEvent", 1],
  ["peak memory, MiB", "peakMebibytes", 0],
  ["stored bytes an event", "bytesPerEvent", 0],
  ["start of the process, ms", "startMilliseconds", 0]
]

/** The events a second of each contender's rounds. */
export const ratesOf = (rounds: ReadonlyArray<Measurement> = []): ReadonlyArray<number> =>
  rounds.map(({ eventsPerSecond }) => eventsPerSecond)

/** A column for each contender, and one for the course report where its load was like this one. */
export const measurementTable = (rounds: Rounds, withCourseReport = false): string => {
  const all = Object.values(rounds)
  return table([
    ["", ...Object.keys(rounds), ...(withCourseReport ? ["course report"] : [])],
    ...figures.map(([title, of, digits]) => [
      title,
      ...all.map((measured) => spread(spreadOf(measured.map((measurement) => measurement[of])), digits)),
      ...(withCourseReport && of in courseReport
        ? [String(courseReport[of as keyof typeof courseReport])]
        : [])
    ])
  ])
}

/** A sentence on what the service did with a load. */
export const booksOf = (all: ReadonlyArray<Measurement>): string => {
  const [first] = all
  if (first === undefined) throw new Error("there was no round")
  const { received, unique, dropped, duplicateRate } = first
  const accuracy = Math.min(...all.map((measurement) => measurement.accuracy))
  return (
    `Each round of sekali: ${number(received)} received, ${number(unique)} unique, ${number(dropped)} duplicates dropped ` +
    `(${percent(duplicateRate)}); accuracy of deduplication ${percent(accuracy)}.`
  )
}

/** How the events a second of one contender relate to those of each other one. */
export const ratiosTo = (rounds: Rounds, name: string): Readonly<Record<string, Spread>> =>
  Object.fromEntries(
    Object.keys(rounds)
      .filter((other) => other !== name)
      .map((other) => [other, ratioOf(ratesOf(rounds[name]), ratesOf(rounds[other]))])
  )
