/**
 * The check of a database: what is sound is said to be, and every kind of damage that can be planted is told.
 */
import { copyFileSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import type Sqlite from "better-sqlite3"
import { Effect, TestClock } from "effect"
import fc from "fast-check"
import { KeyIndexLimits } from "../../src/Config.ts"
import { connectTo } from "../../src/node/SqliteCopies.ts"
import { type CheckReport, check } from "../../src/store/Check.ts"
import { latestMigration } from "../../src/store/Migrations.ts"
import type { CheckProgress } from "../../src/store/Recount.ts"
import { edit, makeVersionOne } from "../support/databases.ts"
import { anyEvent, makeEvent, makeEvents } from "../support/events.ts"
import { databaseAt, openClosable, temporaryFolder } from "../support/stores.ts"

const start = Date.UTC(2026, 10, 22)

const checkFile = (file: string, progress?: (progress: CheckProgress) => Effect.Effect<void>) =>
  Effect.scoped(Effect.flatMap(connectTo(file, { readonly: true }), (sql) => check("x.db", sql, progress)))

const faultsOf = ({ findings }: CheckReport) =>
  findings.filter(({ sound }) => !sound).map(({ sentence }) => sentence)

/**
 * A store with all that there can be: topics, redeliveries, conflicts, a jump between two epochs, the mark of a backup;
 * in one file.
 */
const makeRich = (file: string) =>
  Effect.gen(function* () {
    yield* TestClock.setTime(start)
    const first = yield* openClosable(databaseAt(file))
    const payload = JSON.stringify({ text: "x".repeat(100) })
    yield* first.store.append([
      ...makeEvents(40, { topic: "a", payload }),
      ...makeEvents(30, { topic: "b", payload })
    ])
    yield* TestClock.adjust("1 minute")
    yield* first.store.append(makeEvents(20, { topic: "a", payload }))
    yield* first.store.append(makeEvents(10, { topic: "a", payload: "[1]", source: "other" }))
    yield* first.close
    edit(file, (database) => database.exec(`UPDATE store SET backup_at = ${start}`))
    yield* TestClock.adjust("1 day")
    const second = yield* openClosable(databaseAt(file))
    yield* second.store.append(
      makeEvents(25, { topic: "c", payload, timestamp: "2026-11-22T10:00:00.000000007Z" }, "c")
    )
    yield* second.store.append(makeEvents(5, { topic: "b", payload }))
    yield* second.close
    edit(file, (database) => {
      database.pragma("journal_mode = DELETE")
      database.exec(`UPDATE store SET backup_at = ${start + 90_000_000}`)
    })
  })

describe("a sound database", () => {
  it.scoped("is told to be sound, with what it says of itself and why its offsets jump", () =>
    Effect.gen(function* () {
      const file = `${yield* temporaryFolder}/sekali.db`
      yield* makeRich(file)
      const report = yield* checkFile(file)
      expect(faultsOf(report)).toEqual([])
      expect(report.sound).toBe(true)
      const base = (start + 60_000 + 86_400_000 - Date.UTC(2020, 0, 1)) * 1000
      expect(report.figures).toEqual({
        schema: latestMigration,
        storeId: expect.stringMatching(/^[0-9a-f]{16}$/),
        epoch: 2,
        backupAt: start + 90_000_000,
        received: 130,
        uniqueProcessed: 95,
        duplicateDropped: 35,
        conflicts: 10,
        topics: 3,
        lastOffset: base + 30
      })
      const sentences = report.findings.map(({ sentence }) => sentence)
      expect(sentences).toEqual([
        "The file is sound: SQLite finds no damage in it.",
        "No row refers to one that is missing.",
        `The schema is whole, and is version ${latestMigration}.`,
        "The books balance, counted again from the events: 130 received = 95 stored + 35 dropped, in 3 topics.",
        "The index of keys is that of the events: 0 keys in 0 runs, and 95 behind them. No two events have one key.",
        `The store is ${report.figures?.storeId}, in epoch 2, and has given out the offsets to ${base + 30}.`,
        "Epoch 2 began at 2026-11-23T00:01:00.000Z, when the backup of 2026-11-22T00:00:00.000Z was put into service: " +
          `offsets jump from 100 to ${base}, beyond any that can have been given out since that backup. A reader's ` +
          "cursor in between is from a future that was lost, and is refused.",
        "It is a backup, made at 2026-11-23T01:00:00.000Z: the service that opens it begins epoch 3."
      ])
    })
  )

  it.scoped("is one that has just been made, too, and one of version 1", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const { close } = yield* openClosable(databaseAt(`${folder}/new.db`))
      yield* close
      edit(`${folder}/new.db`, (database) => database.pragma("journal_mode = DELETE"))
      expect(yield* checkFile(`${folder}/new.db`)).toMatchObject({
        sound: true,
        figures: { received: 0, epoch: 1 }
      })
      yield* makeVersionOne(`${folder}/old.db`)
      edit(`${folder}/old.db`, (database) => database.pragma("journal_mode = DELETE"))
      const old = yield* checkFile(`${folder}/old.db`)
      expect(faultsOf(old)).toEqual([])
      expect(old.figures).toMatchObject({ schema: 1, storeId: undefined, backupAt: undefined, received: 3 })
      expect(old.findings.map(({ sentence }) => sentence)).toContain(
        `The schema is whole, and is version 1; the service brings it to ${latestMigration}.`
      )
    })
  )

  it.scoped("is whatever publishers send: any payload, name and time", () =>
    Effect.gen(function* () {
      const file = `${yield* temporaryFolder}/sekali.db`
      const { store, close } = yield* openClosable(databaseAt(file))
      for (const events of fc.sample(fc.array(anyEvent, { minLength: 50, maxLength: 60 }), {
        numRuns: 10,
        seed: 1
      })) {
        yield* store.append([...events, ...events.slice(3)])
      }
      yield* close
      edit(file, (database) => database.pragma("journal_mode = DELETE"))
      const report = yield* checkFile(file)
      expect(faultsOf(report)).toEqual([])
      expect(report.figures?.received).toBeGreaterThan(500)
    })
  )

  it.scoped("is read in windows, telling how far it is, and not changed", () =>
    Effect.gen(function* () {
      const file = `${yield* temporaryFolder}/sekali.db`
      const { store, close } = yield* openClosable(databaseAt(file))
      yield* store.append(makeEvents(12_001))
      yield* store.append(makeEvents(6000))
      yield* close
      edit(file, (database) => database.pragma("journal_mode = DELETE"))
      const before = readFileSync(file)
      const steps: Array<string> = []
      expect(
        (yield* checkFile(file, ({ step, done, total }) =>
          Effect.sync(() => void steps.push(`${step} ${done}/${total}`))
        )).sound
      ).toBe(true)
      expect(steps).toEqual([
        "integrity 0/1",
        "integrity 1/1",
        ...["0", "5000", "10000", "12001"].map((done) => `events ${done}/12001`),
        ...["0", "5000", "6000"].map((done) => `redeliveries ${done}/6000`),
        "topics 0/1",
        "topics 1/1",
        "sequences 0/0",
        ...["0", "5000", "10000", "12001", "12001"].map((done) => `keys ${done}/12001`)
      ])
      expect(readFileSync(file).equals(before)).toBe(true)
    })
  )
})

