/**
 * The store's port over SQLite. An append is one transaction of a few statements over many rows, not a statement an
 * event; statements have few texts, so that each is prepared once. The index of keys (`keys/KeyIndex.ts`) names the
 * events that may have the key of one that comes; whether they do, and whether they say the same, is compared here.
 *
 * Every statement stops the whole process while it runs, so reads walk through bounded windows of offsets.
 */
import type { SqlClient } from "@effect/sql"
import type { SqlError } from "@effect/sql/SqlError"
import { Clock, Context, Effect, Layer, Option } from "effect"
import { ReadingLimits, SequenceLimits } from "../Config.ts"
import { type CursorError, CursorOutside, type StoreError, type StoreRefused } from "../domain/Errors.ts"
import { type Event, type Outcome, type StoredEvent, sameContent } from "../domain/Event.ts"
import { compareInstants, parseTimestamp } from "../domain/Timestamp.ts"
import { Metrics, type MetricsShape } from "../telemetry/Metrics.ts"
import { within } from "../telemetry/Spans.ts"
import * as Backups from "./Backups.ts"
import * as Connection from "./Connection.ts"
import { Database } from "./Database.ts"
import { cursorFault } from "./Epoch.ts"
import {
  booksTopicsMax,
  EventStore,
  type EventStoreShape,
  type Filter,
  matchesFilter,
  type Scan,
  type TopicCounts,
  type Window
} from "./EventStore.ts"
import { KeyIndex } from "./keys/KeyIndex.ts"
import { manyRows } from "./ManyRows.ts"
import { steadyClock, warnOfMissing } from "./Sequences.ts"
import { readAvailability, storeBeat } from "./SqlAvailability.ts"
import { type Due, declareDue, listSources, lookForDue, moveSeries } from "./SqlSequences.ts"

interface EventRow {
  readonly offset: number
  readonly topic: string
  readonly event_id: string
  readonly timestamp: string
  readonly source: string
  readonly payload: string
  readonly sequence: number | null
  readonly origin: string | null
  readonly processed_at: number
  readonly late: number
}

const storedEvent = (row: EventRow): StoredEvent => ({
  offset: row.offset,
  topic: row.topic,
  eventId: row.event_id,
  timestamp: row.timestamp,
  time: Option.getOrThrow(parseTimestamp(row.timestamp)),
  source: row.source,
  payload: row.payload,
  sequence: row.sequence,
  origin: row.origin,
  processedAt: row.processed_at,
  late: row.late === 1
})

/** What a batch moves in the books of one topic. */
interface TopicMove {
  readonly id: number
  events: number
  duplicates: number
  conflicts: number
  firstOffset: number | null
  lastOffset: number | null
  latest: Event | undefined
}

/** What a batch adds to the later deliveries of one stored event. */
interface RedeliveryMove {
  duplicates: number
  conflicts: number
  lastConflictSource: string | null
}

/** What is known of the event that holds the key of one that is dropped. */
type FirstDelivery = Pick<EventRow, "offset" | "source" | "payload" | "processed_at">

const only = <A>(rows: ReadonlyArray<A>): A => {
  if (rows[0] === undefined) throw new Error("the books of the store are gone")
  return rows[0]
}

/**
 * What an append needs to know of the events before it, as the last successful one has left it. It is taken out of use
 * by an append and comes back only with its success: after a failure, of which nobody knows what it has left, it is read
 * again. It is so on another connection, too: what that one recovers from the log may be more than was known.
 */
interface Memory {
  readonly sql: SqlClient.SqlClient
  readonly index: KeyIndex
  lastOffset: number
  processedAt: number
  /** The ids of topics by their names; not of all. */
  readonly topics: Map<string, number>
}

const remember = (sql: SqlClient.SqlClient): Effect.Effect<Memory, SqlError> =>
  Effect.gen(function* () {
    const books = only(
      yield* sql<{ last_offset: number; processed_at: number }>`SELECT last_offset, processed_at FROM store`
    )
    return {
      sql,
      index: yield* KeyIndex.load(sql),
      lastOffset: books.last_offset,
      processedAt: books.processed_at,
      topics: new Map()
    }
  })

