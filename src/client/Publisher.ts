/**
 * The publisher's side of at-least-once delivery: events go into a bounded buffer, leave in batches, and are sent again
 * until the service has told each one's outcome. Sending again is always safe, because the service stores each key once
 * (G2); that is what makes a lost answer harmless.
 *
 * It needs an `HttpClient`, and the Clock and Random that every Effect has; its fibers live in the scope it is made in.
 */
import { FetchHttpClient, HttpClient } from "@effect/platform"
import { Cause, Clock, Deferred, Duration, Effect, Exit, Fiber, Option, type Scope } from "effect"
import { isoTime } from "../domain/Timestamp.ts"
import * as Buffer from "./Buffer.ts"
import { deliver, type SentCounts } from "./Delivery.ts"
import {
  InvalidEvent,
  type InvalidOptions,
  OutcomeUnknown,
  type PublishError,
  type PublisherClosed,
  type SequenceUnknown
} from "./Errors.ts"
import * as EventIds from "./EventIds.ts"
import { type EncodedEvent, type EventToPublish, encode } from "./EventToPublish.ts"
import * as Numbering from "./Numbering.ts"
import { type PublisherOptions, resolve } from "./Options.ts"
import { within } from "./Waiting.ts"

export * from "./Errors.ts"
export { type EventToPublish, JsonText } from "./EventToPublish.ts"
export type { BaseOptions, GiveUp, PublisherOptions, Retry } from "./Options.ts"

/** What became of an event: what the service says is on disk (G1, G8). */
export interface PublishOutcome {
  /**
   * `stored`: it was new. `duplicate`: its key is known with the same content. `conflict`: its key is known with other
   * content; the first one stands, and this content is not kept.
   */
  readonly outcome: "stored" | "duplicate" | "conflict"
  /** The offset of the one stored event with this key. */
  readonly offset: number
  /** The topic, normalised. */
  readonly topic: string
  /** The id that was given or made. */
  readonly event_id: string
  /**
   * Which attempt of the request was answered, from 1. A `duplicate` told to a later attempt may be this publisher's own
   * earlier delivery, whose answer was lost.
   */
  readonly attempt: number
}

/** What a publisher has done so far. `events = stored + duplicates + conflicts + failed + bufferedEvents`, always. */
export interface PublisherStats {
  /** Events that were taken into the buffer. */
  readonly events: number
  /** Requests that were sent, each time they were. */
  readonly attempts: number
  /** Attempts but for the first of each request. */
  readonly retries: number
  readonly stored: number
  readonly duplicates: number
  readonly conflicts: number
  /** Events that ended in a `PublishError`. */
  readonly failed: number
  /** Events in the buffer, those under way among them. */
  readonly bufferedEvents: number
  readonly bufferedBytes: number
  /** Calls that wait for room in the buffer. */
  readonly waiting: number
}

/** A publisher. Its methods may be called from any fiber, at the same time. */
export interface Publisher {
  /** Publishes an event and waits for its outcome: `submit` and what it gives back, in one. */
  readonly publish: (
    event: EventToPublish
  ) => Effect.Effect<PublishOutcome, InvalidEvent | PublisherClosed | SequenceUnknown | PublishError>
  /**
   * Takes an event into the buffer, and gives back an effect that waits for its outcome. It waits only while the buffer
   * is full (backpressure), in the order of the calls. Interrupted while it waits, it takes the event back, unless room
   * was given at that very moment. An event that was taken is sent, whether its outcome is waited for or not; the effect
   * that waits can be run any number of times, also later. With the option `sequences` the first event of a series waits
   * for the service to say where it goes on.
   */
  readonly submit: (
    event: EventToPublish
  ) => Effect.Effect<
    Effect.Effect<PublishOutcome, PublishError>,
    InvalidEvent | PublisherClosed | SequenceUnknown
  >
  /** What it has done so far. */
  readonly stats: Effect.Effect<PublisherStats>
  /**
   * Takes nothing new, sends what it has at once, and ends when every event has its outcome or its error; calls that
   * waited for room come in before. Interrupted, it stops sending, and what is left ends in `OutcomeUnknown`. A second
   * call waits for the same end. The end of the scope closes as well, within `closeSecondsMax`.
   */
  readonly close: Effect.Effect<void>
}

