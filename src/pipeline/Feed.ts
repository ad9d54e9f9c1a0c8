/**
 * What commits wake up: subscribers. A subscriber is a cursor over the store and nothing else; there is no queue for
 * any of them. Those who are at the end of the store wait here, in one place. After a commit one fiber reads what is
 * new, once for all of them, and wakes those who want something of it; the events read last are kept, within bounds, for
 * those who come a moment later. Whoever is further behind reads the store instead.
 *
 * All state changes in single synchronous steps, and what is told is read from the store after the commit, in the order
 * of the offsets: so nothing is skipped, and nothing is told that can yet be taken back (G5). While nobody subscribes,
 * nothing is read and nothing kept.
 */
import { Context, Deferred, Duration, Effect, Either, FiberId, Layer, type Scope } from "effect"
import { ReadingLimits, Settings } from "../Config.ts"
import { type CursorError, type StoreError, TooManySubscribers } from "../domain/Errors.ts"
import type { StoredEvent } from "../domain/Event.ts"
import { matchesTopic, type TopicPattern } from "../domain/Topic.ts"
import { EventStore, type Filter, matchesFilter } from "../store/EventStore.ts"

/** What comes behind a subscriber's cursor. */
export type Next =
  /** Events that match, of which there is at least one. All that lies up to `to` has been looked at. */
  | { readonly _tag: "Events"; readonly events: ReadonlyArray<StoredEvent>; readonly to: number }
  /** Nothing that matches came for a heartbeat, up to `to`. */
  | { readonly _tag: "Idle"; readonly to: number }
  /** It is not kept here any more: the store has it. */
  | { readonly _tag: "Behind" }
  /** The service stops, and everything that it will ever commit was told to who kept up. */
  | { readonly _tag: "Closed" }

/** A subscriber's place here. */
export interface Subscription {
  /** What comes behind the cursor; waits for it, but no longer than a heartbeat. One call at a time. */
  readonly next: (cursor: number) => Effect.Effect<Next>
}

/** Wakes subscribers up. */
export class Feed extends Context.Tag("sekali/Feed")<
  Feed,
  {
    /** A place for a subscriber, until the scope closes. */
    readonly subscribe: (
      filter: Filter
    ) => Effect.Effect<Subscription, TooManySubscribers | StoreError | CursorError, Scope.Scope>
    /** There was a commit. Only the Consumer says so, after it. */
    readonly committed: Effect.Effect<void>
    /** There will be no more commits: tells what is left, and lets every subscriber go. */
    readonly close: Effect.Effect<void>
  }
>() {}

/** How long the reading fiber waits before it tries again what the store could not do. */
const pause = Duration.millis(500)

/** What was read of the store in one step. */
interface Batch {
  /** The batch holds all events that are behind this offset, up to `to`. */
  readonly from: number
  readonly to: number
  readonly events: ReadonlyArray<StoredEvent>
  readonly bytes: number
}

/** Subscribers that want the same. */
interface Group {
  readonly topic: TopicPattern | undefined
  /** What they want besides the topic. */
  readonly further: Filter
  readonly waiters: Set<Waiter>
  subscribers: number
}

/** What a subscriber is woken for: what it waited for, or to look again behind a cursor. */
type Woken = Next | { readonly _tag: "Look"; readonly cursor: number }

/** A subscriber that has seen everything there is. */
interface Waiter {
  readonly group: Group
  readonly cursor: number
  readonly since: bigint
  readonly woken: Deferred.Deferred<Woken>
}

