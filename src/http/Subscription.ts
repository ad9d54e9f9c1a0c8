/**
 * `GET /events/stream`: events as they are committed, as Server-Sent Events. A subscriber is a cursor: at the end of the
 * store it waits at the Feed, and where it is behind, it reads the store in bounded steps. A step is taken when the one
 * before has left, so that a slow subscriber holds one step and no more; one that never reads is cut off by the server.
 *
 * Each event has its offset as the `id`. An `id` without an event stands at the beginning and with each heartbeat: it
 * moves the cursor of who reconnects past all that did not match.
 */
import { HttpServerResponse } from "@effect/platform"
import { Chunk, Clock, Effect, Option, Stream } from "effect"
import { ReadingLimits, Settings } from "../Config.ts"
import type { StoredEvent } from "../domain/Event.ts"
import { Feed } from "../pipeline/Feed.ts"
import { EventStore, type Filter } from "../store/EventStore.ts"
import { Metrics, type Subscriber } from "../telemetry/Metrics.ts"
import { type SubscriptionParameters, streamContentType } from "./Api.ts"
import { eventJson } from "./Events.ts"
import { problemMembers } from "./Problems.ts"
import { ReadingRoom } from "./ReadingRoom.ts"

/** How long a subscriber whose stream ended waits before it comes again, as it is told. */
const retryMillis = 1000

/** How long a subscriber waits for room in the reading room before it looks again. */
const roomPause = "100 millis"

const encoder = new TextEncoder()

const frameOf = (event: StoredEvent): Uint8Array =>
  encoder.encode(`id: ${event.offset}\ndata: ${eventJson(event)}\n\n`)

/** Frames of events that many subscribers are sent; they go with their events. */
const sharedFrames = new WeakMap<StoredEvent, Uint8Array>()

const sharedFrameOf = (event: StoredEvent): Uint8Array => {
  const known = sharedFrames.get(event)
  if (known !== undefined) return known
  const frame = frameOf(event)
  sharedFrames.set(event, frame)
  return frame
}

const joined = (frames: ReadonlyArray<Uint8Array>): Uint8Array => {
  const [first] = frames
  if (first !== undefined && frames.length === 1) return first
  const all = new Uint8Array(frames.reduce((sum, frame) => sum + frame.length, 0))
  let at = 0
  for (const frame of frames) {
    all.set(frame, at)
    at += frame.length
  }
  return all
}

const heartbeat = (cursor: number): Uint8Array => encoder.encode(`: heartbeat\nid: ${cursor}\n\n`)

// Among the subscribers that the metrics tell of, for the life of the scope.
const listed = (subscriber: Subscriber) =>
  Effect.flatMap(Metrics, ({ subscribers }) =>
    Effect.acquireRelease(
      Effect.sync(() => subscribers.add(subscriber)),
      () => Effect.sync(() => subscribers.delete(subscriber))
    )
  )

/**
 * Events behind a cursor, or from now on where none is given, for as long as the subscriber stays. A cursor that cannot
 * be followed is refused before the answer begins.
 */
export const subscription = Effect.fnUntraced(function* (
  parameters: typeof SubscriptionParameters.Type,
  lastEventId: number | undefined
) {
  const store = yield* EventStore
  const room = yield* ReadingRoom
  const feed = yield* Feed
  const limits = yield* ReadingLimits
  const { heartbeatSeconds } = yield* Settings
  const filter: Filter = { topic: parameters.topic?.value, source: parameters.source }
  const given = lastEventId ?? parameters.after
  // Where one is given, this finds out whether it can be followed.
  const order = given === undefined ? "desc" : "asc"
  const { scannedTo } = yield* store.scan({ filter: {}, order, after: given, eventsMax: 1 })
  const start = given ?? scannedTo
  const { next } = yield* feed.subscribe(filter)
  const lease = yield* room.lease
  const heartbeatNanos = BigInt(Math.round(heartbeatSeconds * 1e9))
  const windowBytesMax = Math.min(limits.windowBytesMax, limits.streamBytesMax)
  let sentAt = yield* Clock.currentTimeNanos
  let deliveredTo = start
  // Who waits at the feed has been told of everything there is.
  let isWaiting = false
  yield* listed({ deliveredTo: () => (isWaiting ? Number.POSITIVE_INFINITY : deliveredTo) })

  const read = (after: number) =>
    room.build(
      store
        .scan({ filter, order: "asc", after, eventsMax: limits.windowRowsMax })
        .pipe(Effect.provideService(ReadingLimits, { ...limits, windowBytesMax }))
    )

  /** What is to be sent after the cursor, if anything is, and the cursor behind it; nothing at the end of the stream. */
  const step = Effect.fnUntraced(function* (cursor: number) {
    lease(0)
    deliveredTo = cursor
    isWaiting = true
    const found = yield* next(cursor)
    isWaiting = false
    switch (found._tag) {
      case "Closed":
        return undefined
      case "Idle":
        return { bytes: heartbeat(found.to), to: found.to }
      case "Events":
        return { bytes: joined(found.events.map(sharedFrameOf)), to: found.to }
      case "Behind": {
        yield* Effect.yieldNow()
        const { events, scannedTo: to } = yield* read(cursor)
        if (events.length > 0) return { bytes: joined(events.map(frameOf)), to }
        const silent = (yield* Clock.currentTimeNanos) - sentAt
        return { bytes: silent < heartbeatNanos ? undefined : heartbeat(to), to }
      }
    }
  })

  const chunkAfter = Effect.fnUntraced(function* (cursor: number) {
    const found = yield* step(cursor)
    if (found === undefined) return Option.none()
    const { bytes, to } = found
    if (bytes === undefined) return Option.some([Chunk.empty<Uint8Array>(), to] as const)
    while (!lease(bytes.length)) yield* Effect.sleep(roomPause)
    sentAt = yield* Clock.currentTimeNanos
    return Option.some([Chunk.of(bytes), to] as const)
  })

  const frames = Stream.make(encoder.encode(`retry: ${retryMillis}\nid: ${start}\n\n`)).pipe(
    Stream.concat(Stream.unfoldChunkEffect(start, chunkAfter)),
    Stream.catchAll(({ problem }) => {
      const data = JSON.stringify(problemMembers(problem, "/events/stream"))
      return Stream.make(encoder.encode(`event: problem\ndata: ${data}\n\n`))
    })
  )
  return HttpServerResponse.stream(frames, {
    contentType: streamContentType,
    // No cache may keep it, and no proxy gather it.
    headers: { "cache-control": "no-store", "x-accel-buffering": "no" }
  })
})
