/**
 * The rows of the contract's second table that are the publisher's to mend: 400, 413, 415 and 422. Whatever is refused
 * leaves nothing behind: after each, the books say that nothing was received and the queue holds nothing.
 */
import { createHash } from "node:crypto"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { type RunningServer, startServer, until, withServer } from "../support/server.ts"
import { call, event, faults, get, post, problem, publish, publishHead, raw, stats } from "./client.ts"

let server: RunningServer
beforeAll(async () => {
  server = await startServer({
    settings: {
      requestBytesMax: 65_536,
      eventBytesMax: 4096,
      requestEventsMax: 20,
      queueEventsMax: 100,
      queueBytesMax: 200_000
    }
  })
})
afterAll(() => server.stop())
afterEach(async () => {
  expect(await stats(server)).toMatchObject({
    received: 0,
    last_offset: 0,
    topics_total: 0,
    queue: { events: 0, bytes: 0 }
  })
  expect((await get(server, "/events")).text).toContain('"count":0')
})

const json = { "content-type": "application/json" }
const ndjson = { "content-type": "application/x-ndjson" }
const good = JSON.stringify(event("good"))
const pointers = async (body: unknown, headers = json) =>
  faults(await post(server, typeof body === "string" ? body : JSON.stringify(body), headers)).map(
    ([at]) => at
  )

describe("400: what cannot be read", () => {
  it.each([
    ["an empty body", ""],
    ["white space", " \n"],
    ["text", "hello"],
    ["half an object", good.slice(0, -1)],
    ["an object and more", `${good} ${good}`],
    ["lines of JSON as JSON", `${good}\n${good}`],
    ["single quotes", good.replaceAll('"', "'")],
    ["a trailing comma", `[${good},]`],
    ["NaN", '{"payload":NaN}'],
    ["a leading zero", '{"sequence":01}'],
    ["a bare control character in a string", '{"topic":"a\nb"}'],
    ["a comment", `/* */${good}`],
    ["two byte order marks", `\uFEFF\uFEFF${good}`]
  ])("refuses %s as not JSON", async (_what, body) => {
    problem(await post(server, body), 400, "malformed-body")
  })

  it.each([
    ["a lone continuation byte", [0x80]],
    ["Latin-1", [0xe9]],
    ["an overlong form", [0xc0, 0xaf]],
    ["a surrogate", [0xed, 0xa0, 0x80]],
    ["beyond Unicode", [0xf4, 0x90, 0x80, 0x80]],
    ["a cut character", [0xf0, 0x9f, 0x98]]
  ])("refuses invalid UTF-8: %s", async (_what, bytes) => {
    for (const headers of [json, ndjson]) {
      const body = Buffer.concat([
        Buffer.from(good.slice(0, -1)),
        Buffer.from(',"payload":"'),
        Buffer.from(bytes),
        Buffer.from('"}')
      ])
      problem(await post(server, body, headers), 400, "malformed-body")
    }
  })

  it("refuses UTF-16, with and without its byte order mark", async () => {
    for (const text of [good, `\uFEFF${good}`]) {
      problem(await post(server, Buffer.from(text, "utf16le")), 400, "malformed-body")
    }
  })

  it("refuses NDJSON with a line that is not JSON, and names the line", async () => {
    const told = problem(await post(server, `${good}\n\n{]\n${good}`, ndjson), 400, "malformed-body")
    expect(told.detail).toMatch(/^Line 3 /)
    problem(await post(server, "", ndjson), 400, "malformed-body")
    problem(await post(server, JSON.stringify(event("1"), null, 2), ndjson), 400, "malformed-body")
  })
})

