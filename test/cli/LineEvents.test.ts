/**
 * Lines to events. A line's event follows from its bytes and its place alone, so that shipping it again is a duplicate and
 * never a conflict; nothing that was in a line is missing from its event; and what cannot be an event is told.
 */
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { type Format, type Made, makeLineEvents, ndjsonBytesMax, notLines } from "../../src/cli/LineEvents.ts"
import { makeLineReader, partBytesMax } from "../../src/cli/Lines.ts"
import { JsonText } from "../../src/client/Publisher.ts"

const readAt = "2026-11-23T10:00:00.000Z"

const madeOf = (
  input: Buffer | string,
  { format = "auto" as Format, source = "web-1", topic = "logs", bytesMax = partBytesMax } = {}
): ReadonlyArray<Made> => {
  const reader = makeLineReader(bytesMax)
  const events = makeLineEvents(format, { topic, source })
  const bytes = Buffer.from(input)
  return [...reader.push(bytes), ...reader.end()].flatMap((line) => events.take(line, readAt))
}

const eventsOf = (...parameters: Parameters<typeof madeOf>) =>
  madeOf(...parameters).map((made) => {
    if (made._tag === "Fault") throw new Error(made.detail)
    return made.event
  })

const faultsOf = (input: string, format: Format = "ndjson") =>
  madeOf(input, { format }).flatMap((made) =>
    made._tag === "Fault" ? [[made.line.number, made.line.position, made.detail] as const] : []
  )

/** The line that an event was made of. */
const bytesOf = ({ payload }: { readonly payload?: unknown }): Buffer => {
  const { line, base64 } = payload as { readonly line: string; readonly base64?: string }
  return base64 === undefined ? Buffer.from(line) : Buffer.from(base64, "base64")
}

describe("a plain line", () => {
  it("is an event with the line as its payload", () => {
    expect(eventsOf("first line\nsecond\n")).toEqual([
      {
        topic: "logs",
        event_id: "7c80d78ca4464695-0-1de24ae78ad0",
        timestamp: readAt,
        source: "web-1",
        payload: { line: "first line" }
      },
      {
        topic: "logs",
        event_id: "7c80d78ca4464695-11-16367aacb67a",
        timestamp: readAt,
        source: "web-1",
        payload: { line: "second" }
      }
    ])
  })

  it("keeps every byte, whatever bytes they are, in an event that fits into a service's limits", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (array) => {
        const bytes = Buffer.from(array).map((byte) => (byte === 0x0a ? 0x0b : byte)) as Buffer
        const whole = bytes.subarray(0, bytes.at(-1) === 0x0d ? -1 : undefined)
        const events = eventsOf(Buffer.concat([Buffer.from("first\n"), bytes]), {
          format: "lines",
          bytesMax: 32
        })
        expect(Buffer.concat(events.slice(1).map(bytesOf))).toEqual(whole)
      })
    )
    // The worst there is: every byte six times as long in JSON, and once more as base64 for one that is no text.
    const worst = Buffer.alloc(partBytesMax)
    worst[7] = 0xff
    const [event] = eventsOf(worst)
    expect(JSON.stringify(event).length).toBeLessThan(1024 * 1024)
    expect(bytesOf(event ?? {})).toEqual(worst)
  })

  it("says which part of its line it is, and comes with its bytes if they are no text", () => {
    const long = "x".repeat(partBytesMax)
    const payloads = eventsOf(Buffer.from(`\u0000\u001b[31m\n${long}${long}y\n`)).map(
      ({ payload }) => payload
    )
    expect(payloads).toEqual([
      { line: "\u0000\u001b[31m" },
      { line: long },
      { line: long, part: 2 },
      { line: "y", part: 3 }
    ])
    const broken = Buffer.from([0x61, 0xff, 0xc3, 0x28])
    expect(eventsOf(broken)[0]?.payload).toEqual({
      line: "a\ufffd\ufffd(",
      base64: broken.toString("base64")
    })
  })

  it("never conflicts: an equal id has equal content, whatever the files", () => {
    const known = new Map<string, string>()
    const anyFile = fc
      .array(fc.constantFrom("\n", "\n", "a", "b", "\xff", "\xc3", "\xa9", "\r"), { maxLength: 12 })
      .map((pieces) => Buffer.from(pieces.join(""), "latin1"))
    let again = 0
    fc.assert(
      fc.property(
        anyFile,
        fc.constantFrom("x", "y"),
        fc.integer({ min: 4, max: 6 }),
        (file, source, bytesMax) => {
          for (const { event_id = "", source: from, payload } of eventsOf(file, { source, bytesMax })) {
            const content = JSON.stringify([from, payload])
            if (known.has(event_id)) again++
            expect(known.get(event_id) ?? content).toBe(content)
            known.set(event_id, content)
          }
        }
      ),
      { numRuns: 3000 }
    )
    expect(again).toBeGreaterThan(1000)
  })
})

