/**
 * The index of keys: which events of the store may have a key. It takes the place of a unique index over the events,
 * whose pages would be written at random places with every commit; here everything is written one behind the other, so
 * that an append costs the same however many keys there are and in whatever order they come.
 *
 * The youngest keys are a table in memory, and nowhere on the disk: they are those of the events behind the last run,
 * from which the table is made again. Once there are enough of them they are written as a run, which is never changed;
 * where a level has enough runs, these are merged into one of the next level, a few pages at a time. Beside each run
 * stands a filter, in memory too, that knows nearly every new key to be new.
 *
 * All that is written is written in the transaction that stores the events, so the index is, at every committed state,
 * exactly that of its events. What is in memory may be ahead of that: whoever appends uses the index that the last
 * successful append has left, and after a failure one that is loaded anew.
 */
import type { SqlClient } from "@effect/sql"
import type { SqlError } from "@effect/sql/SqlError"
import { Effect } from "effect"
import { KeyIndexLimits } from "../../Config.ts"
import { manyRows } from "../ManyRows.ts"
import { Filter, filterBytes } from "./Filter.ts"
import { keyHash } from "./Hash.ts"
import { Dealer, type Entries, fromBytes, pageOf, pagesFor, placeOf, toBytes } from "./Pages.ts"
import { Table } from "./Table.ts"

/** A run of keys on the disk. */
interface Run {
  readonly id: number
  /** How often its keys were merged. */
  readonly level: number
  readonly keys: number
  readonly pages: number
  /** The last offset whose event is in it, or in an older one. */
  readonly lastOffset: number
  /** None where filters would take too much memory, or it is not kept: then every hash may be in it. */
  filter: Filter | undefined
}

/** A run that is being made of others, which stay in use until it is whole. */
interface Merge {
  readonly into: Run
  readonly from: ReadonlyArray<Run>
  /** The first of its pages that is not written yet. */
  next: number
}

/** A run that is not in use, or never was. */
interface Remains {
  readonly id: number
  /** Its pages are removed from this one on, up to, not including, `end`. */
  next: number
  readonly end: number
}

interface RunRow {
  readonly id: number
  readonly level: number
  readonly keys: number
  readonly pages: number
  readonly last_offset: number
  readonly live: number
}

interface PlaceRow {
  readonly place: number
}

interface PageRow extends PlaceRow {
  readonly entries: Uint8Array
}

/** How many pages one statement reads. */
const pagesReadMax = 512

/** How many events one statement reads as the index is loaded. */
const eventsReadMax = 4096

/** The index of one store, as it is in memory. It may be used only while the connection is held. */
export class KeyIndex {
  private readonly seed: number
  private readonly limits: KeyIndexLimits["Type"]
  private young = new Table()
  /** Those in use, from the oldest. */
  private runs: ReadonlyArray<Run>
  private merges: Array<Merge> = []
  private readonly remains: Array<Remains>
  private nextRun: number
  /** How many keys were added since the last step of what there is to do. */
  private added = 0

  constructor(
    seed: number,
    limits: KeyIndexLimits["Type"],
    runs: ReadonlyArray<Run>,
    remains: ReadonlyArray<Remains>,
    nextRun: number
  ) {
    this.seed = seed
    this.limits = limits
    this.runs = runs
    this.remains = [...remains]
    this.nextRun = nextRun
  }

  hashOf(topicId: number, eventId: string): number {
    return keyHash(this.seed, topicId, eventId)
  }

  /** Enters a key that is being stored. */
  add(hash: number, offset: number): void {
    this.young.add(hash, offset)
    this.added++
  }

  /** The offsets of the youngest events whose keys have this hash, those of the append that is under way among them. */
  youngest(hash: number): ReadonlyArray<number> {
    return this.young.offsetsOf(hash)
  }

  /**
   * The offsets of all events whose keys have one of these hashes, besides the youngest, and besides a few others: by
   * the place of the hash in the list. Nothing where there are none.
   */
  inRuns(
    sql: SqlClient.SqlClient,
    hashes: ReadonlyArray<number>
  ): Effect.Effect<ReadonlyMap<number, ReadonlyArray<number>>, SqlError> {
    const wanted = new Map<number, Array<number>>()
    for (let index = 0; index < hashes.length; index++) {
      const hash = hashes[index] as number
      for (const { id, pages, filter } of this.runs) {
        if (filter !== undefined && !filter.mayHold(hash)) continue
        const place = placeOf(id, pageOf(hash, pages))
        const others = wanted.get(place)
        if (others === undefined) wanted.set(place, [index])
        else others.push(index)
      }
    }
    return wanted.size === 0 ? Effect.succeed(nowhere) : findIn(sql, hashes, wanted)
  }

