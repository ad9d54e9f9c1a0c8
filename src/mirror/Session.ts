/**
 * Copying from one store to another, as long as both stay the ones they are.
 *
 * An address may come to lead to another store while a mirror runs: one that was restored from a backup, or replaced. A
 * store's id tells, because no two stores ever have the same. What lies between two questions for the id that were
 * answered alike happened at that store (an address that leads away and back within such a moment is not provided for).
 * On this rests that no event is left out, whatever happens when (G9):
 *
 * - A page's events are sent on only when the store it was read from is known in this way. Its id becomes their origin,
 *   and an event is never sent to the store that is its origin: a wrong one would keep it away from there for ever.
 * - A cursor is kept only when all events up to it are acknowledged, and the store that acknowledged them is known in
 *   this way. It names both stores: whatever comes to stand at either address between that question and the writing of
 *   the cursor finds one that is not its own.
 * - A new store at either address makes the copying begin again, with the cursor that is kept for the two, if there is
 *   one. To begin at the start is always right: what is known there is a duplicate.
 */
import { Clock, Data, Effect, Either, Fiber } from "effect"
import type { InvalidEvent } from "../client/Errors.ts"
import type { EventToPublish, Publisher, PublishOutcome } from "../client/Publisher.ts"
import { EventsRefused, type PeerRefused, type RefusedEvent, type Role, SameStore } from "./Errors.ts"
import type { CursorKeeper } from "./MirrorCursor.ts"
import type { Page, PageEvent } from "./Page.ts"
import type { CursorRefused, Peer } from "./Peer.ts"

/** What a mirror has done since it was started. `read = sent + skipped`, where no page is under way. */
export interface MirrorCounts {
  /** Events read, each time they were. */
  read: number
  /** Events handed over to be published, however often that took. */
  sent: number
  stored: number
  duplicates: number
  /** Keys that the other store has with other content: it lists them, and keeps its own. */
  conflicts: number
  /** Events that came from the store they would have been sent to. */
  skipped: number
  /** Events that the other store does not take. */
  refused: number
}

/** What copying needs. */
export interface Copying {
  readonly source: Peer
  readonly target: Peer
  /** Publishes to the target. */
  readonly publisher: Publisher
  readonly keeper: CursorKeeper
  readonly counts: MirrorCounts
  /** Whether to end when all is copied. */
  readonly once: boolean
  readonly pollMillisMax: number
  /** When both stores were last asked who they are; undefined if that is to be done at once. */
  readonly asked: { at: bigint | undefined }
}

/** Another store is at an address than before. */
export class StoreChanged extends Data.TaggedError("StoreChanged")<{
  readonly role: Role
  readonly was: string
  readonly is: string
}> {}

/** The cursor is kept at most so often. */
const keepSeconds = 1

/** The stores are asked who they are at least so often. */
const askSeconds = 5

/** The first pause after which a store that had nothing more is asked again; each next one is twice as long. */
const pollMillisFirst = 50

/** Keys that a line of the log names. */
const keysNamedMax = 10

