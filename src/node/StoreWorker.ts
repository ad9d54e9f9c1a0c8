/**
 * The thread of the store: the store over SQLite as the service and the simulator know it, and its calls as messages.
 * Statements and syncs stop this thread, and not the one that reads and answers requests.
 */
import { parentPort } from "node:worker_threads"
import { Cause, Context, Deferred, Effect, Exit, Layer, LogLevel, Option, Scope, Stream } from "effect"
import { Settings } from "../Config.ts"
import { StoreRefused } from "../domain/Errors.ts"
import { Backups } from "../store/Backups.ts"
import { EventStore, type EventStoreShape } from "../store/EventStore.ts"
import * as SqlEventStore from "../store/SqlEventStore.ts"
import * as Metrics from "../telemetry/Metrics.ts"
import { logging } from "./Logging.ts"
import * as SqliteDatabase from "./SqliteDatabase.ts"
import {
  type Call,
  type CallName,
  type Calls,
  type Counted,
  packError,
  packOutcomes,
  packStored,
  type Reply,
  type StoreFailure,
  type StoreThreadData,
  unpackEvents
} from "./StoreMessages.ts"

/** What each call does. */
type Handlers = {
  readonly [Name in CallName]: (given: Calls[Name][0]) => Effect.Effect<Calls[Name][1], StoreFailure>
}

/** What the store counts, kept for the next message. */
class Outbox {
  private failures: Array<string> = []
  private rebuilds = 0
  private duplicateAges: Array<number> = []

  /** The figures of this thread, of which those of the store are sent on. */
  readonly layer = Layer.map(Metrics.layer, (context) => {
    const metrics = Context.get(context, Metrics.Metrics)
    return Context.make(Metrics.Metrics, {
      ...metrics,
      storeFailed: (trouble: string) => void this.failures.push(trouble),
      connectionRebuilds: {
        ...metrics.connectionRebuilds,
        update: (count: number) => {
          this.rebuilds += count
        }
      },
      duplicateAgeSeconds: {
        ...metrics.duplicateAgeSeconds,
        update: (age: number) => void this.duplicateAges.push(age)
      }
    })
  })

  take(): Counted | undefined {
    const { failures, rebuilds, duplicateAges } = this
    if (failures.length + rebuilds + duplicateAges.length === 0) return undefined
    this.failures = []
    this.rebuilds = 0
    this.duplicateAges = []
    return { failures, rebuilds, duplicateAges }
  }
}

const port = (() => {
  if (parentPort === null) throw new Error("this is no thread of a service")
  return parentPort
})()

const outbox = new Outbox()

const say = (reply: Reply): void => port.postMessage({ ...reply, counted: outbox.take() })

// One backup at a time, as the store makes them.
const backupCalls = (backups: Context.Tag.Service<Backups>) => {
  let underWay:
    | {
        readonly scope: Scope.CloseableScope
        readonly next: Effect.Effect<Uint8Array | undefined, StoreFailure>
      }
    | undefined
  return {
    takeBackup: () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const take = Effect.gen(function* () {
          const { storeId, at, bytes, content } = yield* backups.take
          const pull = yield* Stream.toPull(Stream.rechunk(content, 1))
          const piece = Effect.map(pull, (pieces) => Option.getOrUndefined(Option.fromIterable(pieces)))
          const next = Effect.catchAll(piece, (end) =>
            Option.match(end, {
              onNone: () => Effect.succeed(undefined),
              onSome: (error) => Effect.fail(error)
            })
          )
          underWay = { scope, next }
          return { storeId, at, bytes }
        })
        return yield* Scope.extend(take, scope).pipe(
          Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
        )
      }),
    readBackup: () => Effect.suspend(() => underWay?.next ?? Effect.succeed(undefined)),
    giveBackupUp: () =>
      Effect.suspend(() => {
        const scope = underWay?.scope
        underWay = undefined
        return scope === undefined ? Effect.void : Scope.close(scope, Exit.void)
      }).pipe(Effect.as(undefined))
  }
}

const handlersOf = (
  store: EventStoreShape,
  backups: Context.Tag.Service<Backups>,
  close: Effect.Effect<unknown>
): Handlers => ({
  append: (events) => Effect.map(store.append(unpackEvents(events)), packOutcomes),
  declareMissing: store.declareMissing,
  scan: (scan) =>
    Effect.map(store.scan(scan), ({ events, scannedTo, end }) => ({ ...packStored(events), scannedTo, end })),
  lookup: (key) => Effect.map(store.lookup(key), Option.getOrUndefined),
  books: () => store.books,
  booksByTopic: store.booksByTopic,
  topics: store.topics,
  sources: store.sources,
  conflicts: store.conflicts,
  size: () => Effect.map(store.size, Option.getOrUndefined),
  beat: (starting) => Effect.as(store.beat(starting), undefined),
  availability: () => store.availability,
  trouble: () =>
    Effect.map(store.trouble, (trouble) => Option.getOrUndefined(Option.map(trouble, packError))),
  ...backupCalls(backups),
  close: () => Effect.as(close, undefined)
})

const serve = Effect.gen(function* () {
  const context = yield* Layer.build(SqlEventStore.layer)
  const closing = yield* Deferred.make<void>()
  const handlers = handlersOf(
    Context.get(context, EventStore),
    Context.get(context, Backups),
    Deferred.succeed(closing, undefined)
  )
  const runtime = yield* Effect.runtime<never>()
  const answer = <Name extends CallName>({ id, name, given }: Call & { readonly name: Name }) => {
    const handler = handlers[name] as (given: unknown) => Effect.Effect<unknown, StoreFailure>
    Effect.runFork(Effect.provide(handler(given), runtime)).addObserver((exit) => {
      if (Exit.isSuccess(exit)) {
        say({ _tag: "Done", id, value: exit.value })
        return
      }
      const error = Option.getOrUndefined(Cause.failureOption(exit.cause))
      say(
        error === undefined
          ? { _tag: "Died", id, why: Cause.pretty(exit.cause) }
          : { _tag: "Failed", id, error: packError(error) }
      )
    })
  }
  port.on("message", answer)
  say({ _tag: "Open" })
  yield* Deferred.await(closing)
}).pipe(
  Effect.scoped,
  Effect.provide([SqliteDatabase.layer, outbox.layer]),
  Effect.annotateLogs({ fiber: "store" }),
  Effect.withTracerEnabled(false)
)

// The first message is what the store is to be opened with; those after it are calls.
port.once("message", ({ settings, logLevel, pretty }: StoreThreadData) => {
  const known = { ...settings, logLevel: LogLevel.fromLiteral(logLevel) }
  const opened = serve.pipe(Effect.provide(logging(known, pretty)), Effect.provideService(Settings, known))
  Effect.runFork(opened).addObserver((exit) => {
    port.unref()
    if (Exit.isSuccess(exit)) return
    const error = Cause.squash(exit.cause)
    if (!(error instanceof StoreRefused)) throw error
    say({ _tag: "Refused", error: packError(error) })
  })
})