/** Damage, by the SQL that plants it, and what has to be said of it. */
const mutilations: ReadonlyArray<readonly [name: string, plant: string, told: RegExp]> = [
  [
    "received",
    "UPDATE store SET received = received + 1",
    /received 131, but there are 130 stored and dropped/
  ],
  [
    "stored",
    "UPDATE store SET unique_processed = unique_processed - 1",
    /stored 94, but there are 95 events/
  ],
  ["dropped", "UPDATE store SET duplicate_dropped = 7", /dropped 7, but there are 35 redeliveries/],
  ["conflicts", "UPDATE store SET conflicts = 11", /conflicts 11, but there are 10/],
  ["count of topics", "UPDATE store SET topics = 4", /topics 4, but there are 3/],
  [
    "a last offset too great",
    "UPDATE store SET last_offset = last_offset + 1",
    /offsets given out 131, but there are 130/
  ],
  [
    "a last offset too small",
    "UPDATE store SET last_offset = last_offset - 29",
    /never given out: 24, the first/
  ],
  [
    "last commit",
    "UPDATE store SET processed_at = 1",
    /stored later than the last commit: 95, the first at offset 1\./
  ],
  ["books without a row", "DELETE FROM store", /its books are gone/],
  [
    "event gone",
    "DELETE FROM event WHERE offset = 60",
    /topic b has wrong books: events 30, which should be 29\./
  ],
  [
    "event gone with redeliveries",
    "DELETE FROM event WHERE offset = 2",
    /table redelivery .* of the table event: 1, the first 2\./
  ],
  [
    "first event gone",
    "DELETE FROM event WHERE offset = 41",
    /topic b has wrong books: .*first offset 41, which should be 42/
  ],
  [
    "last event gone",
    "DELETE FROM event WHERE offset = 70",
    /topic b has wrong books: .*last offset 70, which should be 69/
  ],
  [
    "event added",
    "INSERT INTO event SELECT 90, topic_id, 'new', timestamp, source, payload, NULL, NULL, processed_at, 0 FROM event WHERE offset = 70",
    /topic b has wrong books: events 30, which should be 31; last offset 70, which should be 90\./
  ],
  [
    "event of no topic",
    "UPDATE event SET topic_id = 99 WHERE offset = 50",
    /table event .* of the table topic: 1, the first 50\./
  ],
  [
    "event in another topic",
    "UPDATE event SET topic_id = 3 WHERE offset = 50",
    /topic c has wrong books: events 25, which should be 26/
  ],
  [
    "offset never given out",
    "UPDATE event SET offset = 9000000000000000 WHERE offset = 60",
    /never given out: 1, the first at offset 9000000000000000\./
  ],
  [
    "offset 0",
    "UPDATE event SET offset = 0 WHERE offset = 60",
    /never given out: 1, the first at offset 0\./
  ],
  [
    "offset that was jumped over",
    "UPDATE event SET offset = 101 WHERE offset = 60",
    /that an epoch left out: 1, the first at offset 101\./
  ],
  [
    "offset at the end of the jump",
    "UPDATE event SET offset = (SELECT base_offset FROM epoch WHERE number = 2) WHERE offset = 60",
    /that an epoch left out: 1/
  ],
  [
    "processed_at that falls",
    "UPDATE event SET processed_at = processed_at - 1 WHERE offset = 60",
    /stored earlier than the one before them: 1, the first at offset 60\./
  ],
  [
    "payload that is not JSON",
    "UPDATE event SET payload = '{\"a\":' WHERE offset IN (7, 9)",
    /payload is not JSON: 2, the first at offset 7\./
  ],
  ["payload that is empty", "UPDATE event SET payload = '' WHERE offset = 7", /payload is not JSON: 1/],
  [
    "time that is none",
    "UPDATE event SET timestamp = '2026-02-30T00:00:00Z' WHERE offset = 7",
    /timestamp names no instant: 1, the first at offset 7\./
  ],
  [
    "topic's events",
    "UPDATE topic SET events = 1 WHERE name = 'a'",
    /topic a has wrong books: events 1, which should be 40\./
  ],
  [
    "topic's duplicates",
    "UPDATE topic SET duplicates = 31 WHERE name = 'a'",
    /duplicates 31, which should be 30\./
  ],
  [
    "topic's conflicts",
    "UPDATE topic SET conflicts = 0 WHERE name = 'a'",
    /conflicts 0, which should be 10\./
  ],
  [
    "topic's first offset",
    "UPDATE topic SET first_offset = 2 WHERE name = 'a'",
    /first offset 2, which should be 1\./
  ],
  [
    "topic's last offset",
    "UPDATE topic SET last_offset = 41 WHERE name = 'a'",
    /last offset 41, which should be 40\./
  ],
  [
    "topic's last event time",
    "UPDATE topic SET last_event_time = '2026-11-22T10:00:00Z' WHERE name = 'a'",
    /last event time 2026-11-22T10:00:00Z, which should be 2026-11-22T10:00:00.000Z\./
  ],
  [
    "topic's last instant",
    "UPDATE topic SET last_event_ms = last_event_ms + 1 WHERE name = 'a'",
    /milliseconds of the last event time/
  ],
  [
    "topic's last nanoseconds",
    "UPDATE topic SET last_event_ns = 8 WHERE name = 'c'",
    /nanoseconds of the last event time 8, which should be 7\./
  ],
  [
    "topic without events",
    "INSERT INTO topic SELECT 9, 'empty', 0, 0, 0, 0, 0, '', 0, 0",
    /topic empty has no events\./
  ],
  ["redelivery gone", "DELETE FROM redelivery WHERE offset = 3", /dropped 35, but there are 33 redeliveries/],
  [
    "redelivery's duplicates",
    "UPDATE redelivery SET duplicates = duplicates + 1 WHERE offset = 3",
    /dropped 35, but there are 36 redeliveries/
  ],
  [
    "redelivery moved",
    "UPDATE redelivery SET offset = 60 WHERE offset = 3",
    /topic b has wrong books: duplicates 5, which should be 7; conflicts 0, which should be 1\./
  ],
  [
    "redelivery of nothing",
    "INSERT INTO redelivery VALUES (30, 0, 0, (SELECT processed_at FROM store), NULL, NULL)",
    /counts that cannot be: 1, the first at offset 30\./
  ],
  [
    "more conflicts than duplicates",
    "UPDATE redelivery SET conflicts = 4 WHERE offset = 3",
    /counts that cannot be: 1, the first at offset 3\./
  ],
  [
    "redelivery before the event",
    "UPDATE redelivery SET last_duplicate_at = 1 WHERE offset = 3",
    /at a time that cannot be: 1, the first at offset 3\./
  ],
  [
    "redelivery after the last commit",
    "UPDATE redelivery SET last_duplicate_at = 9000000000000 WHERE offset = 3",
    /at a time that cannot be: 1/
  ],
  [
    "conflict without a source",
    "UPDATE redelivery SET last_conflict_source = NULL WHERE offset = 3",
    /last conflict cannot be: 1, the first at offset 3\./
  ],
  [
    "source without a conflict",
    "UPDATE redelivery SET last_conflict_source = 's' WHERE offset = 15",
    /last conflict cannot be: 1, the first at offset 15\./
  ],
  [
    "conflict after all",
    "UPDATE redelivery SET last_conflict_at = last_duplicate_at + 1 WHERE offset = 3",
    /last conflict cannot be: 1/
  ],
  ["epochs gone", "DELETE FROM epoch", /its books are gone/],
  ["first epoch gone", "DELETE FROM epoch WHERE number = 1", /Epoch 1 is missing\./],
  [
    "last epoch gone",
    "DELETE FROM epoch WHERE number = 2",
    /offsets given out 2\d{14}, but there are 130 deliveries/
  ],
  [
    "epoch that jumps back",
    "UPDATE epoch SET base_offset = 99 WHERE number = 2",
    /Epoch 2 jumps from 100 to 99, which cannot be after 0\./
  ],
  [
    "epoch in the future",
    "UPDATE epoch SET base_offset = 9000000000000000 WHERE number = 2",
    /but the last epoch began after 9000000000000000\./
  ],
  [
    "first epoch with a jump",
    "UPDATE epoch SET base_offset = 3 WHERE number = 1",
    /Epoch 1 jumps from 0 to 3/
  ],
  [
    "epoch without a backup",
    "UPDATE epoch SET backup_at = NULL WHERE number = 2",
    /Epoch 2 does not say from which backup/
  ],
  [
    "first epoch with a backup",
    "UPDATE epoch SET backup_at = 1 WHERE number = 1",
    /Epoch 1 is the first, but says from which backup/
  ],
  [
    "another identity",
    "UPDATE store SET store_id = 'someone-else'",
    /The store is someone-else, but its last epoch says/
  ],
  ["epochs of one id", "UPDATE epoch SET store_id = (SELECT store_id FROM store)", /Two epochs have one id/],
  ["column gone", "ALTER TABLE store DROP COLUMN backup_at", /lacks store\.backup_at/],
  ["table gone", "DROP TABLE redelivery", /lacks redelivery\.offset/],
  [
    "newer schema",
    "INSERT INTO migration (migration_id, name) VALUES (9999, 'x')",
    /was made by a newer Sekali/
  ],
  ["no mark", "PRAGMA application_id = 7", /belongs to another program/],
  [
    "index that lacks a row",
    "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'sqlite_autoindex_topic_1'",
    /SQLite finds damage|cannot be read/
  ]
]

