/**
 * The subscriber's side: follows a topic or a pattern over whatever befalls the connection or the service. It knows its
 * cursor, the last offset that it has seen, and comes again with it: so every event that matches comes once and in the
 * order of the offsets (G5), also across restarts of the service. Whoever keeps the offset of the last event that it is
 * done with, and gives it as `after`, follows on across its own restarts.
 *
 * It needs an `HttpClient`, and the Clock and Random that every Effect has.
 */
import { HttpClient, HttpClientRequest } from "@effect/platform"
import { Chunk, Clock, Deferred, Duration, Effect, Exit, Option, Schema, Scope, Stream } from "effect"
import { parseTopicPattern, topicPatternRule } from "../domain/Topic.ts"
import { EventAnswer, ProblemAnswer, Source, streamContentType } from "../http/Api.ts"
import {
  detailOf,
  foreign,
  passing,
  problemTypeOf,
  type Response,
  type Troubled,
  troubled,
  troubleOf
} from "./Call.ts"
import { jitter } from "./Delivery.ts"
import { FollowRefused, InvalidOptions, type Trouble } from "./Errors.ts"
import { numberChecks, readAddress } from "./Options.ts"
import { type Delivery, makeWindow, type Window } from "./Sequence.ts"
import { type Block, makeParser } from "./ServerSentEvents.ts"
import { within } from "./Waiting.ts"

/** An event that was followed. */
export type FollowedEvent = typeof EventAnswer.Type & {
  /** The event as the service wrote it: JSON on one line, numbers exact to the last digit. */
  readonly json: string
}

/** Told of each interruption, before its wait begins. */
export interface FollowRetry {
  /** How often in a row it did not work. */
  readonly attempts: number
  readonly waitMillis: number
  readonly trouble: Trouble
  /** The offset to go on from; undefined while none is known. */
  readonly cursor: number | undefined
}

/** The options that both faces of the client have. Only `url` is required. */
export interface BaseFollowOptions {
  /** Where the service is, such as `http://127.0.0.1:8080`; a path is kept as a prefix. */
  readonly url: string
  /** A topic or a pattern (`shop.*`, `shop.>`); all topics where it is left out. */
  readonly topic?: string | undefined
  readonly source?: string | undefined
  /** The offset to go on behind: 0 is the beginning; where it is left out, what comes from now on. */
  readonly after?: number | undefined
  /** How long to wait for the beginning of an answer; 10 s. */
  readonly requestSecondsMax?: number | undefined
  /** How long a stream may be silent before it counts as broken; 45 s. The service's heartbeat must be shorter. */
  readonly silentSecondsMax?: number | undefined
  /** The first new attempt waits a random time up to this, each next one up to twice as long; 100 ms. */
  readonly backoffMillisFirst?: number | undefined
  /** What that bound grows to; 10 s. */
  readonly backoffMillisMax?: number | undefined
}

/** The options of a follower. */
export interface FollowOptions extends BaseFollowOptions {
  /** Told of each interruption; following goes on when it is done. */
  readonly onRetry?: ((retry: FollowRetry) => Effect.Effect<void>) | undefined
}

/** The bounds within which events are held back to bring them into sequence. */
export interface SequenceOptions {
  /** Events that are held back, of all sources together; 1,000. */
  readonly heldEventsMax?: number | undefined
  /** How long one is held back; 5 s. */
  readonly heldMillisMax?: number | undefined
}

/** The events that match, once each and in the order of their offsets. It ends only with an error, or by whoever reads it. */
export const events = (
  options: FollowOptions
): Stream.Stream<FollowedEvent, InvalidOptions | FollowRefused, HttpClient.HttpClient> =>
  Stream.unwrapScoped(
    Effect.map(Effect.flatMap(resolve(options), makeReceiver), (receive) =>
      Stream.repeatEffectChunk(Effect.map(receive, Chunk.unsafeFromArray))
    )
  )

/**
 * The events that match, once each; those that have a sequence in the order of it, for each topic and source, as far as
 * the bounds allow. Where a source goes on without a missing number, that is delivered as well.
 */
export const inSequence = (
  options: FollowOptions & SequenceOptions
): Stream.Stream<Delivery, InvalidOptions | FollowRefused, HttpClient.HttpClient> =>
  Stream.unwrapScoped(
    Effect.gen(function* () {
      const faults: Array<string> = []
      const { count, amount } = numberChecks(faults)
      const window = makeWindow({
        heldEventsMax: count("heldEventsMax", options.heldEventsMax, 1000, 0, 10_000_000),
        heldMillisMax: amount("heldMillisMax", options.heldMillisMax, 5000, 0, 86_400_000)
      })
      if (faults.length > 0) return yield* new InvalidOptions({ faults })
      const receive = yield* makeReceiver(yield* resolve(options))
      return Stream.repeatEffectChunk(
        Effect.map(yield* throughWindow(receive, window), Chunk.unsafeFromArray)
      )
    })
  )

