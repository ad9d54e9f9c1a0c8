/**
 * The index of keys held against the events, and the events against each other: each key once (G2). Events and pages
 * are walked in the order in which they lie, a window at a time. Whether a run has the keys of its events is decided by
 * sums over both sides, so nothing has to be looked up; only where they differ is each one looked for, to tell which.
 */
import type { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import { KeyIndexLimits } from "../Config.ts"
import { Filter } from "./keys/Filter.ts"
import { keyHash } from "./keys/Hash.ts"
import { type Entries, fromBytes, pageOf, placeOf } from "./keys/Pages.ts"
import { Table } from "./keys/Table.ts"
import { type Count, Counted, type Recounted, windowRows } from "./Recount.ts"

interface RunRow {
  readonly id: number
  readonly keys: number
  readonly pages: number
  readonly last_offset: number
  readonly live: number
}

interface KeyRow {
  readonly offset: number
  readonly topic_id: number
  readonly event_id: string
}

/** A run in use, and what the events say of it. */
interface Run extends RunRow {
  /** The last offset that is not its affair any more. */
  readonly after: number
  readonly events: Sum
}

/** How many keys there are, and where; what compares them fills it. */
export interface KeysCount {
  runs: number
  inRuns: number
  young: number
}

/** Pages that one statement reads. */
const windowPages = 512

/** Keys that are compared with each other at a time. */
const windowKeys = 65_536

/** Compares the index of keys with the events, and their keys with each other; a sentence for each kind of fault. */
export const countKeys = Effect.fnUntraced(function* (recounted: Recounted, count: Count, keys: KeysCount) {
  const { sql, books, progress } = recounted
  const counted = new Counted()
  const seed = books.key_seed ?? 0
  const rows = yield* sql<RunRow>`
    SELECT id, keys, pages, last_offset, live FROM key_run ORDER BY last_offset, id`
  const runs: Array<Run> = []
  for (const row of rows.filter(({ live }) => live === 1)) {
    const after = runs.at(-1)?.last_offset ?? 0
    if (row.last_offset <= after || row.last_offset > books.last_offset)
      counted.note("Runs of keys with a last offset that cannot be", `run ${row.id}`)
    runs.push({ ...row, after, events: new Sum() })
  }
  keys.runs = runs.length
  keys.inRuns = runs.reduce((sum, { keys }) => sum + keys, 0)

  let done = 0
  const total = count.events + 2 * keys.inRuns
  const tell = (more: number) =>
    Effect.suspend(() => {
      done += more
      return Effect.zipRight(
        progress({ step: "keys", done, total: Math.max(total, done) }),
        Effect.yieldNow()
      )
    })

  yield* tell(0)
  const young = yield* sumEvents(sql, seed, runs, counted, tell)
  keys.young = young.size
  const whole: Array<Run> = []
  for (const run of runs) {
    const found = yield* sumPages(sql, run, counted, tell)
    if (run.keys !== found.count)
      counted.note("Runs with another number of keys than they say", `run ${run.id}`)
    if (found.equals(run.events)) whole.push(run)
    else {
      yield* findMissing(sql, seed, run, counted)
      yield* findStrays(sql, seed, run, counted)
    }
  }
  yield* findUnowned(sql, rows, counted)
  yield* findSameKeys(sql, whole, young, counted, tell)
  return counted.sentences()
})

type Tell = (more: number) => Effect.Effect<void>

/** Adds up entries in any order: two sums are equal only if they are of the same entries, but for great misfortune. */
class Sum {
  count = 0
  private left = 0
  private right = 0

  add(hash: number, offset: number): void {
    const high = Math.floor(hash / 2 ** 32) ^ Math.imul(Math.floor(offset / 2 ** 32), 0x9e3779b1)
    const low = Math.imul(hash | 0, 0x85ebca77) ^ Math.imul(offset | 0, 0x27d4eb2f) ^ high
    const mixed = Math.imul(low ^ (low >>> 15), 0x7feb352d)
    this.count++
    this.left = (this.left + (mixed ^ (mixed >>> 16))) | 0
    this.right = (this.right + Math.imul(mixed ^ (offset | 0), 0x165667b1 ^ high)) | 0
  }

  equals(other: Sum): boolean {
    return this.count === other.count && this.left === other.left && this.right === other.right
  }
}

/** Adds each event to the sum of its run; those behind the last run are given back. */
const sumEvents = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  seed: number,
  runs: ReadonlyArray<Run>,
  counted: Counted,
  tell: Tell
) {
  const { youngKeysMax } = yield* KeyIndexLimits
  const young = new Table()
  let at = 0
  yield* walkEvents(sql, 0, Number.MAX_SAFE_INTEGER, (rows) => {
    for (const { offset, topic_id, event_id } of rows) {
      while (at < runs.length && offset > (runs[at]?.last_offset ?? 0)) at++
      const hash = keyHash(seed, topic_id, event_id)
      const run = runs[at]
      if (run !== undefined) run.events.add(hash, offset)
      // This bounds what is kept here, as it bounds the memory of the service.
      else if (young.size < youngKeysMax) young.add(hash, offset)
      else counted.note("Events that lie too far behind the last run of keys", `at offset ${offset}`)
    }
    return tell(rows.length)
  })
  return young
})

