/**
 * From what a publisher says to the bytes that are sent. The contract's own schema checks and encodes an event, so that
 * what is wrong with it is known before it can spoil a batch; only the payload is put in as text, because it may be
 * exact text already.
 */
import { Either, ParseResult, Schema } from "effect"
import type { Fault } from "../domain/Errors.ts"
import { faultsOf, pointerOf } from "../domain/Faults.ts"
import { compactAt, extentAt, skipSpace } from "../domain/Json.ts"
import { PublishedEvent, strict } from "../http/Api.ts"
import { InvalidEvent } from "./Errors.ts"

/**
 * A payload as exact JSON text: it is sent as it stands, less insignificant white space, so that no number is rounded
 * to what JavaScript can hold. Any other payload is sent as `JSON.stringify` prints it.
 */
export class JsonText {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

/** An event to publish, with the names of the contract. What is left out is filled in where that can be done. */
export interface EventToPublish {
  /** Upper case is folded to lower case. */
  readonly topic: string
  /** Made by the publisher where it is left out (see the option `ids`). */
  readonly event_id?: string | undefined
  /** ISO 8601 with a zone; the time of publishing where it is left out. */
  readonly timestamp?: string | undefined
  /** The option `source` where it is left out. */
  readonly source?: string | undefined
  /** Any JSON value, or a `JsonText`; the service takes `{}` where it is left out. */
  readonly payload?: unknown
  /** The publisher's own count of its events in this topic, from 0; given by the option `sequences` where it is left out. */
  readonly sequence?: number | undefined
  /** The store that first took the event; mirrors set it. */
  readonly origin?: string | undefined
}

/** An event as it is sent: one JSON object in UTF-8. */
export interface EncodedEvent {
  readonly topic: string
  readonly event_id: string
  readonly source: string
  readonly bytes: Uint8Array
}

const decodeEvent = Schema.decodeUnknownEither(PublishedEvent, strict)
const encodeEvent = Schema.encodeSync(PublishedEvent)
const utf8 = new TextEncoder()

/** Checks and encodes an event whose gaps are filled. */
export const encode = (event: EventToPublish): Either.Either<EncodedEvent, InvalidEvent> => {
  const { payload, ...head } = event
  const given = Object.entries(head).filter(([, value]) => value !== undefined)
  const decoded = decodeEvent(Object.fromEntries(given))
  const text = payload === undefined ? Either.right(undefined) : payloadText(payload)
  const faults: Array<Fault> = []
  if (Either.isLeft(decoded)) {
    faults.push(...faultsOf(ParseResult.ArrayFormatter.formatErrorSync(decoded.left), pointerOf))
  }
  if (Either.isLeft(text)) faults.push({ pointer: "/payload", detail: text.left })
  if (Either.isLeft(decoded) || Either.isLeft(text)) return Either.left(new InvalidEvent({ faults }))
  const { topic, event_id, source } = decoded.right
  const json = JSON.stringify(encodeEvent(decoded.right))
  const whole = text.right === undefined ? json : `${json.slice(0, -1)},"payload":${text.right}}`
  return Either.right({ topic, event_id, source, bytes: utf8.encode(whole) })
}

/** No sequence makes an event longer by more than so many bytes. */
export const sequenceBytesMax = `,"sequence":${Number.MAX_SAFE_INTEGER}`.length

/** An event with a sequence, which it had none before. */
export const withSequence = (event: EncodedEvent, sequence: number): EncodedEvent => {
  const member = utf8.encode(`,"sequence":${sequence}}`)
  const bytes = new Uint8Array(event.bytes.length - 1 + member.length)
  bytes.set(event.bytes.subarray(0, -1))
  bytes.set(member, event.bytes.length - 1)
  return { ...event, bytes }
}

const payloadText = (payload: unknown): Either.Either<string, string> =>
  payload instanceof JsonText ? exactText(payload.text) : printedText(payload)

const printedText = (payload: unknown): Either.Either<string, string> => {
  try {
    // What is no JSON value, such as a function, has no text.
    const text = JSON.stringify(payload) as string | undefined
    return text === undefined ? Either.left("must be a JSON value") : Either.right(text)
  } catch (error) {
    return Either.left(`must be a JSON value: ${(error as Error).message}`)
  }
}

const exactText = (text: string): Either.Either<string, string> => {
  try {
    JSON.parse(text)
  } catch (error) {
    return Either.left(`must be JSON: ${(error as Error).message}`)
  }
  return Either.right(escapeLoneSurrogates(compactAt(text, extentAt(text, skipSpace(text, 0)))))
}

// UTF-8 has no bytes for half of a pair. In JSON it can stand only inside a string, where an escape says the same.
const escapeLoneSurrogates = (text: string): string =>
  text.replace(/\p{Cs}/gu, (half) => `\\u${half.charCodeAt(0).toString(16)}`)

const openBracket = 0x5b
const comma = 0x2c
const closeBracket = 0x5d

/** How many bytes an event takes in a body, with the comma or bracket behind it. */
export const bytesIn = ({ bytes }: EncodedEvent): number => bytes.length + 1

/** The body of a request: a JSON array of the events. */
export const bodyOf = (events: ReadonlyArray<EncodedEvent>): Uint8Array => {
  const body = new Uint8Array(events.reduce((sum, event) => sum + bytesIn(event), 1))
  body[0] = openBracket
  let at = 1
  for (const { bytes } of events) {
    body.set(bytes, at)
    at += bytes.length
    body[at++] = comma
  }
  body[at - 1] = closeBracket
  return body
}
