/**
 * Reads bodies as nearly all are: one event, an array of events, an envelope, or lines, whose events have the members of
 * the contract and nothing unusual in them. It goes through the text once and marks where the parts of each event stand,
 * in a fraction of the time that parsing, finding each payload's text and asking the schema would take. It takes no body
 * that `Decoding.ts` would refuse, and makes the same events of those it takes; everything else, whatever is wrong with
 * it or only rare, is left to that.
 *
 * The events can be made later, from the text and the marks: a batch that waits for its commit is then its bytes and one
 * array, which the garbage collector does not look into, and not some ten objects for each event.
 */
import { Option } from "effect"
import type { SettingsShape } from "../Config.ts"
import type { Event } from "../domain/Event.ts"
import { compactAt, isSpace } from "../domain/Json.ts"
import { type Instant, parseTimestamp } from "../domain/Timestamp.ts"
import { isTopicCode, topicCharactersMax } from "../domain/Topic.ts"
import { nameCodePointsMax } from "./Api.ts"

/** Where the parts of each event stand in the text of a body, in the order sent. */
export class PlainMarks {
  private readonly marks: Int32Array

  constructor(marks: Int32Array) {
    this.marks = marks
  }

  get length(): number {
    return this.marks.length / marksPerEvent
  }

  /** The events of the body, which has this text. */
  events(text: string): ReadonlyArray<Event> {
    return eventsAt(text, this.marks)
  }
}

/** The marks of a body; nothing where it is not plain. */
export const markPlain = (
  text: string,
  type: "json" | "ndjson",
  limits: Pick<SettingsShape, "requestEventsMax" | "eventBytesMax">
): PlainMarks | undefined => {
  const reader = new Reader(text, limits)
  return (type === "json" ? reader.json() : reader.lines()) ? new PlainMarks(reader.marks()) : undefined
}

const quote = 0x22
const comma = 0x2c
const minus = 0x2d
const dot = 0x2e
const zero = 0x30
const nine = 0x39
const colon = 0x3a
const openBracket = 0x5b
const backslash = 0x5c
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d
const newline = 0x0a

/** A payload may be nested so deep here that a number's bits can tell which levels are objects. */
const depthMax = 30

/** A number of so many digits is exact. */
const exactDigits = 15

const isDigit = (code: number): boolean => code >= zero && code <= nine

const isHexDigit = (code: number): boolean =>
  isDigit(code) || (code >= 0x41 && code <= 0x46) || (code >= 0x61 && code <= 0x66)

/** What may follow a backslash, but for `u`: " / \ b f n r t */
const isEscape = (code: number): boolean =>
  code === quote ||
  code === 0x2f ||
  code === backslash ||
  code === 0x62 ||
  code === 0x66 ||
  code === 0x6e ||
  code === 0x72 ||
  code === 0x74

/**
 * The marks of an event: for each part where it starts in the text and where it ends, both 0 for one that is not there,
 * and at the end what is to be minded when the event is made.
 */
const topicMark = 0
const eventIdMark = 2
const timestampMark = 4
const sourceMark = 6
const payloadMark = 8
const sequenceMark = 10
const originMark = 12
const mindMark = 14
const marksPerEvent = 15

const hasUpperCase = 1
const hasSpace = 2

const bitOf = (mark: number): number => 1 << mark
const requiredBits = bitOf(topicMark) | bitOf(eventIdMark) | bitOf(timestampMark) | bitOf(sourceMark)

// Of a name's length and first letter, which tell the members apart, then of its letters. Less than 0 where it is none.
const memberAt = (text: string, at: number, length: number): number => {
  const is = (name: string, mark: number) => (text.startsWith(name, at) ? mark : -1)
  switch (length) {
    case 5:
      return is("topic", topicMark)
    case 6:
      return text.charCodeAt(at) === 0x73 ? is("source", sourceMark) : is("origin", originMark)
    case 7:
      return is("payload", payloadMark)
    case 8:
      return text.charCodeAt(at) === 0x65 ? is("event_id", eventIdMark) : is("sequence", sequenceMark)
    case 9:
      return is("timestamp", timestampMark)
    default:
      return -1
  }
}

/** Reads the times of one body: events that are sent together often bear the same. */
const timeReader = () => {
  let lastTimestamp = ""
  let lastTime = Option.none<Instant>()
  return (timestamp: string): Option.Option<Instant> => {
    if (timestamp !== lastTimestamp) {
      lastTimestamp = timestamp
      lastTime = parseTimestamp(timestamp)
    }
    return lastTime
  }
}