/** Two series, with all that there can be: a gap that is open, one given up, late events, reused numbers. */
const makeSequenced = (file: string) =>
  Effect.gen(function* () {
    yield* TestClock.setTime(start)
    const { store, close } = yield* openClosable(databaseAt(file))
    const append = (source: string, ...numbers: ReadonlyArray<number>) =>
      store.append(
        numbers.map((sequence, index) =>
          makeEvent({ topic: "a", eventId: `${source}-${sequence}-${index}`, source, sequence })
        )
      )
    yield* append("s", 4, 5, 5, 10, 13, 2)
    yield* store.declareMissing({ secondsMax: 0, eventsMax: 1 })
    yield* append("s", 7, 7, 20, 17)
    yield* append("t", 0, 1, 2)
    yield* close
    edit(file, (database) => database.pragma("journal_mode = DELETE"))
  })

const mutilatedSequences: typeof mutilations = [
  ["first", "UPDATE source SET first = 5 WHERE id = 1", /of s in the topic a .*first 5, which should be 4/],
  ["contiguous", "UPDATE source SET contiguous = 12 WHERE id = 1", /contiguous 12, which should be 13/],
  ["highest", "UPDATE source SET highest = 3 WHERE id = 2", /of t in .*highest 3, which should be 2/],
  ["behind", "UPDATE source SET behind = 0 WHERE id = 1", /behind 0, which should be 4/],
  ["open gaps", "UPDATE source SET gaps = 1 WHERE id = 1", /open gaps 1, which should be 2/],
  ["declared", "UPDATE source SET declared = 5 WHERE id = 1", /declared missing 5, which should be 6/],
  ["late", "UPDATE source SET late = 0 WHERE id = 1", /late 0, which should be 1/],
  ["reused", "UPDATE source SET reused = 1 WHERE id = 1", /reused 1, which should be 2/],
  ["gap gone", "DELETE FROM gap WHERE first = 14", /declared missing 6, which should be 9/],
  ["gap grown", "UPDATE gap SET last = 17 WHERE first = 14", /a gap from 14 to 17, where there is none/],
  ["gap too many", "INSERT INTO gap VALUES (2, 1, 1, 0)", /of t in .*a gap from 1 to 1, where there is none/],
  [
    "late without reason",
    "UPDATE event SET late = 1 WHERE sequence = 4",
    /that cannot be late at offset 1\b/
  ],
  ["late no more", "UPDATE event SET late = 0", /late 1, which should be 0/],
  ["series gone", "DELETE FROM source WHERE id = 2", /with a sequence: 13, but .* of all sources have 10/],
  ["number gone", "UPDATE event SET sequence = NULL WHERE source = 't'", /of t in the topic a has no events/],
  ["sum of sources", "UPDATE store SET sources = 3", /sources 3, but the sequences have 2/],
  ["sum of gaps", "UPDATE store SET gaps_open = 0", /open gaps 0, but the sequences have 2/],
  [
    "sum of declared",
    "UPDATE store SET declared_missing = 0",
    /declared missing 0, but the sequences have 6/
  ],
  ["sum of late", "UPDATE store SET late = 2", /late events 2, but the sequences have 1/],
  ["sum of reused", "UPDATE store SET sequence_reused = 0", /reused numbers 0, but the sequences have 2/]
]