/** A publisher that lives as long as the scope. */
export const make = (
  options: PublisherOptions
): Effect.Effect<Publisher, InvalidOptions, HttpClient.HttpClient | Scope.Scope> =>
  Effect.gen(function* () {
    const resolved = yield* resolve(options)
    const client = yield* HttpClient.HttpClient
    const ids = yield* resolved.ids === "ulid" ? EventIds.ulid : EventIds.counter
    const buffer = yield* Buffer.make(resolved)
    const numbering = yield* Numbering.make(client, resolved)
    const counts: SentCounts = { attempts: 0, retries: 0 }

    const abandon = (reason: string) =>
      buffer.abandon((item) => new OutcomeUnknown({ sent: item.sent, reason }))

    // Sends batch after batch. It has no end of its own: if it ends unasked, by a defect, nobody may wait for ever.
    const sending = buffer.take.pipe(
      Effect.flatMap((batch) => deliver({ client, options: resolved, buffer, counts }, batch)),
      Effect.forever,
      Effect.onExit((exit) => abandon(`the publisher ended (${reasonOf(exit)})`))
    )
    // Where `fetch` sends it does not follow redirects: it would make a GET of the request, whose answer says nothing.
    const init = yield* Effect.serviceOption(FetchHttpClient.RequestInit)
    const sender = Effect.provideService(sending, FetchHttpClient.RequestInit, {
      redirect: "manual",
      ...Option.getOrUndefined(init)
    })
    const senders = yield* Effect.replicateEffect(Effect.forkScoped(sender), resolved.requestsMax)
    const close = Effect.uninterruptibleMask((restore) =>
      Effect.zipRight(numbering.close, buffer.close).pipe(
        Effect.zipRight(restore(buffer.drained)),
        Effect.onInterrupt(() => abandon("closing was interrupted")),
        Effect.ensuring(Fiber.interruptAll(senders))
      )
    )
    // Closes before the senders end, being the later finalizer. A finalizer cannot be interrupted, hence the limit.
    const limit = Duration.seconds(resolved.closeSecondsMax)
    yield* Effect.addFinalizer(() => within(close, limit, () => undefined))

    const fill = Effect.fnUntraced(function* (event: EventToPublish) {
      const { source = resolved.source, timestamp, event_id } = event
      return {
        ...event,
        source,
        timestamp: timestamp === undefined ? isoTime(yield* Clock.currentTimeMillis) : timestamp,
        // Without a source the event is refused, whatever its id.
        event_id: event_id === undefined ? yield* ids.next(String(source)) : event_id
      }
    })

    const submit = Effect.fnUntraced(function* (event: EventToPublish) {
      const encoded = yield* encode(yield* fill(event))
      const isNumbered = resolved.sequences && event.sequence === undefined
      const series = isNumbered ? yield* numbering.seriesOf(encoded.topic, encoded.source) : undefined
      if (Buffer.bytesNeeded(encoded, series) > resolved.bufferBytesMax) {
        return yield* tooLarge(resolved.bufferBytesMax)
      }
      const item = yield* buffer.submit(encoded, series)
      return outcomeOf(encoded, item)
    })

    return {
      publish: (event) => Effect.flatten(submit(event)),
      submit,
      stats: Effect.map(buffer.stats, (stats) => ({ ...stats, ...counts })),
      close
    }
  })

const outcomeOf = (
  { topic, event_id }: EncodedEvent,
  { outcome }: Buffer.Item
): Effect.Effect<PublishOutcome, PublishError> =>
  Effect.map(Deferred.await(outcome), (told) => ({ ...told, topic, event_id }))

const tooLarge = (bytesMax: number) =>
  new InvalidEvent({ faults: [{ pointer: "", detail: `must have at most ${bytesMax - 1} bytes` }] })

const reasonOf = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.match(exit, { onSuccess: () => "it ended", onFailure: (cause) => Cause.pretty(cause) })