/** An event of a batch, with what it would be stored under. */
interface Placed {
  readonly event: Event
  readonly topicId: number
  readonly hash: number
  readonly offset: number
}

/** Appends a batch inside the transaction that is open; gaps open at the time of the steady clock. */
const append = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  memory: Memory,
  events: ReadonlyArray<Event>,
  now: number,
  steadyNow: number
) {
  const { index, lastOffset } = memory
  const processedAt = Math.max(memory.processedAt, now)
  const created = yield* nameTopics(sql, memory.topics, events)
  const placed = events.map((event, place): Placed => {
    const topicId = memory.topics.get(event.topic) as number
    return { event, topicId, hash: index.hashOf(topicId, event.eventId), offset: lastOffset + 1 + place }
  })
  const firsts = yield* firstDeliveries(sql, index, placed)

  const topicMoves = new Map<number, TopicMove>()
  const redeliveries = new Map<number, RedeliveryMove>()
  const duplicateAges: Array<number> = []
  const fresh: Array<Placed> = []
  let conflicts = 0
  const outcomes = placed.map((each, place): Outcome => {
    const { event, topicId, hash, offset } = each
    const move = topicMoves.get(topicId) ?? emptyMove(topicId)
    topicMoves.set(topicId, move)
    const first = firsts.get(place) ?? firstInBatch(index, placed, each, lastOffset, processedAt)
    if (first === undefined) {
      index.add(hash, offset)
      fresh.push(each)
      move.events++
      move.firstOffset ??= offset
      move.lastOffset = offset
      if (move.latest === undefined || compareInstants(event.time, move.latest.time) > 0) move.latest = event
      return { outcome: "stored", offset }
    }
    const redelivery = redeliveries.get(first.offset) ?? {
      duplicates: 0,
      conflicts: 0,
      lastConflictSource: null
    }
    redeliveries.set(first.offset, redelivery)
    move.duplicates++
    redelivery.duplicates++
    if (sameContent(first, event)) {
      duplicateAges.push((processedAt - first.processed_at) / 1000)
      return { outcome: "duplicate", offset: first.offset }
    }
    conflicts++
    move.conflicts++
    redelivery.conflicts++
    redelivery.lastConflictSource = event.source
    return { outcome: "conflict", offset: first.offset }
  })

  yield* insertEvents(
    sql,
    fresh.map(({ event, topicId, offset }) => [
      offset,
      topicId,
      event.eventId,
      event.timestamp,
      event.source,
      event.payload,
      event.sequence,
      event.origin,
      processedAt
    ])
  )
  yield* moveTopics(
    sql,
    Array.from(
      topicMoves.values(),
      ({ id, events, duplicates, conflicts, firstOffset, lastOffset, latest }) => [
        id,
        events,
        duplicates,
        conflicts,
        firstOffset,
        lastOffset,
        latest?.timestamp ?? null,
        latest?.time.milliseconds ?? null,
        latest?.time.nanoseconds ?? null
      ]
    )
  )
  yield* noteRedeliveries(
    sql,
    Array.from(redeliveries, ([offset, { duplicates, conflicts, lastConflictSource }]) => [
      offset,
      duplicates,
      conflicts,
      processedAt,
      conflicts > 0 ? processedAt : null,
      lastConflictSource
    ])
  )
  memory.lastOffset += events.length
  memory.processedAt = processedAt
  yield* sql`
    UPDATE store SET
      received = received + ${events.length},
      unique_processed = unique_processed + ${fresh.length},
      duplicate_dropped = duplicate_dropped + ${events.length - fresh.length},
      conflicts = conflicts + ${conflicts},
      topics = topics + ${created},
      last_offset = last_offset + ${events.length},
      processed_at = ${processedAt}`
  const { gapsMax } = yield* SequenceLimits
  const sequenced = fresh.flatMap(({ event: { topic, source, sequence }, topicId, offset }) =>
    sequence === null ? [] : [{ offset, sequence, topicId, topic, source }]
  )
  const declared = yield* moveSeries(sql, sequenced, lastOffset, steadyNow, gapsMax)
  yield* index.settle(sql, memory.lastOffset)
  return { outcomes, declared, duplicateAges }
})

