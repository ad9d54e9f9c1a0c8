/**
 * The books of sequences over SQLite: a row for each series, a row for each of its open gaps. A commit reads and writes
 * each of its series once, whatever their events are; gaps and numbers are looked up only where some came out of order.
 */
import type { SqlClient } from "@effect/sql"
import type { SqlError } from "@effect/sql/SqlError"
import { Effect } from "effect"
import { ReadingLimits } from "../Config.ts"
import { matchesTopic } from "../domain/Topic.ts"
import { gapsListedMax, type Listing, type SourceBook, type SourcesPage } from "./EventStore.ts"
import { type Arrival, advance, type Declared, type Gap, numbersIn, sumMax } from "./Sequences.ts"

/** An event with a sequence that a batch has stored. */
export interface SequencedEvent extends Arrival {
  readonly topicId: number
  readonly topic: string
  readonly source: string
}

/** What is to be added to the row of a series; `highest` where it moves. */
interface SeriesMove {
  readonly id: number
  readonly highest: number | null
  readonly gaps: number
  readonly declared: number
  readonly late: number
  readonly reused: number
}

interface GapRow {
  readonly source_id: number
  readonly first: number
  readonly last: number
}

const keyOf = (topicId: number, source: string): string => `${topicId}/${source}`

const sum = <A>(items: ReadonlyArray<A>, of: (item: A) => number): number =>
  items.reduce((total, item) => total + of(item), 0)

/**
 * Moves the series of the events that a batch has stored, in the order of their offsets. `lastOffset` is the last one
 * before the batch. Gives back the gaps that were given up because there were too many.
 */
export const moveSeries = (
  sql: SqlClient.SqlClient,
  events: ReadonlyArray<SequencedEvent>,
  lastOffset: number,
  now: number,
  gapsMax: number
): Effect.Effect<ReadonlyArray<Declared>, SqlError> =>
  events.length === 0 ? Effect.succeed([]) : moveSome(sql, events, lastOffset, now, gapsMax)

const moveSome = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  events: ReadonlyArray<SequencedEvent>,
  lastOffset: number,
  now: number,
  gapsMax: number
) {
  const bySeries = new Map<string, Array<SequencedEvent>>()
  for (const event of events) {
    const key = keyOf(event.topicId, event.source)
    const series = bySeries.get(key)
    if (series === undefined) bySeries.set(key, [event])
    else series.push(event)
  }
  const keys = [...bySeries.values()].map(([event]) => [event?.topicId, event?.source])
  const rows = yield* sql<{
    id: number
    topic_id: number
    name: string
    first: number
    highest: number
    gaps: number
  }>`
    SELECT s.id, s.topic_id, s.name, s.first, s.highest, s.gaps
    FROM json_each(${JSON.stringify(keys)}) AS k
    CROSS JOIN source AS s ON s.topic_id = k.value ->> 0 AND s.name = k.value ->> 1`
  const known = new Map(rows.map((row) => [keyOf(row.topic_id, row.name), row]))

  const earlier = events.flatMap((event) => {
    const row = known.get(keyOf(event.topicId, event.source))
    return row !== undefined && event.sequence <= row.highest ? [{ ...event, id: row.id }] : []
  })
  const { gaps, taken } = yield* aroundEarlier(sql, earlier, lastOffset)

  const moves = [...bySeries].map(([key, arrivals]) => {
    const row = known.get(key)
    const before = row && {
      first: row.first,
      highest: row.highest,
      gaps: gaps.get(row.id) ?? [],
      isTaken: (sequence: number) => taken.has(`${row.id}/${sequence}`)
    }
    return { key, row, move: advance(before, arrivals, now) }
  })

  const created = moves.flatMap(({ key, row, move }) => {
    const [event] = bySeries.get(key) ?? []
    return row === undefined && event !== undefined ? [[event.topicId, event.source, move.first]] : []
  })
  const ids = new Map(rows.map((row) => [keyOf(row.topic_id, row.name), row.id]))
  for (const { id, topic_id, name } of yield* createSeries(sql, created)) ids.set(keyOf(topic_id, name), id)
  const idOf = (key: string) => ids.get(key) as number

  const closed = moves.flatMap(({ key, move }) => move.closed.map(({ first }) => [idOf(key), first]))
  const opened = moves.flatMap(({ key, move }) =>
    move.opened.map(({ first, last, openedAt }) => [idOf(key), first, last, openedAt])
  )
  yield* deleteGaps(sql, closed)
  if (opened.length > 0) {
    yield* sql`
      INSERT INTO gap (source_id, first, last, opened_at)
      SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(${JSON.stringify(opened)})`
  }

  const given: Array<SeriesMove> = []
  const declared: Array<Declared> = []
  for (const { key, row, move } of moves) {
    const open = (row?.gaps ?? 0) + move.opened.length - move.closed.length
    const excess = yield* takeOldest(sql, idOf(key), open - gapsMax)
    const [event] = bySeries.get(key) ?? []
    if (excess.length > 0 && event !== undefined) declared.push({ ...event, gaps: excess })
    given.push({
      id: idOf(key),
      highest: move.highest,
      gaps: move.opened.length - move.closed.length - excess.length,
      declared: sum(excess, numbersIn),
      late: move.late.length,
      reused: move.reused
    })
  }
  const late = moves.flatMap(({ move }) => move.late)
  if (late.length > 0) {
    yield* sql`
      UPDATE event SET late = 1 WHERE offset IN (SELECT value FROM json_each(${JSON.stringify(late)}))`
  }
  yield* moveBooks(sql, given, created.length)
  return declared
})

