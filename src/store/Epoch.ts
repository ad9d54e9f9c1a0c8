/**
 * Epochs: what keeps offsets true when a store is restored from a backup. The offsets that the store gave out after the
 * backup was made are lost with their events, and readers may still hold them; given out again, they would name other
 * events (G5). So a store that finds itself to be a backup begins a new epoch before anyone uses it: it takes another
 * id, since it is not the store any more whose future was lost, and its offsets jump beyond all of that future.
 */
import type { SqlClient } from "@effect/sql"
import type { SqlError } from "@effect/sql/SqlError"
import { Clock, Effect } from "effect"
import { CursorAhead, type CursorError, CursorLost, StoreRefused } from "../domain/Errors.ts"
import { isoTime } from "../domain/Timestamp.ts"
import { freshStoreId } from "./Migrations.ts"

/** An epoch that has begun: offsets up to `lastOffset` are from before, its own are greater than `baseOffset`. */
export interface Epoch {
  readonly number: number
  readonly storeId: string
  readonly backupAt: number
  readonly lastOffset: number
  readonly baseOffset: number
  /** The clock stands before the backup: if it is wrong, offsets of the lost future may be given out again. */
  readonly clockBehind: boolean
}

/** No store gives out more offsets than this in a millisecond, nor began to before `offsetsSince`. */
const offsetsPerMillisecond = 1000
const offsetsSince = Date.UTC(2020, 0, 1)

/** No epoch begins above half of the whole numbers that JavaScript can hold, which is so until the year 2162. */
const baseOffsetMax = 2 ** 52

/** Begins a new epoch if the database is a backup. It runs inside the transaction of its caller. */
export const beginIfRestored = Effect.fnUntraced(function* (name: string, sql: SqlClient.SqlClient) {
  const [store] = yield* sql<{ last_offset: number; processed_at: number; backup_at: number }>`
    SELECT last_offset, processed_at, backup_at FROM store WHERE backup_at IS NOT NULL`
  if (store === undefined) return undefined
  const now = yield* Clock.currentTimeMillis
  const latest = Math.max(now, store.processed_at, store.backup_at)
  const baseOffset = Math.max(store.last_offset, (latest - offsetsSince) * offsetsPerMillisecond)
  if (baseOffset > baseOffsetMax) {
    const what = `is a backup, and cannot be put into service with the time ${isoTime(latest)}`
    const sentence = `The database ${name} ${what}: set the clock right.`
    return yield* new StoreRefused({ reason: "cannot be opened", sentence })
  }
  yield* sql`
    UPDATE store SET store_id = ${sql.literal(freshStoreId)}, backup_at = NULL, last_offset = ${baseOffset}`
  // What the backup says of outages is another life's.
  yield* sql`DELETE FROM heartbeat`
  yield* sql`DELETE FROM outage`
  const [begun] = yield* sql<{ number: number; store_id: string }>`
    INSERT INTO epoch
    SELECT max(e.number) + 1, s.store_id, ${now}, ${store.backup_at}, ${store.last_offset}, ${baseOffset}
    FROM epoch AS e CROSS JOIN store AS s
    RETURNING number, store_id`
  return {
    number: begun?.number ?? 0,
    storeId: begun?.store_id ?? "",
    backupAt: store.backup_at,
    lastOffset: store.last_offset,
    baseOffset,
    clockBehind: now < store.backup_at
  } satisfies Epoch
})

/** Why a reader's cursor cannot be followed, if it cannot. */
export const cursorFault = (
  sql: SqlClient.SqlClient,
  after: number | undefined,
  lastOffset: number
): Effect.Effect<CursorError | undefined, SqlError> => {
  if (after === undefined) return Effect.succeed(undefined)
  if (after > lastOffset) return Effect.succeed(new CursorAhead({ after, lastOffset }))
  return Effect.map(
    sql<{ epoch: number; lastOffset: number; baseOffset: number }>`
      SELECT number AS epoch, last_offset AS "lastOffset", base_offset AS "baseOffset" FROM epoch
      WHERE last_offset < ${after} AND base_offset > ${after} ORDER BY number LIMIT 1`,
    ([lost]) => (lost === undefined ? undefined : new CursorLost({ after, ...lost }))
  )
}