  /**
   * Does what there is to do after an append up to this offset, inside its transaction: writes the youngest keys as a
   * run once there are enough, and goes on a little with merging runs and removing those that were merged.
   */
  settle(sql: SqlClient.SqlClient, lastOffset: number): Effect.Effect<void, SqlError> {
    const { youngKeysMax, pagesPerStep, keysPerPage } = this.limits
    // Merges go ahead twice as fast as keys come, so that each ends before the next one of its level is due.
    const keysPerStep = Math.min(pagesPerStep * keysPerPage, youngKeysMax) / 2
    return this.young.size < youngKeysMax && this.added < keysPerStep
      ? Effect.void
      : this.goFurther(sql, lastOffset, keysPerStep)
  }

  private readonly goFurther = Effect.fnUntraced(function* (
    this: KeyIndex,
    sql: SqlClient.SqlClient,
    lastOffset: number,
    keysPerStep: number
  ) {
    if (this.young.size >= this.limits.youngKeysMax) {
      yield* this.writeYoungest(sql, lastOffset)
      yield* this.beginMerges(sql)
    }
    while (this.added >= keysPerStep) {
      this.added -= keysPerStep
      yield* this.step(sql)
    }
  })

  /** Goes on a little with everything that is under way. */
  private readonly step = Effect.fnUntraced(function* (this: KeyIndex, sql: SqlClient.SqlClient) {
    for (const merge of [...this.merges]) yield* this.goOn(sql, merge)
    yield* this.remove(sql)
  })

  private readonly writeYoungest = Effect.fnUntraced(function* (
    this: KeyIndex,
    sql: SqlClient.SqlClient,
    lastOffset: number
  ) {
    const keys = this.young.size
    const pages = pagesFor(keys, this.limits.keysPerPage)
    const filter = this.filterFor(keys)
    const run = { id: this.nextRun++, level: 0, keys, pages, lastOffset, filter }
    const dealer = new Dealer(0, pages, pages)
    this.young.forEach((hash, offset) => {
      filter?.add(hash)
      dealer.take(hash, offset)
    })
    yield* writeRun(sql, run, 1)
    yield* writeFilter(sql, run)
    yield* writePages(sql, run.id, 0, dealer.deal())
    this.young = new Table(this.young)
    this.runs = [...this.runs, run]
    this.boundFilters()
  })

  /** Begins to merge what there is enough of: the oldest runs of a level, one merge a level at a time. */
  private readonly beginMerges = Effect.fnUntraced(function* (this: KeyIndex, sql: SqlClient.SqlClient) {
    const levels = new Set(this.runs.map(({ level }) => level))
    for (const level of levels) {
      const from = this.runs.filter((run) => run.level === level).slice(0, this.limits.runsPerMerge)
      if (
        from.length < this.limits.runsPerMerge ||
        this.merges.some(({ into }) => into.level === level + 1)
      ) {
        continue
      }
      const keys = from.reduce((sum, run) => sum + run.keys, 0)
      const into = {
        id: this.nextRun++,
        level: level + 1,
        keys,
        pages: pagesFor(keys, this.limits.keysPerPage),
        lastOffset: from.at(-1)?.lastOffset ?? 0,
        filter: this.filterFor(keys)
      }
      yield* writeRun(sql, into, 0)
      this.merges.push({ into, from, next: 0 })
    }
  })