/** Runs of several levels, ones that were merged and are not gone yet, and a merge that is under way. */
const makeIndexed = (file: string) =>
  Effect.gen(function* () {
    yield* TestClock.setTime(start)
    const made = yield* openClosable(databaseAt(file))
    yield* made.close
    // So that keys lie on the same pages each time.
    edit(file, (database) => database.exec("UPDATE store SET key_seed = 7"))
    const { store, close } = yield* openClosable(databaseAt(file))
    for (let batch = 0; batch < 27; batch++)
      yield* store.append(makeEvents(4, { topic: batch % 2 === 0 ? "a" : "b" }, `${batch}-`))
    yield* close
    edit(file, (database) => database.pragma("journal_mode = DELETE"))
  }).pipe(
    Effect.provideService(KeyIndexLimits, {
      youngKeysMax: 6,
      keysPerPage: 2,
      runsPerMerge: 2,
      pagesPerStep: 1,
      filterBytesMax: 1_000_000
    })
  )

/** Entries of the page at a place, changed. */
const withEntries =
  (change: (entries: Float64Array) => Float64Array) =>
  (database: Sqlite.Database): void => {
    const { place, entries } = database
      .prepare(
        `SELECT p.place, p.entries FROM key_page AS p JOIN key_run AS r ON r.id = p.place / 16777216
         WHERE r.live = 1 AND r.level = 2 AND length(p.entries) >= 32 LIMIT 1`
      )
      .get() as { place: number; entries: Buffer }
    const changed = change(new Float64Array(new Uint8Array(entries).buffer))
    database
      .prepare("UPDATE key_page SET entries = ? WHERE place = ?")
      .run(Buffer.from(changed.buffer, changed.byteOffset, changed.byteLength), place)
  }

