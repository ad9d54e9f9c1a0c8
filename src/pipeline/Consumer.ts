/**
 * The one writer. A single fiber takes all that waits in the Intake, up to the limit of a commit, appends it to the
 * store in one transaction, and only after the commit tells each submission its own outcomes (G1). Many
 * requests share a commit, and none waits for a timer: the next commit takes what came in during the last one.
 *
 * When an append fails its outcome is unknown. Its publishers are told to send again, and the batch is never appended
 * again from here. From then on, until a commit succeeds, submissions are committed one at a time with growing pauses,
 * so that one that cannot be stored does not take the rest with it; where nothing waits an empty append asks whether
 * the store is well again, so that no publisher is needed to find out.
 *
 * Beside it a second fiber gives up the gaps in sequences that have been open too long or lie too far behind. It asks
 * the store every now and then, and writes only where one is due, in a transaction of its own. A third one stores the
 * service's heartbeat (`Heartbeat.ts`).
 */
import {
  Cause,
  Chunk,
  Clock,
  Context,
  Duration,
  Effect,
  Exit,
  Fiber,
  FiberRef,
  Layer,
  LogLevel,
  Option,
  type Tracer
} from "effect"
import { Settings } from "../Config.ts"
import { type StoreError, StoreUnavailable } from "../domain/Errors.ts"
import type { Event, Outcome } from "../domain/Event.ts"
import { EventStore } from "../store/EventStore.ts"
import { Metrics, secondsBetween } from "../telemetry/Metrics.ts"
import { serving } from "../telemetry/Spans.ts"
import { Feed } from "./Feed.ts"
import { beating } from "./Heartbeat.ts"
import { Intake, type Submission } from "./Intake.ts"

/** The fiber that writes. */
export class Consumer extends Context.Tag("sekali/Consumer")<
  Consumer,
  {
    /** Ends when the Intake is closed and empty; fails if the Consumer ended in any other way. */
    readonly ended: Effect.Effect<void>
  }
>() {}

/** The pause before the n-th attempt after a failure, from 0: 50 ms, doubling up to 2 s. */
const pause = (attempt: number): Duration.Duration =>
  Duration.millis(Math.min(50 * 2 ** Math.min(attempt, 10), 2000))

/** How many keys of dropped duplicates are named in a line of the log. */
const keysLogged = 5

/** A line of the log at most so often tells of dropped duplicates. */
const droppedQuietNanos = 1_000_000_000n

/** How often the store is asked whether a gap is due: each second, or more often where gaps may not live much longer. */
const gapLook = (gapSeconds: number): Duration.Duration => Duration.seconds(Math.min(1, gapSeconds / 4))

// Declares gaps missing as they are due, for ever. What fails is due still at the next look; whoever publishes is told
// of the trouble, and so is readiness, hence it is said here only once.
const declareMissing = Effect.gen(function* () {
  const { gapSeconds, gapEvents } = yield* Settings
  const store = yield* EventStore
  const limits = { secondsMax: gapSeconds, eventsMax: gapEvents }
  // The store takes a bounded number at a time.
  const declareDue = Effect.gen(function* () {
    while ((yield* store.declareMissing(limits)) > 0) yield* Effect.yieldNow()
  })
  let failing = false
  while (true) {
    yield* Effect.sleep(gapLook(gapSeconds))
    const looked = yield* Effect.exit(declareDue)
    if (Exit.isFailure(looked) && !failing) {
      const cause = Cause.squash(looked.cause)
      yield* Effect.logError("gaps in sequences cannot be declared missing").pipe(
        Effect.annotateLogs({ cause: describe(cause) })
      )
    }
    failing = Exit.isFailure(looked)
  }
})

const run = Effect.gen(function* () {
  const { commitEventsMax } = yield* Settings
  const intake = yield* Intake
  const store = yield* EventStore
  const feed = yield* Feed
  const metrics = yield* Metrics

  const measure = (submissions: Chunk.Chunk<Submission>, events: number, from: bigint, to: bigint) => {
    if (events === 0) return
    metrics.commitSeconds.update(secondsBetween(from, to))
    metrics.commitEvents.update(events)
    for (const { receivedAt } of submissions) metrics.durableSeconds.update(secondsBetween(receivedAt, to))
  }

  const dropped = droppedLog()
  let failures = 0

  const append = (submissions: Chunk.Chunk<Submission>) =>
    Effect.suspend(() => {
      const events = Chunk.toReadonlyArray(submissions).flatMap(({ events }) => events.unpack())
      return Effect.map(store.append(events), (outcomes) => ({ events, outcomes }))
    })

  // Appends the submissions in one transaction and settles them; tells whether the commit succeeded.
  const commit = Effect.fnUntraced(
    function* (submissions: Chunk.Chunk<Submission>) {
      const startedAt = yield* Clock.currentTimeNanos
      const result = yield* Effect.exit(append(submissions))
      yield* intake.settle(submissions)
      if (Exit.isSuccess(result)) {
        const { events, outcomes } = result.value
        const committedAt = yield* Clock.currentTimeNanos
        measure(submissions, events.length, startedAt, committedAt)
        let from = 0
        for (const { events, settled } of submissions) {
          settled(Exit.succeed(outcomes.slice(from, from + events.length)))
          from += events.length
        }
        yield* feed.committed
        yield* dropped.note(events, outcomes, committedAt)
        if (failures > 0)
          yield* Effect.logInfo("the store is well again").pipe(Effect.annotateLogs({ failures }))
        return true
      }
      const error = Option.getOrElse(
        Cause.failureOption(result.cause),
        () => new StoreUnavailable({ trouble: "unexpected", cause: Cause.squash(result.cause) })
      )
      yield* fail(submissions, error)
      if (failures === 0) yield* logTrouble(error)
      return false
    },
    (commit, submissions) => serving("Consumer.commit", spansOf(submissions))(commit),
    Effect.uninterruptible
  )
  while (true) {
    // While the store fails: first the pause, unless there is no time left for it, then one submission, or none.
    if (failures > 0 && !(yield* intake.closed)) yield* Effect.sleep(pause(failures - 1))
    const taken = failures > 0 ? yield* intake.poll(1) : yield* intake.take(commitEventsMax)
    if (Option.isNone(taken)) return yield* dropped.logRest
    failures = (yield* commit(taken.value)) ? 0 : failures + 1
    // Where more waits than a commit takes, what has come meanwhile is still read, or refused, between two of them.
    yield* Effect.yieldNow()
  }
})