describe("422: members that are missing, wrong or unknown", () => {
  const required = ["/topic", "/event_id", "/timestamp", "/source"]

  it("names every member that is missing", async () => {
    expect((await pointers({})).toSorted()).toEqual(required.toSorted())
    const told = faults(await post(server, "{}"))
    expect(new Set(told.map(([, detail]) => detail))).toEqual(new Set(["is missing"]))
  })

  it.each([
    [
      "topic",
      ["", ".", "a.", ".a", "a..b", "a b", "a/b", "ä", "\u212a", "*", "a.>", "x".repeat(256), 1, null, [], {}]
    ],
    [
      "event_id",
      ["", "a\u0000", "a\nb", "\u007f", "\u0085", "x".repeat(256), "😀".repeat(256), 1, null, ["a"]]
    ],
    ["source", ["", "\t", "x".repeat(256), false, null]],
    [
      "timestamp",
      [
        "",
        "2026-11-22",
        "2026-11-22T10:00:00",
        "2026-02-29T10:00:00Z",
        "2026-11-31T10:00:00Z",
        "2026-13-01T10:00:00Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T10:60:00Z",
        "2026-11-22T10:00:60Z",
        "2026-11-22T10:00:00+24:00",
        " 2026-11-22T10:00:00Z",
        "2026-11-22T10:00:00Z\n",
        "Sun, 22 Nov 2026 10:00:00 GMT",
        1_763_805_600_000,
        null
      ]
    ],
    ["sequence", [-1, 1.5, "1", null, 9_007_199_254_740_992, true]],
    ["origin", ["", 1, null, "a\u0000"]]
  ])("names a wrong %s, whatever is wrong with it", async (member, values) => {
    for (const value of values) {
      const [fault, ...others] = faults(await post(server, JSON.stringify(event("1", { [member]: value }))))
      expect([fault?.[0], others]).toEqual([`/${member}`, []])
      expect(fault?.[1]).toMatch(/^must be /)
    }
  })

  it("refuses lone surrogates in names, which come as escapes", async () => {
    for (const member of ["event_id", "source", "origin", "topic"]) {
      for (const text of ["\\ud800", "a\\udc00", "\\udc00\\ud800"]) {
        const body = JSON.stringify(event("1", { [member]: "@" })).replace('"@"', `"${text}"`)
        expect(await pointers(body)).toEqual([`/${member}`])
      }
    }
  })

  it("refuses unknown members by name, also those that every object inherits", async () => {
    for (const name of [
      "eventId",
      "Topic",
      "offset",
      "processed_at",
      "__proto__",
      "constructor",
      "toString",
      "",
      "a/b~c"
    ]) {
      const body = `${good.slice(0, -1)},${JSON.stringify(name)}:1}`
      const pointer = `/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`
      expect(faults(await post(server, body))).toEqual([[pointer, "is not known here"]])
    }
  })

  it("takes no member from __proto__ of the body", async () => {
    const body = `{"__proto__":${good},"events":[${good}]}`
    expect(await pointers(body)).toEqual(["/__proto__"])
    expect((await pointers(`{"__proto__":${good}}`)).toSorted()).toEqual(
      ["/__proto__", ...required].toSorted()
    )
  })

  it("refuses members that stand more than once, equal or not, however they are spelt", async () => {
    for (const again of ['"topic":"test.topic"', '"topic":"other"', '"\\u0074opic":"x"', '"topic":1']) {
      expect(faults(await post(server, `${good.slice(0, -1)},${again}}`))).toContainEqual([
        "/topic",
        "stands more than once"
      ])
    }
    expect(faults(await post(server, `{"events":[${good}],"events":[${good}]}`))).toEqual([
      ["/events", "stands more than once"]
    ])
  })

  it("refuses what is no event where one should be", async () => {
    for (const value of ["1", '"a"', "null", "true"]) expect(await pointers(value)).toEqual([""])
    expect(await pointers(`[${good},1,[${good}],null]`)).toEqual(["/1", "/2", "/3"])
    expect(await pointers(`{"events":[null,${good},"x"]}`)).toEqual(["/events/0", "/events/2"])
    expect(await pointers(`${good}\nnull\n[${good}]`, ndjson)).toEqual(["/1", "/2"])
    expect(await pointers(`{"events":${good}}`)).toEqual(["/events"])
    expect(await pointers('{"events":null}')).toEqual(["/events"])
  })

  it("refuses an empty batch in every shape", async () => {
    expect(await pointers("[]")).toEqual([""])
    expect(await pointers('{"events":[]}')).toEqual(["/events"])
    expect(await pointers("\n \r\n", ndjson)).toEqual([""])
  })

  it("refuses unknown members of the envelope by name", async () => {
    expect(await pointers({ events: [event("1")], source: "a" })).toEqual(["/source"])
    expect((await pointers({ ...event("1"), events: [event("1")] })).toSorted()).toEqual(required.toSorted())
  })

  it("names every invalid event by its place, in each shape of body, and stores none of the valid ones", async () => {
    const bad = { ...event("1", { timestamp: "now" }), level: "info" }
    const { source: _source, ...without } = event("2")
    const batch = [event("0"), bad, event("1"), without]
    const at = (prefix: string, bad: number, without: number) => [
      `${prefix}/${bad}/level`,
      `${prefix}/${bad}/timestamp`,
      `${prefix}/${without}/source`
    ]
    expect(await pointers(bad)).toEqual(["/level", "/timestamp"])
    expect(await pointers(batch)).toEqual(at("", 1, 3))
    expect(await pointers({ events: batch })).toEqual(at("/events", 1, 3))
    const lines = batch.map((one) => JSON.stringify(one))
    expect(await pointers(lines.join("\n"), ndjson)).toEqual(at("", 1, 3))
    // Lines are counted as they stand, blank ones too.
    expect(await pointers(`\n\n${lines.join("\n \n")}`, ndjson)).toEqual(at("", 4, 8))
  })

  it("refuses a payload that is nested more than 500 deep, wherever it stands", async () => {
    const deep = (depth: number) => `${"[".repeat(depth)}${"]".repeat(depth)}`
    const nested = (depth: number) => `${good.slice(0, -1)},"payload":{"a":[1,${deep(depth - 2)}]}}`
    const told = faults(await post(server, nested(501)))
    expect(told).toEqual([["/payload", "must not be nested more than 500 deep"]])
    expect(await pointers(`[${good},${nested(600)}]`)).toEqual(["/1/payload"])
  })

  it("answers nesting of any depth, anywhere in a body, as bad input", async () => {
    const deep = `${"[".repeat(15_000)}${"]".repeat(15_000)}`
    const object = `${'{"a":'.repeat(8000)}1${"}".repeat(8000)}`
    const big = await startServer()
    try {
      for (const nest of [deep, object]) {
        for (const body of [nest, `{"events":${nest}}`, `{"topic":${nest}}`, `{"x":${nest}}`, `[${nest}]`]) {
          problem(await post(big, body), 422, "invalid-input")
        }
        problem(await post(big, `{"payload":${nest.slice(0, -1)}}`), 400, "malformed-body")
      }
      expect((await stats(big)).received).toBe(0)
    } finally {
      await big.stop()
    }
  })
})