const youngest = "(SELECT max(last_offset) FROM key_run WHERE live = 1)"
const oldest = "(SELECT id FROM key_run WHERE live = 1 ORDER BY last_offset LIMIT 1)"

const mutilatedKeys: ReadonlyArray<
  readonly [name: string, plant: string | ((database: Sqlite.Database) => void), told: RegExp]
> = [
  [
    "an event that it does not know",
    "UPDATE event SET event_id = 'new' WHERE offset = 7",
    /Events whose key the index does not know: 1, the first at offset 7\..*that no event has: 1, the first at offset 7\./s
  ],
  [
    "an event in another topic",
    "UPDATE event SET topic_id = 2 WHERE offset = 3",
    /Events whose key the index does not know: 1, the first at offset 3\./
  ],
  [
    "a page gone",
    `DELETE FROM key_page WHERE place = ${oldest} * 16777216 + 1`,
    /Runs of keys that lack pages: 1.*than they say: 1.*the index does not know: \d+/s
  ],
  [
    "a page that is empty",
    `UPDATE key_page SET entries = x'' WHERE place = ${oldest} * 16777216 + 1`,
    /another number of keys than they say: 1.*the index does not know: \d+/s
  ],
  [
    "pages that changed places",
    `UPDATE key_page SET place = -1 WHERE place = ${oldest} * 16777216;
     UPDATE key_page SET place = ${oldest} * 16777216 WHERE place = ${oldest} * 16777216 + 1;
     UPDATE key_page SET place = ${oldest} * 16777216 + 1 WHERE place = -1`,
    /Keys on a page where they are not looked for: \d+, the first page 0/
  ],
  [
    "a page of no run",
    "INSERT INTO key_page VALUES (16777216 * 5000, x'')",
    /Ranges of pages that belong to no run of keys: 1/
  ],
  [
    "a page behind the last one of its run",
    `INSERT INTO key_page SELECT id * 16777216 + pages, x'' FROM key_run WHERE id = ${oldest}`,
    /Ranges of pages that belong to no run of keys: 1/
  ],
  ["an entry gone", withEntries((entries) => entries.slice(2)), /than they say: 1.*does not know: 1/s],
  [
    "an entry twice",
    withEntries((entries) => Float64Array.of(...entries, ...entries.slice(0, 2))),
    /than they say: 1.*Keys that are in the index twice: 1/s
  ],
  [
    "an entry in place of another one",
    withEntries((entries) => entries.copyWithin(2, 0, 2)),
    /does not know: 1.*in the index twice: 1/s
  ],
  [
    "a wrong hash",
    withEntries((entries) => entries.map((each, at) => (at === 0 ? each + 1 : each))),
    /does not know: 1.*Keys in the index that no event has: 1/s
  ],
  [
    "a wrong offset",
    withEntries((entries) => entries.map((each, at) => (at === 1 ? 9_000_000 : each))),
    /does not know: 1.*Keys in the index that no event has: 1, the first at offset 9000000\./s
  ],
  [
    "a page that is cut off",
    `UPDATE key_page SET entries = substr(entries, 1, length(entries) - 3)
     WHERE place = ${oldest} * 16777216 + 1`,
    /Pages of keys that are cut off: 1/
  ],
  [
    "a filter that denies",
    `UPDATE key_filter SET bytes = zeroblob(length(bytes)) WHERE run_id = ${oldest}`,
    /Keys that the filter of their run denies: \d+/
  ],
  [
    "a filter of no run",
    "INSERT INTO key_filter VALUES (5000, x'00')",
    /Filters of runs that are not in use: 1, the first run 5000\./
  ],
  [
    "a filter of a run that was merged",
    "INSERT INTO key_filter SELECT min(id), x'00' FROM key_run WHERE live = 0",
    /Filters of runs that are not in use: 1/
  ],
  [
    "a run taken out of use",
    `UPDATE key_run SET live = 0 WHERE id = ${oldest}`,
    /the index does not know: \d+, the first at offset 1\./
  ],
  ["a run gone", `DELETE FROM key_run WHERE id = ${oldest}`, /belong to no run of keys: 1.*Filters of runs/s],
  [
    "merged runs in use again",
    "UPDATE key_run SET live = 1 WHERE live = 0",
    /with a last offset that cannot be|another number of keys than they say/
  ],
  ["a count of keys", `UPDATE key_run SET keys = keys + 1 WHERE id = ${oldest}`, /than they say: 1/],
  [
    "a last offset too great",
    `UPDATE key_run SET last_offset = last_offset + 2 WHERE last_offset = ${youngest} AND live = 1`,
    /the index does not know: 2/
  ],
  [
    "a last offset too small",
    `UPDATE key_run SET last_offset = last_offset - 4 WHERE last_offset = ${youngest} AND live = 1`,
    /Keys in another run than their event: 4/
  ],
  [
    "a last offset that was never given out",
    `UPDATE key_run SET last_offset = 9000 WHERE last_offset = ${youngest} AND live = 1`,
    /with a last offset that cannot be: 1/
  ],
  ["another seed", "UPDATE store SET key_seed = key_seed + 1", /the index does not know: \d{2,}/],
  [
    "a key that two events have, of which the index knows one",
    `UPDATE event SET event_id = '0-e0' WHERE offset = 2`,
    /the index does not know: 1, the first at offset 2\./
  ],
  [
    "a key that two of the youngest have",
    `UPDATE event SET (topic_id, event_id) =
       (SELECT topic_id, event_id FROM event ORDER BY offset DESC LIMIT 1)
     WHERE offset = (SELECT max(offset) - 1 FROM event)`,
    /Events whose key another event has: 1, the first at offset 108, which is that at 107\./
  ],
  [
    "a key that is in a run and with the youngest",
    `UPDATE event SET (topic_id, event_id) = (SELECT topic_id, event_id FROM event WHERE offset = 1)
     WHERE offset = (SELECT max(offset) FROM event)`,
    /Events whose key another event has: 1, the first at offset 108, which is that at 1\./
  ]
]

