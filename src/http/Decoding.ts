/**
 * From a body to events. The contract's schema decides what an event is; what JSON.parse cannot give is added here:
 * the payload as the text that was sent, members that stand twice, and the bytes of each event. Every fault of every
 * event is told, and one fault refuses the whole body.
 */
import { Either, Option, ParseResult, Schema } from "effect"
import type { SettingsShape } from "../Config.ts"
import { type Fault, faultsMax, InvalidInput, MalformedBody, TooLarge } from "../domain/Errors.ts"
import { type Event, type PackedEvents, packed } from "../domain/Event.ts"
import { faultsOf, pointerOf } from "../domain/Faults.ts"
import {
  compactAt,
  type Extent,
  elementsAt,
  extentAt,
  jsonDepthMax,
  membersAt,
  sameJson,
  skipSpace
} from "../domain/Json.ts"
import { parseTimestamp } from "../domain/Timestamp.ts"
import { PublishedEvent, sequenceRule, strict } from "./Api.ts"
import { markPlain } from "./PlainBody.ts"

/** The types of body that are read. */
export type BodyType = "json" | "ndjson"

/** Why a body is refused as a whole. */
export type Refusal = MalformedBody | InvalidInput | TooLarge

type Limits = Pick<SettingsShape, "requestEventsMax" | "eventBytesMax">

/** A value of the body that should be an event: where it lies, what it is, and the path that leads to it. */
interface Candidate {
  readonly text: string
  readonly extent: Extent
  readonly value: unknown
  readonly path: ReadonlyArray<PropertyKey>
}

const utf8 = new TextDecoder("utf-8", { fatal: true })

/** The events of a body, in the order sent, or why there are none. */
export const decodeBody = (
  bytes: Uint8Array,
  type: BodyType,
  limits: Limits
): Either.Either<PackedEvents, Refusal> => {
  if (bytes.length === 0) return Either.left(new MalformedBody({ detail: "The body is empty." }))
  let text: string
  try {
    text = utf8.decode(bytes)
  } catch {
    return Either.left(new MalformedBody({ detail: "The body is not UTF-8." }))
  }
  const plain = markPlain(text, type, limits)
  if (plain === undefined) return Either.map(decodeText(text, type, limits), packed)
  // A single event takes hardly less room as bytes and marks.
  if (plain.length === 1) return Either.right(packed(plain.events(text)))
  return Either.right({ length: plain.length, unpack: () => plain.events(utf8.decode(bytes)) })
}

/** The same of the text of any body. What is plain is read faster by `PlainBody.ts`. */
export const decodeText = (
  text: string,
  type: BodyType,
  limits: Limits
): Either.Either<ReadonlyArray<Event>, Refusal> =>
  Either.gen(function* () {
    const { requestEventsMax } = limits
    const candidates = yield* type === "json"
      ? fromJson(text, requestEventsMax)
      : fromLines(text, requestEventsMax)
    for (const { text, extent, path } of candidates) {
      if (!exceeds(text, extent, limits.eventBytesMax)) continue
      const where = path.length === 0 ? "The event" : `The event at ${pointerOf(path)}`
      return yield* Either.left(
        new TooLarge({ detail: `${where} has more than ${limits.eventBytesMax} bytes.` })
      )
    }
    const faults: Array<Fault> = []
    const events: Array<Event> = []
    for (const candidate of candidates) {
      const decoded = decodeEvent(candidate)
      if (Either.isRight(decoded)) events.push(decoded.right)
      else faults.push(...decoded.left.slice(0, faultsMax - faults.length))
      if (faults.length >= faultsMax) break
    }
    return faults.length > 0 ? yield* Either.left(new InvalidInput({ errors: faults })) : events
  })

const parseJson = (text: string, where: string): Either.Either<unknown, MalformedBody> =>
  Either.try({
    try: () => JSON.parse(text) as unknown,
    catch: (error) => new MalformedBody({ detail: `${where} is not JSON: ${(error as Error).message}` })
  })

const invalid = (pointer: string, detail: string): Either.Either<never, InvalidInput> =>
  Either.left(new InvalidInput({ errors: [{ pointer, detail }] }))

const tooMany = (eventsMax: number): Either.Either<never, TooLarge> =>
  Either.left(new TooLarge({ detail: `More than ${eventsMax} events in one request.` }))

const isArray = (value: unknown): value is ReadonlyArray<unknown> => Array.isArray(value)

// What a body holds is counted before anything is made of it.
const elements = (
  text: string,
  at: number,
  values: ReadonlyArray<unknown>,
  path: ReadonlyArray<PropertyKey>,
  eventsMax: number
): Either.Either<ReadonlyArray<Candidate>, InvalidInput | TooLarge> => {
  if (values.length === 0) return invalid(pointerOf(path), "must hold at least one event")
  if (values.length > eventsMax) return tooMany(eventsMax)
  const extents = elementsAt(text, at)
  return Either.right(
    extents.map(
      (extent, index): Candidate => ({ text, extent, value: values[index], path: [...path, index] })
    )
  )
}