interface Resolved {
  readonly streamUrl: string
  readonly wanted: Readonly<Record<string, string>>
  readonly after: number | undefined
  readonly requestSecondsMax: number
  readonly silentSecondsMax: number
  readonly backoffMillisFirst: number
  readonly backoffMillisMax: number
  readonly onRetry: (retry: FollowRetry) => Effect.Effect<void>
}

const resolve = (options: FollowOptions): Effect.Effect<Resolved, InvalidOptions> =>
  Effect.suspend(() => {
    const faults: Array<string> = []
    const { count, amount } = numberChecks(faults)
    const { topic, source, after } = options
    if (topic !== undefined && Option.isNone(parseTopicPattern(topic)))
      faults.push(`topic must be ${topicPatternRule}`)
    if (source !== undefined && !Schema.is(Source)(source)) {
      faults.push("source must be 1 to 255 characters without control characters")
    }
    const longestMillis = 86_400_000
    const resolved: Resolved = {
      streamUrl: `${readAddress("url", options.url, faults)}/events/stream`,
      wanted: { ...(topic === undefined ? {} : { topic }), ...(source === undefined ? {} : { source }) },
      after: after === undefined ? undefined : count("after", after, 0, 0, Number.MAX_SAFE_INTEGER),
      requestSecondsMax: amount("requestSecondsMax", options.requestSecondsMax, 10, 0.001, 86_400),
      silentSecondsMax: amount("silentSecondsMax", options.silentSecondsMax, 45, 0.001, 86_400),
      backoffMillisFirst: amount("backoffMillisFirst", options.backoffMillisFirst, 100, 0, longestMillis),
      backoffMillisMax: amount("backoffMillisMax", options.backoffMillisMax, 10_000, 0, longestMillis),
      onRetry: options.onRetry ?? (() => Effect.void)
    }
    return faults.length > 0 ? new InvalidOptions({ faults }) : Effect.succeed(resolved)
  })

/** Waits for events, of which there is at least one. */
type Receive = Effect.Effect<ReadonlyArray<FollowedEvent>, FollowRefused>

/** A stream that was opened. */
interface Connection {
  readonly _tag: "Connection"
  readonly scope: Scope.CloseableScope
  /** The next bytes; fails where there will be none. */
  readonly pull: Effect.Effect<Chunk.Chunk<Uint8Array>, Option.Option<{ readonly message: string }>>
  readonly parse: (bytes: Uint8Array) => ReadonlyArray<Block> | undefined
  /** Whether more came than the block that every stream begins with: then the connection works. */
  works: boolean
}

const decodeEvent = Schema.decodeUnknownOption(Schema.parseJson(EventAnswer))
const decodeProblem = Schema.decodeUnknownOption(Schema.parseJson(ProblemAnswer))
const decodeSurvivor = Schema.decodeUnknownOption(
  Schema.parseJson(Schema.Struct({ last_offset: Schema.NonNegativeInt }))
)

/** Stands for a block that does not end. */
const endless: Block = { id: undefined, event: "message", data: "" }

/** What a block says: an event, a place, or that something is wrong. */
const readBlock = ({ id, event, data }: Block, cursor: number | undefined) => {
  const at = id === undefined || !/^\d{1,16}$/.test(id) ? undefined : Number(id)
  if (event === "problem") {
    const problem = Option.getOrUndefined(decodeProblem(data ?? ""))
    return troubled("status", problem?.status, problem?.detail ?? "the stream ended with a problem")
  }
  if (data === undefined || event !== "message") return { _tag: "Place", at } as const
  const decoded = Option.getOrUndefined(decodeEvent(data))
  // An event that was seen before, or out of order, is none of this service's.
  if (decoded === undefined || decoded.offset !== at || (cursor !== undefined && at <= cursor)) {
    return troubled("answer", 200, "a stream that is none of this service")
  }
  return { _tag: "Event", event: { ...decoded, json: data } } as const
}