/** What is known around numbers that are not above their series' highest: the open gaps that hold them, and who is there. */
const aroundEarlier = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  events: ReadonlyArray<SequencedEvent & { readonly id: number }>,
  lastOffset: number
) {
  const gaps = new Map<number, Array<Gap>>()
  const taken = new Set<string>()
  if (events.length === 0) return { gaps, taken }
  const numbers = events.map(({ id, sequence, topicId, source }) => [id, sequence, topicId, source])
  const found = yield* sql<GapRow & { readonly opened_at: number }>`
    SELECT DISTINCT g.source_id, g.first, g.last, g.opened_at
    FROM json_each(${JSON.stringify(numbers)}) AS n
    CROSS JOIN gap AS g ON g.source_id = n.value ->> 0 AND g.first = (
      SELECT max(first) FROM gap WHERE source_id = n.value ->> 0 AND first <= n.value ->> 1)
    WHERE g.last >= n.value ->> 1
    ORDER BY g.source_id, g.first`
  for (const { source_id, first, last, opened_at } of found) {
    const ofSource = gaps.get(source_id) ?? []
    gaps.set(source_id, ofSource)
    ofSource.push({ first, last, openedAt: opened_at })
  }
  const there = yield* sql<{ id: number; sequence: number }>`
    SELECT n.value ->> 0 AS id, n.value ->> 1 AS sequence
    FROM json_each(${JSON.stringify(numbers)}) AS n
    WHERE EXISTS (
      SELECT 1 FROM event AS e
      WHERE e.topic_id = n.value ->> 2 AND e.source = n.value ->> 3 AND e.sequence = n.value ->> 1
        AND e.offset <= ${lastOffset})`
  for (const { id, sequence } of there) taken.add(`${id}/${sequence}`)
  return { gaps, taken }
})

const createSeries = (sql: SqlClient.SqlClient, rows: ReadonlyArray<unknown>) =>
  rows.length === 0
    ? Effect.succeed([])
    : sql<{ id: number; topic_id: number; name: string }>`
        INSERT INTO source (topic_id, name, first, contiguous, highest, behind, gaps, declared, late, reused)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 2, value ->> 2, 0, 0, 0, 0, 0
        FROM json_each(${JSON.stringify(rows)})
        RETURNING id, topic_id, name`

const deleteGaps = (sql: SqlClient.SqlClient, keys: ReadonlyArray<unknown>) =>
  keys.length === 0
    ? Effect.void
    : sql`
        DELETE FROM gap WHERE (source_id, first) IN (
          SELECT value ->> 0, value ->> 1 FROM json_each(${JSON.stringify(keys)}))`

/** Gives up so many of the oldest gaps of a series, if there are any to be given up. */
const takeOldest = Effect.fnUntraced(function* (sql: SqlClient.SqlClient, id: number, count: number) {
  if (count <= 0) return []
  const gaps = yield* sql<GapRow>`
    SELECT source_id, first, last FROM gap WHERE source_id = ${id} ORDER BY opened_at, first LIMIT ${count}`
  yield* deleteGaps(
    sql,
    gaps.map(({ first }) => [id, first])
  )
  return gaps
})