/** Adds up what stands in the pages of a run, and looks whether it stands there rightly. */
const sumPages = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  run: Run,
  counted: Counted,
  tell: Tell
) {
  const sum = new Sum()
  const filter = yield* filterOf(sql, run.id)
  let pages = 0
  yield* walkPages(sql, run, (rows) => {
    const before = sum.count
    for (const { page, bytes, entries } of rows) {
      const where = `page ${page} of run ${run.id}`
      pages++
      if (bytes % 16 !== 0) counted.note("Pages of keys that are cut off", where)
      for (let at = 0; at < entries.length; at += 2) {
        const [hash, offset] = [entries[at] ?? 0, entries[at + 1] ?? 0]
        if (pageOf(hash, run.pages) !== page)
          counted.note("Keys on a page where they are not looked for", where)
        if (filter?.mayHold(hash) === false) counted.note("Keys that the filter of their run denies", where)
        sum.add(hash, offset)
      }
    }
    return tell(sum.count - before)
  })
  if (pages !== run.pages) counted.note("Runs of keys that lack pages", `run ${run.id}`)
  return sum
})

/** Looks for each event of a run. */
const findMissing = (sql: SqlClient.SqlClient, seed: number, run: Run, counted: Counted) =>
  walkEvents(sql, run.after, run.last_offset, (rows) =>
    Effect.gen(function* () {
      const hashes = new Map(rows.map((row) => [row.offset, keyHash(seed, row.topic_id, row.event_id)]))
      const places = [
        ...new Set([...hashes.values()].map((hash) => placeOf(run.id, pageOf(hash, run.pages))))
      ]
      const found = new Set<number>()
      for (let from = 0; from < places.length; from += windowPages) {
        const pages = yield* sql<{ entries: Uint8Array }>`
          SELECT entries FROM key_page
          WHERE place IN (SELECT value FROM json_each(${JSON.stringify(places.slice(from, from + windowPages))}))`
        for (const page of pages) {
          const entries = fromBytes(page.entries)
          for (let at = 0; at < entries.length; at += 2) {
            const offset = entries[at + 1] ?? 0
            if (hashes.get(offset) === entries[at]) found.add(offset)
          }
        }
      }
      for (const { offset } of rows)
        if (!found.has(offset))
          counted.note("Events whose key the index does not know", `at offset ${offset}`)
    })
  )

/** Looks for the event of each entry of a run. */
const findStrays = (sql: SqlClient.SqlClient, seed: number, run: Run, counted: Counted) =>
  walkPages(sql, run, (pages) =>
    Effect.gen(function* () {
      for (const { entries } of pages) {
        const events = new Map(
          (yield* eventsAt(
            sql,
            entries.filter((_, at) => at % 2 === 1)
          )).map((row) => [row.offset, row])
        )
        const seen = new Set<number>()
        for (let at = 0; at < entries.length; at += 2) {
          const [hash, offset] = [entries[at], entries[at + 1] ?? 0]
          const event = events.get(offset)
          const where = `at offset ${offset}`
          if (event === undefined || keyHash(seed, event.topic_id, event.event_id) !== hash)
            counted.note("Keys in the index that no event has", where)
          else if (offset <= run.after || offset > run.last_offset)
            counted.note("Keys in another run than their event", where)
          else if (seen.has(offset)) counted.note("Keys that are in the index twice", where)
          seen.add(offset)
        }
      }
    })
  )

/** Looks for pages and filters that belong to no run. */
const findUnowned = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  rows: ReadonlyArray<RunRow>,
  counted: Counted
) {
  let after = Number.MIN_SAFE_INTEGER
  const edges = [...rows]
    .sort((a, b) => a.id - b.id)
    .map(({ id, pages }) => [placeOf(id, 0), placeOf(id, pages)] as const)
  for (const [first, end] of [...edges, [Number.MAX_SAFE_INTEGER, 0] as const]) {
    const [stray] = yield* sql<{ place: number }>`
      SELECT place FROM key_page WHERE place >= ${after} AND place < ${first} LIMIT 1`
    if (stray !== undefined)
      counted.note("Ranges of pages that belong to no run of keys", `place ${stray.place}`)
    after = end
  }
  const filters = yield* sql<{ run_id: number }>`
    SELECT run_id FROM key_filter WHERE run_id NOT IN (SELECT id FROM key_run WHERE live = 1)`
  for (const { run_id } of filters) counted.note("Filters of runs that are not in use", `run ${run_id}`)
})

