/**
 * What this process counts while it works, from zero at its start. What the store knows anyway (events by outcome,
 * sequences, sizes) is not counted a second time: it is read where the figures are asked for, and survives restarts.
 *
 * To count is a plain call that allocates nothing, so that it can stand on the way of an event.
 */
import { Context, Layer, MetricBoundaries, type MetricHook } from "effect"
import { type Figure, makeFigures } from "./Figures.ts"

/** A reader that is sent events as they are stored. */
export interface Subscriber {
  /** The offset up to which it has everything. */
  readonly deliveredTo: () => number
}

/** The figures of one service. Durations are in seconds. */
export interface MetricsShape {
  /** Counts an answer. */
  readonly answered: (route: string, status: number) => void
  /** Requests to publish, and those of them that were sent before. */
  readonly publishAttempts: MetricHook.MetricHook.Counter<number>
  readonly publishRetries: MetricHook.MetricHook.Counter<number>
  /** How long commits took that succeeded, and how many events they had. */
  readonly commitSeconds: MetricHook.MetricHook.Histogram
  readonly commitEvents: MetricHook.MetricHook.Histogram
  /** From when a request had arrived until its events were on disk. */
  readonly durableSeconds: MetricHook.MetricHook.Histogram
  /** How long after the first delivery of an event each of its duplicates came. */
  readonly duplicateAgeSeconds: MetricHook.MetricHook.Histogram
  /** Counts a use of the store that failed, by the kind of trouble. */
  readonly storeFailed: (trouble: string) => void
  readonly connectionRebuilds: MetricHook.MetricHook.Counter<number>
  /** How long the last start took, from the start of the process where that is known, until it served. */
  readonly recoverySeconds: MetricHook.MetricHook.Gauge<number>
  /**
   * The readers that events are streamed to. A stream adds itself when it begins and deletes itself when it ends, and
   * `/metrics` tells how many there are and how far the slowest is behind.
   */
  readonly subscribers: Set<Subscriber>
  readonly snapshot: () => ReadonlyArray<Figure>
}

/** What this process counts. */
export class Metrics extends Context.Tag("sekali/Metrics")<Metrics, MetricsShape>() {}

const boundaries = (...values: ReadonlyArray<number>) => MetricBoundaries.fromIterable(values)

const latencies = boundaries(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

const sizes = boundaries(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)

const minute = 60
const hour = 60 * minute
const day = 24 * hour

const ages = boundaries(
  1,
  10,
  minute,
  10 * minute,
  hour,
  6 * hour,
  day,
  3 * day,
  7 * day,
  14 * day,
  30 * day,
  90 * day
)

/** Kinds of trouble, and statuses of `/publish`, that have a series from the start: so that their first rise is seen. */
const troubles = ["full", "io", "busy", "unexpected", "damaged"]
const publishStatuses = [202, 500, 503]

/** The figure of a key, made when it is asked for first. */
const memoized = <Key, Value>(make: (key: Key) => Value): ((key: Key) => Value) => {
  const known = new Map<Key, Value>()
  return (key) => {
    const found = known.get(key)
    if (found !== undefined) return found
    const made = make(key)
    known.set(key, made)
    return made
  }
}

const make = (): MetricsShape => {
  const { counter, gauge, histogram, snapshot } = makeFigures()
  const answers = memoized((route: string) =>
    memoized((status: number) =>
      counter("sekali_http_requests_total", "Requests answered, by route and status.", {
        route,
        status: String(status)
      })
    )
  )
  const failures = memoized((trouble: string) =>
    counter("sekali_store_errors_total", "Uses of the store that failed, by the kind of trouble.", {
      trouble
    })
  )
  for (const status of publishStatuses) answers("/publish")(status)
  for (const trouble of troubles) failures(trouble)
  return {
    answered: (route, status) => answers(route)(status).update(1),
    publishAttempts: counter(
      "sekali_publish_attempts_total",
      "Requests to publish, whatever became of them."
    ),
    publishRetries: counter(
      "sekali_publish_retries_total",
      "Requests to publish that their publishers had sent before."
    ),
    commitSeconds: histogram(
      "sekali_commit_duration_seconds",
      "How long commits of events took, until they were on disk.",
      latencies
    ),
    commitEvents: histogram("sekali_commit_events", "Events in a commit.", sizes),
    durableSeconds: histogram(
      "sekali_receipt_to_durable_seconds",
      "From when a request to publish had arrived until its events were on disk.",
      latencies
    ),
    duplicateAgeSeconds: histogram(
      "sekali_duplicate_age_seconds",
      "How long after the first delivery of an event a duplicate of it came.",
      ages
    ),
    storeFailed: (trouble) => failures(trouble).update(1),
    connectionRebuilds: counter(
      "sekali_store_connection_rebuilds_total",
      "Connections to the database that had to be opened anew."
    ),
    recoverySeconds: gauge(
      "sekali_recovery_seconds",
      "How long the last start took, until the service served."
    ),
    subscribers: new Set(),
    snapshot
  }
}

/** Counts from zero. */
export const layer: Layer.Layer<Metrics> = Layer.sync(Metrics, make)

/** Seconds between two times of the monotonic clock. */
export const secondsBetween = (from: bigint, to: bigint): number => Number(to - from) / 1e9
