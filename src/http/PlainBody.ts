/**
 * Reads bodies as nearly all are: one event, an array of events, an envelope, or lines, whose events have the members of
 * the contract and nothing unusual in them. It goes through the text once and makes the events as it goes, in a fraction
 * of the time that parsing, finding each payload's text and asking the schema would take. It takes no body that
 * `Decoding.ts` would refuse, and makes the same events of those it takes; everything else, whatever is wrong with it or
 * only rare, is left to that.
 */
import { Option } from "effect"
import type { SettingsShape } from "../Config.ts"
import type { Event } from "../domain/Event.ts"
import { compactAt, isSpace } from "../domain/Json.ts"
import { type Instant, parseTimestamp } from "../domain/Timestamp.ts"
import { isTopicCode, topicCharactersMax } from "../domain/Topic.ts"
import { nameCodePointsMax } from "./Api.ts"

/** The events of a body, in the order sent; nothing where it is not plain. */
export const plainEvents = (
  text: string,
  type: "json" | "ndjson",
  limits: Pick<SettingsShape, "requestEventsMax" | "eventBytesMax">
): ReadonlyArray<Event> | undefined => {
  const reader = new Reader(text, limits)
  return type === "json" ? reader.json() : reader.lines()
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

const topicBit = 1
const eventIdBit = 2
const timestampBit = 4
const sourceBit = 8
const payloadBit = 16
const sequenceBit = 32
const originBit = 64
const requiredBits = topicBit | eventIdBit | timestampBit | sourceBit

// Of a name's length and first letter, which tell the members apart, then of its letters.
const memberAt = (text: string, at: number, length: number): number => {
  const is = (name: string, bit: number) => (text.startsWith(name, at) ? bit : 0)
  switch (length) {
    case 5:
      return is("topic", topicBit)
    case 6:
      return text.charCodeAt(at) === 0x73 ? is("source", sourceBit) : is("origin", originBit)
    case 7:
      return is("payload", payloadBit)
    case 8:
      return text.charCodeAt(at) === 0x65 ? is("event_id", eventIdBit) : is("sequence", sequenceBit)
    case 9:
      return is("timestamp", timestampBit)
    default:
      return 0
  }
}

class Reader {
  private readonly text: string
  private readonly eventsMax: number
  private readonly eventBytesMax: number
  private at = 0
  /** Whether the end of a line is white space, as it is where a line is not an event. */
  private passesLines = true
  /** Whether white space was passed over outside of strings. */
  private spaced = false
  // Events that are sent together often bear one time.
  private lastTimestamp = ""
  private lastTime: Instant | undefined

  constructor(text: string, limits: Pick<SettingsShape, "requestEventsMax" | "eventBytesMax">) {
    this.text = text
    this.eventsMax = limits.requestEventsMax
    this.eventBytesMax = limits.eventBytesMax
  }

  json(): ReadonlyArray<Event> | undefined {
    this.skipSpace()
    const events =
      this.code() === openBracket ? this.array() : this.isEnvelope() ? this.envelope() : this.one()
    this.skipSpace()
    return this.at === this.text.length ? events : undefined
  }

  lines(): ReadonlyArray<Event> | undefined {
    const events: Array<Event> = []
    this.passesLines = false
    while (true) {
      this.skipSpace()
      if (this.at === this.text.length) return events.length === 0 ? undefined : events
      if (this.pass(newline)) continue
      const event = events.length < this.eventsMax ? this.event() : undefined
      if (event === undefined) return undefined
      events.push(event)
      this.skipSpace()
      if (this.at < this.text.length && !this.pass(newline)) return undefined
    }
  }

  private one(): ReadonlyArray<Event> | undefined {
    const event = this.event()
    return event === undefined ? undefined : [event]
  }

  private isEnvelope(): boolean {
    const { at } = this
    this.at++
    this.skipSpace()
    const is = this.text.startsWith('"events"', this.at)
    this.at = at
    return is && this.text.charCodeAt(at) === openBrace
  }

  private envelope(): ReadonlyArray<Event> | undefined {
    this.at++
    this.skipSpace()
    this.at += '"events"'.length
    if (!this.passColon() || this.code() !== openBracket) return undefined
    const events = this.array()
    if (events === undefined) return undefined
    this.skipSpace()
    return this.pass(closeBrace) ? events : undefined
  }

  private array(): ReadonlyArray<Event> | undefined {
    const events: Array<Event> = []
    do {
      this.at++
      this.skipSpace()
      const event = events.length < this.eventsMax ? this.event() : undefined
      if (event === undefined) return undefined
      events.push(event)
      this.skipSpace()
    } while (this.code() === comma)
    return this.pass(closeBracket) ? events : undefined
  }

  private event(): Event | undefined {
    const { text } = this
    const start = this.at
    if (this.code() !== openBrace) return undefined
    let seen = 0
    let topic = ""
    let eventId = ""
    let timestamp = ""
    let source = ""
    let payload = "{}"
    let sequence: number | null = null
    let origin: string | null = null
    do {
      this.at++
      this.skipSpace()
      const nameEnd = text.indexOf('"', this.at + 1)
      if (this.code() !== quote || nameEnd < 0) return undefined
      const member = memberAt(text, this.at + 1, nameEnd - this.at - 1)
      // What stands twice is a fault.
      if (member === 0 || (seen & member) !== 0) return undefined
      seen |= member
      this.at = nameEnd + 1
      if (!this.passColon()) return undefined
      if (member === payloadBit) {
        const found = this.payload()
        if (found === undefined) return undefined
        payload = found
      } else if (member === sequenceBit) {
        const found = this.wholeNumber()
        if (found === undefined) return undefined
        sequence = found
      } else {
        const found = member === topicBit ? this.topic() : this.name()
        if (found === undefined) return undefined
        if (member === topicBit) topic = found
        else if (member === eventIdBit) eventId = found
        else if (member === timestampBit) timestamp = found
        else if (member === sourceBit) source = found
        else origin = found
      }
      this.skipSpace()
    } while (this.code() === comma)
    if (!this.pass(closeBrace) || (seen & requiredBits) !== requiredBits) return undefined
    // A character is at most three bytes of UTF-8 for each of its UTF-16 units; who comes near the limit is counted.
    if ((this.at - start) * 3 > this.eventBytesMax) return undefined
    const time = this.timeOf(timestamp)
    if (time === undefined) return undefined
    return { topic, eventId, timestamp, time, source, payload, sequence, origin }
  }

  private timeOf(timestamp: string): Instant | undefined {
    if (timestamp !== this.lastTimestamp) {
      this.lastTimestamp = timestamp
      this.lastTime = Option.getOrUndefined(parseTimestamp(timestamp))
    }
    return this.lastTime
  }

  /** A topic in its normalised form. */
  private topic(): string | undefined {
    const { text } = this
    if (this.code() !== quote) return undefined
    const start = this.at + 1
    let at = start
    let isSegment = false
    let hasUpperCase = false
    for (; at < text.length; at++) {
      const code = text.charCodeAt(at)
      if (isTopicCode(code)) {
        isSegment = true
        if (code < 0x60 && code > 0x40 && code !== 0x5f) hasUpperCase = true
      } else if (code === dot && isSegment) {
        isSegment = false
      } else {
        break
      }
    }
    if (text.charCodeAt(at) !== quote || !isSegment || at - start > topicCharactersMax) return undefined
    this.at = at + 1
    const topic = text.slice(start, at)
    return hasUpperCase ? topic.toLowerCase() : topic
  }

  /** A string without escapes and without anything that a name must not have. */
  private name(): string | undefined {
    const { text } = this
    if (this.code() !== quote) return undefined
    const start = this.at + 1
    let at = start
    for (; at < text.length; at++) {
      const code = text.charCodeAt(at)
      if (code === quote) break
      if (code < 0x20 || code === backslash) return undefined
      if (code >= 0x7f && (code < 0xa0 || (code >= 0xd800 && code < 0xe000))) return undefined
    }
    if (at === text.length || at === start || at - start > nameCodePointsMax) return undefined
    this.at = at + 1
    return text.slice(start, at)
  }

  private wholeNumber(): number | undefined {
    const { text } = this
    const start = this.at
    if (!this.passDigits() || this.at - start > exactDigits) return undefined
    if (text.charCodeAt(start) === zero && this.at - start > 1) return undefined
    const code = this.code()
    return code === dot || code === 0x65 || code === 0x45 ? undefined : Number(text.slice(start, this.at))
  }

  /** A payload's text without white space between its parts. */
  private payload(): string | undefined {
    const start = this.at
    this.spaced = false
    if (!this.passValue()) return undefined
    return this.spaced
      ? compactAt(this.text, { start, end: this.at, depth: depthMax, spaced: true })
      : this.text.slice(start, this.at)
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