const spansOf = (submissions: Chunk.Chunk<Submission>): ReadonlyArray<Tracer.AnySpan> => {
  const spans: Array<Tracer.AnySpan> = []
  for (const { span } of submissions) if (span !== undefined) spans.push(span)
  return spans
}

const fail = (submissions: Iterable<Submission>, error: StoreError) =>
  Effect.sync(() => {
    for (const { settled } of submissions) settled(Exit.fail(error))
  })

// Said once when trouble begins; it is over when the store is well again.
const logTrouble = (error: StoreError) =>
  Effect.logError(`commits fail: ${error.problem.title.toLowerCase()}`).pipe(
    Effect.annotateLogs({ cause: describe(error.cause) })
  )

const describe = (cause: unknown): string =>
  cause instanceof Error
    ? [cause.message, ...(cause.cause === undefined ? [] : [describe(cause.cause)])].join(": ")
    : String(cause)

/** A delivery that was not stored, and why. */
interface Dropped {
  readonly event: Event
  readonly outcome: Outcome
}

/**
 * Tells of what commits drop. Conflicts are each told, duplicates only where more is asked for: of the first ones a line
 * tells at once, and then no more than one a second, of all since the last line. What is left is told with the next ones,
 * or at the end.
 */
const droppedLog = () => {
  let count = 0
  let keys: Array<string> = []
  let loggedAt: bigint | undefined

  const log = Effect.suspend(() => {
    const about = { dropped: count, keys }
    count = 0
    keys = []
    return Effect.logInfo("duplicates dropped").pipe(Effect.annotateLogs(about))
  })

  const note = Effect.fnUntraced(function* (
    events: ReadonlyArray<Event>,
    outcomes: ReadonlyArray<Outcome>,
    now: bigint
  ) {
    const dropped = events.flatMap((event, index): ReadonlyArray<Dropped> => {
      const outcome = outcomes[index]
      return outcome === undefined || outcome.outcome === "stored" ? [] : [{ event, outcome }]
    })
    if (dropped.length === 0) return
    count += dropped.length
    for (const { event } of dropped.slice(0, keysLogged - keys.length))
      keys.push(`${event.topic}/${event.eventId}`)
    if (loggedAt === undefined || now - loggedAt >= droppedQuietNanos) {
      loggedAt = now
      yield* log
    }
    yield* logEach(dropped)
  })

  return { note, logRest: Effect.suspend(() => (count === 0 ? Effect.void : log)) }
}

const logEach = Effect.fnUntraced(function* (dropped: ReadonlyArray<Dropped>) {
  const debug = LogLevel.lessThanEqual(yield* FiberRef.get(FiberRef.currentMinimumLogLevel), LogLevel.Debug)
  for (const { event, outcome } of dropped) {
    if (outcome.outcome === "duplicate" && !debug) continue
    const about = Effect.annotateLogs({
      topic: event.topic,
      event_id: event.eventId,
      source: event.source,
      first_offset: outcome.offset
    })
    yield* outcome.outcome === "conflict"
      ? Effect.logWarning("conflict: a known key came with other content; the first one stands").pipe(about)
      : Effect.logDebug("duplicate").pipe(about)
  }
})

type Needs = Settings | Intake | EventStore | Feed | Metrics

/**
 * Runs the Consumer as long as the scope lives. The scope must not close before `ended`: what closes the Intake and
 * waits is `Drain`.
 */
export const layer: Layer.Layer<Consumer, never, Needs> = Layer.scoped(
  Consumer,
  Effect.gen(function* () {
    const intake = yield* Intake
    // However the loop ends, no publisher is left waiting.
    const failRest = Effect.fnUntraced(function* (cause: unknown) {
      yield* intake.close
      const rest = yield* intake.unsettled
      yield* intake.settle(rest)
      yield* fail(rest, new StoreUnavailable({ trouble: "unexpected", cause }))
    })
    yield* beating
    const fiber = yield* run.pipe(
      Effect.onExit((exit) => failRest(exit)),
      Effect.annotateLogs({ fiber: "consumer" }),
      Effect.forkScoped
    )
    yield* Effect.forkScoped(Effect.annotateLogs(declareMissing, { fiber: "consumer" }))
    return { ended: Fiber.join(fiber) }
  })
)