describe("415: types and encodings that are not read", () => {
  it.each([
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/xml",
    "application/problem+json",
    "application/jsonl",
    "application/json-seq",
    "*/*",
    "json",
    "application/json, text/plain"
  ])("refuses the content type %s", async (type) => {
    problem(await post(server, good, { "content-type": type }), 415, "unsupported-body")
  })

  it("refuses a charset that is not UTF-8", async () => {
    for (const charset of ["latin1", "utf-16", '"iso-8859-1"', "us-ascii"]) {
      for (const type of ["application/json", "application/x-ndjson"]) {
        const headers = { "content-type": `${type}; charset=${charset}` }
        problem(await post(server, good, headers), 415, "unsupported-body")
      }
    }
  })

  it("refuses a content encoding, before the body is read", async () => {
    for (const encoding of ["gzip", "br", "deflate", "zstd", "identity, gzip", "GZIP"]) {
      problem(await post(server, good, { ...json, "content-encoding": encoding }), 415, "unsupported-body")
    }
    const client = await raw(server)
    client.write(publishHead("content-encoding: gzip", "content-length: 1000"))
    await until(() => client.received().includes("\r\n\r\n{"))
    expect(client.received()).toMatch(/^HTTP\/1\.1 415 /)
    client.destroy()
  })
})

