/**
 * What a reader asked for: event times, topic patterns, and whether an event is among what matches.
 */
import type { PageParameters } from "../History.ts"

const shape = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?:Z|([+-]\d\d)(?::?(\d\d))?)$/i

/** The instant that a timestamp names, in nanoseconds since 1970, or nothing if it is none. */
export const instantOf = (timestamp: string): bigint | undefined => {
  const found = shape.exec(timestamp)
  if (found === null) return undefined
  const [, date, minutes, second = "00", fraction = "", zoneHours, zoneMinutes = "00"] = found
  const zone = zoneHours === undefined ? "Z" : `${zoneHours}:${zoneMinutes}`
  // A leap second is the first instant of what follows.
  const leap = second === "60"
  const millis = Date.parse(`${date}T${minutes}:${leap ? "59" : second}${zone}`) + (leap ? 1000 : 0)
  return Number.isNaN(millis) ? undefined : BigInt(millis) * 1_000_000n + BigInt(fraction.padEnd(9, "0"))
}

/** The half of an event's key that is folded: two spellings of a topic are one topic. */
export const foldTopic = (topic: string): string => topic.toLowerCase()

/** What the filter looks at. */
export interface Filterable {
  readonly topic: string
  readonly eventId: string
  readonly source: string
  readonly timestamp: string
}

/** Whether an event is one that the parameters ask for; offsets, limit and order aside. */
export const filterOf = (parameters: PageParameters): ((event: Filterable) => boolean) => {
  const { topic, event_id, source, since, until } = parameters
  const tests: Array<(event: Filterable) => boolean> = []
  if (event_id !== undefined) tests.push((event) => event.eventId === event_id)
  if (source !== undefined) tests.push((event) => event.source === source)
  if (topic !== undefined) {
    const pattern = patternOf(topic)
    tests.push((event) => pattern.test(event.topic))
  }
  const from = since === undefined ? undefined : instantOf(since)
  if (from !== undefined) tests.push((event) => (instantOf(event.timestamp) ?? from) >= from)
  const to = until === undefined ? undefined : instantOf(until)
  if (to !== undefined) tests.push((event) => (instantOf(event.timestamp) ?? to) < to)
  return (event) => tests.every((test) => test(event))
}

// `*` stands for one segment, a last `>` for one or more.
const patternOf = (pattern: string): RegExp => {
  const segments = foldTopic(pattern)
    .split(".")
    .map((segment) => (segment === "*" ? "[^.]+" : segment === ">" ? ".+" : segment))
  return new RegExp(`^${segments.join("\\.")}$`)
}
