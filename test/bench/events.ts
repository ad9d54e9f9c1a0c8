/**
 * What is sent: deliveries of which a fifth repeat an earlier one, as publishers do that retry, over ten topics. All of
 * it follows from a counter, so it is the same each time, and as much of it as is wanted is made without being held.
 */
import { requestBytes } from "../support/connection.ts"

/** What events look like. */
export interface Look {
  readonly ids: "ordered" | "random"
  /** Numbers each event within its topic and source. */
  readonly sequences?: boolean
}

/** A request that is ready to be sent. */
export interface Prepared {
  readonly bytes: Buffer
  /** The number of each event in it; equal numbers are the same event. */
  readonly numbers: ReadonlyArray<number>
  /** How many of them are sent for the first time. */
  readonly unique: number
  /** Characters of id, source, timestamp and payload of those that are sent for the first time. */
  readonly content: number
}

/** Gives the next request of a load. */
export type Take = () => Prepared | undefined

const topics = 10

/** One delivery of so many is a repetition. */
const repeatedOf = 5

/** A repetition follows what it repeats within so many different events. */
const repeatedWithin = 200

/** Requests of so many events each, without end. What one source sends is different from what another does. */
export const requests = (source: number, batch: number, look: Look): (() => Prepared) => {
  const next = deliveries()
  let made = 0
  return () => {
    const numbers = Array.from({ length: batch }, next)
    const texts = numbers.map((n) => eventText(n, source, look))
    let unique = 0
    let content = 0
    for (const [place, n] of numbers.entries()) {
      if (n < made) continue
      made = n + 1
      unique++
      content += (texts[place] ?? "").length - frameLength(n, look)
    }
    const body = batch === 1 ? (texts[0] ?? "") : `[${texts.join(",")}]`
    return { bytes: requestBytes("POST", "/publish", body), numbers, unique, content }
  }
}

/** Gives requests until there were so many events. */
export const upToEvents = (events: number, next: () => Prepared): Take => {
  let left = events
  return () => {
    if (left <= 0) return undefined
    const prepared = next()
    left -= prepared.numbers.length
    return prepared
  }
}

/** Gives requests for so long, from the first one on. */
export const forSeconds = (seconds: number, next: () => Prepared): Take => {
  let until: number | undefined
  return () => {
    until ??= performance.now() + seconds * 1000
    return performance.now() < until ? next() : undefined
  }
}

/** Makes all requests now, so that making them takes nothing from the machine while it is measured. */
export const prebuilt = (take: Take): { readonly all: ReadonlyArray<Prepared>; readonly take: Take } => {
  const all: Array<Prepared> = []
  for (let prepared = take(); prepared !== undefined; prepared = take()) all.push(prepared)
  let index = 0
  return { all, take: () => all[index++] }
}

// Of every five deliveries one, at a place that varies, repeats one of the latest events.
const deliveries = (): (() => number) => {
  let state = 42
  const chance = (bound: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * bound)
  }
  let made = 0
  let place = 0
  let repeatedAt = repeatedOf - 1
  return () => {
    if (place === repeatedOf) {
      place = 0
      repeatedAt = chance(repeatedOf)
    }
    if (place++ !== repeatedAt) return made++
    return made - 1 - chance(Math.min(made, repeatedWithin))
  }
}

const timestamp = "2026-11-22T10:00:00.000Z"

const eventText = (n: number, source: number, { ids, sequences = false }: Look): string => {
  const id = ids === "random" ? uuid(n, source) : `service-${source}-${String(n).padStart(16, "0")}`
  const sequence = sequences ? `,"sequence":${Math.floor(n / topics)}` : ""
  return (
    `{"topic":"topic-${n % topics}","event_id":"${id}","timestamp":"${timestamp}","source":"service-${source}",` +
    `"payload":{"level":"info","message":"a line of an ordinary length","n":${n}}${sequence}}`
  )
}

/** What a text has beside the content of its event: the names of its members, its topic, its sequence. */
const frameLength = (n: number, { sequences = false }: Look): number =>
  `{"topic":"topic-0","event_id":"","timestamp":"","source":"","payload":}`.length +
  (sequences ? `,"sequence":${Math.floor(n / topics)}`.length : 0)

/** Spreads numbers over all of 32 bits; different ones stay different. */
const scattered = (value: number): number => {
  let x = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35)
  return (x ^ (x >>> 16)) >>> 0
}

const hexOfByte = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"))

const hex16 = (word: number): string => `${hexOfByte[(word >>> 8) & 255]}${hexOfByte[word & 255]}`

const word = (n: number, source: number, index: number): number =>
  scattered(n ^ scattered(source * 4 + index + 1))

// As random to an index as a real one, in the form of version 4; but the same each time.
const uuid = (n: number, source: number): string => {
  const a = word(n, source, 0)
  const b = word(n, source, 1)
  const c = word(n, source, 2)
  const d = word(n, source, 3)
  const versioned = (b & 0x0fff) | 0x4000
  const variant = (c & 0x3fff) | 0x8000
  return (
    `${hex16(a >>> 16)}${hex16(a)}-${hex16(b >>> 16)}-${hex16(versioned)}-${hex16(variant)}` +
    `-${hex16(c >>> 16)}${hex16(d >>> 16)}${hex16(d)}`
  )
}
