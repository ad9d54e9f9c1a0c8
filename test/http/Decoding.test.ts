/**
 * The reading of plain bodies, and the short way of a publish: each decides and answers exactly as the one that it
 * spares does.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { Either } from "effect"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { concatenate } from "../../src/http/Body.ts"
import { decodeBody, decodeText } from "../../src/http/Decoding.ts"
import { markPlain } from "../../src/http/PlainBody.ts"
import { withServer } from "../support/server.ts"
import { event, post } from "./client.ts"

const oddText = fc.constantFrom(
  "",
  "a",
  "A.b",
  "a..b",
  "é",
  "\u0000",
  "\ud800",
  "x".repeat(255),
  "x".repeat(256),
  "😀".repeat(255)
)
const odd = fc.oneof(
  oddText,
  fc.constantFrom<unknown>(null, true, 0, -1, 1.5, 2 ** 53, [], {}),
  fc.jsonValue()
)
const often = <A>(right: fc.Arbitrary<A>) =>
  fc.oneof({ weight: 30, arbitrary: right as fc.Arbitrary<unknown> }, { weight: 1, arbitrary: odd })

const member = (name: string, value: fc.Arbitrary<unknown>) => fc.tuple(fc.constant(name), value)
const timestamp = fc.constantFrom(
  "2026-11-22T10:00:00Z",
  "2026-11-22T17:00:00.25+07:00",
  "2026-02-29T10:00:00Z",
  "2026-11-22T10:00:00",
  "2016-12-31T23:59:60Z"
)
const sometimes = (name: string, value: fc.Arbitrary<unknown>, freq: number) =>
  fc.option(member(name, value), { freq, nil: undefined })

const eventId = fc.oneof(
  { weight: 3, arbitrary: fc.stringMatching(/^[a-zé0-9 :-]{1,20}$/) },
  { weight: 1, arbitrary: fc.string({ minLength: 1, unit: "grapheme" }) }
)

/** The members of an event in any order, nearly always right; sometimes one is missing or stands twice. */
const members = fc
  .tuple(
    fc.tuple(
      member("topic", often(fc.constantFrom("app.log", "App.LOG"))),
      member("event_id", often(eventId)),
      member("timestamp", often(timestamp)),
      member("source", often(fc.constantFrom("service-a", "ß"))),
      sometimes("payload", fc.jsonValue(), 4),
      sometimes("origin", often(fc.constant("store-1")), 1),
      sometimes("sequence", often(fc.nat()), 1),
      fc.constantFrom(
        undefined,
        undefined,
        undefined,
        undefined,
        undefined,
        undefined,
        undefined,
        undefined,
        ["__proto__", 1] as const,
        ["more", 1] as const
      )
    ),
    fc.constantFrom(...Array.from({ length: 10 }, () => "whole"), "one less", "one twice")
  )
  .chain(([given, form]) => {
    const all = given.filter((it) => it !== undefined)
    const list =
      form === "one less" ? all.slice(1) : form === "one twice" ? [...all, ...all.slice(0, 1)] : all
    return fc.shuffledSubarray(list, { minLength: list.length })
  })

const textOf = (list: ReadonlyArray<readonly [string, unknown]>): string =>
  `{${list.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(",")}}`

const space = fc.constantFrom("", "", "", " ", "\n", "\r\n", "\t ")
const spaced = (values: fc.Arbitrary<ReadonlyArray<readonly [string, unknown]>>) =>
  fc
    .tuple(values, space, space, fc.constantFrom(undefined, undefined, 1))
    .map(
      ([list, before, after, indent]) =>
        `{${list
          .map(
            ([name, value]) =>
              `${before}${JSON.stringify(name)}${after}:${JSON.stringify(value, null, indent)}`
          )
          .join(",")}${after}}`
    )

/** Bodies of every shape, most of them right. */
const bodyText = fc
  .tuple(fc.array(spaced(members), { minLength: 1, maxLength: 3 }), space, fc.nat(4))
  .map(([events, around, shape]) =>
    shape === 0
      ? `${around}[${events.join(`${around},`)}]${around}`
      : shape === 1
        ? `{${around}"events"${around}:[${events.join(",")}]${around}}`
        : shape === 2
          ? events.join("\n\n")
          : shape === 3
            ? events.join("\r\n")
            : `${around}${events[0]}${around}`
  )

/** What may be wrong with them: characters that are put in, left out or put in the place of others. */
const harm = fc.array(
  fc.tuple(
    fc.double({ min: 0, max: 1, noNaN: true }),
    fc.nat(2),
    fc.constantFrom(...'"\\{}[],:.-+eEu019 \n\t\u0000\u007f\u0085é\ud83d\ude00nulltruefalse')
  ),
  { maxLength: 2 }
)

const harmed = ([text, harms]: readonly [string, ReadonlyArray<readonly [number, number, string]>]) =>
  harms.reduce((sofar, [where, removed, added]) => {
    const at = Math.floor(where * sofar.length)
    return sofar.slice(0, at) + (removed === 2 ? "" : added) + sofar.slice(at + Math.min(removed, 1))
  }, text)

const limits = { requestEventsMax: 2, eventBytesMax: 1200 }

const plainEvents = (text: string, type: "json" | "ndjson", within: typeof limits) =>
  markPlain(text, type, within)?.events(text)

const body = fc.oneof(fc.tuple(bodyText, fc.constant([])), fc.tuple(bodyText, harm)).map(harmed)