describe("a line of NDJSON", () => {
  it("is a whole event, exact to the last digit", () => {
    const [event] = eventsOf(
      '  {"topic":"Shop.Orders","event_id":"o-1","timestamp":"2026-11-22T10:00:00Z","source":"shop","payload":{"n":12345678901234567890, "x":1e400},"sequence":7,"origin":"store-2"}\r\n',
      { format: "ndjson" }
    )
    expect(event).toEqual({
      topic: "shop.orders",
      event_id: "o-1",
      timestamp: "2026-11-22T10:00:00Z",
      source: "shop",
      payload: new JsonText('{"n":12345678901234567890,"x":1e400}'),
      sequence: 7,
      origin: "store-2"
    })
  })

  it("has what it leaves out filled in, and its id follows from the line", () => {
    const input = '{"payload":1}\n\n \t\n{"payload":1}\n{"event_id":"mine","topic":"a"}\n'
    const events = eventsOf(input)
    expect(events.map(({ topic, source, timestamp }) => [topic, source, timestamp])).toEqual([
      ["logs", "web-1", readAt],
      ["logs", "web-1", readAt],
      ["a", "web-1", readAt]
    ])
    expect(events.map(({ event_id }) => event_id)).toEqual([
      expect.stringMatching(/^[0-9a-f]{16}-0-[0-9a-f]{12}$/),
      expect.stringMatching(/^[0-9a-f]{16}-18-[0-9a-f]{12}$/),
      "mine"
    ])
    expect(eventsOf(input)).toEqual(events)
    expect(eventsOf("{}\n", { format: "ndjson" })).toHaveLength(1)
  })

  it("may be longer than a part of a plain line", () => {
    const payload = "x".repeat(3 * partBytesMax)
    const [first, second] = eventsOf(`{"payload":"${payload}"}\n{"payload":2}`)
    expect(first?.payload).toEqual(new JsonText(`"${payload}"`))
    expect(second?.payload).toEqual(new JsonText("2"))
    expect(second?.event_id).toMatch(new RegExp(`-${payload.length + 15}-`))
  })

  it("is a fault where it is no event, with its line, its place and what is wrong", () => {
    expect(
      faultsOf(
        '{"payload":1}\nnot json\n[1]\n"text"\n7\nnull\n\n{"topic":"a b","source":null,"level":"info"}\n{"a":1,"a":2}\n{"pay'
      )
    ).toEqual([
      [2, 14, expect.stringMatching(/^is not JSON: /)],
      [3, 23, "must be an event, which is an object"],
      [4, 27, "must be an event, which is an object"],
      [5, 34, "must be an event, which is an object"],
      [6, 36, "must be an event, which is an object"],
      [8, 42, expect.stringMatching(/\/level is not known here.*\/topic must be .*\/source must be /)],
      [9, 87, expect.stringMatching(/\/a is not known here.*\/a stands more than once/)],
      [
        10,
        101,
        expect.stringMatching(
          /^is not JSON: .*; the line has no end: if it is being written, publish it again/
        )
      ]
    ])
    const [fault] = madeOf(Buffer.from([0x7b, 0xff, 0x7d]), { format: "ndjson" })
    expect(fault).toMatchObject({ _tag: "Fault", detail: "is not UTF-8" })
  })

  it("is a fault, once, where it is too long to be held, and the next one is read", () => {
    const reader = makeLineReader()
    const events = makeLineEvents("ndjson", { topic: "logs", source: "web-1" })
    const take = (bytes: Buffer) => reader.push(bytes).flatMap((line) => events.take(line, readAt))
    const mebibyte = Buffer.alloc(1024 * 1024, "x")
    const made: Array<ReadonlyArray<Made>> = []
    for (let read = 0; read < ndjsonBytesMax + 3 * mebibyte.length; read += mebibyte.length) {
      made.push(take(mebibyte))
    }
    // It is told as soon as it is too long, and not held to its end.
    expect(made.slice(0, -3).flat()).toEqual([])
    expect(made.flat()).toMatchObject([{ _tag: "Fault", line: { number: 1, position: 0 } }])
    expect(take(Buffer.from('\n{"payload":2}\n'))).toMatchObject([
      { _tag: "Event", line: { number: 2, position: ndjsonBytesMax + 3 * mebibyte.length + 1 } }
    ])
  })
})