  /** Merges some pages more, and puts the run into use when it is whole. */
  private readonly goOn = Effect.fnUntraced(function* (
    this: KeyIndex,
    sql: SqlClient.SqlClient,
    merge: Merge
  ) {
    const { into, from, next } = merge
    const end = Math.min(into.pages, next + this.limits.pagesPerStep)
    const dealer = new Dealer(next, end, into.pages)
    for (const run of from) {
      // A page more on either side, for what rounding may have put there.
      const first = Math.max(0, Math.floor((next / into.pages) * run.pages) - 1)
      const last = Math.min(run.pages - 1, Math.ceil((end / into.pages) * run.pages) + 1)
      const rows = yield* sql<PageRow>`
        SELECT place, entries FROM key_page
        WHERE place BETWEEN ${placeOf(run.id, first)} AND ${placeOf(run.id, last)}`
      for (const { entries } of rows)
        eachEntry(fromBytes(entries), (hash, offset) => dealer.take(hash, offset))
    }
    const pages = dealer.deal()
    for (const page of pages) eachEntry(page, (hash) => into.filter?.add(hash))
    yield* writePages(sql, into.id, next, pages)
    merge.next = end
    if (end < into.pages) return
    const ids = JSON.stringify(from.map(({ id }) => id))
    yield* sql`UPDATE key_run SET live = 1 WHERE id = ${into.id}`
    yield* sql`UPDATE key_run SET live = 0 WHERE id IN (SELECT value FROM json_each(${ids}))`
    yield* sql`DELETE FROM key_filter WHERE run_id IN (SELECT value FROM json_each(${ids}))`
    yield* writeFilter(sql, into)
    this.merges = this.merges.filter((other) => other !== merge)
    for (const { id, pages } of from) this.remains.push({ id, next: 0, end: pages })
    // It stands where the oldest of them stood: runs lie in the order of their offsets.
    this.runs = this.runs.flatMap((run) => (run === from[0] ? [into] : from.includes(run) ? [] : [run]))
    this.boundFilters()
    yield* this.beginMerges(sql)
  })

  /** Removes some pages more, twice as many as a step writes, for a merge leaves more behind than it makes. */
  private readonly remove = Effect.fnUntraced(function* (this: KeyIndex, sql: SqlClient.SqlClient) {
    let pages = 2 * this.limits.pagesPerStep * Math.max(1, this.merges.length)
    while (pages > 0) {
      const [run] = this.remains
      if (run === undefined) return
      const next = Math.min(run.end, run.next + pages)
      if (next > run.next) {
        yield* sql`
          DELETE FROM key_page WHERE place BETWEEN ${placeOf(run.id, run.next)} AND ${placeOf(run.id, next - 1)}`
      }
      pages -= next - run.next
      run.next = next
      if (next < run.end) return
      yield* sql`DELETE FROM key_run WHERE id = ${run.id}`
      this.remains.shift()
    }
  })

  /** An empty filter, unless it would take more memory than all filters may: SQLite would not keep it either. */
  private filterFor(keys: number): Filter | undefined {
    return filterBytes(keys) <= this.limits.filterBytesMax ? Filter.for(keys) : undefined
  }

  /** The youngest runs, as many as may have their filters in memory. */
  private filtered(): ReadonlyArray<Run> {
    let bytes = 0
    return [...this.runs].reverse().filter(({ keys }) => {
      bytes += filterBytes(keys)
      return bytes <= this.limits.filterBytesMax
    })
  }

  private boundFilters(): void {
    const filtered = new Set(this.filtered())
    for (const run of this.runs) if (!filtered.has(run)) run.filter = undefined
  }

  private readonly readFilters = Effect.fnUntraced(function* (this: KeyIndex, sql: SqlClient.SqlClient) {
    for (const run of this.filtered()) {
      const [row] = yield* sql<{ bytes: Uint8Array }>`SELECT bytes FROM key_filter WHERE run_id = ${run.id}`
      if (row !== undefined) run.filter = new Filter(row.bytes)
    }
  })

  /** Enters the events that lie behind the last run, at most so many; the last offset, where there may be more. */
  private readonly readYoungest = Effect.fnUntraced(function* (
    this: KeyIndex,
    sql: SqlClient.SqlClient,
    keysMax: number
  ) {
    let after = this.runs.at(-1)?.lastOffset ?? 0
    while (this.young.size < keysMax) {
      const limit = Math.min(eventsReadMax, keysMax - this.young.size)
      const rows = yield* sql<{ offset: number; topic_id: number; event_id: string }>`
        SELECT offset, topic_id, event_id FROM event WHERE offset > ${after} ORDER BY offset LIMIT ${limit}`
      for (const { offset, topic_id, event_id } of rows)
        this.young.add(this.hashOf(topic_id, event_id), offset)
      after = rows.at(-1)?.offset ?? after
      if (rows.length < limit) return undefined
    }
    return after
  })

  /** Loads the index as it is on the disk. */
  static load: (sql: SqlClient.SqlClient) => Effect.Effect<KeyIndex, SqlError> = Effect.fnUntraced(
    function* (sql) {
      const index = yield* loadRuns(sql)
      yield* index.readFilters(sql)
      yield* index.readYoungest(sql, Number.POSITIVE_INFINITY)
      return index
    }
  )