const eventsAt = (text: string, marks: Int32Array): ReadonlyArray<Event> => {
  const events: Array<Event> = []
  const timeOf = timeReader()
  const partAt = (mark: number) => text.slice(marks[mark], marks[mark + 1])
  for (let at = 0; at < marks.length; at += marksPerEvent) {
    const mind = marks[at + mindMark] ?? 0
    const topic = partAt(at + topicMark)
    const timestamp = partAt(at + timestampMark)
    const start = marks[at + payloadMark] ?? 0
    const end = marks[at + payloadMark + 1] ?? 0
    const spaced = (mind & hasSpace) !== 0
    const sequence = partAt(at + sequenceMark)
    const origin = partAt(at + originMark)
    events.push({
      topic: (mind & hasUpperCase) === 0 ? topic : topic.toLowerCase(),
      eventId: partAt(at + eventIdMark),
      timestamp,
      time: Option.getOrThrow(timeOf(timestamp)),
      source: partAt(at + sourceMark),
      payload: spaced
        ? compactAt(text, { start, end, depth: depthMax, spaced })
        : text.slice(start, end) || "{}",
      sequence: sequence === "" ? null : Number(sequence),
      origin: origin === "" ? null : origin
    })
  }
  return events
}

// Where the marks of the body that is being read are gathered; it grows to the largest one.
let gathered = new Int32Array(128 * marksPerEvent)

class Reader {
  private readonly text: string
  private readonly eventsMax: number
  private readonly eventBytesMax: number
  private readonly timeOf = timeReader()
  private at = 0
  private events = 0
  /** Whether the end of a line is white space, as it is where a line is not an event. */
  private passesLines = true
  /** Whether white space was passed over outside of strings. */
  private spaced = false

  constructor(text: string, limits: Pick<SettingsShape, "requestEventsMax" | "eventBytesMax">) {
    this.text = text
    this.eventsMax = limits.requestEventsMax
    this.eventBytesMax = limits.eventBytesMax
  }

  /** The marks of the events, once they were read. */
  marks(): Int32Array {
    return gathered.slice(0, this.events * marksPerEvent)
  }

  json(): boolean {
    this.skipSpace()
    const isRead =
      this.code() === openBracket ? this.array() : this.isEnvelope() ? this.envelope() : this.event()
    this.skipSpace()
    return isRead && this.at === this.text.length
  }

  lines(): boolean {
    this.passesLines = false
    while (true) {
      this.skipSpace()
      if (this.at === this.text.length) return this.events > 0
      if (this.pass(newline)) continue
      if (!this.event()) return false
      this.skipSpace()
      if (this.at < this.text.length && !this.pass(newline)) return false
    }
  }

  private isEnvelope(): boolean {
    const { at } = this
    this.at++
    this.skipSpace()
    const is = this.text.startsWith('"events"', this.at)
    this.at = at
    return is && this.text.charCodeAt(at) === openBrace
  }

  private envelope(): boolean {
    this.at++
    this.skipSpace()
    this.at += '"events"'.length
    if (!this.passColon() || this.code() !== openBracket || !this.array()) return false
    this.skipSpace()
    return this.pass(closeBrace)
  }

  private array(): boolean {
    do {
      this.at++
      this.skipSpace()
      if (!this.event()) return false
      this.skipSpace()
    } while (this.code() === comma)
    return this.pass(closeBracket)
  }

  /** Passes over an event, and marks its parts. */
  private event(): boolean {
    const { text } = this
    const start = this.at
    if (this.events === this.eventsMax || this.code() !== openBrace) return false
    const at = this.nextMarks()
    const marks = gathered
    let seen = 0
    let mind = 0
    do {
      this.at++
      this.skipSpace()
      const nameEnd = text.indexOf('"', this.at + 1)
      if (this.code() !== quote || nameEnd < 0) return false
      const member = memberAt(text, this.at + 1, nameEnd - this.at - 1)
      // What stands twice is a fault.
      if (member < 0 || (seen & bitOf(member)) !== 0) return false
      seen |= bitOf(member)
      this.at = nameEnd + 1
      if (!this.passColon()) return false
      const from = this.at
      let quotes = 0
      if (member === payloadMark) {
        this.spaced = false
        if (!this.passValue()) return false
        if (this.spaced) mind |= hasSpace
      } else if (member === sequenceMark) {
        if (!this.passWholeNumber()) return false
      } else if (member === topicMark) {
        quotes = 1
        const passed = this.passTopic()
        if (passed < 0) return false
        mind |= passed
      } else {
        quotes = 1
        if (!this.passName()) return false
      }
      marks[at + member] = from + quotes
      marks[at + member + 1] = this.at - quotes
      this.skipSpace()
    } while (this.code() === comma)
    if (!this.pass(closeBrace) || (seen & requiredBits) !== requiredBits) return false
    // A character is at most three bytes of UTF-8 for each of its UTF-16 units; who comes near the limit is counted.
    if ((this.at - start) * 3 > this.eventBytesMax) return false
    const timestamp = text.slice(marks[at + timestampMark], marks[at + timestampMark + 1])
    if (Option.isNone(this.timeOf(timestamp))) return false
    marks[at + mindMark] = mind
    this.events++
    return true
  }

