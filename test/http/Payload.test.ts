/**
 * Payloads come back as equal JSON values, whatever JSON can say: numbers by exact decimal value, strings by code point,
 * every member. That they come back in the very text that was sent, less white space, shows it without another parser.
 */
import fc from "fast-check"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { anyJsonText } from "../support/events.ts"
import { type RunningServer, startServer } from "../support/server.ts"
import { event, faults, get, post, stats } from "./client.ts"

let server: RunningServer
beforeAll(async () => {
  server = await startServer()
})
afterAll(() => server.stop())

const withPayload = (topic: string, id: string, payload: string): string =>
  `${JSON.stringify(event(id, { topic })).slice(0, -1)},"payload":${payload}}`

const payloadOf = (text: string): string | undefined =>
  /"payload":([\s\S]*),"processed_at":"[^"]*"(,"duplicates":\d+,"conflicts":\d+,"last_duplicate_at":(null|"[^"]*"))?\}$/.exec(
    text
  )?.[1]

let topics = 0

/** Publishes payloads and reads each of them back in every way there is. */
const roundTrip = async (payloads: ReadonlyArray<string>): Promise<void> => {
  const topic = `payload-${topics++}`
  const body = `[${payloads.map((payload, n) => withPayload(topic, `${n}`, payload)).join(",")}]`
  const answer = await post(server, body)
  expect(answer.status, answer.text).toBe(202)
  const lines = await get(server, `/events?topic=${topic}`, { accept: "application/x-ndjson" })
  expect(lines.text.split("\n").slice(0, -1).map(payloadOf)).toEqual(payloads)
  const page = await get(server, `/events?topic=${topic}&limit=1000`)
  expect(page.text).toContain(`"events":[${lines.text.split("\n").slice(0, -1).join(",")}],"next"`)
  const [first] = payloads
  if (first === undefined) return
  expect(payloadOf((await get(server, `/events/${topic}/0`)).text)).toBe(first)
  const again = await post(server, body)
  expect(again.text).toContain(`"duplicates":${payloads.length},"conflicts":0`)
}

const deep = (depth: number): string => `${"[".repeat(depth)}${"]".repeat(depth)}`

describe("a payload", () => {
  it.each([
    ["every kind of value", ["null", "true", "false", "0", '""', "[]", "{}", '"text"', "[[],{}]"]],
    ["integers beyond 2^53", ["9007199254740993", "-12345678901234567890", "1".repeat(400)]],
    [
      "more digits than a double has",
      ["0.1", "0.1000000000000000055511151231257827", "3.14159265358979323846264338"]
    ],
    ["numbers beyond a double's range", ["1e400", "-1E+400", "1e-400", "5e-325", "1e99999999999999999999"]],
    ["numbers as they were spelt", ["-0", "-0.0", "0e0", "1.0", "1.50", "1E5", "1e+05", "100", "10e-1"]],
    [
      "__proto__ and what every object inherits",
      ['{"__proto__":1}', '{"__proto__":{"a":1},"constructor":null}']
    ],
    ["names that stand twice", ['{"a":1,"a":2}', '{"a":{"b":1,"b":1},"a":[]}', '{"\\u0061":1,"a":2}']],
    ["lone surrogates, as escapes", ['"\\ud800"', '"\\udc00\\ud800"', '{"\\udfff":"\\uD83D"}']],
    [
      "characters as escapes",
      ['"\\u0000"', '"a\\u0000b\\n\\/\\""', '"\\ud83d\\ude00"', '{"\\u0000":"\\u001f"}']
    ],
    ["characters as they are", ['"é日本語😀"', '"\u2028\u2029\u007f\uffff"', '{"😀":"\u00ad"}', '"\ufeff"']],
    ["integer-like names in their order", ['{"10":1,"2":2,"1":3,"a":4,"0":5}', '{"b":1,"1":2,"a":3}']],
    [
      "text that looks like JSON, SQL or a path",
      ['"{\\"a\\":1}"', '"\'; DROP TABLE event; --"', '"$.a[0]"', '"null"']
    ],
    ["empty names", ['{"":{"":[""]}}']],
    [
      "nesting, up to 500 deep",
      [deep(500), `${'{"a":'.repeat(500)}1${"}".repeat(500)}`, `[${deep(499)},${deep(499)}]`]
    ],
    ["long texts", [`"${"\\\\".repeat(50_000)}"`, `"${"😀".repeat(50_000)}"`, `[${"0,".repeat(50_000)}0]`]]
  ])("comes back as it was sent: %s", async (_what, payloads) => {
    await roundTrip(payloads)
  })

  it("is refused, not cut or altered, where it is nested more than 500 deep", async () => {
    const received = (await stats(server)).received
    for (const payload of [deep(501), `[${deep(500)}]`, `${'{"a":'.repeat(501)}1${"}".repeat(501)}`]) {
      const told = faults(await post(server, withPayload("deep", "1", payload)))
      expect(told.map(([pointer]) => pointer)).toEqual(["/payload"])
    }
    expect((await stats(server)).received).toBe(received)
  })

  it("loses insignificant white space, and nothing else", async () => {
    const spaced = '\t{ "a b" : [ 1 ,\r\n 2.0 , " x \\" " ] ,\n "c" : { } }  '
    const answer = await post(server, withPayload("spaced", "1", spaced))
    expect(answer.status).toBe(202)
    expect(payloadOf((await get(server, "/events/spaced/1")).text)).toBe('{"a b":[1,2.0," x \\" "],"c":{}}')
  })

  it.each([
    ["1", "1.0", "duplicate"],
    ["1", "10e-1", "duplicate"],
    ["-0", "0", "duplicate"],
    ["1e400", "10e399", "duplicate"],
    ["100000000000000000001", "1.00000000000000000001e20", "duplicate"],
    [`1${"0".repeat(400_000)}1`, `1${"0".repeat(400_000)}1.0`, "duplicate"],
    ['{"a":1,"b":2}', '{"b":2,"a":1}', "duplicate"],
    ['{"__proto__":1}', '{"\\u005f_proto__":1}', "duplicate"],
    ['"\\u00e9"', '"é"', "duplicate"],
    ['"\\ud83d\\ude00"', '"😀"', "duplicate"],
    ["9007199254740993", "9007199254740992", "conflict"],
    ["0.1", "0.10000000000000001", "conflict"],
    ["1e400", "1e401", "conflict"],
    ["1", '"1"', "conflict"],
    ["[1,2]", "[2,1]", "conflict"],
    ["{}", "[]", "conflict"],
    ["{}", '{"__proto__":{}}', "conflict"],
    ['{"a":null}', "{}", "conflict"],
    ['"\\ud800"', '"\\ud801"', "conflict"],
    ['"\\u0000"', '""', "conflict"],
    ['"é"', '"e\\u0301"', "conflict"],
    ["null", "false", "conflict"]
  ])("is compared as a JSON value (case %#)", async (first, second, outcome) => {
    const topic = `compared-${topics++}`
    expect((await post(server, withPayload(topic, "1", first))).status).toBe(202)
    expect((await post(server, withPayload(topic, "1", second))).text).toContain(`{"outcome":"${outcome}"`)
    expect(payloadOf((await get(server, `/events/${topic}/1`)).text)).toBe(first)
  })

  it("comes back as it was sent, whatever it is", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(anyJsonText, fc.json()), { minLength: 1, maxLength: 20 }),
        roundTrip
      ),
      { numRuns: 60 }
    )
  })
})
