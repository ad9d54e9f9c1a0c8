import type { SqlClient } from "@effect/sql"
import { it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { expect } from "vitest"
import { connectTo } from "../../src/node/SqliteCopies.ts"
import { held } from "../../src/store/HeldClient.ts"

/**
 * A held client, and the arrays that it has given to the driver, one for each text. Others have their turn between the
 * moment in which a statement is given its parameters and that in which it runs.
 */
const watched = Effect.gen(function* () {
  const client = yield* connectTo(":memory:")
  const parametersOf = new Map<string, Array<ReadonlyArray<unknown>>>()
  const reserve = Effect.map(client.reserve, (connection) => ({
    ...connection,
    executeUnprepared: (...call: Parameters<typeof connection.executeUnprepared>) => {
      const [text, parameters] = call
      parametersOf.set(text, [...(parametersOf.get(text) ?? []), parameters])
      return Effect.zipRight(Effect.yieldNow(), connection.executeUnprepared(...call))
    }
  }))
  const sql = yield* held(Object.assign(client, { reserve }) as SqlClient.SqlClient)
  return { sql, parametersOf }
})

it.scoped("a statement is prepared once, and run each time with the parameters of that time", () =>
  Effect.gen(function* () {
    const { sql, parametersOf } = yield* watched
    const double = (value: number) => sql<{ doubled: number }>`SELECT 2 * ${value} AS doubled`
    const statements = [double(1), double(20), double(300)]
    for (const statement of statements) yield* statement
    expect(yield* Effect.all(statements)).toEqual([[{ doubled: 2 }], [{ doubled: 40 }], [{ doubled: 600 }]])
    expect([...parametersOf].map(([text, given]) => [text, given.length])).toEqual([
      ["SELECT 2 * ? AS doubled", 1]
    ])
  })
)

it.scoped("nothing of what a statement was run with is kept", () =>
  Effect.gen(function* () {
    const { sql, parametersOf } = yield* watched
    yield* sql`SELECT ${"x".repeat(1000)} AS one, ${2} AS two`
    expect([...parametersOf.values()]).toEqual([[[]]])
  })
)

it.scoped("a statement that has failed can be run again, and so can one that could not be compiled", () =>
  Effect.gen(function* () {
    const { sql, parametersOf } = yield* watched
    const insert = (id: number) => sql`INSERT INTO thing VALUES (${id})`
    expect((yield* Effect.flip(insert(1))).message).toBe("Failed to prepare statement")
    yield* sql`CREATE TABLE thing (id INTEGER PRIMARY KEY)`
    yield* insert(1)
    expect((yield* Effect.flip(insert(1))).message).toBe("Failed to execute statement")
    yield* insert(2)
    expect(yield* sql`SELECT id FROM thing ORDER BY id`).toEqual([{ id: 1 }, { id: 2 }])
    expect(parametersOf.get("INSERT INTO thing VALUES (?)")).toHaveLength(2)
    yield* Effect.flip(insert(1))
    // Nothing of what has failed is kept, either.
    expect(parametersOf.get("INSERT INTO thing VALUES (?)")).toEqual([[], []])
  })
)

it.scoped("statements of one text that get between each other keep to their own parameters", () =>
  Effect.gen(function* () {
    const { sql } = yield* watched
    const values = Array.from({ length: 200 }, (_, value) => value)
    const read = (value: number) => sql<{ value: number }>`SELECT ${value} AS value`
    const rows = yield* Effect.forEach(values, read, { concurrency: "unbounded" })
    expect(rows.flat().map(({ value }) => value)).toEqual(values)
  })
)

it.scoped("a statement that was interrupted leaves nothing behind for the next", () =>
  Effect.gen(function* () {
    const { sql } = yield* watched
    const read = (value: number) => sql<{ value: number }>`SELECT ${value} AS value`
    for (let value = 0; value < 50; value++) {
      const begun = yield* Effect.fork(read(value))
      for (let turn = 0; turn < value % 5; turn++) yield* Effect.yieldNow()
      yield* Fiber.interrupt(begun)
      expect(yield* read(-value)).toEqual([{ value: -value }])
    }
  })
)

it.scoped("no number of texts keeps them all", () =>
  Effect.gen(function* () {
    const { sql, parametersOf } = yield* watched
    for (let number = 0; number < 1000; number++) yield* sql.unsafe(`SELECT ${number} AS number`)
    expect(yield* sql.unsafe("SELECT 0 AS number")).toEqual([{ number: 0 }])
    expect(parametersOf.get("SELECT 0 AS number")).toHaveLength(2)
  })
)