const make = Effect.gen(function* () {
  const store = yield* EventStore
  const limits = yield* ReadingLimits
  const { heartbeatSeconds, subscribersMax } = yield* Settings
  const clock = yield* Effect.clock
  const heartbeatNanos = BigInt(Math.round(heartbeatSeconds * 1e9))

  const groups = new Map<string, Group>()
  /** Those who wait, and who has waited longest first. */
  const waiters = new Set<Waiter>()
  let subscribers = 0
  /** What was read last, oldest first and without a hole; undefined while nobody subscribes. */
  let kept: Array<Batch> | undefined
  /** All that lies behind this offset and was committed before the last reading is in `kept`. */
  let keptFrom = 0
  let head = 0
  let keptBytes = 0
  let keptEvents = 0
  /** There may be something behind the head. */
  let isNew = false
  let closing = false
  let closed = false
  /** Whom the two fibers below wait for: completed when they should look again. */
  const alarms: { reading?: Deferred.Deferred<void>; beating?: Deferred.Deferred<void> } = {}

  const ring = (name: keyof typeof alarms) => {
    const alarm = alarms[name]
    delete alarms[name]
    if (alarm !== undefined) Deferred.unsafeDone(alarm, Effect.void)
  }
  // To look and to begin to wait is one step: a change that came in between would not be noticed.
  const until = (name: keyof typeof alarms, isDue: () => boolean): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (isDue()) return Effect.void
      const alarm = Deferred.unsafeMake<void>(FiberId.none)
      alarms[name] = alarm
      return Effect.zipRight(Deferred.await(alarm), until(name, isDue))
    })

  const forget = (waiter: Waiter) => {
    waiters.delete(waiter)
    waiter.group.waiters.delete(waiter)
  }
  const wake = (waiter: Waiter, next: Woken) => {
    forget(waiter)
    Deferred.unsafeDone(waiter.woken, Effect.succeed(next))
  }

  const keep = (batch: Batch) => {
    if (kept === undefined) return
    kept.push(batch)
    head = batch.to
    keptBytes += batch.bytes
    keptEvents += batch.events.length
    while (kept.length > 1 && (keptBytes > limits.feedBytesMax || keptEvents > limits.feedEventsMax)) {
      const oldest = kept.shift() as Batch
      keptFrom = oldest.to
      keptBytes -= oldest.bytes
      keptEvents -= oldest.events.length
    }
  }

  const wakeWhoWants = ({ from, events }: Batch) => {
    const byTopic = new Map<string, Array<StoredEvent>>()
    for (const event of events) {
      const others = byTopic.get(event.topic)
      if (others === undefined) byTopic.set(event.topic, [event])
      else others.push(event)
    }
    const topics = [...byTopic]
    for (const { topic: pattern, further, waiters } of groups.values()) {
      if (waiters.size === 0) continue
      const wanted = topics.some(
        ([topic, events]) =>
          (pattern === undefined || matchesTopic(pattern, topic)) &&
          events.some((event) => matchesFilter(further, event))
      )
      // What lies before this batch was looked at before, and nothing of it is wanted.
      if (wanted)
        for (const waiter of waiters) wake(waiter, { _tag: "Look", cursor: Math.max(waiter.cursor, from) })
    }
  }

  /** What is kept behind the cursor and matches. */
  const collect = (filter: Filter, cursor: number) => {
    const batches = kept ?? []
    const events: Array<StoredEvent> = []
    let first = batches.length
    while (first > 0 && (batches[first - 1] as Batch).to > cursor) first--
    let bytes = 0
    let to = cursor
    for (const batch of batches.slice(first)) {
      for (const event of batch.events) {
        if (event.offset <= cursor || !matchesFilter(filter, event)) continue
        bytes += event.payload.length
        if (events.length > 0 && bytes > limits.streamBytesMax) return { events, to }
        events.push(event)
        to = event.offset
      }
      to = Math.max(to, batch.to)
    }
    return { events, to }
  }

  const subscribe = Effect.fnUntraced(function* (filter: Filter) {
    const key = JSON.stringify(filter)
    let waiter: Waiter | undefined
    const group = yield* Effect.acquireRelease(
      Effect.suspend(() => {
        if (subscribers >= subscribersMax) return new TooManySubscribers({ subscribersMax })
        const { topic, ...further } = filter
        const group = groups.get(key) ?? { topic, further, waiters: new Set(), subscribers: 0 }
        groups.set(key, group)
        group.subscribers++
        subscribers++
        return Effect.succeed(group)
      }),
      (group) =>
        Effect.sync(() => {
          if (waiter !== undefined) forget(waiter)
          if (--group.subscribers === 0) groups.delete(key)
          if (--subscribers === 0) kept = undefined
        })
    )
    if (kept === undefined) {
      const { scannedTo } = yield* store.scan({
        filter: {},
        order: "desc",
        after: undefined,
        eventsMax: 1
      })
      if (kept === undefined) {
        kept = []
        head = keptFrom = scannedTo
        keptBytes = keptEvents = 0
        // Also for a commit that was noted while nobody subscribed.
        isNew = true
        ring("reading")
      }
    }

    const next = (cursor: number): Effect.Effect<Next> =>
      Effect.suspend(() => {
        if (closed) return Effect.succeed<Next>({ _tag: "Closed" })
        if (cursor < keptFrom) return Effect.succeed<Next>({ _tag: "Behind" })
        const { events, to } = collect(filter, cursor)
        if (events.length > 0) return Effect.succeed<Next>({ _tag: "Events", events, to })
        const since = clock.unsafeCurrentTimeNanos()
        waiter = { group, cursor: to, since, woken: Deferred.unsafeMake(FiberId.none) }
        group.waiters.add(waiter)
        waiters.add(waiter)
        if (waiters.size === 1) ring("beating")
        return Effect.flatMap(Deferred.await(waiter.woken), (woken) =>
          woken._tag === "Look" ? next(woken.cursor) : Effect.succeed(woken)
        )
      })
    return { next }
  })

  /** Reads what is new, once for all, and tells it. */
  const reading = Effect.gen(function* () {
    while (true) {
      yield* until("reading", () => closing || (kept !== undefined && isNew))
      if (kept === undefined || !isNew) {
        if (closing) break
        continue
      }
      isNew = false
      const readFor = kept
      const from = head
      const window = yield* Effect.either(
        store.scan({ filter: {}, order: "asc", after: from, eventsMax: limits.windowRowsMax })
      )
      // Everybody may have left meanwhile, and somebody come.
      if (kept !== readFor) {
        isNew = true
        continue
      }
      if (Either.isLeft(window)) {
        if (closing) break
        isNew = true
        yield* Effect.sleep(pause)
        continue
      }
      const { events, scannedTo, end } = window.right
      if (!end) isNew = true
      if (events.length === 0) continue
      const bytes = events.reduce((sum, { payload }) => sum + payload.length, 0)
      const batch = { from, to: scannedTo, events, bytes }
      keep(batch)
      wakeWhoWants(batch)
    }
    closed = true
    for (const waiter of waiters) wake(waiter, { _tag: "Closed" })
  })

  /** Wakes who has waited for a heartbeat. */
  const beating = Effect.gen(function* () {
    while (true) {
      yield* until("beating", () => waiters.size > 0)
      const [oldest] = waiters
      if (oldest === undefined) continue
      const left = oldest.since + heartbeatNanos - clock.unsafeCurrentTimeNanos()
      if (left > 0n) yield* Effect.sleep(Duration.nanos(left))
      else wake(oldest, { _tag: "Idle", to: Math.max(oldest.cursor, head) })
    }
  })

  yield* Effect.forkScoped(reading)
  yield* Effect.forkScoped(beating)

  return Feed.of({
    subscribe,
    committed: Effect.sync(() => {
      isNew = true
      ring("reading")
    }),
    close: Effect.sync(() => {
      closing = true
      isNew = true
      ring("reading")
    })
  })
})

/** A feed from the store, for at most `subscribersMax` subscribers. */
export const layer: Layer.Layer<Feed, never, Settings | EventStore> = Layer.scoped(Feed, make)
