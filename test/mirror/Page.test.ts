/**
 * Pages as text: what is cut out of them is exact, and what is no page, or one that does not lead on, is none.
 */
import { Option } from "effect"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { JsonText } from "../../src/client/Publisher.ts"
import { eventJson } from "../../src/http/Events.ts"
import { parsePage } from "../../src/mirror/Page.ts"
import { anyEvent, makeEvent } from "../support/events.ts"

const page = (offsets: ReadonlyArray<number>, further: Readonly<Record<string, unknown>> = {}) => {
  const events = offsets.map((offset) => ({
    ...makeEvent({ eventId: `e${offset}` }),
    offset,
    processedAt: 0,
    late: false
  }))
  const list = events.map((event) => eventJson(event)).join(",")
  const rest = JSON.stringify({
    topic: null,
    count: events.length,
    next: offsets.at(-1) ?? 0,
    more: false,
    ...further
  })
  return `{"events":[${list}],${rest.slice(1)}`
}

describe("a page", () => {
  it("gives back each event as the service writes it", () => {
    fc.assert(
      fc.property(
        fc.array(anyEvent, { maxLength: 8 }),
        fc.constantFrom("", " ", "\r\n\t"),
        (events, space) => {
          const list = events.map((event, index) =>
            eventJson({ ...event, offset: index + 1, processedAt: 0, late: false })
          )
          const next = events.length
          const text = `${space}{${space}"next"${space}:${next},"topic":null,"count":${next},${space}"events":[${space}${list.join(
            `${space},${space}`
          )}${space}],"more":false${space}}${space}`
          const read = Option.getOrThrow(parsePage(text, 0))
          expect(read).toEqual({
            next,
            more: false,
            events: events.map(({ topic, eventId, timestamp, source, payload, sequence, origin }, index) => ({
              offset: index + 1,
              event: {
                topic,
                event_id: eventId,
                timestamp,
                source,
                payload: new JsonText(payload),
                sequence: sequence ?? undefined,
                origin: origin ?? undefined
              }
            }))
          })
        }
      )
    )
  })

  it("of a newer service may have members that are not known here", () => {
    const text = page([1])
      .replace('"offset":1', '"offset":1,"new":{"payload":2}')
      .replace("{", '{"other":[],')
    expect(Option.map(parsePage(text, 0), ({ events }) => events.map(({ event }) => event.payload))).toEqual(
      Option.some([new JsonText("{}")])
    )
  })

  it.each([
    ["no JSON", "{", 0],
    ["another answer", "{}", 0],
    ["without a payload", page([1]).replace('"payload":{},', ""), 0],
    ["from before the cursor", page([3]), 3],
    ["out of order", page([2, 1], { next: 2 }), 0],
    ["twice the same", page([2, 2]), 0],
    ["that leads back behind its events", page([4, 5], { next: 4 }), 0],
    ["that leads nowhere", page([], { next: 3, more: true }), 3],
    ["that leads back", page([], { next: 2 }), 3]
  ])("is none: %s", (_what, text, after) => {
    expect(parsePage(text, after)).toEqual(Option.none())
  })
})