const makeReceiver = (
  options: Resolved
): Effect.Effect<Receive, never, HttpClient.HttpClient | Scope.Scope> =>
  Effect.gen(function* () {
    const client = yield* HttpClient.HttpClient
    const { streamUrl, wanted, requestSecondsMax, silentSecondsMax, onRetry } = options
    let cursor = options.after
    let connection: Connection | undefined
    let attempts = 0

    const disconnect = Effect.suspend(() => {
      const scope = connection?.scope
      connection = undefined
      return scope === undefined ? Effect.void : Scope.close(scope, Exit.void)
    })
    yield* Effect.addFinalizer(() => disconnect)

    const refusal = (response: Response) =>
      new FollowRefused({
        status: response.status,
        type: problemTypeOf(response),
        detail: detailOf(response),
        cursor,
        lastOffset: Option.getOrUndefined(decodeSurvivor(response.body))?.last_offset
      })

    const begin = Effect.gen(function* () {
      const request = HttpClientRequest.get(streamUrl, {
        headers: { accept: streamContentType },
        urlParams: cursor === undefined ? wanted : { ...wanted, after: String(cursor) }
      })
      const scope = yield* Scope.make()
      const answered = yield* client.execute(request)
      if (answered.status === 200 && answered.headers["content-type"]?.startsWith(streamContentType)) {
        const pull = yield* Scope.extend(Stream.toPull(answered.stream), scope)
        return { _tag: "Connection", scope, pull, parse: makeParser(), works: false } satisfies Connection
      }
      const { status, headers } = answered
      const body = yield* answered.text
      const response: Response = {
        _tag: "Response",
        status,
        headers,
        body,
        at: yield* Clock.currentTimeMillis
      }
      if (status < 300) return foreign(response)
      return passing(response) ?? (yield* refusal(response))
    })

    const open: Effect.Effect<Connection | Troubled, FollowRefused> = within(
      Effect.catchAll(begin, (error) =>
        error instanceof FollowRefused ? Effect.fail(error) : Effect.succeed(troubleOf(error))
      ),
      Duration.seconds(requestSecondsMax),
      () => troubled("timeout", undefined, `no answer after ${requestSecondsMax} s`)
    )

    const wait = Effect.fnUntraced(function* (trouble: Trouble) {
      yield* disconnect
      attempts++
      const waitMillis = Math.ceil(trouble.retryAfterMillis + (yield* jitter(options, attempts)))
      yield* onRetry({ attempts, waitMillis, trouble, cursor })
      yield* Effect.sleep(waitMillis)
    })

    /** What the next bytes of the stream say. */
    const read = Effect.fnUntraced(function* (connection: Connection) {
      const { pull, parse } = connection
      const silent = Exit.fail(Option.some({ message: `nothing came for ${silentSecondsMax} s` }))
      const pulled = yield* within(Effect.exit(pull), Duration.seconds(silentSecondsMax), () => silent)
      if (Exit.isFailure(pulled)) {
        const error = pulled.cause._tag === "Fail" ? Option.getOrUndefined(pulled.cause.error) : undefined
        const trouble = error === undefined ? troubled("network", 200, "the stream ended") : troubleOf(error)
        return { received: [], trouble }
      }
      const received: Array<FollowedEvent> = []
      const blocks = Chunk.toReadonlyArray(pulled.value).map(parse)
      for (const block of blocks.flatMap((parsed) => parsed ?? [endless])) {
        const said = readBlock(block, cursor)
        if (said._tag === "Trouble") return { received, trouble: said }
        if (connection.works) attempts = 0
        connection.works = true
        if (said._tag === "Event") received.push(said.event)
        const at = said._tag === "Event" ? said.event.offset : said.at
        if (at !== undefined) cursor = Math.max(cursor ?? 0, at)
      }
      return { received, trouble: undefined }
    })

    return Effect.gen(function* () {
      while (true) {
        if (connection === undefined) {
          const opened = yield* open
          if (opened._tag === "Trouble") {
            yield* wait(opened.trouble)
            continue
          }
          connection = opened
        }
        const { received, trouble } = yield* read(connection)
        if (trouble !== undefined && received.length === 0) yield* wait(trouble.trouble)
        // Trouble behind events is met with again, from behind them.
        if (trouble !== undefined && received.length > 0) yield* disconnect
        if (received.length > 0) return received
      }
    })
  })

/** Receives through a window, whose time passes also while nothing comes. */
const throughWindow = (
  receive: Receive,
  window: Window
): Effect.Effect<Effect.Effect<ReadonlyArray<Delivery>, FollowRefused>, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => {
    type Received = Deferred.Deferred<ReadonlyArray<FollowedEvent>, FollowRefused>
    // Receiving must not be interrupted when the time of something has come.
    let receiving: Received | undefined
    const begin = Effect.gen(function* () {
      const received: Received = yield* Deferred.make<ReadonlyArray<FollowedEvent>, FollowRefused>()
      yield* Effect.forkIn(Effect.intoDeferred(receive, received), scope)
      receiving = received
      return received
    })
    return Effect.gen(function* () {
      while (true) {
        const now = yield* Clock.currentTimeNanos
        const due = window.expire(now)
        if (due.length > 0) return due
        const received = receiving ?? (yield* begin)
        const dueAt = window.dueAt()
        const come = Effect.map(Deferred.await(received), Option.some)
        const events =
          dueAt === undefined ? yield* come : yield* within(come, Duration.nanos(dueAt - now), Option.none)
        if (Option.isNone(events)) continue
        receiving = undefined
        const at = yield* Clock.currentTimeNanos
        const deliveries = events.value.flatMap((event) => window.offer(event, at))
        if (deliveries.length > 0) return deliveries
      }
    })
  })
