/**
 * The events a publisher holds: taken while there is room, cut into batches, let go when they have their outcome.
 *
 * All state changes in single synchronous steps, so that whatever runs in between finds it whole. Room belongs to an
 * event from the step that takes it to the step that settles it, whoever is interrupted meanwhile; a call that waits for
 * room is handed it in the very step that frees it. Nothing here waits on a semaphore or a queue: who waits is woken,
 * and looks again.
 */
import { Clock, Deferred, Duration, Effect, Exit, FiberId } from "effect"
import { type PublishError, PublisherClosed } from "./Errors.ts"
import { bytesIn, type EncodedEvent, sequenceBytesMax, withSequence } from "./EventToPublish.ts"
import type { Series } from "./Numbering.ts"
import type { Resolved } from "./Options.ts"

/** The answer of the service about one event. */
export interface Told {
  readonly outcome: "stored" | "duplicate" | "conflict"
  readonly offset: number
  /** Which attempt of the request was answered. */
  readonly attempt: number
}

/** An event in the buffer. */
export interface Item {
  readonly event: EncodedEvent
  /** When it was taken, by the monotonic clock. */
  readonly takenAt: bigint
  /** Whether a request with it has ever left. */
  sent: boolean
  readonly outcome: Deferred.Deferred<Told, PublishError>
}

/** How an event ended. */
export type Settlement = readonly [item: Item, exit: Exit.Exit<Told, PublishError>]

/** Events taken and settled so far, and what is held now. */
export interface BufferStats {
  readonly events: number
  readonly stored: number
  readonly duplicates: number
  readonly conflicts: number
  readonly failed: number
  readonly bufferedEvents: number
  readonly bufferedBytes: number
  readonly waiting: number
}

/** The events a publisher holds. */
export interface Buffer {
  /** Takes an event once there is room, in the order of the calls, and gives it the next number of its series. */
  readonly submit: (event: EncodedEvent, series?: Series) => Effect.Effect<Item, PublisherClosed>
  /** The next batch, oldest event first: waits until one is full, or its oldest event has waited long enough. */
  readonly take: Effect.Effect<ReadonlyArray<Item>>
  /** Tells events their outcome and gives their room back; one that is settled already stays as it is. */
  readonly settle: (settlements: Iterable<Settlement>) => Effect.Effect<void>
  /** Refuses new events from here on, and lets batches leave without delay. Calls that wait for room still come in. */
  readonly close: Effect.Effect<void>
  /** Waits until a closed buffer is empty, those who waited for room among what it held. */
  readonly drained: Effect.Effect<void>
  /** Closes, sends who waits for room away, and settles all that is left. */
  readonly abandon: (errorFor: (item: Item) => PublishError) => Effect.Effect<void>
  readonly stats: Effect.Effect<BufferStats>
}

interface Waiter {
  readonly event: EncodedEvent
  readonly series: Series | undefined
  readonly item: Deferred.Deferred<Item, PublisherClosed>
}

type Limits = Pick<
  Resolved,
  "batchEventsMax" | "batchBytesMax" | "bufferEventsMax" | "bufferBytesMax" | "lingerMillis"
>

const deferred = <A, E>(): Deferred.Deferred<A, E> => Deferred.unsafeMake<A, E>(FiberId.none)

const first = <A>(items: Iterable<A>): A | undefined => {
  for (const item of items) return item
  return undefined
}

/** How many bytes an event takes in a body with a number, if it gets one. */
export const bytesNeeded = (event: EncodedEvent, series: Series | undefined): number =>
  bytesIn(event) + (series === undefined ? 0 : sequenceBytesMax)