describe("a plain body", () => {
  it.each(["json", "ndjson"] as const)(
    "of %s is one that the contract takes, and gives the same events",
    (type) => {
      let taken = 0
      fc.assert(
        fc.property(body, (text) => {
          const plain = plainEvents(text, type, limits)
          if (plain === undefined) return
          taken++
          const expected = decodeText(text, type, limits)
          expect(Either.right(plain)).toEqual(expected)
          // What is no UTF-16 is another text as bytes; a mark of the byte order is no part of it.
          if (/\p{Surrogate}/u.test(text)) return
          for (const body of [text, `\ufeff${text}`]) {
            const waiting = decodeBody(Buffer.from(body), type, limits)
            expect(Either.map(waiting, (events) => events.unpack())).toEqual(expected)
          }
        }),
        { numRuns: 4000 }
      )
      expect(taken).toBeGreaterThan(30)
    }
  )

  it("is what nearly all send", () => {
    const plain = { topic: "App.LOG", event_id: "é-1", timestamp: "2026-11-22T10:00:00Z", source: "ß" }
    const payload = {
      text: 'a "quoted" \\ \u0001 😀',
      list: [1, -0.5, 1e21, true, false, null, [], {}],
      deep: { a: { b: 1 } }
    }
    const events = [plain, { ...plain, payload }, { payload, sequence: 42, ...plain, origin: "store-1" }]
    const bodies = {
      json: [
        JSON.stringify(events),
        JSON.stringify(events, null, 2),
        JSON.stringify({ events }),
        JSON.stringify(events[2])
      ],
      ndjson: [events.map((each) => JSON.stringify(each)).join("\n"), `${JSON.stringify(plain)}\r\n\r\n`]
    }
    for (const type of ["json", "ndjson"] as const) {
      for (const text of bodies[type]) {
        const found = plainEvents(text, type, { requestEventsMax: 3, eventBytesMax: 4000 })
        expect(Either.right(found)).toEqual(
          decodeText(text, type, { requestEventsMax: 3, eventBytesMax: 4000 })
        )
      }
    }
  })
})

describe("the events of a body that waits", () => {
  // Bodies whose events have their parts at different places.
  const textOfBody = (name: string, count: number) =>
    JSON.stringify(
      Array.from({ length: count }, (_, n) => ({
        ...event(`${name}-${n}`),
        ...(n % 3 === 0 ? { sequence: n } : {}),
        ...(n % 5 === 0 ? { origin: `store-${name}` } : {})
      }))
    )
  const within = { requestEventsMax: 1000, eventBytesMax: 4000 }
  const bytesOf = (name: string, count: number) => Buffer.from(textOfBody(name, count))

  it("are its own, whatever bodies are read before they are made", () => {
    const texts = [1, 700, 3, 300, 2].map((count, index) => textOfBody("b".repeat(index + 1), count))
    const waiting = texts.map((text) => Either.getOrThrow(decodeBody(Buffer.from(text), "json", within)))
    for (const [index, text] of texts.entries()) {
      const expected = Either.getOrThrow(decodeText(text, "json", within))
      expect(waiting[index]?.length).toBe(expected.length)
      expect(waiting[index]?.unpack()).toEqual(expected)
      expect(waiting[index]?.unpack(), "made again").toEqual(expected)
    }
  })

  it("G6: are held in memory of their own, also where the body came in pieces", () => {
    const body = concatenate([Buffer.from('{"n":'), Buffer.from("1}")])
    expect(Buffer.from(body).toString()).toBe('{"n":1}')
    expect(body.buffer.byteLength).toBe(7)
  })

  it("G6: are no objects until they are made", () => {
    setFlagsFromString("--expose-gc")
    const collect = runInNewContext("gc") as () => void
    const bodies = Array.from({ length: 200 }, (_, n) => bytesOf(`${n}`, 100))
    const heapGrowth = (make: (body: Buffer) => unknown): number => {
      collect()
      const before = process.memoryUsage().heapUsed
      const held = bodies.map(make)
      collect()
      const grown = process.memoryUsage().heapUsed - before
      expect(held.length).toBe(bodies.length)
      return grown
    }
    const read = (body: Buffer) => Either.getOrThrow(decodeBody(body, "json", within))
    const made = heapGrowth((body) => read(body).unpack())
    const waiting = heapGrowth(read)
    expect(waiting).toBeLessThan(made / 10)
  })
})

describe("the short way of a publish", () => {
  it("answers every body as the long way does", async () => {
    const bodies = fc.sample(
      fc.oneof(
        fc
          .array(members, { minLength: 1, maxLength: 3 })
          .map((events) => `[${events.map(textOf).join(",")}]`),
        fc.constantFrom("", "{", "[]", "null", '{"events":[]}', "\ufeff{}", " 1 "),
        fc.nat(5).map((n) => JSON.stringify(event(`${n}`)))
      ),
      { numRuns: 150, seed: 7 }
    )
    // Who says how the body is encoded takes the long way.
    const answers = (headers: Readonly<Record<string, string>>) =>
      withServer({}, async (server) => {
        const all: Array<{ readonly status: number }> = []
        for (const [index, body] of bodies.entries()) {
          const type = index % 5 === 0 ? "application/x-ndjson" : "application/json"
          const further = index % 3 === 0 ? { prefer: "return=minimal" } : {}
          const answer = await post(server, body, { "content-type": type, ...further, ...headers })
          const { status, headers: told, text } = answer
          const { date: _, ...rest } = told
          all.push({ status, ...{ told: rest, text } })
        }
        return all
      })
    const short = await answers({})
    expect(short).toEqual(await answers({ "content-encoding": "identity" }))
    expect(new Set(short.map(({ status }) => status))).toEqual(new Set([202, 400, 422]))
  })
})
