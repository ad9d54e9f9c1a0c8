/**
 * Made-up bodies, headers, paths and queries: none is answered with 500, none is left without an answer, and none is
 * stored half. After each, the books have moved by exactly what the answers told.
 */
import fc from "fast-check"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { PublishAnswer } from "../../src/http/Api.ts"
import { anyJsonText } from "../support/events.ts"
import { type RunningServer, startServer, until } from "../support/server.ts"
import { type Answer, call, decoded, event, get, raw, stats } from "./client.ts"

let server: RunningServer
/** What all answers so far have told. */
let told = { received: 0, stored: 0, conflicts: 0 }

beforeAll(async () => {
  server = await startServer({
    settings: { requestBytesMax: 20_000, eventBytesMax: 2000, requestEventsMax: 50 }
  })
})
afterAll(() => server.stop())
afterEach(() => {
  expect(server.logs.filter((line) => !line.startsWith("INFO") && !line.includes("conflict"))).toEqual([])
})

const statusesOfPublish = [202, 400, 413, 415, 422]

const checked = async (answer: Answer): Promise<void> => {
  expect(answer.status, answer.text).not.toBe(500)
  if (answer.status === 202) {
    const { accepted, stored, duplicates, conflicts } = decoded(PublishAnswer, answer)
    expect(accepted).toBe(stored + duplicates + conflicts)
    told = {
      received: told.received + accepted,
      stored: told.stored + stored,
      conflicts: told.conflicts + conflicts
    }
  } else if (answer.status >= 400) {
    expect(answer.headers["content-type"]).toBe("application/problem+json")
    expect(JSON.parse(answer.text)).toMatchObject({ status: answer.status })
  }
  expect(await stats(server)).toMatchObject({
    received: told.received,
    unique_processed: told.stored,
    conflicts: told.conflicts,
    queue: { events: 0, bytes: 0 }
  })
}

const publishRaw = async (body: Uint8Array | string, headers: Record<string, string>, chunked: boolean) => {
  const answer = await call(server, "POST", "/publish", { headers, body, chunked })
  expect(statusesOfPublish, answer.text).toContain(answer.status)
  await checked(answer)
}

const types = fc.constantFrom("application/json", "application/x-ndjson", "application/json; charset=utf-8")

const value: fc.Arbitrary<unknown> = fc.oneof(
  fc.jsonValue(),
  fc.constantFrom(
    "test.topic",
    "2026-11-22T10:00:00Z",
    "1",
    1,
    -1,
    1e21,
    "",
    null,
    [],
    {},
    "\u0000",
    "\ud800"
  )
)

/** Something near an event: members that are right, wrong, missing, unknown or there twice. */
const nearEvent: fc.Arbitrary<string> = fc
  .array(
    fc.oneof(
      {
        weight: 8,
        arbitrary: fc.constantFrom(...Object.entries(event("1", { payload: { a: [1, "b"] }, sequence: 1 })))
      },
      {
        weight: 1,
        arbitrary: fc.tuple(
          fc.constantFrom(
            "topic",
            "event_id",
            "timestamp",
            "source",
            "payload",
            "sequence",
            "origin",
            "events",
            "__proto__",
            "x"
          ),
          value
        )
      }
    ),
    { maxLength: 12 }
  )
  .map((members) => {
    const kept = members.length > 9 ? members : [...new Map(members)]
    return `{${kept.map(([name, member]) => `${JSON.stringify(name)}:${JSON.stringify(member)}`).join(",")}}`
  })

const goodEvent: fc.Arbitrary<string> = fc
  .record({ id: fc.constantFrom("1", "2", "3", "4"), payload: anyJsonText })
  .map(({ id, payload }) => `${JSON.stringify(event(id)).slice(0, -1)},"payload":${payload}}`)

const body: fc.Arbitrary<string> = fc
  .record({
    events: fc.array(fc.oneof({ weight: 3, arbitrary: goodEvent }, nearEvent), { maxLength: 6 }),
    shape: fc.constantFrom("array", "envelope", "lines", "first")
  })
  .map(({ events, shape }) => {
    if (shape === "array") return `[${events.join(",")}]`
    if (shape === "envelope") return `{"events":[${events.join(",")}]}`
    return shape === "lines" ? events.join("\n") : (events[0] ?? "")
  })

