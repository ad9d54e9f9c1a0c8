/**
 * Where requests and the Consumer meet: a queue of submissions, bounded by events and by bytes (G6). A request first
 * takes room for its body, then offers its events as one submission; the Consumer takes submissions, commits them and
 * tells each what came of it.
 *
 * Room is taken once and given back once. Until a submission is offered its room belongs to the request's scope, which
 * gives it back however the request ends. From the offer on it belongs to the Consumer, which gives it back when the
 * submission is settled; a publisher that goes away meanwhile changes nothing.
 */
import {
  Chunk,
  Context,
  Deferred,
  Effect,
  Either,
  type Exit,
  FiberId,
  Layer,
  Option,
  Queue,
  type Scope,
  type Tracer
} from "effect"
import { Settings } from "../Config.ts"
import { Draining, Overloaded, type StoreError } from "../domain/Errors.ts"
import type { Outcome, PackedEvents } from "../domain/Event.ts"
import { Line, type Place } from "../domain/Line.ts"
import { currentSpan } from "../telemetry/Spans.ts"

/** What came of a submission. */
export type Outcomes = Exit.Exit<ReadonlyArray<Outcome>, StoreError>

/** The events of one request. They are committed together, or not at all. */
export interface Submission {
  readonly events: PackedEvents
  /** Called once, after the commit: with an outcome for each event in their order, or with why there was none. */
  readonly settled: (outcomes: Outcomes) => void
  /** The room that the request's body holds. */
  readonly bytes: number
  /** When the whole request had arrived, by the monotonic clock. */
  readonly receivedAt: bigint
  /** The span of the request, if it is traced. */
  readonly span: Tracer.AnySpan | undefined
}

/** A request's hold on the bytes of its body. */
export interface Room {
  /** Takes more, for a body whose length was not known beforehand. */
  readonly grow: (bytes: number) => Effect.Effect<void, Overloaded>
  /**
   * Offers the events, of which there must be at least one, and hands the room over with them: one step, which happens
   * as a whole or not at all. Called at most once. The request had arrived at that time of the monotonic clock.
   */
  readonly offer: (
    events: PackedEvents,
    receivedAt: bigint
  ) => Effect.Effect<Deferred.Deferred<ReadonlyArray<Outcome>, StoreError>, Overloaded | Draining>
}

/** A `Room` without effects, for who has no fiber; it has to be released by hand. */
export interface Hold {
  readonly grow: (bytes: number) => Either.Either<void, Overloaded>
  readonly offer: (
    events: PackedEvents,
    receivedAt: bigint,
    settled: Submission["settled"],
    span?: Submission["span"]
  ) => Either.Either<void, Overloaded | Draining>
  /** Gives the room back, unless it was handed over with an offer. Called once. */
  readonly release: () => void
}

/** How full the queue is. */
export interface IntakeLevel {
  readonly events: number
  readonly eventsMax: number
  readonly bytes: number
  readonly bytesMax: number
}

/** The queue of submissions. */
export class Intake extends Context.Tag("sekali/Intake")<
  Intake,
  {
    /** Takes room for a body of so many bytes until the scope closes, or the events of the body are offered. */
    readonly admit: (bytes: number) => Effect.Effect<Room, Overloaded | Draining, Scope.Scope>
    /** Takes room for a body of so many bytes until it is released, or the events of the body are offered. */
    readonly hold: (bytes: number) => Either.Either<Hold, Overloaded | Draining>
    /**
     * The submissions that wait, oldest first, up to `eventsMax` events together; waits for the first one. Nothing once
     * the Intake is closed and empty. Only the Consumer takes.
     */
    readonly take: (eventsMax: number) => Effect.Effect<Option.Option<Chunk.NonEmptyChunk<Submission>>>
    /** Like `take`, but does not wait: an empty chunk when nothing waits. */
    readonly poll: (eventsMax: number) => Effect.Effect<Option.Option<Chunk.Chunk<Submission>>>
    /** Gives the room of submissions back. Only the Consumer does, once for each. */
    readonly settle: (submissions: Iterable<Submission>) => Effect.Effect<void>
    /** Every submission that was offered and is not settled, whether it was taken or not. */
    readonly unsettled: Effect.Effect<ReadonlyArray<Submission>>
    /** From here on every offer is refused; what was offered before is still taken. */
    readonly close: Effect.Effect<void>
    readonly closed: Effect.Effect<boolean>
    readonly isClosed: () => boolean
    /**
     * Whether the offer that found no room last would find none now. Who comes to the door meanwhile is better refused
     * there than after its body was read and taken apart: so that a refusal costs little, and comes soon.
     */
    readonly isFull: () => boolean
    readonly level: Effect.Effect<IntakeLevel>
    /** Of all that was offered and is not settled, what was offered first. */
    readonly oldest: Effect.Effect<Option.Option<Submission>>
  }
>() {}

/** Stands in the queue behind the last submission. */
const closing = "closing"

/**
 * A slot in the queue. It is emptied as its submission is taken: the queue is a linked list, whose old links lead to all
 * later ones until the garbage collector looks at the whole heap, and would keep with them all that requests hold.
 */
interface Slot {
  holds: Submission | typeof closing | undefined
}