/** Compares the keys of all events with each other, those of equal parts of all hashes at a time. */
const findSameKeys = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  runs: ReadonlyArray<Run>,
  young: Table,
  counted: Counted,
  tell: Tell
) {
  const keys = runs.reduce((sum, run) => sum + run.keys, young.size)
  const windows = Math.max(1, Math.ceil(keys / windowKeys))
  for (let window = 0; window < windows; window++) {
    const seen = new Table()
    const twice = new Set<number>()
    const see = (hash: number, offset: number): void => {
      if (pageOf(hash, windows) !== window) return
      const others = seen.offsetsOf(hash)
      if (others.length > 0) for (const each of [...others, offset]) twice.add(each)
      seen.add(hash, offset)
    }
    young.forEach(see)
    const ofYoung = seen.size
    for (const run of runs) {
      // A page more on either side, for what rounding may have put there.
      const first = Math.floor((window / windows) * run.pages) - 1
      const last = Math.ceil(((window + 1) / windows) * run.pages) + 1
      yield* walkPages(
        sql,
        run,
        (pages) => {
          for (const { entries } of pages)
            for (let at = 0; at < entries.length; at += 2) see(entries[at] ?? 0, entries[at + 1] ?? 0)
          return Effect.void
        },
        first,
        last
      )
    }
    const offsets = new Map<string, number>()
    const rows = yield* eventsAt(
      sql,
      [...twice].sort((a, b) => a - b)
    )
    for (const { offset, topic_id, event_id } of rows) {
      const key = `${topic_id}/${event_id}`
      const other = offsets.get(key)
      if (other === undefined) offsets.set(key, offset)
      else
        counted.note("Events whose key another event has", `at offset ${offset}, which is that at ${other}`)
    }
    yield* tell(seen.size - ofYoung)
  }
})

const filterOf = (sql: SqlClient.SqlClient, run: number) =>
  Effect.map(sql<{ bytes: Uint8Array }>`SELECT bytes FROM key_filter WHERE run_id = ${run}`, ([row]) =>
    row === undefined ? undefined : new Filter(row.bytes)
  )

const eventsAt = Effect.fnUntraced(function* (sql: SqlClient.SqlClient, offsets: ArrayLike<number>) {
  const all = Array.from(offsets)
  const rows: Array<KeyRow> = []
  for (let from = 0; from < all.length; from += windowRows) {
    const some = JSON.stringify(all.slice(from, from + windowRows))
    rows.push(
      ...(yield* sql<KeyRow>`
        SELECT offset, topic_id, event_id FROM event
        WHERE offset IN (SELECT value FROM json_each(${some})) ORDER BY offset`)
    )
  }
  return rows
})

/** Every event behind an offset, up to another one. */
const walkEvents = Effect.fnUntraced(function* <E>(
  sql: SqlClient.SqlClient,
  after: number,
  to: number,
  visit: (rows: ReadonlyArray<KeyRow>) => Effect.Effect<void, E>
) {
  let before = after
  while (true) {
    const rows = yield* sql<KeyRow>`
      SELECT offset, topic_id, event_id FROM event
      WHERE offset > ${before} AND offset <= ${to} ORDER BY offset LIMIT ${windowRows}`
    const last = rows.at(-1)?.offset
    // A damaged tree may lead in a circle.
    if (last === undefined || last <= before) return
    before = last
    yield* visit(rows)
  }
})

interface Page {
  readonly page: number
  readonly bytes: number
  readonly entries: Entries
}

/** The pages of a run, all or those from one to another. */
const walkPages = Effect.fnUntraced(function* <E>(
  sql: SqlClient.SqlClient,
  run: RunRow,
  visit: (pages: ReadonlyArray<Page>) => Effect.Effect<void, E>,
  first = 0,
  last = run.pages - 1
) {
  const base = placeOf(run.id, 0)
  let before = base + Math.max(0, first) - 1
  const end = base + Math.min(run.pages - 1, last)
  while (true) {
    const rows = yield* sql<{ place: number; entries: Uint8Array }>`
      SELECT place, entries FROM key_page
      WHERE place > ${before} AND place <= ${end} ORDER BY place LIMIT ${windowPages}`
    const to = rows.at(-1)?.place
    // A damaged tree may lead in a circle.
    if (to === undefined || to <= before) return
    before = to
    yield* visit(
      rows.map(({ place, entries }) => ({
        page: place - base,
        bytes: entries.length,
        entries: fromBytes(entries)
      }))
    )
    yield* Effect.yieldNow()
  }
})
