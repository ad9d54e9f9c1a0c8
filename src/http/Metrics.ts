/**
 * `GET /metrics`: the service's figures for Prometheus. What the process has counted stands beside what the store says
 * at this moment; where the store cannot be read, its figures are left out and the rest is told all the same.
 */
import { HttpServerResponse } from "@effect/platform"
import { Clock, Effect, Option } from "effect"
import { Intake, type IntakeLevel, type Submission } from "../pipeline/Intake.ts"
import type { Availability } from "../store/Availability.ts"
import { EventStore, type EventStoreShape } from "../store/EventStore.ts"
import { exposition } from "../telemetry/Exposition.ts"
import { type Figures, makeFigures } from "../telemetry/Figures.ts"
import { Metrics, type MetricsShape, secondsBetween } from "../telemetry/Metrics.ts"
import { ProcessFigures } from "../telemetry/ProcessFigures.ts"
import { metricsContentType, version } from "./Api.ts"
import { isReady } from "./Health.ts"
import { handlersOf } from "./Routes.ts"

/** How many topics have series of their own: the first that were created, so that no series ever goes away. */
const topicsMax = 100

/** The label of all other topics; no topic can have this name. */
const otherTopics = "(other)"

const eventFigures = (
  { counter, gauge }: Figures,
  [books, topics]: Effect.Effect.Success<ReturnType<EventStoreShape["booksByTopic"]>>
): void => {
  const count = (topic: string, outcome: string, value: number) =>
    counter("sekali_events_received_total", "Deliveries in committed transactions, by topic and outcome.", {
      topic,
      outcome
    }).update(value)
  const rest = {
    events: books.uniqueProcessed,
    duplicates: books.duplicateDropped,
    conflicts: books.conflicts
  }
  const tell = (topic: string, { events, duplicates, conflicts }: typeof rest) => {
    count(topic, "stored", events)
    count(topic, "duplicate", duplicates - conflicts)
    count(topic, "conflict", conflicts)
  }
  for (const book of topics) {
    tell(book.topic, book)
    rest.events -= book.events
    rest.duplicates -= book.duplicates
    rest.conflicts -= book.conflicts
  }
  tell(otherTopics, rest)
  gauge("sekali_topics", "Topics.").update(books.topicsTotal)
  gauge("sekali_last_offset", "The greatest offset that was given out.").update(books.lastOffset)

  const { sources, gapsOpen, declared, late, reused } = books.sequences
  gauge("sekali_sequences", "Series: pairs of a topic and a source that numbers its events.").update(sources)
  gauge("sekali_sequence_gaps_open", "Gaps in sequences whose numbers are waited for.").update(gapsOpen)
  counter("sekali_sequence_declared_missing_total", "Numbers that were ever given up.").update(declared)
  gauge("sekali_sequence_missing", "Numbers that were given up and have not come.").update(declared - late)
  counter("sekali_sequence_late_events_total", "Events that came after their number was given up.").update(
    late
  )
  counter(
    "sekali_sequence_reused_total",
    "Events with a number that an earlier one of their series has."
  ).update(reused)
}

const queueFigures = (
  { gauge }: Figures,
  level: IntakeLevel,
  oldest: Option.Option<Submission>,
  now: bigint
): void => {
  gauge("sekali_queue_events", "Events that wait for their commit.").update(level.events)
  gauge("sekali_queue_events_limit", "How many events may wait.").update(level.eventsMax)
  gauge("sekali_queue_bytes", "Bytes of request bodies that are held.").update(level.bytes)
  gauge("sekali_queue_bytes_limit", "How many bytes may be held.").update(level.bytesMax)
  const lag = Option.match(oldest, {
    onNone: () => 0,
    onSome: ({ receivedAt }) => secondsBetween(receivedAt, now)
  })
  gauge("sekali_processing_lag_seconds", "The age of the oldest submission that waits.").update(lag)
}

const subscriberFigures = (
  { gauge }: Figures,
  subscribers: MetricsShape["subscribers"],
  lastOffset: number | undefined
): void => {
  gauge("sekali_stream_subscribers", "Readers that events are streamed to.").update(subscribers.size)
  if (lastOffset === undefined) return
  const behind = [...subscribers].reduce(
    (most, { deliveredTo }) => Math.max(most, lastOffset - deliveredTo()),
    0
  )
  gauge("sekali_stream_lag_offsets", "By how many offsets the slowest of them is behind.").update(behind)
}

const availabilityFigures = ({ gauge }: Figures, { day, month }: Availability): void => {
  for (const [window, { share, downtimeSeconds }] of Object.entries({ "24h": day, "30d": month })) {
    const [available, down] = ["The share of time with heartbeats.", "Time without heartbeats."]
    gauge("sekali_availability_ratio", available, { window }).update(share)
    gauge("sekali_downtime_seconds", down, { window }).update(downtimeSeconds)
  }
}

const sizeFigures = (
  { gauge }: Figures,
  size: Option.Option<{ readonly database: number; readonly log: number }>,
  events: number | undefined
): void => {
  if (Option.isNone(size)) return
  const { database, log } = size.value
  gauge("sekali_database_bytes", "Size of the database.").update(database)
  gauge("sekali_database_wal_bytes", "Size of its write-ahead log.").update(log)
  if (events !== undefined && events > 0) {
    gauge("sekali_database_event_bytes", "Bytes of the database for each stored event.").update(
      database / events
    )
  }
}

const figures = Effect.gen(function* () {
  const metrics = yield* Metrics
  const store = yield* EventStore
  // Before the books, which may have to wait for a commit: the level is that of the moment of the question.
  const intake = yield* Intake
  const level = yield* intake.level
  const oldest = yield* intake.oldest
  const now = yield* Clock.currentTimeNanos
  const read = makeFigures()
  read.gauge("sekali_build_info", "The version of Sekali.", { version }).update(1)
  read.gauge("sekali_ready", "1 if the service can store events.").update((yield* isReady) ? 1 : 0)
  queueFigures(read, level, oldest, now)
  const books = Option.getOrUndefined(yield* Effect.option(store.booksByTopic(topicsMax)))
  if (books !== undefined) eventFigures(read, books)
  subscriberFigures(read, metrics.subscribers, books?.[0].lastOffset)
  const availability = yield* Effect.option(store.availability)
  if (Option.isSome(availability)) availabilityFigures(read, availability.value)
  sizeFigures(read, yield* store.size, books?.[0].uniqueProcessed)
  const process = yield* Effect.flatMap(ProcessFigures, ({ figures }) => figures)
  return [...read.snapshot(), ...metrics.snapshot(), ...process]
})

/** The handlers of the group `metrics`. */
export const handlers = handlersOf("metrics", {
  metrics: () =>
    Effect.map(figures, (figures) =>
      HttpServerResponse.text(exposition(figures), { contentType: metricsContentType })
    )
})
