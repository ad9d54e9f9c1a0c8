/**
 * The promise as a whole, over HTTP: whatever events are published, cut into whatever requests, in whatever shapes, as
 * often as one likes, by several publishers at once, what is stored is the set, once each, and all books balance
 * (G2, G3, G4, G5, G8).
 */
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { type Event, sameContent } from "../../src/domain/Event.ts"
import { KnownEventAnswer, PublishAnswer, TopicsAnswer } from "../../src/http/Api.ts"
import { anyEvent, collidingEvent, keyOf } from "../support/events.ts"
import { type RunningServer, withServer } from "../support/server.ts"
import { call, decoded, get, stats } from "./client.ts"

const shapes = ["array", "envelope", "ndjson", "chunked array", "single"] as const

/** A request: its events, its shape, and who sends it how often. */
interface Delivery {
  readonly events: ReadonlyArray<Event>
  readonly shape: (typeof shapes)[number]
  readonly publisher: number
  readonly times: number
}

interface Told {
  readonly event: Event
  readonly outcome: string
  readonly offset: number
}

const textOf = ({ topic, eventId, timestamp, source, payload, sequence, origin }: Event): string => {
  const further = { ...(sequence === null ? {} : { sequence }), ...(origin === null ? {} : { origin }) }
  const named = JSON.stringify({ topic, event_id: eventId, timestamp, source, ...further })
  return `${named.slice(0, -1)},"payload":${payload}}`
}

const bodyOf = (events: ReadonlyArray<string>, shape: Delivery["shape"]): string => {
  if (shape === "ndjson") return events.join("\n")
  if (shape === "envelope") return `{"events":[${events.join(",")}]}`
  return shape === "single" && events.length === 1 ? events.join("") : `[${events.join(",")}]`
}

const deliver = async (server: RunningServer, { events, shape }: Delivery): Promise<ReadonlyArray<Told>> => {
  const type = shape === "ndjson" ? "application/x-ndjson" : "application/json"
  const answer = await call(server, "POST", "/publish", {
    headers: { "content-type": type },
    body: bodyOf(events.map(textOf), shape),
    chunked: shape === "chunked array"
  })
  expect(answer.status, answer.text).toBe(202)
  const { accepted, stored, duplicates, conflicts, results = [] } = decoded(PublishAnswer, answer)
  const count = (wanted: string) => results.filter(({ outcome }) => outcome === wanted).length
  expect(accepted).toBe(events.length)
  expect([stored, duplicates, conflicts]).toEqual([count("stored"), count("duplicate"), count("conflict")])
  const offsets = results.filter(({ outcome }) => outcome === "stored").map(({ offset }) => offset)
  expect(offsets).toEqual(offsets.toSorted((left, right) => left - right))
  return events.map((event, index) => ({ event, outcome: "missing", offset: 0, ...results[index] }))
}

const publishers = 4

const anyDeliveries = (event: fc.Arbitrary<Event>): fc.Arbitrary<ReadonlyArray<Delivery>> =>
  fc.array(
    fc.record({
      events: fc.array(event, { minLength: 1, maxLength: 8 }),
      shape: fc.constantFrom(...shapes),
      publisher: fc.nat(publishers - 1),
      times: fc.integer({ min: 1, max: 3 })
    }),
    { minLength: 1, maxLength: 12 }
  )

const publishAll = async (server: RunningServer, deliveries: ReadonlyArray<Delivery>) => {
  const told = Array.from({ length: publishers }, async (_, publisher) => {
    const all: Array<Told> = []
    for (const delivery of deliveries) {
      if (delivery.publisher !== publisher) continue
      for (let time = 0; time < delivery.times; time++) all.push(...(await deliver(server, delivery)))
    }
    return all
  })
  return (await Promise.all(told)).flat()
}

