/**
 * Events for tests: builders for the ones a test spells out, and arbitraries for those that fast-check makes up. The
 * arbitraries lean on what is hard: few keys, so that deliveries collide; payloads whose numbers JavaScript cannot
 * hold; names in every script.
 */
import { Option } from "effect"
import fc from "fast-check"
import { type Event, type Outcome, sameContent } from "../../src/domain/Event.ts"
import { type Instant, parseTimestamp } from "../../src/domain/Timestamp.ts"

/** The instant of a timestamp that has one. */
export const instant = (timestamp: string): Instant => Option.getOrThrow(parseTimestamp(timestamp))

/** An event, with what the test does not care about filled in; `time` follows from `timestamp`. */
export const makeEvent = (event: Partial<Omit<Event, "time">> & Pick<Event, "eventId">): Event => {
  const timestamp = event.timestamp ?? "2026-11-22T10:00:00.000Z"
  return {
    topic: "system.metrics.cpu",
    source: "service-a",
    payload: "{}",
    sequence: null,
    origin: null,
    ...event,
    timestamp,
    time: instant(timestamp)
  }
}

/** Events with the keys `<prefix>0`, `<prefix>1` and so on. */
export const makeEvents = (
  count: number,
  event: Partial<Omit<Event, "time">> = {},
  prefix = "e"
): ReadonlyArray<Event> =>
  Array.from({ length: count }, (_, index) => makeEvent({ ...event, eventId: `${prefix}${index}` }))

/** What makes an event the one it is. */
export const keyOf = ({ topic, eventId }: Pick<Event, "topic" | "eventId">): string => `${topic}/${eventId}`

const segment = fc.stringMatching(/^[a-z0-9_-]{1,8}$/)

/** A topic, normalised. */
export const anyTopic: fc.Arbitrary<string> = fc
  .array(segment, { minLength: 1, maxLength: 4 })
  .map((segments) => segments.join("."))

/** A name as `event_id` and `source` take it: code points of any script, without control characters. */
export const anyName: fc.Arbitrary<string> = fc
  .string({ unit: "binary", minLength: 1, maxLength: 20 })
  .filter((text) => !/\p{Cc}/u.test(text))

const two = (number: number): string => String(number).padStart(2, "0")

/** A timestamp that names an instant: any zone, seconds and fraction in any length, or none. */
export const anyTimestamp: fc.Arbitrary<string> = fc
  .record({
    date: fc.date({ noInvalidDate: true, min: new Date("0001-01-02"), max: new Date("9999-12-30") }),
    fraction: fc.option(fc.stringMatching(/^\d{1,9}$/)),
    zone: fc.oneof(
      fc.constant("Z"),
      fc
        .record({ sign: fc.constantFrom("+", "-"), hours: fc.nat(23), minutes: fc.nat(59) })
        .map(({ sign, hours, minutes }) => `${sign}${two(hours)}:${two(minutes)}`)
    )
  })
  .map(({ date, fraction, zone }) => {
    const seconds = date.toISOString().slice(0, 19)
    return `${seconds}${fraction === null ? "" : `.${fraction}`}${zone}`
  })

/** A JSON number as text, among them many that JavaScript cannot hold. */
export const anyNumberText: fc.Arbitrary<string> = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => JSON.stringify(number)),
  fc.stringMatching(/^-?(0|[1-9]\d{0,24})(\.\d{1,24})?([eE][+-]?\d{1,4})?$/),
  fc.constantFrom("0", "-0", "1.0", "10e-1", "0.1", "0.10000000000000001", "12345678901234567890", "1e400")
)

/** A JSON value as compact text. */
export const anyJsonText: fc.Arbitrary<string> = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, depthSize: "small" },
    fc.constantFrom("null", "true", "false", "{}", "[]"),
    anyNumberText,
    fc.string({ unit: "binary" }).map((text) => JSON.stringify(text)),
    fc.array(tie("value"), { maxLength: 4 }).map((values) => `[${values.join(",")}]`),
    fc
      .uniqueArray(fc.tuple(fc.oneof(fc.string(), fc.constant("__proto__")), tie("value")), {
        maxLength: 4,
        selector: ([name]) => name
      })
      .map((members) => `{${members.map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(",")}}`)
  )
})).value

/** Any event at all. */
export const anyEvent: fc.Arbitrary<Event> = fc
  .record({
    topic: anyTopic,
    eventId: anyName,
    source: anyName,
    timestamp: anyTimestamp,
    payload: anyJsonText,
    sequence: fc.option(fc.maxSafeNat()),
    origin: fc.option(anyName)
  })
  .map(makeEvent)

/** An event out of few keys, sources and payloads: in a list of these many are duplicates and some are conflicts. */
export const collidingEvent: fc.Arbitrary<Event> = fc
  .record({
    topic: fc.constantFrom("a", "a.b", "a.b.c", "b"),
    eventId: fc.constantFrom("1", "2", "3", "04", "4.0", "é"),
    source: fc.constantFrom("x", "x", "x", "y"),
    timestamp: fc.oneof(anyTimestamp, fc.constant("2026-11-22T10:00:00.000Z")),
    payload: fc.constantFrom("{}", "{}", "{}", '{"a":1,"b":2}', '{"b":2.0,"a":1}', "12345678901234567890"),
    sequence: fc.option(fc.nat(9))
  })
  .map(makeEvent)

/**
 * A way to deliver events: cut into batches, each sent at least once and some again, in any order. Every event is in
 * there at least once.
 */
export const deliveriesOf = (
  events: fc.Arbitrary<ReadonlyArray<Event>>
): fc.Arbitrary<ReadonlyArray<ReadonlyArray<Event>>> =>
  events
    .chain((events) =>
      fc
        .array(fc.integer({ min: 0, max: events.length }), { maxLength: 5 })
        .map((cuts) => cutAt(events, cuts))
        .chain((batches) =>
          fc.tuple(fc.constant(batches), fc.array(fc.nat(Math.max(0, batches.length - 1)), { maxLength: 5 }))
        )
    )
    .chain(([batches, again]) => {
      const sent = [...batches, ...again.flatMap((index) => batches.slice(index, index + 1))]
      return fc.shuffledSubarray(sent, { minLength: sent.length })
    })

const cutAt = (events: ReadonlyArray<Event>, cuts: ReadonlyArray<number>) => {
  const edges = [...new Set([0, ...cuts, events.length])].sort((left, right) => left - right)
  return edges.slice(1).map((end, index) => events.slice(edges[index], end))
}

/** What a store must make of deliveries, worked out the plain way: the first with a key stands (G2, G8). */
export const expectedOf = (batches: ReadonlyArray<ReadonlyArray<Event>>) => {
  const firsts = new Map<string, Event>()
  const outcomes = batches.map((batch) =>
    batch.map((event): Outcome["outcome"] => {
      const first = firsts.get(keyOf(event))
      if (first === undefined) firsts.set(keyOf(event), event)
      if (first === undefined) return "stored"
      return sameContent(first, event) ? "duplicate" : "conflict"
    })
  )
  const all = outcomes.flat()
  return {
    /** The events to be stored, in the order of their offsets. */
    stored: [...firsts.values()],
    outcomes,
    received: all.length,
    dropped: all.filter((outcome) => outcome !== "stored").length,
    conflicts: all.filter((outcome) => outcome === "conflict").length
  }
}