const emptyMove = (id: number): TopicMove => ({
  id,
  events: 0,
  duplicates: 0,
  conflicts: 0,
  firstOffset: null,
  lastOffset: null,
  latest: undefined
})

/** How many topics are remembered by their names. */
const topicsRememberedMax = 10_000

/** Remembers the ids of the batch's topics, creates those that are not known, and tells how many these were. */
const nameTopics = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  topics: Map<string, number>,
  events: ReadonlyArray<Event>
) {
  if (topics.size > topicsRememberedMax) topics.clear()
  const strange = new Set<string>()
  for (const { topic } of events) if (!topics.has(topic)) strange.add(topic)
  if (strange.size === 0) return 0
  const known = yield* sql<{ id: number; name: string }>`
    SELECT id, name FROM topic WHERE name IN (SELECT value FROM json_each(${JSON.stringify([...strange])}))`
  for (const { id, name } of known) topics.set(name, id)
  const unknown = [...strange].filter((name) => !topics.has(name))
  if (unknown.length === 0) return 0
  // A topic that is new gets books that the batch then moves.
  const created = yield* sql<{ id: number; name: string }>`
    INSERT INTO topic (name, events, duplicates, conflicts, first_offset, last_offset, last_event_time,
      last_event_ms, last_event_ns)
    SELECT value, 0, 0, 0, 0, 0, '', 0, 0 FROM json_each(${JSON.stringify(unknown)})
    RETURNING id, name`
  for (const { id, name } of created) topics.set(name, id)
  return unknown.length
})

/** The events that are stored under the keys of a batch, by the places of those in it. */
const firstDeliveries = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  index: KeyIndex,
  placed: ReadonlyArray<Placed>
) {
  const inRuns = yield* index.inRuns(
    sql,
    placed.map(({ hash }) => hash)
  )
  const candidates = new Map(inRuns)
  for (let place = 0; place < placed.length; place++) {
    const youngest = index.youngest((placed[place] as Placed).hash)
    if (youngest.length > 0) candidates.set(place, [...(candidates.get(place) ?? []), ...youngest])
  }
  const firsts = new Map<number, FirstDelivery>()
  if (candidates.size === 0) return firsts
  const offsets = JSON.stringify([...new Set([...candidates.values()].flat())])
  const rows = yield* sql<FirstDelivery & { readonly topic_id: number; readonly event_id: string }>`
    SELECT offset, topic_id, event_id, source, payload, processed_at FROM event
    WHERE offset IN (SELECT value FROM json_each(${offsets}))`
  const byOffset = new Map(rows.map((row) => [row.offset, row]))
  for (const [place, offsets] of candidates) {
    const { event, topicId } = placed[place] as Placed
    for (const offset of offsets) {
      const row = byOffset.get(offset)
      if (row?.topic_id === topicId && row.event_id === event.eventId) firsts.set(place, row)
    }
  }
  return firsts
})

/** The event of the batch itself that has taken this key before. */
const firstInBatch = (
  index: KeyIndex,
  placed: ReadonlyArray<Placed>,
  { event, topicId, hash }: Placed,
  lastOffset: number,
  processedAt: number
): FirstDelivery | undefined => {
  for (const offset of index.youngest(hash)) {
    const earlier = placed[offset - lastOffset - 1]
    if (earlier?.topicId !== topicId || earlier.event.eventId !== event.eventId) continue
    const { source, payload } = earlier.event
    return { offset, source, payload, processed_at: processedAt }
  }
  return undefined
}

const insertEvents = manyRows(
  9,
  (rows) => `
    INSERT INTO event (offset, topic_id, event_id, timestamp, source, payload, sequence, origin, processed_at)
    VALUES ${rows}`
)

// A topic without events is one that this batch has created: its first event is also its latest.
const isLater =
  "m.column7 IS NOT NULL AND (events = 0 OR (m.column8, m.column9) > (last_event_ms, last_event_ns))"

