/**
 * Lines to events. A plain line becomes an event of its own, with an id that follows from the line and its place; a line
 * of NDJSON is an event already, and only what it leaves out is filled in. Nothing that was read is dropped in silence:
 * bytes that are no text travel beside the text that is made of them, and what cannot be an event is a fault.
 */
import { isUtf8 } from "node:buffer"
import { Either } from "effect"
import { type EventToPublish, JsonText } from "../client/Publisher.ts"
import { PublishedEvent } from "../http/Api.ts"
import { decodeBody } from "../http/Decoding.ts"
import { fingerprint, type Line, lineId } from "./Lines.ts"

/** How lines are read: as plain text, as events, or as what the first one is. */
export type Format = "auto" | "lines" | "ndjson"

/** What events are made with where lines do not say otherwise. */
export interface Origin {
  readonly topic: string
  readonly source: string
}

/** What was made of a line, or of a part of one. */
export type Made =
  | { readonly _tag: "Event"; readonly line: Line; readonly event: EventToPublish; readonly isText: boolean }
  | { readonly _tag: "Fault"; readonly line: Line; readonly detail: string }

/** Makes the events of one input. */
export interface LineEvents {
  /** What comes of the next line or part, read at the time given (ISO 8601). */
  readonly take: (line: Line, readAt: string) => ReadonlyArray<Made>
}

/** A line of NDJSON is held as a whole; a longer one is a fault. */
export const ndjsonBytesMax = 16 * 1024 * 1024

const openBrace = 0x7b

/** The events of an input, of which nothing was read yet. */
export const makeLineEvents = (format: Format, { topic, source }: Origin): LineEvents => {
  let read: Exclude<Format, "auto"> | undefined = format === "auto" ? undefined : format
  let print: string | undefined
  let held: Array<Line> = []
  let heldBytes = 0
  let skipping = false

  const plain = (print: string, line: Line, timestamp: string): Made => {
    const { bytes, part } = line
    const isText = isUtf8(bytes)
    const payload = {
      line: bytes.toString("utf8"),
      ...(part > 1 ? { part } : {}),
      ...(isText ? {} : { base64: bytes.toString("base64") })
    }
    return {
      _tag: "Event",
      line,
      event: { topic, event_id: lineId(print, line), timestamp, source, payload },
      isText
    }
  }

  return {
    take: (line, readAt) => {
      print ??= fingerprint(source, line)
      const id = print
      if (read === undefined && line.bytes[0] !== openBrace && held.length === 0) read = "lines"
      if (read === "lines") return [plain(id, line, readAt)]
      if (skipping) {
        skipping = !line.last
        return []
      }
      held.push(line)
      heldBytes += line.bytes.length
      const tooLong = heldBytes > ndjsonBytesMax
      if (!line.last && !tooLong) return []
      const parts = held
      held = []
      heldBytes = 0
      const whole = wholeOf(parts)
      read ??= !tooLong && isEvent(whole) ? "ndjson" : "lines"
      if (read === "lines") return parts.map((part) => plain(id, part, readAt))
      if (tooLong) {
        skipping = !line.last
        return [{ _tag: "Fault", line: whole, detail: `is longer than ${ndjsonBytesMax} bytes` }]
      }
      return eventOf(whole, { topic, source, event_id: lineId(id, whole), timestamp: readAt })
    }
  }
}

const wholeOf = (parts: ReadonlyArray<Line>): Line => {
  const [first] = parts
  const last = parts.at(-1)
  if (first === undefined || last === undefined) throw new Error("a line without parts")
  return { ...last, position: first.position, part: 1, bytes: Buffer.concat(parts.map(({ bytes }) => bytes)) }
}

const members = new Set(Object.keys(PublishedEvent.fields))

/**
 * Whether a first line shows that these are events: it is an object of their members, an id or a payload among them.
 * Log lines that are JSON of another shape are plain lines, and none of their members is lost.
 */
const isEvent = ({ bytes }: Line): boolean => {
  const value = Either.getOrUndefined(parsed(bytes.toString("utf8")))
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false
  const names = Object.keys(value)
  return names.every((name) => members.has(name)) && ("event_id" in value || "payload" in value)
}

const parsed = (text: string): Either.Either<unknown, string> =>
  Either.try({ try: () => JSON.parse(text) as unknown, catch: (error) => (error as Error).message })

/** The event of a line of NDJSON, judged as the service does; a blank line is none. */
const eventOf = (line: Line, missing: Readonly<Record<string, string>>): ReadonlyArray<Made> => {
  const fault = (detail: string): ReadonlyArray<Made> => [{ _tag: "Fault", line, detail }]
  if (!isUtf8(line.bytes)) return fault("is not UTF-8")
  const text = line.bytes.toString("utf8").trim()
  if (text === "") return []
  const value = parsed(text)
  if (Either.isLeft(value)) {
    const unended = line.ended ? "" : "; the line has no end: if it is being written, publish it again later"
    return fault(`is not JSON: ${value.left}${unended}`)
  }
  const object = value.right
  const filled = typeof object === "object" && object !== null ? withMissing(text, object, missing) : text
  const limits = { requestEventsMax: 1, eventBytesMax: Number.POSITIVE_INFINITY }
  const decoded = decodeBody(Buffer.from(filled), "ndjson", limits)
  if (Either.isLeft(decoded)) {
    const { problem } = decoded.left
    const faults = problem.errors?.map(({ pointer, detail }) =>
      `${pointer.replace(/^\/0/, "")} ${detail}`.trim()
    )
    return fault(faults?.join("; ") ?? problem.detail)
  }
  return decoded.right.unpack().map((event) => ({
    _tag: "Event",
    line,
    isText: true,
    event: {
      topic: event.topic,
      event_id: event.eventId,
      timestamp: event.timestamp,
      source: event.source,
      payload: new JsonText(event.payload),
      ...(event.sequence === null ? {} : { sequence: event.sequence }),
      ...(event.origin === null ? {} : { origin: event.origin })
    }
  }))
}

// Into the text and not into the value, which may have lost digits of its numbers.
const withMissing = (text: string, object: object, missing: Readonly<Record<string, string>>): string => {
  const added = Object.entries(missing).filter(([name]) => !Object.hasOwn(object, name))
  if (Array.isArray(object) || added.length === 0) return text
  const comma = Object.keys(object).length === 0 ? "" : ","
  return `${JSON.stringify(Object.fromEntries(added)).slice(0, -1)}${comma}${text.slice(1)}`
}

const signatures: ReadonlyArray<readonly [bytes: ReadonlyArray<number>, what: string]> = [
  [[0x1f, 0x8b], "is compressed (gzip); publish it with: zcat FILE | sekali publish"],
  [[0x28, 0xb5, 0x2f, 0xfd], "is compressed (zstd); publish it with: zstdcat FILE | sekali publish"],
  [[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], "is compressed (xz); publish it with: xzcat FILE | sekali publish"],
  [[0xff, 0xfe], "is UTF-16; publish it with: iconv -f UTF-16 -t UTF-8 FILE | sekali publish"],
  [[0xfe, 0xff], "is UTF-16; publish it with: iconv -f UTF-16 -t UTF-8 FILE | sekali publish"]
]

/** Why an input that begins with this line holds no lines at all; or nothing. */
export const notLines = ({ bytes }: Line): string | undefined =>
  signatures.find(([signature]) => signature.every((byte, index) => bytes[index] === byte))?.[1]
