/**
 * Heartbeats and outages in the database: one row that is written over, and a row for each outage.
 */
import type { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import {
  availabilityOf,
  beaten,
  type Heartbeat,
  monthMillis,
  type Outage,
  outageMillisKept,
  outagesKept,
  outageUntil
} from "./Availability.ts"

const readHeartbeat = (sql: SqlClient.SqlClient) =>
  Effect.map(sql<Heartbeat>`SELECT since, at FROM heartbeat`, ([heartbeat]) => heartbeat)

/** Stores a heartbeat, and the outage that it ends. */
export const storeBeat = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  now: number,
  starting: boolean
) {
  const before = yield* readHeartbeat(sql)
  const { since, at } = beaten(before, now)
  yield* sql`INSERT INTO heartbeat VALUES (1, ${since}, ${at}) ON CONFLICT (id) DO UPDATE SET since = ${since}, at = ${at}`
  const outage = before && outageUntil(before, now, starting)
  if (outage === undefined) return
  yield* sql`INSERT OR REPLACE INTO outage VALUES (${outage.beganAt}, ${outage.endedAt})`
  yield* sql`
    DELETE FROM outage WHERE ended_at < ${now - outageMillisKept} OR began_at <= (
      SELECT began_at FROM outage ORDER BY began_at DESC LIMIT 1 OFFSET ${outagesKept})`
})

/** Reads the availability up to now. */
export const readAvailability = Effect.fnUntraced(function* (sql: SqlClient.SqlClient, now: number) {
  const heartbeat = yield* readHeartbeat(sql)
  const outages = yield* sql<Outage>`
    SELECT began_at AS "beganAt", ended_at AS "endedAt" FROM outage WHERE ended_at > ${now - monthMillis}`
  return availabilityOf(heartbeat, outages, now)
})
