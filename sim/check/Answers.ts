/**
 * Answers as the contract shapes them, read from their bodies. An answer of another shape is `Misshapen`.
 */
import { type Json, type JsonObject, NotJson, readJson } from "./Json.ts"
import { brief } from "./Report.ts"

/** An answer that is not what the contract says it is. */
export class Misshapen extends Error {
  override readonly name = "Misshapen"
}

/** What became of one event of a submission. */
export interface Result {
  readonly outcome: "stored" | "duplicate" | "conflict"
  readonly offset: number
}

export interface PublishAnswer {
  readonly accepted: number
  readonly stored: number
  readonly duplicates: number
  readonly conflicts: number
  /** Nothing where the answer leaves them out. */
  readonly results: ReadonlyArray<Result> | undefined
}

/** An event as a reader saw it. The payload is canonical JSON. */
export interface SeenEvent {
  readonly offset: number
  readonly topic: string
  readonly eventId: string
  readonly timestamp: string
  readonly source: string
  readonly payload: string
  readonly sequence: number | null
  readonly origin: string | null
  /** In milliseconds since 1970. */
  readonly processedAt: number
}

export interface PageAnswer {
  readonly count: number
  readonly events: ReadonlyArray<SeenEvent>
  readonly next: number
  readonly more: boolean
}

export interface KnownAnswer {
  readonly event: SeenEvent
  readonly duplicates: number
  readonly conflicts: number
  readonly lastDuplicateAt: number | null
}

export interface StatsAnswer {
  readonly received: number
  readonly uniqueProcessed: number
  readonly duplicateDropped: number
  readonly conflicts: number
  readonly topics: ReadonlyArray<string>
  readonly topicsTotal: number
  readonly lastOffset: number
  readonly duplicateRate: number
  readonly queue: QueueLevel
}

/** How full the queue is, and its bounds. */
export interface QueueLevel {
  readonly events: number
  readonly eventsMax: number
  readonly bytes: number
  readonly bytesMax: number
}

/** What /metrics says of events, and of the queue. */
export interface MetricsAnswer {
  readonly queue: QueueLevel
  readonly events: ReadonlyArray<{
    readonly topic: string
    readonly outcome: "stored" | "duplicate" | "conflict"
    readonly count: number
  }>
}

export interface TopicBook {
  readonly topic: string
  readonly events: number
  readonly duplicates: number
  readonly conflicts: number
  readonly firstOffset: number
  readonly lastOffset: number
  readonly lastEventTime: string
}

export interface ConflictedKey {
  readonly topic: string
  readonly eventId: string
  readonly offset: number
  readonly conflicts: number
  readonly lastConflictAt: number
  readonly lastConflictSource: string
}

/** A page of a listing. */
export interface Listing<A, Cursor> {
  readonly count: number
  readonly items: ReadonlyArray<A>
  readonly next: Cursor
  readonly more: boolean
}

export const readPublish = (body: string): PublishAnswer => {
  const answer = objectOf(body)
  if (answer.get("status") !== "accepted") throw new Misshapen(`its status is not "accepted"`)
  return {
    accepted: number(answer, "accepted"),
    stored: number(answer, "stored"),
    duplicates: number(answer, "duplicates"),
    conflicts: number(answer, "conflicts"),
    results: answer.has("results") ? list(answer, "results").map(readResult) : undefined
  }
}

const readResult = (result: JsonObject): Result => {
  const outcome = text(result, "outcome")
  if (outcome !== "stored" && outcome !== "duplicate" && outcome !== "conflict") {
    throw new Misshapen(`there is no outcome "${outcome}"`)
  }
  return { outcome, offset: number(result, "offset") }
}

export const readPage = (body: string): PageAnswer => {
  const answer = objectOf(body)
  return {
    count: number(answer, "count"),
    events: list(answer, "events").map(readEvent),
    next: number(answer, "next"),
    more: flag(answer, "more")
  }
}

/** A stream of lines as the page that it amounts to. */
export const readStream = (
  body: string,
  after: number | undefined,
  limit: number | undefined
): PageAnswer => {
  const lines = body
    .split("\n")
    .filter((line) => line !== "")
    .map(objectOf)
  const broken = lines.at(-1)?.has("problem") ?? false
  const events = (broken ? lines.slice(0, -1) : lines).map(readEvent)
  return {
    count: events.length,
    events,
    next: events.at(-1)?.offset ?? after ?? 0,
    more: broken || events.length === limit
  }
}

const readEvent = (event: JsonObject): SeenEvent => ({
  offset: number(event, "offset"),
  topic: text(event, "topic"),
  eventId: text(event, "event_id"),
  timestamp: text(event, "timestamp"),
  source: text(event, "source"),
  payload: text(event, "payload"),
  sequence: event.has("sequence") ? number(event, "sequence") : null,
  origin: event.has("origin") ? text(event, "origin") : null,
  processedAt: instant(event, "processed_at")
})

/** An event of a stream that was subscribed to. */
export const readFollowed = (json: string): SeenEvent => readEvent(objectOf(json))

export const readKnown = (body: string): KnownAnswer => {
  const answer = objectOf(body)
  return {
    event: readEvent(answer),
    duplicates: number(answer, "duplicates"),
    conflicts: number(answer, "conflicts"),
    lastDuplicateAt: answer.get("last_duplicate_at") === null ? null : instant(answer, "last_duplicate_at")
  }
}

