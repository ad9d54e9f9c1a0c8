/**
 * Numbers for events: each series, of a topic and a source, goes on behind the highest number that the service knows. The
 * service is asked when a series is first used; a number is given in the very step in which an event is taken into the
 * buffer, so that the numbers leave in their order and none is given to an event that is not sent.
 *
 * What an earlier process with the same source left behind does no harm, whatever became of it. What was stored before
 * the service was asked is counted in its answer. What never arrived is as if it had not been numbered: its numbers are
 * given anew, to other events, and no gap opens. Only what arrives after the question finds its numbers given again: both
 * events are stored, and the service counts a `sequence_reused`.
 */
import { type HttpClient, HttpClientRequest } from "@effect/platform"
import { Clock, Deferred, Effect, Exit, FiberId, Option, Schema, type Scope } from "effect"
import { SourcesAnswer } from "../http/Api.ts"
import { type Called, call, detailOf, foreign, passing, type Troubled } from "./Call.ts"
import { jitter } from "./Delivery.ts"
import { PublisherClosed, SequenceUnknown } from "./Errors.ts"
import type { Resolved } from "./Options.ts"

/** Events of one topic and source, as they are numbered. */
export interface Series {
  /** The number of the next event. */
  next: number
}

/** The series of a publisher. */
export interface Numbering {
  /** A series, once the service has said where it goes on; the question is asked once, whoever waits for it. */
  readonly seriesOf: (
    topic: string,
    source: string
  ) => Effect.Effect<Series, SequenceUnknown | PublisherClosed>
  /** Asks no more, and sends who waits for an answer away. */
  readonly close: Effect.Effect<void>
}

const decodeSources = Schema.decodeUnknownOption(Schema.parseJson(SourcesAnswer))

/** Series that go on where the service says. What asks it lives in the scope. */
export const make = (
  client: HttpClient.HttpClient,
  options: Resolved
): Effect.Effect<Numbering, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => {
    const known = new Map<string, Deferred.Deferred<Series, SequenceUnknown | PublisherClosed>>()
    let closed = false

    // Who waits may go away; the question goes on, for others.
    const start = (topic: string, source: string) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.suspend(() => {
          const series = Deferred.unsafeMake<Series, SequenceUnknown | PublisherClosed>(FiberId.none)
          const key = `${topic}\n${source}`
          known.set(key, series)
          const asked = Effect.onExit(Effect.interruptible(ask(client, options, topic, source)), (exit) =>
            Effect.sync(() => {
              // Who comes next may ask again.
              if (Exit.isFailure(exit)) known.delete(key)
              Deferred.unsafeDone(series, exit)
            })
          )
          return Effect.zipRight(Effect.forkIn(asked, scope), restore(Deferred.await(series)))
        })
      )

    return {
      seriesOf: (topic, source) =>
        Effect.suspend(() => {
          if (closed) return new PublisherClosed()
          const series = known.get(`${topic}\n${source}`)
          return series === undefined ? start(topic, source) : Deferred.await(series)
        }),
      close: Effect.sync(() => {
        closed = true
        for (const series of known.values()) Deferred.unsafeDone(series, Exit.fail(new PublisherClosed()))
      })
    }
  })

/** Asks the service for the highest number of a series, as often as a request is sent. */
const ask = (
  client: HttpClient.HttpClient,
  options: Resolved,
  topic: string,
  source: string
): Effect.Effect<Series, SequenceUnknown> =>
  Effect.gen(function* () {
    const startedAt = yield* Clock.currentTimeNanos
    const query = `topic=${encodeURIComponent(topic)}&source=${encodeURIComponent(source)}`
    const request = HttpClientRequest.get(`${options.sourcesUrl}?${query}`, { acceptJson: true })
    const unknown = (detail: string) => new SequenceUnknown({ topic, source, detail })
    for (let attempt = 1; ; attempt++) {
      const read = readHighest(yield* call(client, request, options.requestSecondsMax))
      if (read._tag === "Next") return { next: read.next }
      if (read._tag === "Refused") return yield* unknown(read.detail)
      const { trouble } = read
      const waitMillis = Math.ceil(trouble.retryAfterMillis + (yield* jitter(options, attempt)))
      const elapsedMillis = Number((yield* Clock.currentTimeNanos) - startedAt) / 1e6
      if (attempt >= options.attemptsMax || elapsedMillis + waitMillis > options.retrySecondsMax * 1000) {
        return yield* unknown(trouble.detail)
      }
      yield* options.onRetry({ attempts: attempt, events: 0, waitMillis, trouble })
      yield* Effect.sleep(waitMillis)
    }
  })

type Read =
  | { readonly _tag: "Next"; readonly next: number }
  | { readonly _tag: "Refused"; readonly detail: string }
  | Troubled

const readHighest = (called: Called): Read => {
  if (called._tag === "Trouble") return called
  if (called._tag === "Unsendable") return { _tag: "Refused", detail: called.detail }
  const { status, body } = called
  const answer = status === 200 ? decodeSources(body) : Option.none()
  if (Option.isSome(answer)) {
    const highest = answer.value.sources[0]?.highest
    return { _tag: "Next", next: highest === undefined ? 0 : highest + 1 }
  }
  if (status >= 200 && status < 300) return foreign(called)
  return passing(called) ?? { _tag: "Refused", detail: detailOf(called) }
}