const readAll = async (
  server: RunningServer
): Promise<ReadonlyArray<{ readonly offset: number; readonly text: string }>> => {
  const { text } = await get(server, "/events", { accept: "application/x-ndjson" })
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => ({
      offset: Number(/^\{"offset":(\d+),/.exec(line)?.[1]),
      text: `{${line.replace(/^\{"offset":\d+,/, "").replace(/,"processed_at":"[^"]*"\}$/, "}")}`
    }))
}

const readText = ({ topic, eventId, timestamp, source, payload, sequence, origin }: Event): string => {
  const named = JSON.stringify({ topic, event_id: eventId, timestamp, source })
  const further = JSON.stringify({
    ...(sequence === null ? {} : { sequence }),
    ...(origin === null ? {} : { origin })
  })
  return `${named.slice(0, -1)},"payload":${payload}${further === "{}" ? "" : `,${further.slice(1, -1)}`}}`
}

const holds = async (deliveries: ReadonlyArray<Delivery>) => {
  await withServer({}, async (server) => {
    const told = await publishAll(server, deliveries)
    const firsts = told.filter(({ outcome }) => outcome === "stored")
    // Stored was told once for each key, and the set of the keys is the set that was sent (G2).
    const keys = new Set(told.map(({ event }) => keyOf(event)))
    expect(firsts.map(({ event }) => keyOf(event)).toSorted()).toEqual([...keys].toSorted())
    // What is read is what was told to be stored, with its content, in the order of offsets (G3, G5).
    const inOrder = firsts.toSorted((left, right) => left.offset - right.offset)
    expect(await readAll(server)).toEqual(
      inOrder.map(({ event, offset }) => ({ offset, text: readText(event) }))
    )
    // Every other answer was honest: it named the first one's offset, and what the content says (G8).
    const byKey = new Map(firsts.map((first) => [keyOf(first.event), first]))
    for (const { event, outcome, offset } of told) {
      const first = byKey.get(keyOf(event))
      expect(offset).toBe(first?.offset)
      if (outcome !== "stored") {
        expect(outcome).toBe(
          first !== undefined && sameContent(first.event, event) ? "duplicate" : "conflict"
        )
      }
    }
    // The books say the same (G4).
    const conflicts = told.filter(({ outcome }) => outcome === "conflict")
    const books = await stats(server)
    expect(books).toMatchObject({
      received: told.length,
      unique_processed: keys.size,
      duplicate_dropped: told.length - keys.size,
      conflicts: conflicts.length,
      topics_total: new Set(told.map(({ event }) => event.topic)).size,
      queue: { events: 0, bytes: 0 }
    })
    const { topics } = decoded(TopicsAnswer, await get(server, "/topics?limit=1000"))
    for (const book of topics) {
      const inTopic = told.filter(({ event }) => event.topic === book.topic)
      const stored = inTopic.filter(({ outcome }) => outcome === "stored").map(({ offset }) => offset)
      expect(book).toMatchObject({
        events: stored.length,
        duplicates: inTopic.length - stored.length,
        conflicts: conflicts.filter(({ event }) => event.topic === book.topic).length,
        first_offset: Math.min(...stored),
        last_offset: Math.max(...stored)
      })
    }
    const [some] = firsts
    if (some === undefined) return
    const path = `/events/${some.event.topic}/${encodeURIComponent(some.event.eventId)}`
    const known = decoded(KnownEventAnswer, await get(server, path))
    const again = told.filter(
      ({ event, outcome }) => keyOf(event) === keyOf(some.event) && outcome !== "stored"
    )
    expect(known).toMatchObject({
      offset: some.offset,
      duplicates: again.length,
      conflicts: again.filter(({ outcome }) => outcome === "conflict").length
    })
  })
}

describe("each event takes effect once", () => {
  it("whose keys collide, from several publishers at once (G2-G5, G8)", async () => {
    await fc.assert(fc.asyncProperty(anyDeliveries(collidingEvent), holds), { numRuns: 25 })
  })

  it("whatever it holds, from several publishers at once (G2-G5, G8)", async () => {
    await fc.assert(fc.asyncProperty(anyDeliveries(anyEvent), holds), { numRuns: 10 })
  })
})