/** An empty buffer. No event may need more bytes than `bufferBytesMax`. */
export const make = (limits: Limits): Effect.Effect<Buffer> =>
  Effect.map(Effect.clock, (clock) => {
    const { batchEventsMax, batchBytesMax, bufferEventsMax, bufferBytesMax } = limits
    const lingerNanos = BigInt(Math.round(limits.lingerMillis * 1e6))
    /** Everything that is not settled, and of that what was not taken into a batch yet; both oldest first. */
    const held = new Set<Item>()
    const pending = new Set<Item>()
    const waiting = new Set<Waiter>()
    let heldBytes = 0
    let pendingBytes = 0
    let closed = false
    const counts = { events: 0, stored: 0, duplicate: 0, conflict: 0, failed: 0 }
    const drained = deferred<void, never>()
    /** What those who take wait for, if any do: completed when they should look again. */
    let changed: Deferred.Deferred<void> | undefined
    let alarmSet = false

    const wake = () => {
      if (changed !== undefined) Deferred.unsafeDone(changed, Effect.void)
      changed = undefined
    }

    const isBatchDue = () =>
      closed || waiting.size > 0 || pending.size >= batchEventsMax || pendingBytes >= batchBytesMax

    const fits = (event: EncodedEvent, series: Series | undefined) =>
      held.size < bufferEventsMax && heldBytes + bytesNeeded(event, series) <= bufferBytesMax

    const add = (given: EncodedEvent, series: Series | undefined): Item => {
      const event = series === undefined ? given : withSequence(given, series.next++)
      const takenAt = clock.unsafeCurrentTimeNanos()
      const item: Item = { event, takenAt, sent: false, outcome: deferred() }
      held.add(item)
      pending.add(item)
      heldBytes += bytesIn(event)
      pendingBytes += bytesIn(event)
      counts.events++
      if (pending.size === 1 || isBatchDue()) wake()
      return item
    }

    // Whoever waits is let in, in order, as far as there is room.
    const admit = () => {
      for (const waiter of waiting) {
        if (!fits(waiter.event, waiter.series)) return
        waiting.delete(waiter)
        Deferred.unsafeDone(waiter.item, Exit.succeed(add(waiter.event, waiter.series)))
      }
    }

    // While anybody waits for room the buffer is not empty: an empty one has room for every event.
    const noteDrained = () => {
      if (closed && held.size === 0) Deferred.unsafeDone(drained, Effect.void)
    }

    const settleAll = (settlements: Iterable<Settlement>) => {
      for (const [item, exit] of settlements) {
        if (!held.delete(item)) continue
        heldBytes -= bytesIn(item.event)
        if (pending.delete(item)) pendingBytes -= bytesIn(item.event)
        counts[Exit.isSuccess(exit) ? exit.value.outcome : "failed"]++
        Deferred.unsafeDone(item.outcome, exit)
      }
      admit()
      noteDrained()
    }

    const submit = (event: EncodedEvent, series?: Series) =>
      // The wait itself can be interrupted; from its end to the answer nothing can come between.
      Effect.uninterruptibleMask((restore) =>
        Effect.suspend((): Effect.Effect<Item, PublisherClosed> => {
          if (closed) return new PublisherClosed()
          if (waiting.size === 0 && fits(event, series)) return Effect.succeed(add(event, series))
          const waiter: Waiter = { event, series, item: deferred() }
          waiting.add(waiter)
          wake()
          return Effect.onInterrupt(restore(Deferred.await(waiter.item)), () =>
            Effect.sync(() => {
              // It may have been in the way of a smaller one.
              if (waiting.delete(waiter)) admit()
            })
          )
        })
      )

    const cut = (): ReadonlyArray<Item> => {
      const batch: Array<Item> = []
      let bytes = 1
      for (const item of pending) {
        bytes += bytesIn(item.event)
        if (batch.length > 0 && (batch.length === batchEventsMax || bytes > batchBytesMax)) break
        batch.push(item)
        pending.delete(item)
        pendingBytes -= bytesIn(item.event)
      }
      return batch
    }

    // One alarm at a time: it wakes those who take, who set the next one if it came too early for them.
    const alarm = (nanos: bigint) =>
      Effect.suspend(() => {
        if (alarmSet) return Effect.void
        alarmSet = true
        const ring = Effect.sync(() => {
          alarmSet = false
          wake()
        })
        return Effect.asVoid(Effect.fork(Effect.ensuring(Clock.sleep(Duration.nanos(nanos)), ring)))
      })

    const take: Effect.Effect<ReadonlyArray<Item>> = Effect.suspend(() => {
      const oldest = first(pending)
      const left =
        oldest === undefined ? undefined : lingerNanos - (clock.unsafeCurrentTimeNanos() - oldest.takenAt)
      if (left !== undefined && (left <= 0n || isBatchDue())) return Effect.succeed(cut())
      changed ??= deferred()
      const wait = Effect.zipRight(Deferred.await(changed), take)
      return left === undefined ? wait : Effect.zipRight(alarm(left), wait)
    })

    return {
      submit,
      take,
      settle: (settlements) => Effect.sync(() => settleAll(settlements)),
      close: Effect.sync(() => {
        closed = true
        wake()
        noteDrained()
      }),
      drained: Deferred.await(drained),
      abandon: (errorFor) =>
        Effect.sync(() => {
          closed = true
          for (const waiter of waiting) Deferred.unsafeDone(waiter.item, Exit.fail(new PublisherClosed()))
          waiting.clear()
          settleAll([...held].map((item) => [item, Exit.fail(errorFor(item))]))
        }),
      stats: Effect.sync(() => ({
        events: counts.events,
        stored: counts.stored,
        duplicates: counts.duplicate,
        conflicts: counts.conflict,
        failed: counts.failed,
        bufferedEvents: held.size,
        bufferedBytes: heldBytes,
        waiting: waiting.size
      }))
    }
  })