const emptied = (slot: Slot): Slot["holds"] => {
  const { holds } = slot
  slot.holds = undefined
  return holds
}

/** A submission, and where it stands among those that are not settled. */
interface Offered extends Submission {
  place?: Place<Submission>
}

const make = Effect.gen(function* () {
  const { queueEventsMax, queueBytesMax } = yield* Settings
  // Every submission has an event, so the bound on events keeps this queue from ever being full; one place more is for
  // the mark of closing.
  const queue = yield* Queue.bounded<Slot>(queueEventsMax + 1)
  let events = 0
  let bytes = 0
  // How many events the offer had that found no room last.
  let refused = 1
  let closed = false
  const unsettled = new Line<Submission>()
  // Taken from the queue, but too large for the commit it was taken for.
  let heldBack: Submission | undefined
  let ended = false

  const hold = (wanted: number): Either.Either<Hold, Overloaded | Draining> => {
    let held = 0
    let offered = false
    const grow = (more: number): Either.Either<void, Overloaded> => {
      if (bytes + more > queueBytesMax) return Either.left(new Overloaded({ bound: "bytes" }))
      bytes += more
      held += more
      return Either.void
    }
    const offer: Hold["offer"] = (offer, receivedAt, settled, span) => {
      if (closed) return Either.left(new Draining())
      if (events + offer.length > queueEventsMax) {
        refused = offer.length
        return Either.left(new Overloaded({ bound: "events" }))
      }
      events += offer.length
      offered = true
      const submission: Offered = { events: offer, settled, bytes: held, receivedAt, span }
      submission.place = unsettled.join(submission)
      queue.unsafeOffer({ holds: submission })
      return Either.void
    }
    const release = () => {
      if (!offered) bytes -= held
    }
    if (closed) return Either.left(new Draining())
    return Either.map(grow(wanted), () => ({ grow, offer, release }))
  }

  const admit = (wanted: number) =>
    Effect.map(
      Effect.acquireRelease(
        Effect.suspend(() => hold(wanted)),
        ({ release }) => Effect.sync(release)
      ),
      ({ grow, offer }): Room => ({
        grow: (more) => Effect.suspend(() => grow(more)),
        offer: (events, receivedAt) =>
          Effect.flatMap(currentSpan, (span) => {
            const outcomes = Deferred.unsafeMake<ReadonlyArray<Outcome>, StoreError>(FiberId.none)
            const settled = (exit: Outcomes) => Deferred.unsafeDone(outcomes, exit)
            return Either.map(offer(events, receivedAt, settled, span), () => outcomes)
          })
      })
    )

  // Adds what waits to `taken` as long as it fits. A submission is never split: a first one is taken whatever its size.
  const gather = Effect.fnUntraced(function* (taken: Array<Submission>, eventsMax: number) {
    let total = taken.reduce((sum, submission) => sum + submission.events.length, 0)
    while (!ended) {
      const next = heldBack ?? Option.getOrUndefined(Option.map(yield* Queue.poll(queue), emptied))
      heldBack = undefined
      if (next === undefined) break
      if (next === closing) {
        ended = true
      } else if (taken.length > 0 && total + next.events.length > eventsMax) {
        heldBack = next
        break
      } else {
        taken.push(next)
        total += next.events.length
      }
    }
    return taken
  })

  const poll = (eventsMax: number) =>
    Effect.map(gather([], eventsMax), (taken) =>
      taken.length === 0 && ended ? Option.none() : Option.some(Chunk.unsafeFromArray(taken))
    )

  const take = Effect.fnUntraced(function* (eventsMax: number) {
    const waiting = yield* gather([], eventsMax)
    if (waiting.length === 0 && !ended) {
      const first = emptied(yield* Queue.take(queue))
      if (first === closing) ended = true
      else if (first !== undefined) waiting.push(...(yield* gather([first], eventsMax)))
    }
    const taken = Chunk.unsafeFromArray(waiting)
    return Chunk.isNonEmpty(taken) ? Option.some(taken) : Option.none()
  })

  return Intake.of({
    admit,
    hold,
    take,
    poll,
    settle: (submissions) =>
      Effect.sync(() => {
        for (const submission of submissions) {
          const { place } = submission as Offered
          if (place === undefined || !unsettled.leave(place)) continue
          events -= submission.events.length
          bytes -= submission.bytes
        }
      }),
    unsettled: Effect.sync(() => unsettled.all()),
    close: Effect.sync(() => {
      if (closed) return
      closed = true
      queue.unsafeOffer({ holds: closing })
    }),
    closed: Effect.sync(() => closed),
    isClosed: () => closed,
    isFull: () => {
      if (events + refused > queueEventsMax) return true
      refused = 1
      return false
    },
    level: Effect.sync(() => ({ events, eventsMax: queueEventsMax, bytes, bytesMax: queueBytesMax })),
    // They are kept in the order in which they were offered.
    oldest: Effect.sync(() => Option.fromNullable(unsettled.first?.value))
  })
})

/** An Intake bounded by `queueEventsMax` and `queueBytesMax`. */
export const layer: Layer.Layer<Intake, never, Settings> = Layer.effect(Intake, make)
