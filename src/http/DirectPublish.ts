/**
 * The short way of a publish. What most publishers send, a small body of known length and type, needs neither the
 * platform's handling of a request nor a fiber of its own: it is decoded, offered, and answered when the Consumer has
 * settled it. Everything that decides and everything that is answered is shared with the long way, which every other
 * request takes; the two answer alike.
 *
 * The edge calls `open` with the head of a request, hands over the body when it has arrived, and sends the answer. It
 * runs on Node's HTTP server and on the simulator's.
 */
import { Cause, Context, Duration, Effect, Either, Exit, FiberSet, Option, type Scope } from "effect"
import { Settings } from "../Config.ts"
import { type CallError, Draining, Overloaded, WaitedTooLong } from "../domain/Errors.ts"
import { Line, type Place } from "../domain/Line.ts"
import { Intake, type Outcomes } from "../pipeline/Intake.ts"
import { Metrics } from "../telemetry/Metrics.ts"
import { attemptHeader } from "./Api.ts"
import { noteAttempt } from "./Attempts.ts"
import { smallBodyBytes } from "./Body.ts"
import { type BodyType, decodeBody } from "./Decoding.ts"
import { bug, type PlainAnswer, problemAnswer } from "./Problems.ts"
import { patience, publishAnswer } from "./Publish.ts"
import { Refusals } from "./Refusals.ts"

/** The head of a request: header names in lower case, a header that came twice is left to the long way. */
export interface Head {
  readonly method: string
  readonly target: string
  readonly headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>
}

/** A publish whose body is on its way. */
export interface DirectCall {
  /**
   * To be called once, when the body has come. What it gives back is to be called once as well, with that body, when there
   * is time to read it; `answer` is called once, then or later, unless the client leaves before.
   */
  readonly arrived: () => (body: Uint8Array, answer: (answer: PlainAnswer) => void) => void
  /** The client has gone: nobody waits for the answer any more, or for the body. What was offered is committed. */
  readonly left: () => void
}

/** Takes a request on the short way, or answers it at once, or leaves it to the long way. */
export type DirectPublish = (head: Head) => DirectCall | PlainAnswer | undefined

/** Where the edge is given the short way. */
export class ShortWay extends Context.Tag("sekali/ShortWay")<
  ShortWay,
  { readonly install: (publish: DirectPublish) => Effect.Effect<void, never, Scope.Scope> }
>() {}

/** For an edge whose every request is traced: there is no span on the short way, so all take the long one. */
export const longWayOnly = ShortWay.of({ install: () => Effect.void })

const path = "/publish"

const types: Readonly<Record<string, BodyType>> = {
  "application/json": "json",
  "application/json; charset=utf-8": "json",
  "application/json;charset=utf-8": "json",
  "application/x-ndjson": "ndjson"
}

// What sort of body this is, where it is one for the short way.
const bodyOf = ({ method, target, headers }: Head, bytesMax: number) => {
  if (method !== "POST" || target !== path || headers["content-encoding"] !== undefined) return undefined
  const { "content-length": length, "content-type": contentType = "application/json" } = headers
  const type = typeof contentType === "string" ? types[contentType] : undefined
  const bytes = typeof length === "string" && /^\d{1,6}$/.test(length) ? Number(length) : Number.NaN
  return type !== undefined && bytes <= bytesMax ? { type, bytes } : undefined
}

const textOf = (header: Head["headers"][string]): string | undefined =>
  typeof header === "string" ? header : undefined

interface Waiting {
  readonly until: bigint
  readonly giveUp: () => void
}