/** Moves the rows of series, whose gaps are in place already, and the sums over all of them. */
const moveBooks = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  moves: ReadonlyArray<SeriesMove>,
  created: number
) {
  const rows = moves.map(({ id, highest, gaps, declared, late, reused }) => [
    id,
    highest,
    gaps,
    declared,
    late,
    reused
  ])
  yield* sql`
    UPDATE source SET
      highest = m.highest,
      contiguous = coalesce(m.lowest - 1, m.highest),
      behind = coalesce(m.highest - (SELECT last FROM gap WHERE source_id = m.id AND first = m.lowest), 0),
      gaps = source.gaps + m.gaps,
      declared = source.declared + m.declared,
      late = source.late + m.late,
      reused = source.reused + m.reused
    FROM (
      SELECT s.id, coalesce(v.value ->> 1, s.highest) AS highest,
        (SELECT min(first) FROM gap WHERE source_id = s.id) AS lowest, v.value ->> 2 AS gaps,
        v.value ->> 3 AS declared, v.value ->> 4 AS late, v.value ->> 5 AS reused
      FROM json_each(${JSON.stringify(rows)}) AS v CROSS JOIN source AS s ON s.id = v.value ->> 0
    ) AS m
    WHERE source.id = m.id`
  const gaps = sum(moves, (move) => move.gaps)
  const declared = sum(moves, (move) => move.declared)
  const late = sum(moves, (move) => move.late)
  const reused = sum(moves, (move) => move.reused)
  if (created === 0 && gaps === 0 && declared === 0 && late === 0 && reused === 0) return
  yield* sql`
    UPDATE store SET
      sources = sources + ${created},
      gaps_open = gaps_open + ${gaps},
      declared_missing = min(declared_missing + ${Math.min(declared, sumMax)}, ${sumMax}),
      late = late + ${late},
      sequence_reused = sequence_reused + ${reused}`
})

/** How many gaps one transaction gives up. */
const declaredMax = 1000

/** When gaps are given up. */
export interface Due {
  /** The time. No gap can have opened later; one that seems to, by a clock that was set back, opens now. */
  readonly now: number
  readonly openedBefore: number
  readonly eventsMax: number
}

/** Whether any gap is due to be given up, or to be dated anew; and if not, whether one is open. */
export const lookForDue = (sql: SqlClient.SqlClient, { now, openedBefore, eventsMax }: Due) =>
  Effect.map(
    sql<{ due: number; open: number }>`
      SELECT EXISTS (SELECT 1 FROM gap WHERE opened_at <= ${openedBefore})
        OR EXISTS (SELECT 1 FROM gap WHERE opened_at > ${now})
        OR EXISTS (SELECT 1 FROM source WHERE behind > 0 AND behind > ${eventsMax}) AS due,
        (SELECT min(opened_at) FROM gap) IS NOT NULL AS open`,
    ([row]): "due" | "open" | "none" => (row?.due === 1 ? "due" : row?.open === 0 ? "none" : "open")
  )

/** Gives up gaps that are due, so many at a time; the oldest first, then those furthest behind. */
export const declareDue = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  { now, openedBefore, eventsMax }: Due
) {
  yield* sql`UPDATE gap SET opened_at = ${now} WHERE opened_at > ${now}`
  const aged = yield* sql<GapRow>`
    SELECT source_id, first, last FROM gap WHERE opened_at <= ${openedBefore}
    ORDER BY opened_at LIMIT ${declaredMax}`
  const behind = yield* sql<GapRow>`
    SELECT g.source_id, g.first, g.last
    FROM source AS s
    CROSS JOIN gap AS g
      ON g.source_id = s.id AND g.first < s.highest - ${eventsMax} AND g.last < s.highest - ${eventsMax}
    WHERE s.behind > 0 AND s.behind > ${eventsMax} LIMIT ${declaredMax - aged.length}`
  const due = new Map([...aged, ...behind].map((gap) => [`${gap.source_id}/${gap.first}`, gap]))
  if (due.size === 0) return []
  const bySource = new Map<number, Array<GapRow>>()
  for (const gap of due.values()) {
    const ofSource = bySource.get(gap.source_id) ?? []
    bySource.set(gap.source_id, ofSource)
    ofSource.push(gap)
  }
  yield* deleteGaps(
    sql,
    [...due.values()].map(({ source_id, first }) => [source_id, first])
  )
  yield* moveBooks(
    sql,
    [...bySource].map(([id, gaps]) => ({
      id,
      highest: null,
      gaps: -gaps.length,
      declared: sum(gaps, numbersIn),
      late: 0,
      reused: 0
    })),
    0
  )
  const names = yield* sql<{ id: number; topic: string; source: string }>`
    SELECT s.id, t.name AS topic, s.name AS source
    FROM json_each(${JSON.stringify([...bySource.keys()])}) AS k
    CROSS JOIN source AS s ON s.id = k.value
    JOIN topic AS t ON t.id = s.topic_id`
  return names.map(
    ({ id, topic, source }): Declared => ({
      topic,
      source,
      gaps: bySource.get(id) as ReadonlyArray<GapRow>
    })
  )
})

