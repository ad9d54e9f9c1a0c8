/**
 * Statements over many rows of parameters. There is a text for each small number of rows, and for a few larger ones: so
 * a handful of texts, each prepared once, does for any number of rows in few statements.
 */
import type { SqlClient } from "@effect/sql"
import type { SqlError } from "@effect/sql/SqlError"
import { Effect } from "effect"

/** The parameters of a row. */
export type Row = ReadonlyArray<string | number | null | Uint8Array>

/** No statement has more rows than this, a power of two. */
const rowsMax = 128

/** Up to so many rows there is a text for each number of them, above that for powers of two. */
const rowsExact = 16

/** How many of the rows that are left the next statement takes. */
const rowsNext = (left: number): number => {
  if (left <= rowsExact) return left
  let rows = rowsMax
  while (rows > left) rows /= 2
  return rows
}

/** A statement that is run over rows of so many columns; `text` puts it around their list. */
export const manyRows = (
  columns: number,
  text: (rows: string) => string
): ((sql: SqlClient.SqlClient, rows: ReadonlyArray<Row>) => Effect.Effect<void, SqlError>) => {
  const row = `(${Array.from({ length: columns }, () => "?").join(", ")})`
  const texts = new Map<number, string>()
  const textFor = (rows: number): string => {
    const known = texts.get(rows)
    if (known !== undefined) return known
    const made = text(Array.from({ length: rows }, () => row).join(", "))
    texts.set(rows, made)
    return made
  }
  return Effect.fnUntraced(function* (sql, rows) {
    let from = 0
    while (from < rows.length) {
      const count = rowsNext(rows.length - from)
      const values: Array<Row[number]> = []
      for (const end = from + count; from < end; from++) {
        for (const value of rows[from] as Row) values.push(value)
      }
      yield* sql.unsafe(textFor(count), values)
    }
  })
}
