/**
 * The quick look at an event, and the short way of a publish: each decides and answers exactly as the one that it
 * spares does.
 */
import { Either, Option, Schema } from "effect"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { compactAt, membersAt } from "../../src/domain/Json.ts"
import { parseTimestamp } from "../../src/domain/Timestamp.ts"
import { PublishedEvent, strict } from "../../src/http/Api.ts"
import { plainEvent } from "../../src/http/Decoding.ts"
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
  fc.oneof({ weight: 12, arbitrary: right as fc.Arbitrary<unknown> }, { weight: 1, arbitrary: odd })

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

/** The members of an event in any order, nearly always right; sometimes one is missing or stands twice. */
const members = fc
  .tuple(
    fc.tuple(
      member("topic", often(fc.constantFrom("app.log", "App.LOG"))),
      member("event_id", often(fc.string({ minLength: 1, unit: "grapheme" }))),
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
        ["__proto__", 1] as const,
        ["more", 1] as const
      )
    ),
    fc.constantFrom("whole", "whole", "whole", "whole", "one less", "one twice")
  )
  .chain(([given, form]) => {
    const all = given.filter((it) => it !== undefined)
    const list =
      form === "one less" ? all.slice(1) : form === "one twice" ? [...all, ...all.slice(0, 1)] : all
    return fc.shuffledSubarray(list, { minLength: list.length })
  })

const textOf = (list: ReadonlyArray<readonly [string, unknown]>): string =>
  `{${list.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(",")}}`

describe("the quick look at an event", () => {
  it("takes what the contract's schema takes, but for numbered events, and makes the same of it", () => {
    fc.assert(
      fc.property(members, (list) => {
        const text = textOf(list)
        const value = JSON.parse(text) as Record<string, unknown>
        const found = membersAt(text, 0)
        const payloadAt = found.find(({ name }) => name === "payload")?.value
        const payload = payloadAt === undefined ? "{}" : compactAt(text, payloadAt)
        const isOnce = new Set(found.map(({ name }) => name)).size === found.length
        const known = Schema.decodeUnknownEither(PublishedEvent, strict)(value)
        const plain = plainEvent(value, found, payload)
        if (Either.isLeft(known) || !isOnce || known.right.sequence !== undefined) {
          expect(plain).toBeUndefined()
          return
        }
        const { topic, event_id, timestamp, source, origin } = known.right
        expect(plain).toEqual({
          topic,
          eventId: event_id,
          timestamp,
          time: Option.getOrThrow(parseTimestamp(timestamp)),
          source,
          payload,
          sequence: null,
          origin: origin ?? null
        })
      }),
      { numRuns: 3000 }
    )
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
