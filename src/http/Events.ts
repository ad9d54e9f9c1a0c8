/**
 * `GET /events`: pages and streams of events by offset, or of one source's by sequence. A page is put together from bounded steps through the store,
 * between which others get their turn; it ends when it is full, when it has looked at enough, or at the store's end.
 * The payload of an event is JSON text already and goes into the answer as it is.
 */
import { HttpServerResponse } from "@effect/platform"
import { Effect, Option, Stream } from "effect"
import { ReadingLimits, Settings } from "../Config.ts"
import { type CursorError, InvalidInput, type StoreError } from "../domain/Errors.ts"
import type { StoredEvent } from "../domain/Event.ts"
import { compareInstants, isoTime } from "../domain/Timestamp.ts"
import { EventStore, type Filter, type Scan, type Window } from "../store/EventStore.ts"
import { type EventsParameters, limitDefault } from "./Api.ts"
import { problemMembers } from "./Problems.ts"
import { ReadingRoom } from "./ReadingRoom.ts"

type Parameters = typeof EventsParameters.Type

/** An event as JSON text, with further members behind its own. */
export const eventJson = (event: StoredEvent, further: Readonly<Record<string, unknown>> = {}): string => {
  const { offset, topic, eventId, timestamp, source, payload, sequence, origin, processedAt, late } = event
  const before = JSON.stringify({ offset, topic, event_id: eventId, timestamp, source })
  const after = JSON.stringify({
    ...(sequence === null ? {} : { sequence }),
    ...(origin === null ? {} : { origin }),
    processed_at: isoTime(processedAt),
    ...(late ? { late } : {}),
    ...further
  })
  return `${before.slice(0, -1)},"payload":${payload},${after.slice(1)}`
}

const filterOf = ({ topic, event_id, source, since, until }: Parameters): Filter => ({
  topic: topic?.value,
  eventId: event_id,
  source,
  since: since?.value,
  until: until?.value
})

const scanOf = (parameters: Parameters): Effect.Effect<Omit<Scan, "eventsMax">, InvalidInput> => {
  const { topic, source, since, until, order, after } = parameters
  if (order === "sequence") {
    const errors = [
      ...(topic?.value._tag === "Exact"
        ? []
        : [{ pointer: "topic", detail: "must name one topic for this order" }]),
      ...(source === undefined ? [{ pointer: "source", detail: "must be given for this order" }] : [])
    ]
    if (errors.length > 0) return new InvalidInput({ errors })
  }
  if (since !== undefined && until !== undefined && compareInstants(since.value, until.value) > 0) {
    return new InvalidInput({ errors: [{ pointer: "until", detail: "must not be before since" }] })
  }
  return Effect.succeed({ filter: filterOf(parameters), order: order ?? "asc", after })
}

/** One page; its bytes count as under way until they are sent. */
export const eventsPage = Effect.fnUntraced(function* (parameters: Parameters) {
  const room = yield* ReadingRoom
  const body = yield* room.build(pageBody(parameters))
  yield* room.hold(body.length)
  return HttpServerResponse.uint8Array(body, { contentType: "application/json" })
})

const pageBody = Effect.fnUntraced(function* (parameters: Parameters) {
  const store = yield* EventStore
  const scan = yield* scanOf(parameters)
  const { pageStepsMax, pageBytesMax } = yield* ReadingLimits
  const limit = parameters.limit ?? limitDefault
  const events: Array<StoredEvent> = []
  let bytes = 0
  let after = scan.after
  let end = false
  for (let step = 0; step < pageStepsMax && events.length < limit && !end && bytes < pageBytesMax; step++) {
    if (step > 0) yield* Effect.yieldNow()
    const window = yield* store.scan({ ...scan, after, eventsMax: limit - events.length })
    end = window.end
    after = window.scannedTo
    for (const event of window.events) {
      if (events.length > 0 && bytes + event.payload.length > pageBytesMax) {
        // What does not fit opens the next page.
        end = false
        after = events.at(-1)?.offset ?? after
        bytes = pageBytesMax
        break
      }
      bytes += event.payload.length
      events.push(event)
    }
  }
  const { topic } = parameters
  const head = JSON.stringify({ topic: topic?.text ?? null, count: events.length })
  const tail = JSON.stringify({ next: after ?? 0, more: !end })
  const list = events.map((event) => eventJson(event)).join(",")
  return new TextEncoder().encode(`${head.slice(0, -1)},"events":[${list}],${tail.slice(1)}`)
})

/** What is still to be read of a stream, and how many events it may have. */
interface Step {
  readonly found: Effect.Effect<Window, StoreError | CursorError>
  readonly left: number
}

/** All that matches and is stored now, one event a line; what it holds at a time counts as under way to its end. */
export const eventsStream = Effect.fnUntraced(function* (parameters: Parameters) {
  const store = yield* EventStore
  const room = yield* ReadingRoom
  const limits = yield* ReadingLimits
  const { eventBytesMax } = yield* Settings
  const windowBytesMax = Math.min(limits.windowBytesMax, limits.streamBytesMax)
  // A step's events, as they are and as the text that is made of them.
  yield* room.hold(2 * Math.max(windowBytesMax, eventBytesMax))
  const step = (scan: Scan) =>
    room.build(Effect.provideService(store.scan(scan), ReadingLimits, { ...limits, windowBytesMax }))
  const scan = yield* scanOf(parameters)
  const { lastOffset } = yield* store.books
  // The first step is taken before the answer begins, so that a cursor ahead of the store is still an error.
  const eventsMax = Math.min(parameters.limit ?? Number.MAX_SAFE_INTEGER, 1000)
  const first = yield* step({ ...scan, eventsMax })
  const encoder = new TextEncoder()
  const line = (text: string) => encoder.encode(`${text}\n`)
  // What a step has found leaves before the next one is taken: that one may fail, and what leaves is progress.
  const begun: Step = { found: Effect.succeed(first), left: parameters.limit ?? Number.POSITIVE_INFINITY }
  const lines = Stream.paginateEffect(begun, ({ found, left }) =>
    Effect.map(found, (window) => {
      const events = window.events.filter(({ offset }) => offset <= lastOffset).slice(0, left)
      const body = events.map((event) => `${eventJson(event)}\n`).join("")
      const rest = left - events.length
      const done = window.end || rest === 0 || (scan.order === "asc" && window.scannedTo >= lastOffset)
      if (done) return [encoder.encode(body), Option.none<Step>()] as const
      const further = step({ ...scan, after: window.scannedTo, eventsMax: Math.min(rest, 1000) })
      const next: Step = { found: Effect.zipRight(Effect.yieldNow(), further), left: rest }
      return [encoder.encode(body), Option.some(next)] as const
    })
  ).pipe(
    Stream.catchAll(({ problem }) =>
      Stream.make(line(JSON.stringify({ problem: problemMembers(problem, "/events") })))
    ),
    Stream.filter((bytes) => bytes.length > 0)
  )
  return HttpServerResponse.stream(lines, { contentType: "application/x-ndjson" })
})
