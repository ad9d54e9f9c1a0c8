/**
 * The simulator's check of sequences against databases that are known to be good, and to be bad: whatever of the books or
 * the marks is spoilt has to be told.
 */
import Sqlite from "better-sqlite3"
import { describe, expect, it } from "vitest"
import { checkSequences, type GapBounds } from "../../sim/check/Sequences.ts"

/** The numbers of two series, in the order in which they came; one of them came late. */
const numbers: ReadonlyArray<readonly [source: string, sequence: number, late?: boolean]> = [
  ["s", 4],
  ["s", 5],
  ["s", 5],
  ["s", 10],
  ["s", 13],
  ["s", 2],
  ["s", 7, true],
  ["s", 7],
  ["s", 20],
  ["s", 17],
  ["s", 18],
  ["t", 0],
  ["t", 1],
  ["t", 2]
]

/** A database with those, in which 6 to 9 and 11 to 12 had been given up before 7 came, and 14 to 16 and 19 are open. */
const makeGood = (): Sqlite.Database => {
  const database = new Sqlite(":memory:")
  database.exec(`
    CREATE TABLE event (offset INTEGER PRIMARY KEY, topic_id INTEGER, source TEXT, sequence INTEGER, late INTEGER);
    CREATE TABLE source (id INTEGER PRIMARY KEY, topic_id INTEGER, name TEXT, first INTEGER, contiguous INTEGER,
      highest INTEGER, behind INTEGER, gaps INTEGER, declared INTEGER, late INTEGER, reused INTEGER);
    CREATE TABLE gap (source_id INTEGER, first INTEGER, last INTEGER, opened_at INTEGER);
    CREATE TABLE store (sources INTEGER, gaps_open INTEGER, declared_missing INTEGER, late INTEGER,
      sequence_reused INTEGER);
    INSERT INTO source VALUES (1, 1, 's', 4, 13, 20, 4, 2, 6, 1, 2), (2, 1, 't', 0, 2, 2, 0, 0, 0, 0, 0);
    INSERT INTO gap VALUES (1, 14, 16, 0), (1, 19, 19, 0);
    INSERT INTO store VALUES (2, 2, 6, 1, 2)`)
  const insert = database.prepare("INSERT INTO event VALUES (NULL, 1, ?, ?, ?)")
  for (const [source, sequence, late = false] of numbers) insert.run(source, sequence, late ? 1 : 0)
  return database
}

const judged = (database: Sqlite.Database, bounds: GapBounds) => {
  const query = (sql: string) => database.prepare(sql).all() as Array<Record<string, unknown>>
  const { violations, seen } = checkSequences(query, bounds)
  return { told: violations.map(({ guarantee, detail }) => `${guarantee} ${detail}`), seen }
}

const spoilt: ReadonlyArray<readonly [sql: string, told: RegExp]> = [
  ["UPDATE source SET first = 5 WHERE id = 1", /G4 first of the source 1 s is 5, not 4/],
  ["UPDATE source SET contiguous = 12 WHERE id = 1", /contiguous .* is 12, not 13/],
  ["UPDATE source SET highest = 3 WHERE id = 2", /highest of the source 1 t is 3, not 2/],
  ["UPDATE source SET behind = 0 WHERE id = 1", /behind .* is 0, not 4/],
  ["UPDATE source SET gaps = 1 WHERE id = 1", /gaps .* is 1, not 2/],
  ["UPDATE source SET declared = 5 WHERE id = 1", /declared .* is 5, not 6/],
  ["UPDATE source SET late = 0 WHERE id = 1", /late .* is 0, not 1/],
  ["UPDATE source SET reused = 1 WHERE id = 1", /reused .* is 1, not 2/],
  ["DELETE FROM gap WHERE first = 14", /declared .* is 6, not 9/],
  ["UPDATE gap SET last = 17 WHERE first = 14", /the number 17 is stored and waited for/],
  ["UPDATE gap SET last = 15 WHERE first = 14", /gap from 14 to 15 goes on/],
  [
    "INSERT INTO gap SELECT id, 1, 1, 0 FROM source WHERE name = 't'",
    /the number 1 is stored and waited for/
  ],
  ["UPDATE event SET late = 1 WHERE sequence = 13", /with the number 13 cannot be late/],
  ["UPDATE event SET late = 0", /late .* is 1, not 0/],
  ["UPDATE event SET sequence = NULL WHERE late = 1", /is late without a sequence/],
  ["DELETE FROM source WHERE id = 2", /the source 1 t is not listed/],
  ["UPDATE event SET sequence = NULL WHERE source = 't'", /the source 1 t has no events/],
  ["UPDATE store SET sources = 3", /sources in the books is 3, not 2/],
  ["UPDATE store SET gaps_open = 0", /gaps_open in the books is 0, not 2/],
  ["UPDATE store SET declared_missing = 0", /declared_missing in the books is 0, not 6/],
  ["UPDATE store SET late = 2", /late in the books is 2, not 1/],
  ["UPDATE store SET sequence_reused = 0", /sequence_reused in the books is 0, not 2/]
]

describe("the check of sequences", () => {
  const bounds = { noneOpen: false, gapsMax: 2 }

  it("finds nothing in good ones, and sees what happened to them", () => {
    expect(judged(makeGood(), bounds)).toEqual({
      told: [],
      seen: [
        "sequence: gap opened",
        "sequence: gap filled",
        "sequence: declared missing",
        "sequence: late",
        "sequence: reused"
      ]
    })
  })

  it("finds gaps that are too many, and such as should have been given up", () => {
    expect(judged(makeGood(), { noneOpen: true, gapsMax: 1 }).told).toEqual([
      "G4 2 gaps of the source 1 s are open, of at most 1",
      "G7 the gap from 14 to 16 of the source 1 s is not given up"
    ])
  })

  it("finds whatever is spoilt", () => {
    for (const [sql, told] of spoilt) {
      const database = makeGood()
      database.exec(sql)
      expect([sql, judged(database, bounds).told.join("\n")]).toEqual([sql, expect.stringMatching(told)])
    }
  })
})
