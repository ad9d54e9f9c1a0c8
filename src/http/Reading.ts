/**
 * The handlers that read: events, the books, topics, sources, conflicts. Each answer is one committed state of the store.
 */
import { HttpServerResponse } from "@effect/platform"
import { Clock, Effect } from "effect"
import { NotFound } from "../domain/Errors.ts"
import { isoTime } from "../domain/Timestamp.ts"
import { Intake } from "../pipeline/Intake.ts"
import { EventStore, type ListingPage, type SourceBook, type SourcesPage } from "../store/EventStore.ts"
import { Metrics } from "../telemetry/Metrics.ts"
import { lastEventIdHeader, limitDefault } from "./Api.ts"
import { attemptCounts } from "./Attempts.ts"
import { eventJson, eventsPage, eventsStream } from "./Events.ts"
import { handlersOf } from "./Routes.ts"
import { subscription } from "./Subscription.ts"

const wantsLines = (accept: string | undefined): boolean =>
  accept?.toLowerCase().includes("application/x-ndjson") ?? false

const stats = Effect.fnUntraced(function* (startedAt: bigint) {
  // Before the books, which may have to wait for a commit: the level is that of the moment of the question.
  const level = yield* Effect.flatMap(Intake, (intake) => intake.level)
  const books = yield* Effect.flatMap(EventStore, (store) => store.books)
  const { day, month } = yield* Effect.flatMap(EventStore, (store) => store.availability)
  const metrics = yield* Metrics
  const now = yield* Clock.currentTimeNanos
  return {
    received: books.received,
    unique_processed: books.uniqueProcessed,
    duplicate_dropped: books.duplicateDropped,
    conflicts: books.conflicts,
    topics: books.topics,
    topics_total: books.topicsTotal,
    last_offset: books.lastOffset,
    store_id: books.storeId,
    epoch: books.epoch,
    uptime: Number((now - startedAt) / 1_000_000n) / 1000,
    duplicate_rate: books.received === 0 ? 0 : books.duplicateDropped / books.received,
    queue: {
      events: level.events,
      events_max: level.eventsMax,
      bytes: level.bytes,
      bytes_max: level.bytesMax
    },
    publishes: attemptCounts(metrics),
    sequences: {
      sources: books.sequences.sources,
      gaps_open: books.sequences.gapsOpen,
      ...givenUp(books.sequences)
    },
    availability: {
      last_24_hours: { share: day.share, downtime_seconds: day.downtimeSeconds },
      last_30_days: { share: month.share, downtime_seconds: month.downtimeSeconds },
      recovery_seconds: metrics.recoverySeconds.get().value
    }
  }
})

/** What was given up of sequences: declared = still missing + came late. */
const givenUp = ({ declared, late, reused }: Pick<SourceBook, "declared" | "late" | "reused">) => ({
  declared_missing: declared,
  missing: declared - late,
  late,
  sequence_reused: reused
})

const known = Effect.fnUntraced(function* (topic: string, eventId: string) {
  const store = yield* EventStore
  const found = yield* Effect.flatten(store.lookup({ topic, eventId })).pipe(
    Effect.catchTag(
      "NoSuchElementException",
      () => new NotFound({ detail: `There is no event ${eventId} in the topic ${topic}.` })
    )
  )
  const body = eventJson(found.event, {
    duplicates: found.duplicates,
    conflicts: found.conflicts,
    last_duplicate_at: found.lastDuplicateAt === null ? null : isoTime(found.lastDuplicateAt)
  })
  return HttpServerResponse.text(body, { contentType: "application/json" })
})

const topics = Effect.fnUntraced(function* (page: ListingPage<string>) {
  const store = yield* EventStore
  const { items, more } = yield* store.topics(page)
  return {
    count: items.length,
    topics: items.map((book) => ({
      topic: book.topic,
      events: book.events,
      duplicates: book.duplicates,
      conflicts: book.conflicts,
      first_offset: book.firstOffset,
      last_offset: book.lastOffset,
      last_event_time: book.lastEventTime
    })),
    next: items.at(-1)?.topic ?? page.after ?? "",
    more
  }
})

const conflicts = Effect.fnUntraced(function* (page: ListingPage<number>) {
  const store = yield* EventStore
  const { items, more } = yield* store.conflicts(page)
  return {
    count: items.length,
    conflicts: items.map((key) => ({
      topic: key.topic,
      event_id: key.eventId,
      offset: key.offset,
      conflicts: key.conflicts,
      last_conflict_at: isoTime(key.lastConflictAt),
      last_conflict_source: key.lastConflictSource
    })),
    next: items.at(-1)?.offset ?? page.after ?? 0,
    more
  }
})

const sources = Effect.fnUntraced(function* (page: SourcesPage) {
  const store = yield* EventStore
  const { items, more, scannedTo } = yield* store.sources(page)
  return {
    count: items.length,
    sources: items.map((book) => ({
      topic: book.topic,
      source: book.source,
      first: book.first,
      contiguous: book.contiguous,
      highest: book.highest,
      gaps_open: book.gapsOpen,
      ...givenUp(book),
      gaps: book.gaps.map(({ first, last, openedAt }) => ({ first, last, opened_at: isoTime(openedAt) }))
    })),
    next: scannedTo,
    more
  }
})

/** The handlers of the group `reading`, of a service that has begun to serve at this time of the monotonic clock. */
export const handlers = (startedAt: bigint) =>
  handlersOf("reading", {
    events: ({ request, urlParams }) =>
      wantsLines(request.headers["accept"]) ? eventsStream(urlParams) : eventsPage(urlParams),
    subscription: ({ headers, urlParams }) => subscription(urlParams, headers[lastEventIdHeader]),
    event: ({ path }) => known(path.topic, path.event_id),
    conflicts: ({ urlParams }) =>
      conflicts({ after: urlParams.after, limit: urlParams.limit ?? limitDefault }),
    stats: () => stats(startedAt),
    sources: ({ urlParams: { topic, source, after, limit } }) =>
      sources({ topic: topic?.value, source, after, limit: limit ?? limitDefault }),
    topics: ({ urlParams }) => topics({ after: urlParams.after, limit: urlParams.limit ?? limitDefault })
  })