const moveTopics = manyRows(
  9,
  (rows) => `
    UPDATE topic SET
      events = events + m.column2,
      duplicates = duplicates + m.column3,
      conflicts = conflicts + m.column4,
      first_offset = iif(events = 0, coalesce(m.column5, 0), first_offset),
      last_offset = coalesce(m.column6, last_offset),
      last_event_time = iif(${isLater}, m.column7, last_event_time),
      last_event_ms = iif(${isLater}, m.column8, last_event_ms),
      last_event_ns = iif(${isLater}, m.column9, last_event_ns)
    FROM (VALUES ${rows}) AS m
    WHERE topic.id = m.column1`
)

const noteRedeliveries = manyRows(
  6,
  (rows) => `
    INSERT INTO redelivery (offset, duplicates, conflicts, last_duplicate_at, last_conflict_at, last_conflict_source)
    VALUES ${rows}
    ON CONFLICT (offset) DO UPDATE SET
      duplicates = redelivery.duplicates + excluded.duplicates,
      conflicts = redelivery.conflicts + excluded.conflicts,
      last_duplicate_at = excluded.last_duplicate_at,
      last_conflict_at = coalesce(excluded.last_conflict_at, redelivery.last_conflict_at),
      last_conflict_source = coalesce(excluded.last_conflict_source, redelivery.last_conflict_source)`
)

/** What of a filter is an equality that SQLite can tell; `matchesFilter` decides the rest, and has the last word. */
const equalities = (sql: SqlClient.SqlClient, { topic, eventId, source }: Filter) =>
  sql.and([
    sql`true`,
    ...(topic?._tag === "Exact" ? [sql`t.name = ${topic.topic}`] : []),
    ...(eventId === undefined ? [] : [sql`e.event_id = ${eventId}`]),
    ...(source === undefined ? [] : [sql`e.source = ${source}`])
  ])

const unfiltered = (filter: Filter): boolean => Object.values(filter).every((value) => value === undefined)

const scan = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  { filter, order, after, eventsMax }: Scan,
  lastOffset: number
) {
  const { windowRowsMax, windowBytesMax } = yield* ReadingLimits
  const rows = unfiltered(filter) ? Math.min(eventsMax, windowRowsMax) : windowRowsMax
  // First the extent of the window, by the sizes that stand in the rows' headers: payloads are not read for it.
  const sizes = yield* order === "asc"
    ? sql<{ offset: number; bytes: number }>`
        SELECT offset, octet_length(payload) AS bytes FROM event
        WHERE offset > ${after ?? 0} ORDER BY offset LIMIT ${rows + 1}`
    : sql<{ offset: number; bytes: number }>`
        SELECT offset, octet_length(payload) AS bytes FROM event
        WHERE offset < ${after ?? lastOffset + 1} ORDER BY offset DESC LIMIT ${rows + 1}`
  const within = countWithin(sizes, rows, windowBytesMax)
  const first = sizes[0]?.offset
  const last = sizes[within - 1]?.offset
  if (first === undefined || last === undefined) return { events: [], scannedTo: after ?? 0, end: true }
  const found = yield* sql<EventRow>`
    SELECT e.offset, t.name AS topic, e.event_id, e.timestamp, e.source, e.payload, e.sequence, e.origin,
      e.processed_at, e.late
    FROM event AS e CROSS JOIN topic AS t ON t.id = e.topic_id
    WHERE e.offset BETWEEN ${Math.min(first, last)} AND ${Math.max(first, last)} AND ${equalities(sql, filter)}
    ORDER BY e.offset ${sql.literal(order === "asc" ? "ASC" : "DESC")}`
  const matching = found.map(storedEvent).filter((event) => matchesFilter(filter, event))
  const events = matching.slice(0, eventsMax)
  const full = matching.length > eventsMax ? events.at(-1) : undefined
  return full === undefined
    ? { events, scannedTo: last, end: within === sizes.length }
    : { events, scannedTo: full.offset, end: false }
})

