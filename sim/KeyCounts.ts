/**
 * What becomes of the index of keys, told from the statements that pass between the store and its driver: how often
 * runs are written and merged, and what they are good for. Nothing in the service counts this.
 */
import type { SqlClient } from "@effect/sql"
import type { Connection } from "@effect/sql/SqlConnection"
import { Effect } from "effect"
import { fromBytes } from "../src/store/keys/Pages.ts"
import type { Counters } from "./Counters.ts"

interface RunRow {
  readonly level: number
  readonly last_offset: number
  readonly live: number
}

/** The same client, whose statements are counted. */
export const countingKeys = (client: SqlClient.SqlClient, counters: Counters): SqlClient.SqlClient => {
  const watch = new Watch(counters)
  const counted = (connection: Connection): Connection => ({
    ...connection,
    executeUnprepared: (sql, parameters, transform) =>
      Effect.map(connection.executeUnprepared(sql, parameters, transform), (rows) => {
        watch.see(sql, parameters, rows)
        return rows
      })
  })
  return Object.assign(client, { reserve: Effect.map(client.reserve, counted) })
}

/** What was seen on one connection. */
class Watch {
  private readonly counters: Counters
  private loads = 0
  /** The offsets on the pages that were read last, until it is known what came of them. */
  private looked: Set<number> | undefined

  constructor(counters: Counters) {
    this.counters = counters
  }

  see(sql: string, parameters: ReadonlyArray<unknown>, rows: ReadonlyArray<unknown>): void {
    if (this.looked !== undefined && !isPage.test(sql)) this.judgeLook(this.looked, sql, rows)
    if (isPage.test(sql)) {
      this.looked ??= new Set()
      for (const { entries } of rows as ReadonlyArray<{ readonly entries: Uint8Array }>) {
        const page = fromBytes(entries)
        for (let at = 1; at < page.length; at += 2) this.looked.add(page[at] ?? 0)
      }
    } else if (isLoad.test(sql)) this.judgeLoad(rows as ReadonlyArray<RunRow>)
    else if (/INSERT INTO key_run/.test(sql)) {
      this.counters.count(parameters.at(-1) === 1 ? "keys: run written" : "keys: merge begun")
    } else if (/UPDATE key_run SET live = 1/.test(sql)) this.counters.count("keys: runs merged")
    else if (/DELETE FROM key_run/.test(sql)) this.counters.count("keys: remains removed")
  }

  private judgeLook(looked: ReadonlySet<number>, sql: string, rows: ReadonlyArray<unknown>): void {
    this.looked = undefined
    const found = isCandidates.test(sql) ? (rows as ReadonlyArray<{ readonly offset: number }>) : []
    this.counters.count(
      found.some(({ offset }) => looked.has(offset)) ? "keys: found in a run" : "keys: looked for in vain"
    )
  }

  private judgeLoad(rows: ReadonlyArray<RunRow>): void {
    if (++this.loads > 1) this.counters.count("keys: read anew after a failure")
    // What it is made of is still in use.
    const begun = rows.filter(({ level, last_offset, live }) =>
      live === 1
        ? false
        : rows.some((from) => from.live === 1 && from.level === level - 1 && from.last_offset === last_offset)
    )
    if (begun.length > 0) this.counters.count("keys: merge begun anew")
  }
}

const isPage = /SELECT place, entries FROM key_page WHERE place IN/
const isLoad = /FROM key_run ORDER BY last_offset/
const isCandidates = /^\s*SELECT (offset|e\.offset)\b[^;]*\bWHERE (e\.)?offset IN/
