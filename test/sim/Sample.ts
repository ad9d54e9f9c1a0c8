/**
 * A small service of the kind that the simulator is for, to prove the simulator with: events are published over
 * an HTTP API, queued, stored in one transaction for many, and answered after it. Some of its duties can be
 * left out, so that a test sees whether that is found. It knows nothing of the simulation.
 */
import {
  HttpApi,
  HttpApiBuilder,
  HttpApiEndpoint,
  HttpApiError,
  HttpApiGroup,
  type HttpServer,
  HttpServerResponse
} from "@effect/platform"
import { SqlClient } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { type Cause, Chunk, Context, Deferred, Effect, Exit, Layer, Queue, Schema, Stream } from "effect"

/** What the service may leave undone. */
export type Flaw = "none" | "no synchronous pragma" | "answers before the commit" | "checks, then inserts"

const Event = Schema.Struct({
  topic: Schema.NonEmptyString,
  id: Schema.NonEmptyString,
  payload: Schema.String
})
type Event = typeof Event.Type

const Stored = Schema.Struct({ stored: Schema.Boolean })

const Api = HttpApi.make("sample").add(
  HttpApiGroup.make("events")
    .add(
      HttpApiEndpoint.post("publish", "/publish")
        .setPayload(Event)
        .addSuccess(Stored)
        .addError(HttpApiError.ServiceUnavailable)
    )
    .add(HttpApiEndpoint.get("count", "/count").addSuccess(Schema.Struct({ count: Schema.Number })))
    .add(HttpApiEndpoint.get("dump", "/dump").addSuccess(Schema.String))
)

interface Submission {
  readonly event: Event
  readonly done: Deferred.Deferred<boolean, Cause.Cause<unknown>>
}

class Intake extends Context.Tag("Intake")<Intake, Queue.Queue<Submission>>() {}

const HandlersLive = HttpApiBuilder.group(Api, "events", (handlers) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const intake = yield* Intake
    return handlers
      .handle("publish", ({ payload }) =>
        Effect.gen(function* () {
          const done = yield* Deferred.make<boolean, Cause.Cause<unknown>>()
          yield* Queue.offer(intake, { event: payload, done })
          return { stored: yield* Deferred.await(done) }
        }).pipe(Effect.mapError(() => new HttpApiError.ServiceUnavailable()))
      )
      .handle("count", () =>
        sql<{ count: number }>`SELECT count(*) AS count FROM events`.pipe(
          sql.withTransaction,
          Effect.map((rows) => ({ count: rows[0]?.count ?? 0 })),
          Effect.orDie
        )
      )
      .handleRaw("dump", () =>
        Effect.gen(function* () {
          const rows = yield* Effect.orDie(sql<{ id: string }>`SELECT id FROM events ORDER BY id`)
          return HttpServerResponse.stream(
            Stream.fromIterable(rows).pipe(
              Stream.map((row) => new TextEncoder().encode(`${row.id}\n`)),
              Stream.rechunk(1)
            )
          )
        })
      )
  })
)

/** Opens the database for durability, but for the flaw. */
const DatabaseLive = (flaw: Flaw) =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`PRAGMA locking_mode=EXCLUSIVE`
      yield* sql`PRAGMA journal_mode=WAL`
      if (flaw !== "no synchronous pragma") yield* sql`PRAGMA synchronous=FULL`
      yield* sql`PRAGMA wal_checkpoint(TRUNCATE)`
      yield* sql`CREATE TABLE IF NOT EXISTS events (
        topic TEXT NOT NULL, id TEXT NOT NULL, payload TEXT NOT NULL, PRIMARY KEY (topic, id)) WITHOUT ROWID`
      yield* sql`CREATE TABLE IF NOT EXISTS counters (topic TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID`
    })
  )

const store = (flaw: Flaw, event: Event) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const count = sql`INSERT INTO counters (topic, n) VALUES (${event.topic}, 1) ON CONFLICT (topic) DO UPDATE SET n = n + 1`
    if (flaw === "checks, then inserts") {
      const known = yield* sql`SELECT 1 FROM events WHERE topic = ${event.topic} AND id = ${event.id}`
      if (known.length > 0) return false
      yield* sql`INSERT OR REPLACE INTO events ${sql.insert(event)}`
      yield* count
      return true
    }
    const rows =
      yield* sql`INSERT INTO events ${sql.insert(event)} ON CONFLICT (topic, id) DO NOTHING RETURNING id`
    if (rows.length > 0) yield* count
    return rows.length > 0
  })

const ConsumerLive = (flaw: Flaw, failed: Deferred.Deferred<never, unknown>) =>
  Layer.scopedDiscard(
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const intake = yield* Intake
      const answer = (batch: ReadonlyArray<Submission>, stored: ReadonlyArray<boolean>) =>
        Effect.forEach(batch, ({ done }, index) => Deferred.succeed(done, stored[index] ?? false), {
          discard: true
        })
      const storeAll = (batch: ReadonlyArray<Submission>) =>
        Effect.forEach(batch, ({ event }) => store(flaw, event))
      const commit = (batch: ReadonlyArray<Submission>) =>
        flaw === "checks, then inserts" ? storeAll(batch) : sql.withTransaction(storeAll(batch))
      const work = Queue.takeBetween(intake, 1, 4).pipe(
        Effect.map(Chunk.toReadonlyArray),
        Effect.flatMap((batch) =>
          Effect.gen(function* () {
            if (flaw === "answers before the commit")
              yield* answer(
                batch,
                batch.map(() => true)
              )
            const exit = yield* Effect.exit(commit(batch))
            if (Exit.isSuccess(exit)) return yield* answer(batch, exit.value)
            // A failed commit leaves the connection in doubt; this service gives up and is started again.
            yield* Effect.forEach(batch, ({ done }) => Deferred.fail(done, exit.cause), { discard: true })
            return yield* Effect.failCause(exit.cause)
          })
        ),
        Effect.forever,
        Effect.catchAllCause((cause) => Deferred.failCause(failed, cause)),
        Effect.annotateLogs({ fiber: "consumer" })
      )
      // Two of them, so that a race is there to be found if the transaction does not prevent it.
      yield* Effect.forkScoped(work)
      yield* Effect.forkScoped(work)
    })
  )

type Edges = HttpServer.HttpServer | SqlClient.SqlClient | Layer.Layer.Success<typeof HttpServer.layerContext>

/**
 * The whole service, less its HTTP server and its database; `launch` keeps it running. It ends by itself when
 * its consumer does.
 */
export const serve = <E>(
  flaw: Flaw,
  edges: Layer.Layer<Edges, E>,
  launch: <E>(layer: Layer.Layer<never, E>) => Effect.Effect<never, E>
) =>
  Effect.gen(function* () {
    const failed = yield* Deferred.make<never, unknown>()
    const service = HttpApiBuilder.serve().pipe(
      Layer.provide(HttpApiBuilder.api(Api)),
      Layer.provide(HandlersLive),
      Layer.provide(ConsumerLive(flaw, failed)),
      Layer.provide(
        Layer.scoped(Intake, Effect.acquireRelease(Queue.bounded<Submission>(8), Queue.shutdown))
      ),
      Layer.provide(DatabaseLive(flaw)),
      Layer.provide(edges)
    )
    return yield* Effect.raceFirst(launch(service), Deferred.await(failed))
  })

/** The driver as a durable service opens it. */
export const database = (filename: string) => SqliteClient.layer({ filename, disableWAL: true })
