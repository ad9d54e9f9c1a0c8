/**
 * Figures: of many values, of several rounds, and of a process as Linux tells them.
 */
import { readFileSync } from "node:fs"
import { availableParallelism, cpus } from "node:os"

/** The figure of several rounds: the one in the middle, and the outermost. */
export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

/** The value below which the share of the values lies. */
export const quantile = (values: ReadonlyArray<number>, share: number): number => {
  const sorted = Float64Array.from(values).sort()
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

export const mean = (values: ReadonlyArray<number>): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length

/** How long requests took, in milliseconds. */
export interface Latency {
  readonly mean: number
  readonly median: number
  readonly p99: number
  readonly max: number
}

export const latencyOf = (milliseconds: ReadonlyArray<number>): Latency => ({
  mean: mean(milliseconds),
  median: quantile(milliseconds, 0.5),
  p99: quantile(milliseconds, 0.99),
  max: quantile(milliseconds, 1)
})

export const spreadOf = (values: ReadonlyArray<number>): Spread => {
  const sorted = [...values].sort((left, right) => left - right)
  const at = (index: number) => sorted[index] ?? Number.NaN
  const middle = sorted.length >> 1
  return {
    median: sorted.length % 2 === 1 ? at(middle) : (at(middle - 1) + at(middle)) / 2,
    min: at(0),
    max: at(sorted.length - 1)
  }
}

/** What one is of the other, taken within each round, because what disturbs a round disturbs both. */
export const ratioOf = (ours: ReadonlyArray<number>, theirs: ReadonlyArray<number>): Spread =>
  spreadOf(ours.map((value, round) => value / (theirs[round] ?? Number.NaN)))

const mebibytes = (pid: number, field: string): number => {
  const [, kibibytes = "NaN"] =
    new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? []
  return Number(kibibytes) / 1024
}

/** The resident memory of a process, in MiB. */
export const memoryOf = (pid: number): number => mebibytes(pid, "VmRSS")

/** The most that a process has ever had resident, in MiB. */
export const peakMemoryOf = (pid: number): number => mebibytes(pid, "VmHWM")

/** The CPU time that all threads of a process have used, in seconds; Linux tells it in hundredths. */
export const cpuOf = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? []
  return (Number(fields[11]) + Number(fields[12])) / 100
}

/** Where this was measured. */
export const machine = () => ({
  node: process.version,
  cpus: availableParallelism(),
  model: cpus()[0]?.model ?? "unknown"
})
