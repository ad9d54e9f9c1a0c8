/**
 * What is printed of measurements, beside the figures of the course report that this project started from: the same
 * shape of load (5,000 events, 1,000 of them duplicates, 10 topics) on its own design and machine, with one CPU.
 */
import type { Measurement } from "./measure.ts"

/** What the course report measured of its design. */
export const courseReport = {
  eventsPerSecond: 735,
  latencyMean: 2.8,
  latencyP99: 12,
  bytesPerEvent: 156
} as const

const decimals = (digits: number) => (value: number) =>
  value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })

const share = (value: number) => `${decimals(1)(value * 100)} %`

const rows: ReadonlyArray<readonly [name: string, of: keyof Measurement, show: (value: number) => string]> = [
  ["received", "received", decimals(0)],
  ["unique", "unique", decimals(0)],
  ["duplicates dropped", "dropped", decimals(0)],
  ["duplicate rate", "duplicateRate", share],
  ["deduplication accuracy", "accuracy", share],
  ["time, ms", "milliseconds", decimals(0)],
  ["throughput, events/s", "eventsPerSecond", decimals(0)],
  ["latency of a request, mean, ms", "latencyMean", decimals(2)],
  ["latency of a request, median, ms", "latencyMedian", decimals(2)],
  ["latency of a request, p99, ms", "latencyP99", decimals(2)],
  ["stored bytes per event", "bytesPerEvent", decimals(0)],
  ["start of the process, ms", "startMilliseconds", decimals(0)]
]

/** A table with a column for each measurement and one for the course report. */
export const table = (measured: ReadonlyArray<readonly [title: string, Measurement]>): string => {
  const lines = [
    ["", ...measured.map(([title]) => title), "course report"],
    ...rows.map(([name, of, show]) => {
      const reported = of in courseReport ? courseReport[of as keyof typeof courseReport] : undefined
      return [
        name,
        ...measured.map(([, measurement]) => show(measurement[of])),
        reported === undefined ? "" : String(reported)
      ]
    })
  ]
  const widths = lines[0]?.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? "").length)))
  return lines
    .map((line) =>
      line
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths?.[column] ?? 0) : cell.padStart((widths?.[column] ?? 0) + 3)
        )
        .join("")
        .trimEnd()
    )
    .join("\n")
}