/** A change to bytes: something cut out, put in, doubled or turned over. */
const mutation = fc.record({
  kind: fc.constantFrom("cut", "insert", "double", "flip"),
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  length: fc.nat(12),
  bytes: fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 4 }),
    fc
      .constantFrom('"', "\\", "{", "}", "[", "]", ",", ":", "\n", "\u0000", "é", "\ufeff", "1e999", "-")
      .map((text) => Buffer.from(text))
  )
})

const mutate = (
  text: string,
  mutations: ReadonlyArray<typeof mutation extends fc.Arbitrary<infer A> ? A : never>
) => {
  let bytes = Buffer.from(text)
  for (const { kind, at, length, bytes: other } of mutations) {
    const from = Math.floor(at * bytes.length)
    const [before, middle, after] = [
      bytes.subarray(0, from),
      bytes.subarray(from, from + length),
      bytes.subarray(from + length)
    ]
    if (kind === "cut") bytes = Buffer.concat([before, after])
    else if (kind === "insert") bytes = Buffer.concat([before, other, middle, after])
    else if (kind === "double") bytes = Buffer.concat([before, middle, middle, after])
    else
      bytes = Buffer.concat([
        before,
        middle.map((byte, index) => byte ^ (other[index % other.length] ?? 1)),
        after
      ])
  }
  return bytes
}

describe("made-up bodies are answered as the contract says, and never stored half", () => {
  it("structures near what is right", async () => {
    await fc.assert(
      fc.asyncProperty(body, types, fc.boolean(), (text, type, chunked) =>
        publishRaw(text, { "content-type": type }, chunked)
      ),
      { numRuns: 120 }
    )
    expect(told.received).toBeGreaterThan(0)
  })

  it("right ones with bytes cut out, put in, doubled or turned over", async () => {
    await fc.assert(
      fc.asyncProperty(
        body,
        fc.array(mutation, { minLength: 1, maxLength: 4 }),
        types,
        async (text, mutations, type) => {
          await publishRaw(mutate(text, mutations), { "content-type": type }, false)
        }
      ),
      { numRuns: 200 }
    )
  })

  it("bytes of any kind", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          fc.string({ unit: "binary" }).map((text) => Buffer.from(text))
        ),
        types,
        fc.boolean(),
        (bytes, type, chunked) => publishRaw(bytes, { "content-type": type }, chunked)
      ),
      { numRuns: 80 }
    )
  })

  it("any JSON, over the limits too", async () => {
    const large = fc
      .tuple(anyJsonText, fc.integer({ min: 1, max: 4000 }))
      .map(([text, times]) => `[${Array.from({ length: times }, () => text).join(",")}]`)
    await fc.assert(
      fc.asyncProperty(fc.oneof(anyJsonText, large), types, fc.boolean(), (text, type, chunked) =>
        publishRaw(text, { "content-type": type }, chunked)
      ),
      { numRuns: 60 }
    )
  })
})

const headerValue = fc.oneof(
  fc.constantFrom(
    "",
    "*/*",
    "gzip",
    "close",
    "100-continue",
    "application/x-ndjson",
    "return=minimal",
    "bytes=0-1",
    "0"
  ),
  fc.constantFrom("h2c", "websocket", ";;;", "=", '"', "utf-8", "application/json;charset", "a".repeat(2000)),
  fc.string({
    unit: fc
      .integer({ min: 0x20, max: 0xff })
      .filter((code) => code !== 0x7f)
      .map((code) => String.fromCharCode(code))
  })
)

const header = fc.tuple(
  fc.constantFrom(
    "accept",
    "accept-encoding",
    "prefer",
    "content-type",
    "content-encoding",
    "upgrade",
    "te",
    "range",
    "if-none-match",
    "cookie",
    "origin",
    "authorization",
    "x-forwarded-for",
    "x-http-method-override",
    "traceparent",
    "b3",
    "connection"
  ),
  headerValue
)

