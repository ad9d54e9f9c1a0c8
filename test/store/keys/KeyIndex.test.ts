/**
 * The index of keys against a map: under limits so small that runs are written and merged every few keys, through
 * transactions that fail and indexes that are loaded anew. After each step every key is found where it is, and what is
 * on the disk is whole, as `sekali check` would have it.
 */
import type { SqlClient } from "@effect/sql"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import fc from "fast-check"
import { KeyIndexLimits } from "../../../src/Config.ts"
import { connectTo } from "../../../src/node/SqliteCopies.ts"
import { transaction } from "../../../src/store/Connection.ts"
import { held } from "../../../src/store/HeldClient.ts"
import { filterBytes } from "../../../src/store/keys/Filter.ts"
import { hashSpan } from "../../../src/store/keys/Hash.ts"
import { KeyIndex } from "../../../src/store/keys/KeyIndex.ts"
import { pageOf } from "../../../src/store/keys/Pages.ts"
import { migrate } from "../../../src/store/Migrations.ts"
import type { StoreRow } from "../../../src/store/Recount.ts"
import { countKeys } from "../../../src/store/RecountKeys.ts"

type Limits = KeyIndexLimits["Type"]

const tiny: Limits = {
  youngKeysMax: 4,
  keysPerPage: 2,
  runsPerMerge: 3,
  pagesPerStep: 1,
  filterBytesMax: 1_000_000
}

/** A database with nothing in it but keys, and what has to be in its index. */
const openKeys = Effect.gen(function* () {
  const sql = yield* held(yield* connectTo(":memory:"))
  yield* transaction(sql, migrate)
  const offsets = new Map<string, number>()
  let index: KeyIndex | undefined
  let lastOffset = 0

  const loaded = Effect.gen(function* () {
    index ??= yield* KeyIndex.load(sql)
    return index
  })
  const store = (sql: SqlClient.SqlClient, index: KeyIndex, ids: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      for (const [place, id] of ids.entries()) index.add(index.hashOf(1, id), lastOffset + 1 + place)
      const rows = JSON.stringify(ids.map((id, place) => [lastOffset + 1 + place, id]))
      yield* sql`
        INSERT INTO event
        SELECT value ->> 0, 1, value ->> 1, '', '', '{}', NULL, NULL, 0, 0 FROM json_each(${rows})`
      yield* sql`UPDATE store SET last_offset = ${lastOffset + ids.length}`
      yield* index.settle(sql, lastOffset + ids.length)
    })
  return {
    sql,
    offsets,
    jump: (offset: number) => {
      lastOffset = offset
    },
    /** Stores keys, and keeps the index only if that succeeds, as the store does. */
    append: (ids: ReadonlyArray<string>, fails = false) =>
      Effect.gen(function* () {
        const taken = yield* loaded
        index = undefined
        const appending = transaction(sql, (sql) =>
          Effect.zipRight(store(sql, taken, ids), fails ? Effect.fail("as it was told to") : Effect.void)
        )
        const outcome = yield* Effect.either(appending)
        if (fails) {
          expect(outcome).toMatchObject({ left: "as it was told to" })
          yield* sql`ROLLBACK`
          return
        }
        expect(outcome._tag).toBe("Right")
        index = taken
        for (const id of ids) offsets.set(id, ++lastOffset)
      }),
    restart: Effect.sync(() => {
      index = undefined
    }),
    /** Where the index believes that events with the keys of these ids are. */
    find: (ids: ReadonlyArray<string>) =>
      Effect.gen(function* () {
        const index = yield* loaded
        const hashes = ids.map((id) => index.hashOf(1, id))
        const inRuns = yield* index.inRuns(sql, hashes)
        return hashes.map((hash, place) => [...index.youngest(hash), ...(inRuns.get(place) ?? [])])
      }),
    faults: Effect.gen(function* () {
      const [books] = yield* sql<StoreRow>`SELECT * FROM store`
      if (books === undefined) return ["no books"]
      const count = {
        events: offsets.size,
        duplicates: 0,
        conflicts: 0,
        topics: 0,
        sequenced: 0,
        late: 0,
        tallies: new Map()
      }
      return yield* countKeys({ sql, schema: 5, books, epochs: [], progress: () => Effect.void }, count, {
        runs: 0,
        inRuns: 0,
        young: 0
      })
    }),
    runs: sql<{ level: number; live: number; keys: number; pages: number }>`
      SELECT level, live, keys, pages FROM key_run ORDER BY last_offset, id`,
    one: (query: string) =>
      Effect.map(
        sql.unsafe<Record<string, number>>(`SELECT ${query}`),
        ([row]) => Object.values(row ?? {})[0] ?? 0
      )
  }
})