describe("the format", () => {
  it.each([
    "a line",
    "",
    "{",
    "[]",
    "{}",
    "null",
    '{"level":30,"msg":"hello"}',
    '{"timestamp":"2026-11-22T10:00:00Z","source":"x"}',
    '{"payload":1,"level":30}',
    ' {"payload":1}',
    '{"payload":'
  ])("is plain lines if the first line is %s", (first) => {
    const payloads = eventsOf(`${first}\n{"payload":1}\n`).map(({ payload }) => payload)
    expect(payloads).toEqual([{ line: first }, { line: '{"payload":1}' }])
  })

  it.each([
    '{"payload":1}',
    '{"event_id":"x"}',
    '{"topic":"a","event_id":"x","timestamp":"t","source":"s","payload":0,"sequence":1,"origin":"o"}'
  ])("is NDJSON if the first line is %s", (first) => {
    expect(madeOf(`${first}\nno json\n`)[1]).toMatchObject({ _tag: "Fault" })
  })

  it("can be said", () => {
    expect(bytesOf(eventsOf('{"payload":1}\n', { format: "lines" })[0] ?? {}).toString()).toBe(
      '{"payload":1}'
    )
    expect(madeOf("a line\n", { format: "ndjson" })).toMatchObject([{ _tag: "Fault" }])
  })

  it("is plain lines if the first line is an endless object", () => {
    const long = `{"a":"${"x".repeat(ndjsonBytesMax)}"}`
    const events = eventsOf(`${long}\nnext\n`)
    expect(Buffer.concat(events.slice(0, -1).map(bytesOf)).toString()).toBe(long)
    expect(events.at(-1)?.payload).toEqual({ line: "next" })
  })

  it.each([
    [[0x1f, 0x8b, 0x08], /gzip.*zcat FILE/],
    [[0x28, 0xb5, 0x2f, 0xfd], /zstd.*zstdcat FILE/],
    [[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], /xz.*xzcat FILE/],
    [[0xff, 0xfe, 0x61, 0x00], /UTF-16.*iconv/],
    [[0xfe, 0xff, 0x00, 0x61], /UTF-16.*iconv/]
  ])("is none for an input that begins with %s", (bytes, why) => {
    const reader = makeLineReader()
    const [first] = [...reader.push(Buffer.from(bytes)), ...reader.end()]
    expect(first === undefined ? "" : notLines(first)).toMatch(why)
  })

  it("has nothing against other inputs", () => {
    for (const text of ["", "a", "\u001f", "\ufeffa", "(µ/ý"]) {
      const [first] = makeLineReader().push(Buffer.from(`${text}\n`))
      expect(first === undefined ? "" : notLines(first)).toBeUndefined()
    }
  })
})