const fragment = fc.oneof(
  fc.constantFrom(
    "/",
    "/publish",
    "/events",
    "/stats",
    "/topics",
    "/conflicts",
    "/health/ready",
    "/openapi.json"
  ),
  fc.constantFrom(
    "/test.topic",
    "/1",
    "%2F",
    "%25",
    "%",
    "%00",
    "%ff",
    "%C3%A9",
    "..",
    ".",
    ";",
    "*",
    ":topic",
    "//"
  ),
  fc.constantFrom(
    "?",
    "&",
    "=",
    "limit",
    "=5",
    "after=0",
    "topic=",
    "a.>",
    "order=desc",
    "since=2026-01-01T00:00:00Z"
  ),
  fc.constantFrom(
    "__proto__",
    "[]",
    "[a]=b",
    "+",
    "http://a/stats",
    "@",
    "\\",
    "|",
    "'",
    "<script>",
    "x".repeat(300)
  ),
  fc.string({
    unit: fc
      .integer({ min: 0x21, max: 0xff })
      .filter((code) => code !== 0x7f)
      .map((code) => String.fromCharCode(code))
  })
)

/** Sends a request head and a body as they are, and reads the answer up to the end of the connection. */
const exchange = async (head: string, sent: string): Promise<Answer> => {
  const client = await raw(server)
  client.write(Buffer.from(`${head}\r\n\r\n${sent}`, "latin1"))
  await until(client.ended)
  client.destroy()
  const [answerHead = "", text = ""] = client.received().split(/\r\n\r\n([\s\S]*)/)
  const [first = "", ...headers] = answerHead.split("\r\n")
  return {
    status: Number(/^HTTP\/1\.1 (\d{3}) /.exec(first)?.[1]),
    headers: Object.fromEntries(
      headers.map((line) => {
        const [name = "", value = ""] = line.split(/:\s*([\s\S]*)/)
        return [name.toLowerCase(), value]
      })
    ),
    text
  }
}

describe("made-up headers, paths and queries are answered, and never with 500", () => {
  const sound = JSON.stringify(event("1"))

  it("headers of a publish", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(header, { maxLength: 6 }), async (headers) => {
        const lines = headers.map(([name, value]) => `${name}: ${value}`)
        const answer = await exchange(
          [
            "POST /publish HTTP/1.1",
            "host: a",
            ...lines,
            "connection: close",
            `content-length: ${sound.length}`
          ].join("\r\n"),
          sound
        )
        expect(statusesOfPublish, answer.text).toContain(answer.status)
        await checked(answer)
      }),
      { numRuns: 120 }
    )
  })

  it("paths and queries with any method", async () => {
    const method = fc.constantFrom(
      "GET",
      "GET",
      "GET",
      "HEAD",
      "POST",
      "PUT",
      "DELETE",
      "OPTIONS",
      "PATCH",
      "PROPFIND"
    )
    await fc.assert(
      fc.asyncProperty(
        method,
        fc.array(fragment, { maxLength: 6 }),
        fc.array(header, { maxLength: 2 }),
        async (method, parts, headers) => {
          const lines = headers.map(([name, value]) => `${name}: ${value}`)
          const target = `/${parts.join("")}`
          const answer = await exchange(
            [
              `${method} ${target} HTTP/1.1`,
              "host: a",
              ...lines,
              "connection: close",
              "content-length: 0"
            ].join("\r\n"),
            ""
          )
          expect([200, 400, 404, 405, 415, 422], `${method} ${target}: ${answer.text}`).toContain(
            answer.status
          )
          await (method === "HEAD" || answer.status === 200
            ? checked({ ...answer, status: 0 })
            : checked(answer))
        }
      ),
      { numRuns: 200 }
    )
  })

  it("queries of every endpoint", async () => {
    const name = fc.constantFrom(
      "topic",
      "event_id",
      "source",
      "since",
      "until",
      "limit",
      "order",
      "after",
      "x",
      "__proto__"
    )
    const parameter = fc.tuple(
      name,
      fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("0", "5", "a.*", "desc", "%"))
    )
    const path = fc.constantFrom(
      "/events",
      "/conflicts",
      "/topics",
      "/stats",
      "/events/test.topic/1",
      "/health/ready"
    )
    await fc.assert(
      fc.asyncProperty(path, fc.array(parameter, { maxLength: 4 }), async (path, parameters) => {
        const query = parameters.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&")
        const answer = await get(server, `${path}?${query}`)
        expect([200, 404, 422], answer.text).toContain(answer.status)
        await checked(answer)
      }),
      { numRuns: 200 }
    )
  })
})