describe("damage", () => {
  it.scoped("of the index of keys is told", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const sound = `${folder}/sound.db`
      yield* makeIndexed(sound)
      const report = yield* checkFile(sound)
      expect(faultsOf(report)).toEqual([])
      expect(report.findings.map(({ sentence }) => sentence)).toContain(
        "The index of keys is that of the events: 104 keys in 5 runs, and 4 behind them. No two events have one key."
      )
      for (const [index, [name, plant, told]] of mutilatedKeys.entries()) {
        const file = `${folder}/${index}.db`
        copyFileSync(sound, file)
        edit(file, (database) => {
          database.pragma("foreign_keys = OFF")
          if (typeof plant === "string") database.exec(plant)
          else plant(database)
        })
        const faults = faultsOf(yield* checkFile(file)).join("\n")
        expect([name, faults]).toEqual([name, expect.stringMatching(told)])
      }
    })
  )

  it.scoped("of the books of sequences is told", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const sound = `${folder}/sound.db`
      yield* makeSequenced(sound)
      const report = yield* checkFile(sound)
      expect(faultsOf(report)).toEqual([])
      expect(report.findings.map(({ sentence }) => sentence)).toContain(
        "The sequences are what the events say: 2 sources, 2 open gaps, 6 numbers declared missing, of which 1 came " +
          "late, and 2 used again."
      )
      for (const [index, [name, plant, told]] of mutilatedSequences.entries()) {
        const file = `${folder}/${index}.db`
        copyFileSync(sound, file)
        edit(file, (database) => {
          database.pragma("foreign_keys = OFF")
          database.exec(plant)
        })
        const faults = faultsOf(yield* checkFile(file)).join("\n")
        expect([name, faults]).toEqual([name, expect.stringMatching(told)])
      }
    })
  )

  it.scoped("of every kind that can be planted is told, and nothing of it is changed", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const sound = `${folder}/sound.db`
      yield* makeRich(sound)
      for (const [index, [name, plant, told]] of mutilations.entries()) {
        const file = `${folder}/${index}.db`
        copyFileSync(sound, file)
        edit(file, (database: Sqlite.Database) => {
          database.pragma("foreign_keys = OFF")
          database.unsafeMode()
          database.exec(plant)
        })
        const before = readFileSync(file)
        const report = yield* checkFile(file)
        expect([name, report.sound, faultsOf(report).join("\n")]).toEqual([
          name,
          false,
          expect.stringMatching(told)
        ])
        for (const sentence of faultsOf(report))
          expect([name, sentence]).toEqual([name, expect.stringMatching(/^[A-Z].*\.$/s)])
        expect([name, readFileSync(file).equals(before)]).toEqual([name, true])
      }
    })
  )

  it.scoped("to the bytes of any page is told", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const sound = `${folder}/sound.db`
      yield* makeRich(sound)
      const bytes = readFileSync(sound)
      const pages = bytes.length / 4096
      expect(pages).toBeGreaterThan(10)
      for (let page = 0; page < pages; page++) {
        const file = `${folder}/${page}.db`
        const damaged = Buffer.from(bytes)
        damaged.fill(0xa5, page * 4096 + (page === 0 ? 100 : 0), page * 4096 + 300)
        writeFileSync(file, damaged)
        const report = yield* checkFile(file)
        expect([page, report.sound]).toEqual([page, false])
        expect(faultsOf(report).length).toBeGreaterThan(0)
      }
    })
  )

  it.scoped("of a file that was cut short, or is no database, is told", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const file = `${folder}/cut.db`
      yield* makeRich(file)
      truncateSync(file, statSync(file).size - 4096)
      expect((yield* checkFile(file)).sound).toBe(false)
      writeFileSync(`${folder}/notes.db`, "these are my notes, and no database\n".repeat(200))
      expect(faultsOf(yield* checkFile(`${folder}/notes.db`))).toContain(
        "The database x.db is damaged, or is not a SQLite database."
      )
      writeFileSync(`${folder}/empty.db`, "")
      expect(faultsOf(yield* checkFile(`${folder}/empty.db`))).toEqual(["The database x.db is empty."])
    })
  )

  it.scoped("of many rows is told in few sentences", () =>
    Effect.gen(function* () {
      const file = `${yield* temporaryFolder}/sekali.db`
      const { store, close } = yield* openClosable(databaseAt(file))
      for (let topic = 0; topic < 30; topic++) yield* store.append(makeEvents(3, { topic: `t${topic}` }))
      yield* close
      edit(file, (database) => {
        database.pragma("journal_mode = DELETE")
        database.exec("UPDATE event SET payload = '?', processed_at = -offset; UPDATE topic SET events = 0")
      })
      const faults = faultsOf(yield* checkFile(file))
      expect(faults).toContain("Events whose payload is not JSON: 90, the first at offset 1.")
      expect(faults).toContain("The same is so of 20 more topics.")
      expect(faults.length).toBeLessThan(15)
    })
  )
})
