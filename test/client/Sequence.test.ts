/**
 * The window that brings events into sequence, and the parser of the stream: plain state, tried with any order, losses,
 * repetitions and cuts.
 */
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import type { FollowedEvent } from "../../src/client/Follower.ts"
import { type Delivery, makeWindow } from "../../src/client/Sequence.ts"
import { makeParser } from "../../src/client/ServerSentEvents.ts"

const eventAt = (offset: number, source: string, sequence: number | undefined): FollowedEvent => ({
  offset,
  topic: "t",
  event_id: String(offset),
  timestamp: "",
  source,
  payload: null,
  ...(sequence === undefined ? {} : { sequence }),
  processed_at: "",
  json: ""
})

const deliver = (
  events: ReadonlyArray<FollowedEvent>,
  limits: { heldEventsMax: number; heldMillisMax: number }
): ReadonlyArray<Delivery> => {
  const window = makeWindow(limits)
  // A millisecond passes between events, and in the end as much as it takes.
  const deliveries = events.flatMap((event, n) => {
    const now = BigInt(n) * 1_000_000n
    return [...window.expire(now), ...window.offer(event, now)]
  })
  const rest = window.expire(BigInt(events.length + limits.heldMillisMax) * 1_000_000n)
  expect(window.dueAt()).toBeUndefined()
  return [...deliveries, ...rest]
}

const anySequences = fc.array(
  fc.record({
    source: fc.constantFrom("a", "b"),
    sequence: fc.option(fc.integer({ min: 0, max: 30 }), { nil: undefined, freq: 8 })
  }),
  { maxLength: 60 }
)

const anyLimits = fc.record({ heldEventsMax: fc.nat(10), heldMillisMax: fc.nat(20) })

describe("the window", () => {
  it("delivers each event once; in sequence but for those it calls late; and tells each number it goes on without", () => {
    fc.assert(
      fc.property(anySequences, anyLimits, (sequences, limits) => {
        const events = sequences.map(({ source, sequence }, n) => eventAt(n + 1, source, sequence))
        const deliveries = deliver(events, limits)
        const offsets = deliveries.flatMap((delivery) =>
          delivery._tag === "Event" ? [delivery.event.offset] : []
        )
        expect([...offsets].sort((left, right) => left - right)).toEqual(events.map(({ offset }) => offset))
        const next = new Map<string, number>()
        const delivered = new Set<number>()
        for (const delivery of deliveries) {
          if (delivery._tag === "Missing") {
            expect(delivery.from).toBe(next.get(delivery.source))
            expect(delivery.to).toBeGreaterThanOrEqual(delivery.from)
            next.set(delivery.source, delivery.to + 1)
          } else {
            const { source, sequence, offset } = delivery.event
            delivered.add(offset)
            for (let n = 1; n <= delivery.cursor; n++) expect(delivered).toContain(n)
            if (sequence === undefined) continue
            const wanted = next.get(source)
            if (!delivery.late) {
              expect(sequence).toBe(wanted ?? sequence)
              next.set(source, sequence + 1)
            }
          }
        }
      })
    )
  })

  it("brings any order back that its bounds can hold, and tells nothing missing", () => {
    const anyOrder = fc.shuffledSubarray([1, 2, 3, 4, 5, 6, 7, 8], { minLength: 8 })
    fc.assert(
      fc.property(anyOrder, (order) => {
        const events = [0, ...order].map((sequence, n) => eventAt(n + 1, "a", sequence))
        const deliveries = deliver(events, { heldEventsMax: 8, heldMillisMax: 100 })
        expect(
          deliveries.map((delivery) => (delivery._tag === "Event" ? delivery.event.sequence : "missing"))
        ).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8])
      })
    )
  })

  it("holds no more events than it may, and none for longer than it may", () => {
    const window = makeWindow({ heldEventsMax: 2, heldMillisMax: 10 })
    const offered = [0, 5, 7, 6].map((sequence, n) => window.offer(eventAt(n + 1, "a", sequence), 0n))
    expect(offered.map((deliveries) => deliveries.length)).toEqual([1, 0, 0, 4])
    expect(window.dueAt()).toBeUndefined()
    expect(window.offer(eventAt(5, "a", 9), 3_000_000n)).toEqual([])
    expect(window.dueAt()).toBe(13_000_000n)
    expect(window.expire(12_999_999n)).toEqual([])
    expect(window.expire(13_000_000n)).toMatchObject([
      { _tag: "Missing", from: 8, to: 8, cursor: 4 },
      { _tag: "Event", cursor: 5, late: false }
    ])
    expect(window.offer(eventAt(6, "a", 8), 14_000_000n)).toMatchObject([{ late: true, cursor: 6 }])
  })
})

describe("the parser", () => {
  it("gives the same blocks wherever the bytes are cut", () => {
    const text =
      'retry: 1000\nid: 3\n\n: heartbeat\nid: 4\n\nid: 5\r\nevent: message\r\ndata: {"é":"\u2028 😀"}\r\n\r\n\n\ndata:one\ndata: two\nid\n\n'
    const blocks = [
      { id: "3", event: "message", data: undefined },
      { id: "4", event: "message", data: undefined },
      { id: "5", event: "message", data: '{"é":"\u2028 😀"}' },
      { id: "", event: "message", data: "one\ntwo" }
    ]
    const bytes = new TextEncoder().encode(text)
    fc.assert(
      fc.property(fc.array(fc.nat(bytes.length)), (cuts) => {
        const edges = [0, ...cuts, bytes.length].sort((left, right) => left - right)
        const parse = makeParser()
        const pieces = edges.slice(1).map((end, index) => bytes.subarray(edges[index], end))
        expect(pieces.flatMap((piece) => parse(piece) ?? [])).toEqual(blocks)
      })
    )
  })

  it("gives up a block that does not end", () => {
    const parse = makeParser()
    const piece = new Uint8Array(20 * 1024 * 1024).fill(120)
    const answers = Array.from({ length: 7 }, () => parse(piece)?.length)
    expect(answers.at(0)).toBe(0)
    expect(answers.at(-1)).toBeUndefined()
  })
})