// One event, an array of events, or an envelope; an object is an envelope if it has a member `events`.
const fromJson = (text: string, eventsMax: number): Either.Either<ReadonlyArray<Candidate>, Refusal> =>
  Either.gen(function* () {
    const value = yield* parseJson(text, "The body")
    const start = skipSpace(text, 0)
    if (isArray(value)) return yield* elements(text, start, value, [], eventsMax)
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, "events")) {
      return [{ text, extent: extentAt(text, start), value, path: [] }]
    }
    const members = membersAt(text, start, faultsMax)
    const others = members.filter(({ name }) => name !== "events")
    const batches = members.filter(({ name }) => name === "events")
    const faults = others.map(({ name }) => ({ pointer: pointerOf([name]), detail: "is not known here" }))
    if (batches.length > 1) faults.push({ pointer: "/events", detail: "stands more than once" })
    const batch = batches[0]
    const events = (value as { readonly events: unknown }).events
    if (!isArray(events)) faults.push({ pointer: "/events", detail: "must be an array of events" })
    // An envelope with so many members that its events were not reached has faults enough.
    if (faults.length > 0 || batch === undefined || !isArray(events)) {
      return yield* Either.left(new InvalidInput({ errors: faults }))
    }
    return yield* elements(text, batch.value.start, events, ["events"], eventsMax)
  })

// Lines are counted as they stand in the body, blank ones too, from 0 as in every other pointer.
const fromLines = (body: string, eventsMax: number): Either.Either<ReadonlyArray<Candidate>, Refusal> =>
  Either.gen(function* () {
    const candidates: Array<Candidate> = []
    let from = 0
    for (let index = 0; from < body.length; index++) {
      const found = body.indexOf("\n", from)
      const end = found === -1 ? body.length : found
      const start = skipSpace(body, from, end)
      const line = from
      from = end + 1
      if (start >= end) continue
      if (candidates.length === eventsMax) return yield* tooMany(eventsMax)
      const text = body.slice(line, end)
      const value = yield* parseJson(text, `Line ${index + 1}`)
      candidates.push({ text, extent: extentAt(text, start - line), value, path: [index] })
    }
    return candidates.length === 0 ? yield* invalid("", "must hold at least one event") : candidates
  })

// A character is at most three bytes of UTF-8 for each of its UTF-16 units, so most texts need no counting.
const exceeds = (text: string, { start, end }: Extent, bytesMax: number): boolean =>
  (end - start) * 3 > bytesMax && new TextEncoder().encode(text.slice(start, end)).length > bytesMax

const textAt = (text: string, { start, end }: Extent): string => text.slice(start, end)

const decodePublished = Schema.decodeUnknownEither(PublishedEvent, strict)

const decodeEvent = ({
  text,
  extent,
  value,
  path
}: Candidate): Either.Either<Event, ReadonlyArray<Fault>> => {
  if (typeof value !== "object" || value === null || isArray(value)) {
    return Either.left([{ pointer: pointerOf(path), detail: "must be an event, which is an object" }])
  }
  const members = membersAt(text, extent.start, faultsMax)
  if (members.length === faultsMax) {
    return Either.left(
      members.map(({ name }) => ({ pointer: pointerOf([...path, name]), detail: "is one of too many" }))
    )
  }
  const payload = members.find(({ name }) => name === "payload")?.value
  const payloadText = payload === undefined ? "{}" : compactAt(text, payload)
  const decoded = decodePublished(value)
  const faults: Array<Fault> = []
  if (Either.isLeft(decoded)) {
    const issues = ParseResult.ArrayFormatter.formatErrorSync(decoded.left)
    faults.push(...faultsOf(issues, (inner) => pointerOf([...path, ...inner])))
  }
  const names = new Set<string>()
  for (const { name } of members) {
    if (names.has(name)) faults.push({ pointer: pointerOf([...path, name]), detail: "stands more than once" })
    names.add(name)
  }
  const count = members.find(({ name }) => name === "sequence")?.value
  if (
    count !== undefined &&
    Either.isRight(decoded) &&
    !sameJson(textAt(text, count), String(decoded.right.sequence))
  ) {
    faults.push({ pointer: pointerOf([...path, "sequence"]), detail: `must be ${sequenceRule}` })
  }
  if (payload !== undefined && payload.depth > jsonDepthMax) {
    const detail = `must not be nested more than ${jsonDepthMax} deep`
    faults.push({ pointer: pointerOf([...path, "payload"]), detail })
  }
  if (Either.isLeft(decoded) || faults.length > 0) return Either.left(faults)
  const { topic, event_id, timestamp, source, sequence, origin } = decoded.right
  return Either.right({
    topic,
    eventId: event_id,
    timestamp,
    time: Option.getOrThrow(parseTimestamp(timestamp)),
    source,
    payload: payloadText,
    sequence: sequence ?? null,
    origin: origin ?? null
  })
}
