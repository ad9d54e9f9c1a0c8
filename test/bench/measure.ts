/**
 * One measurement: a fresh service with a fresh database, a load, and what the service then says of itself.
 */
import { statSync } from "node:fs"
import { join } from "node:path"
import { stats } from "../support/client.ts"
import { cleanUp, serve, temporaryFolder } from "../support/process.ts"
import { makeLoad, send, type Workload } from "./load.ts"

/** What was measured; times in milliseconds. */
export interface Measurement {
  readonly received: number
  readonly unique: number
  readonly dropped: number
  readonly duplicateRate: number
  readonly milliseconds: number
  readonly eventsPerSecond: number
  readonly latencyMean: number
  readonly latencyMedian: number
  readonly latencyP99: number
  readonly accuracy: number
  /** The database file after the service has stopped, divided by the events in it. */
  readonly bytesPerEvent: number
  /** From the start of the process until it is ready. */
  readonly startMilliseconds: number
}

/** The value below which the share of the values lies. */
export const quantile = (values: ReadonlyArray<number>, share: number): number =>
  [...values].sort((left, right) => left - right)[
    Math.min(values.length - 1, Math.floor(values.length * share))
  ] ?? Number.NaN

const mean = (values: ReadonlyArray<number>): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length

/** Measures a workload of so many events, after some that do not count. */
export const measure = async (
  workload: Workload,
  events: number,
  warmUpEvents: number,
  progress: (events: number) => void
): Promise<Measurement> => {
  const database = join(temporaryFolder(), "sekali.db")
  try {
    const service = await serve({ database })
    if (warmUpEvents > 0) await send(service.port, makeLoad(warmUpEvents, "warm-up"), workload)
    const before = await stats(service.url)
    const load = makeLoad(events, "service-a")
    const { milliseconds, latencies, accuracy } = await send(service.port, load, workload, progress)
    const after = await stats(service.url)
    const received = after.received - before.received
    const unique = after.unique_processed - before.unique_processed
    if (received !== events || unique !== load.unique) {
      throw new Error(
        `of ${events} events, ${load.unique} of them unique, it received ${received} and stored ${unique}`
      )
    }
    service.kill("SIGTERM")
    await service.ended
    return {
      received,
      unique,
      dropped: after.duplicate_dropped - before.duplicate_dropped,
      duplicateRate: (received - unique) / received,
      milliseconds,
      eventsPerSecond: (events / milliseconds) * 1000,
      latencyMean: mean(latencies),
      latencyMedian: quantile(latencies, 0.5),
      latencyP99: quantile(latencies, 0.99),
      accuracy,
      bytesPerEvent: statSync(database).size / after.unique_processed,
      startMilliseconds: service.startMilliseconds
    }
  } finally {
    await cleanUp()
  }
}

/** The round in the middle by throughput. */
export const medianRound = (rounds: ReadonlyArray<Measurement>): Measurement => {
  const sorted = [...rounds].sort((left, right) => left.eventsPerSecond - right.eventsPerSecond)
  const middle = sorted[sorted.length >> 1]
  if (middle === undefined) throw new Error("there was no round")
  return middle
}