/** Copies until one of the stores is another; or until all is copied, where that is the end. */
export const session = (
  copying: Copying
): Effect.Effect<void, StoreChanged | CursorRefused | SameStore | PeerRefused | EventsRefused> =>
  Effect.gen(function* () {
    const { source, target, keeper, counts, asked } = copying
    const from = yield* source.storeId
    const to = yield* target.storeId
    if (from === to) return yield* new SameStore({ storeId: from })
    const kept = keeper.kept()
    const isOurs = kept?.from === from && kept.to === to
    /** All events up to here are acknowledged; and this much of it is kept. */
    let position = isOurs ? kept.after : 0
    let keptTo = position
    yield* Effect.logInfo("mirroring").pipe(
      Effect.annotateLogs({
        from_store: from,
        to_store: to,
        after: position,
        ...(kept !== undefined && !isOurs ? { because: "the cursor that is kept is of other stores" } : {})
      })
    )

    const stillThere = (peer: Peer, id: string) =>
      Effect.flatMap(peer.storeId, (is) =>
        is === id ? Effect.void : new StoreChanged({ role: peer.role, was: id, is })
      )

    const read = (after: number) =>
      Effect.tap(source.pageAfter(after), ({ next }) =>
        next === after ? Effect.void : stillThere(source, from)
      )

    const isDue = Effect.map(Clock.currentTimeNanos, (now) => {
      const seconds = position === keptTo ? askSeconds : keepSeconds
      return asked.at === undefined || now - asked.at >= BigInt(seconds) * 1_000_000_000n
    })

    // Asks both stores who they are, and keeps the cursor.
    const settle = Effect.gen(function* () {
      yield* stillThere(target, to)
      yield* stillThere(source, from)
      asked.at = yield* Clock.currentTimeNanos
      if (position === keptTo) return
      yield* keeper.keep({ from, to, after: position })
      keptTo = position
    })

    const copy = Effect.fnUntraced(function* (page: Page) {
      const toSend = page.events.filter(({ event }) => event.origin !== to)
      counts.read += page.events.length
      counts.skipped += page.events.length - toSend.length
      yield* send(
        copying,
        toSend.map(({ offset, event }) => ({ offset, event: { ...event, origin: event.origin ?? from } }))
      )
      position = page.next
      if (yield* isDue) yield* settle
    })

    let page = yield* read(position)
    let pauseMillis = pollMillisFirst
    for (;;) {
      if (page.more) {
        page = yield* meanwhile(read(page.next), copy(page))
        continue
      }
      yield* copy(page)
      if (copying.once) return yield* settle
      if (page.events.length > 0) pauseMillis = pollMillisFirst
      yield* Effect.sleep(Math.min(pauseMillis, copying.pollMillisMax))
      pauseMillis = Math.min(pauseMillis * 2, copying.pollMillisMax)
      page = yield* read(position)
    }
  })

/** Reads ahead while something else is done, and gives back what was read. */
const meanwhile = <A, E, E2>(
  ahead: Effect.Effect<A, E>,
  effect: Effect.Effect<void, E2>
): Effect.Effect<A, E | E2> =>
  Effect.acquireUseRelease(
    Effect.fork(Effect.interruptible(ahead)),
    (reading) => Effect.zipRight(effect, Fiber.join(reading)),
    Fiber.interrupt
  )

/** Publishes events in their order, and ends when all of them are acknowledged. */
const send = (
  { publisher, target, counts }: Copying,
  events: ReadonlyArray<PageEvent>
): Effect.Effect<void, EventsRefused> =>
  Effect.gen(function* () {
    if (events.length === 0) return
    const outcomes = yield* Effect.forEach(events, ({ event }) => submit(publisher, event))
    counts.sent += events.length
    const conflicts: Array<string> = []
    const refused: Array<RefusedEvent> = []
    for (const [index, { offset, event }] of events.entries()) {
      const { topic, event_id } = event
      const told = yield* Effect.either(outcomes[index] ?? Effect.dieMessage("an event without an outcome"))
      if (Either.isLeft(told)) refused.push({ topic, event_id, offset, reason: told.left })
      else if (told.right.outcome === "stored") counts.stored++
      else if (told.right.outcome === "duplicate") counts.duplicates++
      else conflicts.push(`${topic}/${event_id}`)
    }
    counts.conflicts += conflicts.length
    counts.refused += refused.length
    yield* target.answered
    if (conflicts.length > 0) {
      yield* Effect.logWarning("conflicts: keys have other content there; each store keeps its own").pipe(
        Effect.annotateLogs({ count: conflicts.length, keys: conflicts.slice(0, keysNamedMax).join(" ") })
      )
    }
    if (refused.length > 0) return yield* new EventsRefused({ address: target.address, events: refused })
  })

type Outcome = Effect.Effect<PublishOutcome, string>

/** Hands an event over to be published; gives back its outcome, or why it is refused. */
const submit = (publisher: Publisher, event: EventToPublish): Effect.Effect<Outcome> =>
  publisher.submit(event).pipe(
    Effect.map(
      (outcome): Outcome =>
        // Nothing gives up here, and nobody closes the publisher.
        Effect.catchAll(outcome, (error) =>
          error._tag === "Refused" ? Effect.fail(error.message) : Effect.die(error)
        )
    ),
    Effect.catchTag("InvalidEvent", (error: InvalidEvent) =>
      Effect.succeed<Outcome>(Effect.fail(error.message))
    ),
    Effect.orDie
  )
