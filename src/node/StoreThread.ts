/**
 * The store on a thread of its own. A statement of SQLite stops the thread that it runs on, and a commit does so until
 * the disk has synced it; here that is not the thread that reads requests and sends answers, so both are done at once.
 * What runs there is the very store that the simulator runs; only the messages between the two are of this edge.
 */
import { Worker } from "node:worker_threads"
import { Cause, Context, Effect, Exit, Layer, Option, Stream } from "effect"
import { Settings } from "../Config.ts"
import { type StoreRefused, StoreUnavailable } from "../domain/Errors.ts"
import { Backups } from "../store/Backups.ts"
import { EventStore } from "../store/EventStore.ts"
import { Metrics, type MetricsShape } from "../telemetry/Metrics.ts"
import { within } from "../telemetry/Spans.ts"
import { isPretty } from "./Logging.ts"
import {
  type CallName,
  type Calls,
  packEvents,
  type Reply,
  type StoreThreadData,
  StoreThreadEnded,
  unpackError,
  unpackOutcomes,
  unpackStored
} from "./StoreMessages.ts"

/** Where the program of the thread lies: beside this file, as it is bundled. */
const program = new URL("./StoreWorker.js", import.meta.url)

/**
 * Starts the thread. It reads its program meanwhile, so that the store is sooner there for who opens it; until then it
 * does nothing, and keeps no process from ending.
 */
export const start = (): Worker => {
  const worker = new Worker(program)
  worker.unref()
  return worker
}

const closed = new StoreUnavailable({ trouble: "closed", cause: "the service is stopping" })

/** The thread, and the calls that it has not answered yet. */
class Thread {
  private readonly worker: Worker
  private readonly metrics: MetricsShape
  private readonly pending = new Map<number, (exit: Exit.Exit<unknown, unknown>) => void>()
  private lastId = 0
  private opened: (exit: Exit.Exit<void, StoreRefused>) => void = () => {}
  private isEnding = false
  private ended: () => void = () => {}

  constructor(worker: Worker, metrics: MetricsShape) {
    this.worker = worker
    this.metrics = metrics
    this.worker.ref()
    this.worker.on("message", (reply: Reply) => this.heard(reply))
    // What is thrown there has no other way out, and the process must not go on without its store.
    this.worker.on("error", (error) => {
      throw error
    })
    this.worker.on("exit", (code) => {
      if (!this.isEnding) throw new StoreThreadEnded({ code })
      for (const settle of this.pending.values()) settle(Exit.fail(closed))
      this.pending.clear()
      this.ended()
    })
  }

  /** Opens the store of these settings. */
  open(data: StoreThreadData): Effect.Effect<void, StoreRefused> {
    return Effect.async((resume) => {
      this.opened = resume
      this.worker.postMessage(data)
    })
  }

  /** Closes the store, and waits for the end of the thread. */
  readonly close = Effect.suspend(() => {
    const end = Effect.async<void>((resume) => {
      this.ended = () => resume(Effect.void)
    })
    if (this.isEnding) return Effect.void
    const close = this.call("close", undefined)
    return Effect.zipRight(close, end)
  })

  call<Name extends CallName, E = never>(
    name: Name,
    given: Calls[Name][0]
  ): Effect.Effect<Calls[Name][1], E> {
    return Effect.async((resume) => {
      // Who reads may outlive the service by a moment.
      if (this.isEnding) {
        resume(Exit.fail(closed as E))
        return
      }
      if (name === "close") this.isEnding = true
      const id = ++this.lastId
      this.pending.set(id, (exit) => resume(exit as Exit.Exit<Calls[Name][1], E>))
      this.worker.postMessage({ id, name, given })
    })
  }

  private heard(reply: Reply): void {
    const { counted } = reply
    if (counted !== undefined) {
      for (const trouble of counted.failures) this.metrics.storeFailed(trouble)
      if (counted.rebuilds > 0) this.metrics.connectionRebuilds.update(counted.rebuilds)
      for (const age of counted.duplicateAges) this.metrics.duplicateAgeSeconds.update(age)
    }
    if (reply._tag === "Open") {
      this.opened(Exit.void)
      return
    }
    if (reply._tag === "Refused") {
      this.isEnding = true
      this.opened(Exit.fail(unpackError(reply.error) as StoreRefused))
      return
    }
    const settle = this.pending.get(reply.id)
    this.pending.delete(reply.id)
    if (reply._tag === "Done") settle?.(Exit.succeed(reply.value))
    else if (reply._tag === "Failed") settle?.(Exit.fail(unpackError(reply.error)))
    else settle?.(Exit.failCause(Cause.die(new Error(reply.why))))
  }
}

const storeOf = (thread: Thread): Context.Tag.Service<EventStore> => ({
  append: (events) =>
    Effect.map(thread.call("append", packEvents(events)), unpackOutcomes).pipe(within("EventStore.append")),
  declareMissing: (limits) => thread.call("declareMissing", limits),
  scan: (scan) =>
    Effect.map(thread.call("scan", scan), (window) => ({
      events: unpackStored(window),
      scannedTo: window.scannedTo,
      end: window.end
    })),
  lookup: (key) => Effect.map(thread.call("lookup", key), Option.fromNullable),
  books: thread.call("books", undefined),
  booksByTopic: (topicsMax) => thread.call("booksByTopic", topicsMax),
  topics: (page) => thread.call("topics", page),
  sources: (page) => thread.call("sources", page),
  conflicts: (page) => thread.call("conflicts", page),
  size: Effect.map(thread.call("size", undefined), Option.fromNullable),
  beat: (starting) => thread.call("beat", starting),
  availability: thread.call("availability", undefined),
  trouble: Effect.map(thread.call("trouble", undefined), (trouble) =>
    Option.map(Option.fromNullable(trouble), (packed) => unpackError(packed) as never)
  )
})

const backupsOf = (thread: Thread): Context.Tag.Service<Backups> => ({
  take: Effect.map(
    Effect.acquireRelease(thread.call("takeBackup", undefined), () => thread.call("giveBackupUp", undefined)),
    (backup) => ({
      ...backup,
      content: Stream.repeatEffectOption(
        Effect.flatMap(Effect.mapError(thread.call("readBackup", undefined), Option.some), (piece) =>
          piece === undefined ? Effect.fail(Option.none()) : Effect.succeed(piece)
        )
      )
    })
  )
})

/** The store in the SQLite database of the settings, opened on a thread that was started, for the life of the layer. */
export const layer = (worker: Worker): Layer.Layer<EventStore | Backups, StoreRefused, Settings | Metrics> =>
  Layer.scopedContext(
    Effect.gen(function* () {
      const { logLevel, ...settings } = yield* Settings
      const thread = new Thread(worker, yield* Metrics)
      yield* Effect.addFinalizer(() => thread.close)
      yield* thread.open({ settings, logLevel: logLevel._tag, pretty: isPretty(settings) })
      return Context.make(EventStore, storeOf(thread)).pipe(Context.add(Backups, backupsOf(thread)))
    })
  )