describe("413: what is over a limit", () => {
  it("refuses a body by its length before a byte of it is sent", async () => {
    const client = await raw(server)
    client.write(publishHead(`content-length: ${65_536 + 1}`))
    await until(() => client.received().endsWith("}"))
    expect(client.received()).toMatch(
      /^HTTP\/1\.1 413 [\s\S]*\r\n\r\n\{"type":"urn:sekali:problem:too-large"/
    )
    client.destroy()
  })

  it("refuses it before a client that asks is told to go on", async () => {
    const client = await raw(server)
    client.write(publishHead("content-length: 99999999999", "expect: 100-continue"))
    await until(() => client.received().endsWith("}"))
    expect(client.received()).toMatch(/^HTTP\/1\.1 413 /)
    client.destroy()
  })

  it("refuses a body in chunks as soon as it is over the limit, while more is to come", async () => {
    const client = await raw(server)
    client.write(publishHead("transfer-encoding: chunked"))
    const chunk = `1000\r\n${" ".repeat(4096)}\r\n`
    for (let sent = 0; sent <= 65_536; sent += 4096) client.write(chunk)
    await until(() => client.received().endsWith("}") || client.ended())
    expect(client.received()).toMatch(/^HTTP\/1\.1 413 /)
    client.destroy()
    problem(
      await call(server, "POST", "/publish", { headers: json, body: " ".repeat(65_537), chunked: true }),
      413,
      "too-large"
    )
  })

  it("refuses more events than a request may have, in every shape", async () => {
    const many = Array.from({ length: 21 }, (_, n) => event(`${n}`))
    problem(await post(server, JSON.stringify(many)), 413, "too-large")
    problem(await post(server, JSON.stringify({ events: many })), 413, "too-large")
    problem(await post(server, many.map((one) => JSON.stringify(one)).join("\n"), ndjson), 413, "too-large")
  })

  it("refuses an event over its limit, counted in bytes, and says which", async () => {
    const tooLarge = JSON.stringify(event("1", { payload: "é".repeat(2100) }))
    problem(await post(server, tooLarge), 413, "too-large")
    expect(problem(await post(server, `[${good},${tooLarge}]`), 413, "too-large").detail).toContain("/1 ")
    expect(problem(await post(server, `${good}\n${tooLarge}`, ndjson), 413, "too-large").detail).toContain(
      "/1 "
    )
  })
})

describe("the limits of the contract", () => {
  it("are those of the settings, also where they allow bodies only that are small anyway", async () => {
    await withServer({ settings: { requestBytesMax: 2000, eventBytesMax: 1000 } }, async (server) => {
      const body = (bytes: number) => `${good}${" ".repeat(bytes - good.length)}`
      problem(await post(server, body(2001)), 413, "too-large")
      expect((await post(server, body(2000))).status).toBe(202)
    })
  })

  it("are exact: 16 MiB of body, 10,000 events and 1 MiB of event are taken, and nothing beyond", async () => {
    await withServer({}, async (server) => {
      const mebibyte = 1024 * 1024
      const padded = (bytes: number) => {
        const empty = JSON.stringify(event("1", { payload: "" })).length
        return JSON.stringify(event("1", { payload: "x".repeat(bytes - empty) }))
      }
      expect((await post(server, padded(mebibyte))).status).toBe(202)
      problem(await post(server, padded(mebibyte + 1)), 413, "too-large")
      const body = (bytes: number) => `${good}${" ".repeat(bytes - good.length)}`
      expect((await post(server, body(16 * mebibyte))).status).toBe(202)
      problem(await post(server, body(16 * mebibyte + 1)), 413, "too-large")
      const events = (count: number) => Array.from({ length: count }, (_, n) => event(`${n}`))
      expect(await publish(server, events(10_000))).toMatchObject({ accepted: 10_000 })
      problem(await post(server, JSON.stringify(events(10_001))), 413, "too-large")
      expect(await stats(server)).toMatchObject({ received: 10_002, queue: { events: 0, bytes: 0 } })
    })
  })
})

describe("what is not HTTP", () => {
  const refused = async (request: string | Uint8Array) => {
    const client = await raw(server)
    client.write(request)
    await until(client.ended)
    client.destroy()
    return client.received()
  }

  it("answers headers over their limit, and a URL that is, with 431", async () => {
    const long = "x".repeat(20_000)
    for (const request of [
      publishHead(`x-long: ${long}`, "content-length: 2"),
      `GET /events?source=${long} HTTP/1.1\r\nhost: a\r\n\r\n`,
      `GET /stats HTTP/1.1\r\nhost: a\r\n${Array.from({ length: 2000 }, (_, n) => `x-${n}: 1234567\r\n`).join("")}\r\n`
    ]) {
      const answer = await refused(request)
      expect(answer).toMatch(
        /^HTTP\/1\.1 431 [\s\S]*content-type: application\/problem\+json[\s\S]*"status":431/
      )
    }
    expect((await get(server, `/events?source=${"x".repeat(10_000)}`)).status).toBe(422)
  })

  it("answers what is no HTTP, or no sound HTTP, with 400 as a problem", async () => {
    const digest = createHash("sha512").update("noise").digest()
    for (const request of [
      "hello\r\n\r\n",
      digest,
      "GET /stats HTTP/9.9\r\nhost: a\r\n\r\n",
      publishHead("content-length: -1"),
      publishHead("content-length: 1x"),
      publishHead("content-length: 5", "content-length: 6"),
      publishHead("content-length: 5", "transfer-encoding: chunked"),
      `${publishHead("transfer-encoding: chunked")}zz\r\n`,
      "GET / HTTP/1.1\r\nhost: a\r\nbad header: \u0000\r\n\r\n"
    ]) {
      const answer = await refused(request)
      expect(answer).toMatch(/HTTP\/1\.1 400 [\s\S]*content-type: application\/problem\+json/)
    }
  })
})