const make = Effect.gen(function* () {
  const settings = yield* Settings
  const intake = yield* Intake
  const refusals = yield* Refusals
  const metrics = yield* Metrics
  const clock = yield* Effect.clock
  const fork = yield* FiberSet.makeRuntime<never>()
  const bytesMax = Math.min(smallBodyBytes, settings.requestBytesMax)
  const patienceNanos = Option.getOrThrow(Duration.toNanos(patience(settings)))

  // Publishers that wait for their commit, the one with the least time left first: all have the same patience.
  const waiting = new Line<Waiting>()
  let isWatched = false
  const watch = Effect.gen(function* () {
    for (let next = waiting.first; next !== undefined; next = waiting.first) {
      const left = next.value.until - clock.unsafeCurrentTimeNanos()
      if (left > 0n) yield* Effect.sleep(Duration.nanos(left))
      if (waiting.leave(next)) next.value.giveUp()
    }
    isWatched = false
  })

  const leaving = (answer: PlainAnswer): PlainAnswer => {
    metrics.answered(path, answer.status)
    return intake.isClosed() ? { ...answer, headers: { ...answer.headers, connection: "close" } } : answer
  }

  const refused = ({ problem }: CallError, answer = problemAnswer(problem, path)): PlainAnswer => {
    const line = problem.status === 503 ? refusals.note(problem) : undefined
    if (line !== undefined) fork(line)
    return leaving(answer)
  }

  // Said most often when there is the least time for it.
  const full = new Overloaded({ bound: "events" })
  const fullAnswer = problemAnswer(full.problem, path)

  const failed = (error: unknown): PlainAnswer => {
    const about = Effect.annotateLogs({ method: "POST", path })
    fork(Effect.logError("a call failed on a bug", Cause.die(error)).pipe(about))
    return leaving(problemAnswer(bug, path))
  }

  const answerOf = (outcomes: Outcomes, prefer: string | undefined): PlainAnswer => {
    if (Exit.isSuccess(outcomes)) return leaving(publishAnswer(outcomes.value, prefer))
    const error = Cause.failureOption(outcomes.cause)
    return Option.isSome(error) ? refused(error.value) : failed(Cause.squash(outcomes.cause))
  }

  return (head: Head): DirectCall | PlainAnswer | undefined => {
    const body = bodyOf(head, bytesMax)
    if (body === undefined) return undefined
    if (intake.isClosed()) return refused(new Draining())
    noteAttempt(metrics, textOf(head.headers[attemptHeader]))
    if (intake.isFull()) return refused(full, fullAnswer)
    const held = intake.hold(body.bytes)
    if (Either.isLeft(held)) return refused(held.left)
    const hold = held.right
    let place: Place<Waiting> | undefined
    let isReleased = false
    const release = () => {
      if (!isReleased) hold.release()
      isReleased = true
    }
    const take = (receivedAt: bigint, bytes: Uint8Array, answer: (answer: PlainAnswer) => void) => {
      if (intake.isClosed()) return answer(refused(new Draining()))
      if (intake.isFull()) return answer(refused(full, fullAnswer))
      const events = decodeBody(bytes, body.type, settings)
      if (Either.isLeft(events)) return answer(refused(events.left))
      const own = waiting.join({
        until: receivedAt + patienceNanos,
        giveUp: () => answer(refused(new WaitedTooLong({ seconds: settings.publishSecondsMax })))
      })
      const offered = hold.offer(events.right, receivedAt, (outcomes) => {
        if (waiting.leave(own)) answer(answerOf(outcomes, textOf(head.headers["prefer"])))
      })
      if (Either.isLeft(offered)) {
        waiting.leave(own)
        return answer(refused(offered.left))
      }
      place = own
      if (isWatched) return
      isWatched = true
      fork(watch)
    }
    return {
      arrived: () => {
        const receivedAt = clock.unsafeCurrentTimeNanos()
        return (bytes, answer) => {
          if (isReleased) return
          try {
            take(receivedAt, bytes, answer)
          } catch (error) {
            answer(failed(error))
          }
          release()
        }
      },
      left: () => {
        release()
        if (place !== undefined) waiting.leave(place)
      }
    }
  }
})

/** Gives the edge the short way, for the life of the scope. */
export const install = Effect.gen(function* () {
  const edge = yield* ShortWay
  yield* edge.install(yield* make)
})