/** A page of series, in the order in which they were opened. */
export const listSources = (
  sql: SqlClient.SqlClient,
  { topic, source, after, limit }: SourcesPage
): Effect.Effect<Listing<SourceBook> & { readonly scannedTo: number }, SqlError> =>
  Effect.gen(function* () {
    const { windowRowsMax } = yield* ReadingLimits
    // Within one topic an index leads to what is wanted; else it is looked for here, in a window of rows.
    const exact = topic?._tag === "Exact"
    const unfiltered = topic === undefined && source === undefined
    const rowsMax = exact || unfiltered ? limit : windowRowsMax
    const rows = yield* sql<{
      id: number
      topic: string
      name: string
      first: number
      contiguous: number
      highest: number
      gaps: number
      declared: number
      late: number
      reused: number
    }>`
      SELECT s.id, t.name AS topic, s.name, s.first, s.contiguous, s.highest, s.gaps, s.declared, s.late, s.reused
      FROM source AS s CROSS JOIN topic AS t ON t.id = s.topic_id
      WHERE ${sql.and([
        sql`s.id > ${after ?? 0}`,
        ...(exact ? [sql`s.topic_id = (SELECT id FROM topic WHERE name = ${topic.topic})`] : []),
        ...(exact && source !== undefined ? [sql`s.name = ${source}`] : [])
      ])}
      ORDER BY s.id LIMIT ${rowsMax + 1}`
    const scanned = rows.slice(0, rowsMax)
    const matching = scanned.filter(
      (row) =>
        (topic === undefined || matchesTopic(topic, row.topic)) &&
        (source === undefined || source === row.name)
    )
    const listed = matching.slice(0, limit)
    const gaps = new Map<number, Array<Gap>>()
    for (const row of yield* lowestGaps(
      sql,
      listed.filter((row) => row.gaps > 0).map(({ id }) => id)
    )) {
      const ofSource = gaps.get(row.source_id) ?? []
      gaps.set(row.source_id, ofSource)
      ofSource.push({ first: row.first, last: row.last, openedAt: row.opened_at })
    }
    const items = listed.map(
      (row): SourceBook => ({
        id: row.id,
        topic: row.topic,
        source: row.name,
        first: row.first,
        contiguous: row.contiguous,
        highest: row.highest,
        gapsOpen: row.gaps,
        declared: row.declared,
        late: row.late,
        reused: row.reused,
        gaps: gaps.get(row.id) ?? []
      })
    )
    const full = matching.length > limit
    const last = full ? listed.at(-1) : scanned.at(-1)
    return { items, more: full || rows.length > rowsMax, scannedTo: last?.id ?? after ?? 0 }
  })

const lowestGaps = (sql: SqlClient.SqlClient, ids: ReadonlyArray<number>) =>
  ids.length === 0
    ? Effect.succeed([])
    : sql<GapRow & { readonly opened_at: number }>`
        SELECT g.source_id, g.first, g.last, g.opened_at
        FROM json_each(${JSON.stringify(ids)}) AS k
        CROSS JOIN gap AS g ON g.source_id = k.value AND g.first IN (
          SELECT first FROM gap WHERE source_id = k.value ORDER BY first LIMIT ${gapsListedMax})
        ORDER BY g.source_id, g.first`