  /** Where the marks of the next event go, with none of those set that may stay out. */
  private nextMarks(): number {
    const at = this.events * marksPerEvent
    if (at === gathered.length) {
      const larger = new Int32Array(gathered.length * 2)
      larger.set(gathered)
      gathered = larger
    }
    for (let mark = at + payloadMark; mark < at + mindMark; mark++) gathered[mark] = 0
    return at
  }

  /** Passes over a topic: what is to be minded about it, or less than 0 where it is none. */
  private passTopic(): number {
    const { text } = this
    if (this.code() !== quote) return -1
    const start = this.at + 1
    let at = start
    let isSegment = false
    let mind = 0
    for (; at < text.length; at++) {
      const code = text.charCodeAt(at)
      if (isTopicCode(code)) {
        isSegment = true
        if (code < 0x60 && code > 0x40 && code !== 0x5f) mind = hasUpperCase
      } else if (code === dot && isSegment) {
        isSegment = false
      } else {
        break
      }
    }
    if (text.charCodeAt(at) !== quote || !isSegment || at - start > topicCharactersMax) return -1
    this.at = at + 1
    return mind
  }

  /** Passes over a string without escapes and without anything that a name must not have. */
  private passName(): boolean {
    const { text } = this
    if (this.code() !== quote) return false
    const start = this.at + 1
    let at = start
    for (; at < text.length; at++) {
      const code = text.charCodeAt(at)
      if (code === quote) break
      if (code < 0x20 || code === backslash) return false
      if (code >= 0x7f && (code < 0xa0 || (code >= 0xd800 && code < 0xe000))) return false
    }
    if (at === text.length || at === start || at - start > nameCodePointsMax) return false
    this.at = at + 1
    return true
  }

  private passWholeNumber(): boolean {
    const { text } = this
    const start = this.at
    if (!this.passDigits() || this.at - start > exactDigits) return false
    if (text.charCodeAt(start) === zero && this.at - start > 1) return false
    const code = this.code()
    return code !== dot && code !== 0x65 && code !== 0x45
  }

  /** Passes over one value, whatever it is, if it is JSON. */
  private passValue(): boolean {
    let depth = 0
    // A bit for each array or object that is open: whether it is an object.
    let objects = 0
    while (true) {
      const code = this.code()
      if (code === openBrace || code === openBracket) {
        const isObject = code === openBrace
        this.at++
        this.skipSpace()
        if (this.code() === (isObject ? closeBrace : closeBracket)) {
          this.at++
        } else {
          if (++depth > depthMax) return false
          objects = (objects << 1) | (isObject ? 1 : 0)
          if (isObject && !this.passKey()) return false
          continue
        }
      } else if (!this.passScalar(code)) {
        return false
      }
      while (depth > 0) {
        this.skipSpace()
        const isObject = (objects & 1) === 1
        if (this.code() === comma) {
          this.at++
          this.skipSpace()
          if (isObject && !this.passKey()) return false
          break
        }
        if (!this.pass(isObject ? closeBrace : closeBracket)) return false
        depth--
        objects >>>= 1
      }
      if (depth === 0) return true
    }
  }

  private passKey(): boolean {
    return this.passString() && this.passColon()
  }

  private passScalar(code: number): boolean {
    if (code === quote) return this.passString()
    if (code === minus || isDigit(code)) return this.passNumber()
    for (const word of ["true", "false", "null"]) {
      if (!this.text.startsWith(word, this.at)) continue
      this.at += word.length
      return true
    }
    return false
  }

  private passString(): boolean {
    const { text } = this
    if (this.code() !== quote) return false
    for (let at = this.at + 1; at < text.length; at++) {
      const code = text.charCodeAt(at)
      if (code === quote) {
        this.at = at + 1
        return true
      }
      if (code < 0x20) return false
      if (code !== backslash) continue
      const escaped = text.charCodeAt(++at)
      if (isEscape(escaped)) continue
      if (escaped !== 0x75) return false
      for (const last = at + 4; at < last; ) if (!isHexDigit(text.charCodeAt(++at))) return false
    }
    return false
  }

  private passNumber(): boolean {
    this.pass(minus)
    if (!this.pass(zero) && !this.passDigits()) return false
    if (this.pass(dot) && !this.passDigits()) return false
    const code = this.code()
    if (code !== 0x65 && code !== 0x45) return true
    this.at++
    if (!this.pass(0x2b)) this.pass(minus)
    return this.passDigits()
  }

  private passDigits(): boolean {
    const start = this.at
    while (isDigit(this.code())) this.at++
    return this.at > start
  }

  private passColon(): boolean {
    this.skipSpace()
    if (!this.pass(colon)) return false
    this.skipSpace()
    return true
  }

  private pass(code: number): boolean {
    if (this.code() !== code) return false
    this.at++
    return true
  }

  private skipSpace(): void {
    for (
      let code = this.code();
      isSpace(code) && (code !== newline || this.passesLines);
      code = this.code()
    ) {
      this.spaced = true
      this.at++
    }
  }

  private code(): number {
    return this.text.charCodeAt(this.at)
  }
}