type Keys = Effect.Effect.Success<typeof openKeys>

const expectWhole = (keys: Keys) =>
  Effect.gen(function* () {
    expect(yield* keys.faults).toEqual([])
    expect(yield* keys.find([...keys.offsets.keys()])).toEqual(
      [...keys.offsets.values()].map((each) => [each])
    )
    expect(yield* keys.find(["never", "sent"])).toEqual([[], []])
  })

const under = (limits: Partial<Limits>) => Effect.provideService(KeyIndexLimits, { ...tiny, ...limits })

let made = 0
const fresh = (count: number) => Array.from({ length: count }, () => `key-${made++}`)

describe("the index of keys", () => {
  it("knows each key once, through failures and restarts, under any limits", () =>
    fc.assert(
      fc.asyncProperty(
        fc.record({
          youngKeysMax: fc.constantFrom(1, 2, 5, 16),
          keysPerPage: fc.constantFrom(1, 2, 200),
          runsPerMerge: fc.constantFrom(2, 3, 8),
          pagesPerStep: fc.constantFrom(1, 2, 32),
          filterBytesMax: fc.constantFrom(0, 16, 40, 1_000_000)
        }),
        fc.array(
          fc.oneof(
            { weight: 6, arbitrary: fc.nat(12) },
            { weight: 1, arbitrary: fc.constant("failure" as const) },
            { weight: 1, arbitrary: fc.constant("restart" as const) }
          ),
          { maxLength: 30 }
        ),
        (limits, steps) =>
          Effect.gen(function* () {
            const keys = yield* openKeys
            for (const step of steps) {
              if (step === "restart") yield* keys.restart
              else if (step === "failure") yield* keys.append(fresh(7), true)
              else yield* keys.append(fresh(step))
              yield* expectWhole(keys)
            }
          }).pipe(Effect.scoped, under(limits), Effect.runPromise)
      ),
      { seed: 1, numRuns: 40 }
    ))

  it.scoped("has few runs of each level however many keys there are, and in the end nothing but these", () =>
    Effect.gen(function* () {
      const keys = yield* openKeys
      for (let batch = 0; batch < 400; batch++) {
        yield* keys.append(fresh(1 + (batch % 5)))
        const runs = yield* keys.runs
        for (const { level } of runs) {
          const same = runs.filter((run) => run.live === 1 && run.level === level)
          expect(same.length).toBeLessThanOrEqual(2 * tiny.runsPerMerge)
        }
        const live = runs.reduce((sum, run) => sum + run.live * run.pages, 0)
        expect(yield* keys.one("count(*) FROM key_page")).toBeLessThanOrEqual(3 * live + 10)
      }
      expect(yield* keys.one("max(level) FROM key_run WHERE live = 1")).toBeGreaterThanOrEqual(3)
      yield* expectWhole(keys)
      // What is not in use now will be, or goes.
      const unused = (yield* keys.sql<{ id: number }>`SELECT id FROM key_run WHERE live = 0`).map(
        ({ id }) => id
      )
      expect(unused.length).toBeGreaterThan(0)
      yield* keys.append(fresh(200))
      for (let batch = 0; batch < 400; batch++) yield* keys.append(fresh(3))
      const left = yield* keys.sql<{ id: number; live: number }>`SELECT id, live FROM key_run`
      for (const { id, live } of left) if (unused.includes(id)) expect([id, live]).toEqual([id, 1])
      yield* expectWhole(keys)
    }).pipe(under({}))
  )

  it.scoped("begins merges anew after a restart, and what they had made does not pile up", () =>
    Effect.gen(function* () {
      const keys = yield* openKeys
      for (let batch = 0; batch < 100; batch++) yield* keys.append(fresh(10))
      for (let batch = 0; batch < 1000; batch++) {
        // Long enough for the merges of the lower levels, never for that of the highest.
        if (batch % 12 === 0) yield* keys.restart
        yield* keys.append(fresh(1))
        const live = yield* keys.one("sum(pages) FROM key_run WHERE live = 1")
        expect((yield* keys.one("count(*) FROM key_page")) - live).toBeLessThanOrEqual(400)
      }
      yield* expectWhole(keys)
    }).pipe(under({ youngKeysMax: 2, keysPerPage: 1, runsPerMerge: 2 }))
  )

  it.scoped("keeps no filter that is larger than all may be, and looks into runs that have none", () =>
    Effect.gen(function* () {
      const keys = yield* openKeys
      for (let batch = 0; batch < 64; batch++) yield* keys.append(fresh(4))
      const largest = yield* keys.one("max(length(bytes)) FROM key_filter")
      expect(largest).toBeGreaterThan(0)
      expect(largest).toBeLessThanOrEqual(30)
      expect(filterBytes(yield* keys.one("max(keys) FROM key_run WHERE live = 1"))).toBeGreaterThan(30)
      yield* keys.restart
      yield* expectWhole(keys)
      yield* keys.sql`DELETE FROM key_filter`
      yield* keys.restart
      yield* expectWhole(keys)
    }).pipe(under({ filterBytesMax: 30 }))
  )

  it.scoped("costs an append no more when there are twenty times as many keys", () =>
    Effect.gen(function* () {
      const keys = yield* openKeys
      let most = 0
      for (let batch = 1; batch <= 2000; batch++) {
        const before = yield* keys.one("total_changes()")
        yield* keys.append(fresh(10))
        const indexed = (yield* keys.one("total_changes()")) - before - 11
        most = Math.max(most, indexed)
        // A run of sixteen keys; and for each level, of which there are six, pages that are merged and ones that go.
        if (batch === 100 || batch === 2000) expect([batch, most <= 100]).toEqual([batch, true])
      }
      expect(yield* keys.one("max(level) FROM key_run WHERE live = 1")).toBeGreaterThanOrEqual(4)
    }).pipe(under({ youngKeysMax: 16, keysPerPage: 4, runsPerMerge: 4, pagesPerStep: 2 }))
  )

  it.scoped("takes a commit of a hundred thousand keys, at the greatest offsets, under its own limits", () =>
    Effect.gen(function* () {
      const keys = yield* openKeys
      yield* keys.append(fresh(10))
      keys.jump(2 ** 52)
      const ids = fresh(100_000)
      yield* keys.append(ids)
      yield* keys.append(fresh(10))
      yield* keys.restart
      expect(yield* keys.find([ids[0] ?? "", ids[99_999] ?? ""])).toEqual([
        [2 ** 52 + 1],
        [2 ** 52 + 100_000]
      ])
      expect(yield* keys.faults).toEqual([])
    })
  )

  it.scoped("loses no key between two pages, where rounding puts it on one side or on the other", () =>
    Effect.gen(function* () {
      const { sql } = yield* openKeys
      const index = yield* KeyIndex.load(sql)
      // Just below the boundary that is the twelfth of seventeen pages and the thirty-sixth of fifty-one.
      const hash = Number((12n * BigInt(hashSpan)) / 17n)
      expect([pageOf(hash, 17), pageOf(hash, 51)]).toEqual([11, 36])
      const others = (count: number, from: number) => {
        for (let each = 1; each <= count; each++)
          index.add(Math.floor(((each - 0.25) / count) * hashSpan), from + each)
      }
      index.add(hash, 1)
      others(16, 1)
      yield* transaction(sql, (sql) => index.settle(sql, 17))
      others(34, 17)
      yield* transaction(sql, (sql) => index.settle(sql, 51))
      const merged = yield* sql`SELECT keys, pages FROM key_run WHERE level = 1 AND live = 1`
      expect(merged).toEqual([{ keys: 51, pages: 51 }])
      expect((yield* index.inRuns(sql, [hash])).get(0)).toEqual([1])
    }).pipe(under({ youngKeysMax: 17, keysPerPage: 1, runsPerMerge: 2, pagesPerStep: 12 }))
  )
})