export const readStats = (body: string): StatsAnswer => {
  const answer = objectOf(body)
  const queue = answer.get("queue")
  const topics = answer.get("topics")
  if (!isObject(queue)) throw new Misshapen("it has no queue")
  if (!isList(topics) || !topics.every((topic) => typeof topic === "string")) {
    throw new Misshapen("its topics are not texts")
  }
  return {
    received: number(answer, "received"),
    uniqueProcessed: number(answer, "unique_processed"),
    duplicateDropped: number(answer, "duplicate_dropped"),
    conflicts: number(answer, "conflicts"),
    topics,
    topicsTotal: number(answer, "topics_total"),
    lastOffset: number(answer, "last_offset"),
    duplicateRate: number(answer, "duplicate_rate"),
    queue: {
      events: number(queue, "events"),
      eventsMax: number(queue, "events_max"),
      bytes: number(queue, "bytes"),
      bytesMax: number(queue, "bytes_max")
    }
  }
}

/**
 * Reads Prometheus' text: of the metrics only those of the queue and the one that counts events. Where the store could
 * not be read that one may be left out, and the store's errors have to tell of that.
 */
export const readMetrics = (body: string): MetricsAnswer => {
  const sample =
    /^sekali_events_received_total\{topic="([a-z0-9_.()-]+)",outcome="(stored|duplicate|conflict)"\} (\d+)$/
  const lines = body.split("\n").filter((line) => line.startsWith("sekali_events_received_total{"))
  if (lines.length === 0 && !/^sekali_store_errors_total\{[^}]*\} [1-9]/m.test(body)) {
    throw new Misshapen("it counts no events, and knows of no trouble with the store")
  }
  const events = lines.map((line) => {
    const [, topic, outcome, count] = sample.exec(line) ?? []
    if (topic === undefined) throw new Misshapen(`it counts events by ${brief(line)}`)
    return { topic, outcome: outcome as "stored" | "duplicate" | "conflict", count: Number(count) }
  })
  const gauge = (name: string): number => {
    const [, value] = new RegExp(`^${name} (-?\\d+)$`, "m").exec(body) ?? []
    if (value === undefined) throw new Misshapen(`it has no ${name}`)
    return Number(value)
  }
  return {
    events,
    queue: {
      events: gauge("sekali_queue_events"),
      eventsMax: gauge("sekali_queue_events_limit"),
      bytes: gauge("sekali_queue_bytes"),
      bytesMax: gauge("sekali_queue_bytes_limit")
    }
  }
}

export const readTopics = (body: string): Listing<TopicBook, string> => {
  const answer = objectOf(body)
  const items = list(answer, "topics").map((book) => ({
    topic: text(book, "topic"),
    events: number(book, "events"),
    duplicates: number(book, "duplicates"),
    conflicts: number(book, "conflicts"),
    firstOffset: number(book, "first_offset"),
    lastOffset: number(book, "last_offset"),
    lastEventTime: text(book, "last_event_time")
  }))
  return { count: number(answer, "count"), items, next: text(answer, "next"), more: flag(answer, "more") }
}

export const readConflicts = (body: string): Listing<ConflictedKey, number> => {
  const answer = objectOf(body)
  const items = list(answer, "conflicts").map((key) => ({
    topic: text(key, "topic"),
    eventId: text(key, "event_id"),
    offset: number(key, "offset"),
    conflicts: number(key, "conflicts"),
    lastConflictAt: instant(key, "last_conflict_at"),
    lastConflictSource: text(key, "last_conflict_source")
  }))
  return { count: number(answer, "count"), items, next: number(answer, "next"), more: flag(answer, "more") }
}

/** The last part of a problem's type, or nothing if the body is not a problem. */
export const problemType = (body: string): string | undefined => {
  try {
    const type = objectOf(body).get("type")
    return typeof type === "string" ? type.slice(type.lastIndexOf(":") + 1) : undefined
  } catch {
    return undefined
  }
}

// ---------- values ----------

const isObject = (value: Json | undefined): value is JsonObject => value instanceof Map

const isList = (value: Json | undefined): value is ReadonlyArray<Json> => Array.isArray(value)

const objectOf = (body: string): JsonObject => {
  try {
    const value = readJson(body)
    if (isObject(value)) return value
  } catch (error) {
    if (!(error instanceof NotJson)) throw error
  }
  throw new Misshapen(`it is not a JSON object: ${brief(body)}`)
}

const number = (object: JsonObject, name: string): number => {
  const value = object.get(name)
  if (typeof value !== "number") throw new Misshapen(`its ${name} is not a number`)
  return value
}

const text = (object: JsonObject, name: string): string => {
  const value = object.get(name)
  if (typeof value !== "string") throw new Misshapen(`its ${name} is not a text`)
  return value
}

const flag = (object: JsonObject, name: string): boolean => {
  const value = object.get(name)
  if (typeof value !== "boolean") throw new Misshapen(`its ${name} is not true or false`)
  return value
}

const instant = (object: JsonObject, name: string): number => {
  const value = Date.parse(text(object, name))
  if (Number.isNaN(value)) throw new Misshapen(`its ${name} is not an instant`)
  return value
}

const list = (object: JsonObject, name: string): ReadonlyArray<JsonObject> => {
  const value = object.get(name)
  if (!isList(value) || !value.every(isObject)) throw new Misshapen(`its ${name} are not objects`)
  return value
}