  /**
   * Writes runs of the events behind the last one, inside a transaction, where there are more than stay in memory, and
   * merges them to the end. So a store that was made without this index gets one.
   */
  static catchUp: (sql: SqlClient.SqlClient) => Effect.Effect<void, SqlError> = Effect.fnUntraced(
    function* (sql) {
      const index = yield* loadRuns(sql)
      while (true) {
        const lastOffset = yield* index.readYoungest(sql, index.limits.youngKeysMax)
        if (lastOffset === undefined) return
        yield* index.writeYoungest(sql, lastOffset)
        yield* index.beginMerges(sql)
        while (index.merges.length > 0 || index.remains.length > 0) yield* index.step(sql)
      }
    }
  )
}

const nowhere: ReadonlyMap<number, ReadonlyArray<number>> = new Map()

const loadRuns = Effect.fnUntraced(function* (sql: SqlClient.SqlClient) {
  const limits = yield* KeyIndexLimits
  const [store] = yield* sql<{ key_seed: number }>`SELECT key_seed FROM store`
  const rows = yield* sql<RunRow>`
    SELECT id, level, keys, pages, last_offset, live FROM key_run ORDER BY last_offset, id`
  const runs: Array<Run> = []
  const remains: Array<Remains> = []
  let nextRun = 1
  for (const { id, level, keys, pages, last_offset: lastOffset, live } of rows) {
    nextRun = Math.max(nextRun, id + 1)
    if (live === 1) runs.push({ id, level, keys, pages, lastOffset, filter: undefined })
    // A merge that was under way begins anew, when the next run is written; what it has made is removed.
    else remains.push(yield* remainsOf(sql, id, pages))
  }
  return new KeyIndex(store?.key_seed ?? 0, limits, runs, remains, nextRun)
})

/** The pages that are left of a run: its first ones may be gone, or its last ones never have been written. */
const remainsOf = Effect.fnUntraced(function* (sql: SqlClient.SqlClient, id: number, pages: number) {
  const places = sql`SELECT place FROM key_page WHERE place BETWEEN ${placeOf(id, 0)} AND ${placeOf(id, pages - 1)}`
  const [first] = yield* sql<PlaceRow>`${places} ORDER BY place LIMIT 1`
  const [last] = yield* sql<PlaceRow>`${places} ORDER BY place DESC LIMIT 1`
  if (first === undefined || last === undefined) return { id, next: 0, end: 0 }
  return { id, next: first.place - placeOf(id, 0), end: last.place - placeOf(id, 0) + 1 }
})

const eachEntry = (entries: Entries, visit: (hash: number, offset: number) => void): void => {
  for (let at = 0; at < entries.length; at += 2) visit(entries[at] ?? 0, entries[at + 1] ?? 0)
}

const writeRun = (sql: SqlClient.SqlClient, { id, level, keys, pages, lastOffset }: Run, live: 0 | 1) => sql`
  INSERT INTO key_run (id, level, keys, pages, last_offset, live)
  VALUES (${id}, ${level}, ${keys}, ${pages}, ${lastOffset}, ${live})`

const writeFilter = (sql: SqlClient.SqlClient, { id, filter }: Run) =>
  filter === undefined
    ? Effect.void
    : sql`INSERT INTO key_filter (run_id, bytes) VALUES (${id}, ${filter.bytes})`

const insertPages = manyRows(2, (rows) => `INSERT INTO key_page (place, entries) VALUES ${rows}`)

const writePages = (sql: SqlClient.SqlClient, run: number, first: number, pages: ReadonlyArray<Entries>) =>
  insertPages(
    sql,
    pages.map((entries, index) => [placeOf(run, first + index), toBytes(entries)])
  )

const findIn = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  hashes: ReadonlyArray<number>,
  wanted: ReadonlyMap<number, ReadonlyArray<number>>
) {
  const found = new Map<number, Array<number>>()
  const places = [...wanted.keys()]
  for (let from = 0; from < places.length; from += pagesReadMax) {
    const some = JSON.stringify(places.slice(from, from + pagesReadMax))
    const rows = yield* sql<PageRow>`
      SELECT place, entries FROM key_page WHERE place IN (SELECT value FROM json_each(${some}))`
    for (const { place, entries } of rows) {
      const page = fromBytes(entries)
      for (const index of wanted.get(place) ?? []) {
        for (let at = 0; at < page.length; at += 2) {
          if (page[at] !== hashes[index]) continue
          const offsets = found.get(index)
          if (offsets === undefined) found.set(index, [page[at + 1] ?? 0])
          else offsets.push(page[at + 1] ?? 0)
        }
      }
    }
  }
  return found
})