/** A step through the events of one series, by their sequence and then by their offset. */
const scanInSequence = (
  sql: SqlClient.SqlClient,
  { filter, after, eventsMax }: Scan
): Effect.Effect<Effect.Effect<Window, CursorOutside>, SqlError> =>
  Effect.gen(function* () {
    const { windowRowsMax, windowBytesMax } = yield* ReadingLimits
    const topic = filter.topic?._tag === "Exact" ? filter.topic.topic : undefined
    if (topic === undefined || filter.source === undefined) {
      return yield* Effect.dieMessage("a reading in sequence is one of a topic and a source")
    }
    const series = sql`
      topic_id = (SELECT id FROM topic WHERE name = ${topic}) AND source = ${filter.source} AND sequence IS NOT NULL`
    const [place] = yield* sql<{ sequence: number; offset: number }>`
      SELECT sequence, offset FROM event WHERE offset = ${after ?? 0} AND ${series}`
    if (place === undefined && after !== undefined && after !== 0) {
      return Effect.fail(new CursorOutside({ after }))
    }
    const from = place ?? { sequence: -1, offset: 0 }
    const sizes = yield* sql<{ sequence: number; offset: number; bytes: number }>`
      SELECT sequence, offset, octet_length(payload) AS bytes FROM event
      WHERE ${series} AND (sequence, offset) > (${from.sequence}, ${from.offset})
      ORDER BY sequence, offset LIMIT ${windowRowsMax + 1}`
    const within = countWithin(sizes, windowRowsMax, windowBytesMax)
    const last = sizes[within - 1]
    if (last === undefined) return Effect.succeed({ events: [], scannedTo: after ?? 0, end: true })
    const found = yield* sql<EventRow>`
      SELECT offset, ${topic} AS topic, event_id, timestamp, source, payload, sequence, origin, processed_at, late
      FROM event
      WHERE ${series} AND (sequence, offset) > (${from.sequence}, ${from.offset})
        AND (sequence, offset) <= (${last.sequence}, ${last.offset})
      ORDER BY sequence, offset`
    const matching = found.map(storedEvent).filter((event) => matchesFilter(filter, event))
    const events = matching.slice(0, eventsMax)
    const full = matching.length > eventsMax ? events.at(-1) : undefined
    return Effect.succeed(
      full === undefined
        ? { events, scannedTo: last.offset, end: within === sizes.length }
        : { events, scannedTo: full.offset, end: false }
    )
  })

/** How many of the rows make a window: no more than `rows`, and no more bytes than a step may read, but at least one. */
const countWithin = (
  sizes: ReadonlyArray<{ readonly bytes: number }>,
  rows: number,
  bytesMax: number
): number => {
  let bytes = 0
  let count = 0
  for (const size of sizes) {
    bytes += size.bytes
    if (count === rows || (count > 0 && bytes > bytesMax)) break
    count++
  }
  return count
}

const readBooks = Effect.fnUntraced(function* (sql: SqlClient.SqlClient) {
  const books = only(
    yield* sql<{
      received: number
      unique_processed: number
      duplicate_dropped: number
      conflicts: number
      topics: number
      last_offset: number
      store_id: string
      epoch: number
      sources: number
      gaps_open: number
      declared_missing: number
      late: number
      sequence_reused: number
    }>`
          SELECT received, unique_processed, duplicate_dropped, conflicts, topics, last_offset, store_id, sources,
            gaps_open, declared_missing, late, sequence_reused,
            (SELECT max(number) FROM epoch) AS epoch
          FROM store`
  )
  const topics = yield* sql<{
    name: string
  }>`SELECT name FROM topic ORDER BY name LIMIT ${booksTopicsMax}`
  return {
    received: books.received,
    uniqueProcessed: books.unique_processed,
    duplicateDropped: books.duplicate_dropped,
    conflicts: books.conflicts,
    topicsTotal: books.topics,
    topics: topics.map(({ name }) => name),
    lastOffset: books.last_offset,
    storeId: books.store_id,
    epoch: books.epoch,
    sequences: {
      sources: books.sources,
      gapsOpen: books.gaps_open,
      declared: books.declared_missing,
      late: books.late,
      reused: books.sequence_reused
    }
  }
})

