/**
 * `sekali tail`: prints events as they are committed. It follows by offset over restarts of the service, so that no line is
 * lost or printed twice; what it has to say about that goes to the standard error. A reader of the output that is slow
 * slows the follower down, and with it nothing else.
 */
import { HttpClient, HttpClientRequest } from "@effect/platform"
import { Clock, Effect, Option, Schema, Stream } from "effect"
import { call } from "../client/Call.ts"
import { type FollowedEvent, type FollowRetry, events as follow } from "../client/Follower.ts"
import { membersAt } from "../domain/Json.ts"
import { compareInstants, parseTimestamp } from "../domain/Timestamp.ts"
import { EventAnswer, StatsAnswer } from "../http/Api.ts"
import { UsageError } from "./CommandLine.ts"
import { exitCodes, Failure } from "./Conventions.ts"
import { checkAddress, fetchAnswer, networkLayer } from "./Service.ts"
import { askedToStop } from "./Signals.ts"
import type { Since } from "./Since.ts"

/** The options and the argument of the command. */
export interface TailOptions {
  readonly url: string
  readonly pattern: string | undefined
  readonly source: string | undefined
  readonly after: number | undefined
  readonly since: Since | undefined
  readonly format: "pretty" | "ndjson" | "auto"
  readonly limit: number | undefined
}

const say = (sentence: string): void => void process.stderr.write(`sekali: ${sentence}\n`)

/** Prints events, and gives the exit code. */
export const tail = (options: TailOptions): Effect.Effect<number, UsageError | Failure> => {
  const { url, pattern, source, since, limit } = options
  const print =
    options.format === "ndjson" || (options.format === "auto" && !process.stdout.isTTY) ? ndjson : pretty
  const output = makeOutput()
  let next: number | undefined
  let troubled = false

  const onRetry = ({ trouble, waitMillis }: FollowRetry) =>
    Effect.sync(() => {
      if (!troubled) say(`${url}: ${trouble.detail}; going on when it answers`)
      // A stream that ends is opened again at once, which is worth no line unless that fails.
      troubled = true
      return waitMillis
    })

  const printing = Effect.gen(function* () {
    if (options.after !== undefined && since !== undefined) {
      return yield* new UsageError({
        sentence: "--after and --since are both a beginning: give one of them."
      })
    }
    const reason = yield* checkAddress(url)
    if (Option.isSome(reason)) {
      if (since !== undefined) {
        return yield* new Failure({ sentence: `${url} does not answer (${reason.value}): try again later.` })
      }
      say(`${url} does not answer yet (${reason.value}); going on when it does`)
      troubled = true
    }
    next = since === undefined ? options.after : yield* offsetBefore(url, since)
    const events = follow({ url, topic: pattern, source, after: next, onRetry, backoffMillisMax: 5000 })
    yield* events.pipe(
      limit === undefined ? (all) => all : Stream.take(limit),
      Stream.runForEach((event) =>
        Effect.gen(function* () {
          if (troubled) say(`${url} answers again`)
          troubled = false
          next = event.offset
          yield* output.write(`${print(event)}\n`)
        })
      ),
      Effect.catchTags({
        InvalidOptions: ({ faults }) => new UsageError({ sentence: faults.join("; ") }),
        FollowRefused: ({ detail }) => new Failure({ sentence: `${url} answers: ${detail}` })
      })
    )
    return exitCodes.done
  })
  const stopped = Effect.map(askedToStop, (signal) => {
    if (next !== undefined) say(`stopped; to go on from here: --after ${next}`)
    return limit === undefined ? exitCodes.done : exitCodes[signal]
  })
  return Effect.raceFirst(printing, Effect.raceFirst(stopped, output.closed)).pipe(
    Effect.provide(networkLayer)
  )
}

/** The standard output, which takes no more than its reader reads; its end is a good end. */
const makeOutput = () => {
  const { stdout } = process
  return {
    write: (text: string) =>
      Effect.async<void>((resume) => {
        if (stdout.write(text)) return resume(Effect.void)
        stdout.once("drain", () => resume(Effect.void))
      }),
    closed: Effect.async<number>((resume) => {
      const end = () => resume(Effect.succeed(exitCodes.done))
      stdout.once("close", end)
      stdout.once("error", end)
    })
  }
}

// ---------- beginning at a time ----------

const FirstEvent = Schema.Struct({ events: Schema.Array(EventAnswer.pick("offset", "processed_at")) })

/** The offset of the last event that was stored before a time; times never fall as offsets grow, so it is searched for. */
const offsetBefore = (url: string, since: Since) =>
  Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const at = "at" in since ? since.at : { milliseconds: now - since.millisAgo, nanoseconds: 0 }
    const { answer } = yield* fetchAnswer(url, "/stats", StatsAnswer)
    let before = 0
    let last = answer.last_offset
    while (before < last) {
      const middle = Math.floor((before + last) / 2)
      const event = yield* firstAfter(url, middle)
      const isBefore = Option.exists(event, ({ processed_at }) =>
        Option.exists(parseTimestamp(processed_at), (time) => compareInstants(time, at) < 0)
      )
      if (Option.isSome(event) && isBefore) before = event.value.offset
      else last = middle
    }
    return before
  })

type First = Option.Option<{ readonly offset: number; readonly processed_at: string }>

const firstAfter = (url: string, offset: number): Effect.Effect<First, Failure, HttpClient.HttpClient> =>
  Effect.gen(function* () {
    const path = `/events?after=${offset}&limit=1`
    const client = yield* HttpClient.HttpClient
    const called = yield* call(client, HttpClientRequest.get(`${url}${path}`), 10)
    // Where offsets were lost with a store that was restored, what is left of before ends at the last of them.
    const lost = called._tag === "Response" && called.status === 410 ? decodeLost(called.body) : Option.none()
    if (Option.isSome(lost)) return yield* firstAfter(url, lost.value.last_offset)
    // Whatever else is wrong is told in the common way.
    const { answer } = yield* fetchAnswer(url, path, FirstEvent)
    return Option.fromNullable(answer.events[0])
  })

const decodeLost = Schema.decodeOption(
  Schema.parseJson(Schema.Struct({ last_offset: Schema.NonNegativeInt }))
)

// ---------- formats ----------

const ndjson = ({ json }: FollowedEvent): string => json

/** Nothing that is printed may move the cursor of a terminal. */
const visible = (text: string): string =>
  text.replace(/\p{Cc}|\p{Cf}|\p{Zl}|\p{Zp}/gu, (character) =>
    [...character].map((part) => `\\u${(part.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`).join("")
  )

const pretty = ({ offset, timestamp, topic, source, event_id, payload, json }: FollowedEvent): string => {
  const value = membersAt(json, 0).findLast(({ name }) => name === "payload")?.value
  const text = value === undefined ? "" : json.slice(value.start, value.end)
  const isLine =
    typeof payload === "object" && payload !== null && Object.keys(payload).length === 1 && "line" in payload
  const shown = isLine && typeof payload.line === "string" ? payload.line : text
  return [offset, timestamp, topic, visible(source), visible(event_id), visible(shown)].join("  ")
}
