/**
 * Statements over many rows of parameters. There is one text for each number of rows that is a power of two: so a
 * handful of texts, each prepared once, does for any number of rows.
 */
import type { SqlClient } from "@effect/sql"
import type { SqlError } from "@effect/sql/SqlError"
import { Effect } from "effect"

/** The parameters of a row. */
export type Row = ReadonlyArray<string | number | null | Uint8Array>

/** No statement has more rows than this. */
const rowsMax = 128

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
    for (let count = rowsMax; from < rows.length; ) {
      if (rows.length - from < count) {
        count /= 2
        continue
      }
      yield* sql.unsafe(textFor(count), rows.slice(from, from + count).flat())
      from += count
    }
  })
}