const make = (
  connection: Connection.Connection,
  steady: Effect.Effect<number>,
  { duplicateAgeSeconds }: MetricsShape,
  size: EventStoreShape["size"]
) => {
  const { read, write } = connection
  let memory: Memory | undefined

  /** What appends know. The connection has to be held. */
  const remembered = (sql: SqlClient.SqlClient) =>
    memory?.sql === sql
      ? Effect.succeed(memory)
      : Effect.tap(remember(sql), (read) => {
          memory = read
        })

  /** Takes it out of use for an append; its success brings it back. */
  const appendRemembering = (
    sql: SqlClient.SqlClient,
    events: ReadonlyArray<Event>,
    now: number,
    steadyNow: number
  ) =>
    Effect.flatMap(remembered(sql), (taken) => {
      memory = undefined
      return Effect.map(append(sql, taken, events, now, steadyNow), (appended) => ({ ...appended, taken }))
    })

  /** Reads behind a cursor, given the last offset; fails where the cursor cannot be followed. */
  const readBehind = <A>(
    after: number | undefined,
    body: (sql: SqlClient.SqlClient, lastOffset: number) => Effect.Effect<A, SqlError>
  ): Effect.Effect<A, StoreError | CursorError> => Effect.flatten(read((sql) => behind(sql, after, body)))

  const behind = Effect.fnUntraced(function* <A>(
    sql: SqlClient.SqlClient,
    after: number | undefined,
    body: (sql: SqlClient.SqlClient, lastOffset: number) => Effect.Effect<A, SqlError>
  ) {
    const { last_offset } = only(yield* sql<{ last_offset: number }>`SELECT last_offset FROM store`)
    const fault = yield* cursorFault(sql, after, last_offset)
    return fault === undefined ? Effect.succeed(yield* body(sql, last_offset)) : Effect.fail(fault)
  })

  /**
   * When a look has found no gap at all, and on which connection, by the count of appends that began or ended with a
   * sequence: none is asked for before that has moved on.
   */
  let gapless: { readonly sql: SqlClient.SqlClient; readonly turns: number } | undefined
  let turns = 0

  const noGaps = () => gapless !== undefined && gapless.sql === connection.inUse() && gapless.turns === turns

  const lookForGaps = (due: Due) =>
    read((sql) => {
      const before = turns
      return Effect.tap(lookForDue(sql, due), (found) => {
        gapless = found === "none" ? { sql, turns: before } : undefined
      })
    })

  const writeEvents = (events: ReadonlyArray<Event>, now: number, steadyNow: number) => {
    const writing = write((sql) => appendRemembering(sql, events, now, steadyNow))
    if (events.every(({ sequence }) => sequence === null)) return writing
    turns++
    return Effect.ensuring(
      writing,
      Effect.sync(() => turns++)
    )
  }

  const appendEvents = Effect.fnUntraced(function* (events: ReadonlyArray<Event>) {
    const now = yield* Clock.currentTimeMillis
    const steadyNow = yield* steady
    const appended = yield* writeEvents(events, now, steadyNow)
    memory = appended.taken
    for (const age of appended.duplicateAges) duplicateAgeSeconds.update(age)
    yield* warnOfMissing(appended.declared)
    return appended.outcomes
  })

  return EventStore.of({
    append: (events) =>
      events.length === 0
        ? Effect.as(connection.probe, [])
        : within("EventStore.append")(appendEvents(events)),
    declareMissing: Effect.fnUntraced(function* ({ secondsMax, eventsMax }) {
      if (noGaps()) return 0
      const now = yield* steady
      const due = { now, openedBefore: now - secondsMax * 1000, eventsMax }
      if ((yield* lookForGaps(due)) !== "due") return 0
      const declared = yield* write((sql) => declareDue(sql, due))
      yield* warnOfMissing(declared)
      return declared.reduce((count, { gaps }) => count + gaps.length, 0)
    }),
    scan: (request) =>
      request.order === "sequence"
        ? Effect.flatten(readBehind(request.after, (sql) => scanInSequence(sql, request)))
        : readBehind(request.after, (sql, lastOffset) => scan(sql, request, lastOffset)),
    lookup: ({ topic, eventId }) =>
      read((sql) =>
        Effect.gen(function* () {
          const [known] = yield* sql<{ id: number }>`SELECT id FROM topic WHERE name = ${topic}`
          if (known === undefined) return Option.none()
          const { index } = yield* remembered(sql)
          const hash = index.hashOf(known.id, eventId)
          const inRuns = yield* index.inRuns(sql, [hash])
          const offsets = JSON.stringify([...index.youngest(hash), ...(inRuns.get(0) ?? [])])
          const [row] = yield* sql<
            EventRow & {
              readonly duplicates: number | null
              readonly conflicts: number | null
              readonly last_duplicate_at: number | null
            }
          >`
            SELECT e.offset, ${topic} AS topic, e.event_id, e.timestamp, e.source, e.payload, e.sequence, e.origin,
              e.processed_at, e.late, r.duplicates, r.conflicts, r.last_duplicate_at
            FROM event AS e LEFT JOIN redelivery AS r ON r.offset = e.offset
            WHERE e.offset IN (SELECT value FROM json_each(${offsets}))
              AND e.topic_id = ${known.id} AND e.event_id = ${eventId}`
          return Option.map(Option.fromNullable(row), (row) => ({
            event: storedEvent(row),
            duplicates: row.duplicates ?? 0,
            conflicts: row.conflicts ?? 0,
            lastDuplicateAt: row.last_duplicate_at
          }))
        })
      ),
    books: read(readBooks),
    booksByTopic: (topicsMax) =>
      read((sql) =>
        Effect.gen(function* () {
          const books = yield* readBooks(sql)
          // Topics are numbered from 1 in the order in which they were created.
          const topics = yield* sql<TopicCounts>`
            SELECT name AS topic, events, duplicates, conflicts FROM topic WHERE id <= ${topicsMax} ORDER BY id`
          return [books, topics] as const
        })
      ),
    topics: ({ after, limit }) =>
      read((sql) =>
        Effect.map(
          sql<{
            topic: string
            events: number
            duplicates: number
            conflicts: number
            firstOffset: number
            lastOffset: number
            lastEventTime: string
          }>`
            SELECT name AS topic, events, duplicates, conflicts, first_offset AS "firstOffset",
              last_offset AS "lastOffset", last_event_time AS "lastEventTime"
            FROM topic WHERE name > ${after ?? ""} ORDER BY name LIMIT ${limit + 1}`,
          (rows) => ({ items: rows.slice(0, limit), more: rows.length > limit })
        )
      ),
    sources: (page) => read((sql) => listSources(sql, page)),
    conflicts: ({ after, limit }) =>
      readBehind(after, (sql) =>
        Effect.map(
          sql<{
            topic: string
            eventId: string
            offset: number
            conflicts: number
            lastConflictAt: number
            lastConflictSource: string
          }>`
            SELECT t.name AS topic, e.event_id AS "eventId", r.offset, r.conflicts,
              r.last_conflict_at AS "lastConflictAt", r.last_conflict_source AS "lastConflictSource"
            FROM redelivery AS r
            JOIN event AS e ON e.offset = r.offset
            JOIN topic AS t ON t.id = e.topic_id
            WHERE r.conflicts > 0 AND r.offset > ${after ?? 0} ORDER BY r.offset LIMIT ${limit + 1}`,
          (rows) => ({ items: rows.slice(0, limit), more: rows.length > limit })
        )
      ),
    size,
    beat: (starting) => Effect.flatMap(steady, (now) => write((sql) => storeBeat(sql, now, starting))),
    availability: Effect.flatMap(steady, (now) => read((sql) => readAvailability(sql, now))),
    trouble: connection.trouble
  })
}

/**
 * The store in a SQLite database, and the backups of it, opened for the life of the layer; or the reason why it is not
 * opened.
 */
export const layer: Layer.Layer<EventStore | Backups.Backups, StoreRefused, Database | Metrics> =
  Layer.scopedContext(
    Effect.gen(function* () {
      const connection = yield* Connection.open
      const steady = yield* steadyClock
      const backups = yield* Backups.make(connection)
      const metrics = yield* Metrics
      const { size } = yield* Database
      const sizes = size === undefined ? Effect.succeedNone : Effect.asSome(size)
      return Context.make(EventStore, make(connection, steady, metrics, sizes)).pipe(
        Context.add(Backups.Backups, backups)
      )
    })
  )
