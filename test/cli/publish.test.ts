/**
 * `sekali publish` as a process of its own against the real service: whatever is published, published again, grown or
 * renamed, each line is stored once, and what went wrong is told with its place and an exit code.
 */
import { spawnSync } from "node:child_process"
import { appendFileSync, mkdirSync, renameSync, writeFileSync } from "node:fs"
import { hostname } from "node:os"
import { join } from "node:path"
import { gzipSync } from "node:zlib"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { endCommands, run, start } from "../support/command.ts"
import { runHere } from "../support/commandline.ts"
import { cleanUp, type Serving, serve, temporaryFolder } from "../support/process.ts"
import { eventsOf, fileOf, logLines, storedLines } from "./logs.ts"

let service: Serving
let folder: string
let topic: string
let tests = 0

beforeAll(async () => {
  folder = temporaryFolder()
  service = await serve({
    database: join(folder, "sekali.db"),
    environment: { SEKALI_EVENT_BYTES_MAX: "4096" }
  })
})
afterAll(cleanUp)

// Each test has its own topic and files.
beforeEach(() => {
  topic = `test-${tests++}`
})
afterEach(endCommands)

const fileWith = (name: string, content: string | Buffer): string => {
  const path = join(folder, `${topic}-${name}`)
  writeFileSync(path, content)
  return path
}

/** Publishes an input in a process of its own; files that are named, in this one. */
const publish = (words: ReadonlyArray<string>, input?: string | Buffer) => {
  const all = ["publish", "--topic", topic, ...words]
  const { url } = service
  return input === undefined ? runHere(all, { url }) : run(all, { url, input })
}

/** What the summary counts. */
const summaryOf = (stderr: string) => {
  const found =
    /^sekali: .* events? in .*: ([\d,]+) stored, ([\d,]+) duplicates?, ([\d,]+) conflicts?, ([\d,]+) failed/m.exec(
      stderr
    )
  const [stored, duplicates, conflicts, failed] = (found ?? [])
    .slice(1)
    .map((number) => Number(number.replaceAll(",", "")))
  return { stored, duplicates, conflicts, failed }
}

/** Publishes, and expects that all is acknowledged: so many new ones, and so many that were known. */
const expectPublished = async (
  words: ReadonlyArray<string>,
  stored: number,
  duplicates: number,
  input?: string | Buffer
) => {
  const { code, stdout, stderr } = await publish(words, input)
  expect({ code, stdout, ...summaryOf(stderr) }, stderr).toEqual({
    code: 0,
    stdout: "",
    stored,
    duplicates,
    conflicts: 0,
    failed: 0
  })
  return stderr
}

const payloadsOf = async () => (await eventsOf(service.url, topic)).map(({ payload }) => payload)

describe("files", () => {
  it("are published line by line, in order, and once: again, grown, renamed, from a pipe", async () => {
    const lines = logLines(1100)
    const path = fileWith("app.log", fileOf(lines))
    expect(await expectPublished([path], 1100, 0, "")).not.toContain("\u001b")
    expect(await storedLines(service.url, topic)).toEqual(lines)
    await expectPublished([path], 0, 1100)

    const grown = logLines(300, 1100)
    appendFileSync(path, fileOf(grown))
    await expectPublished([path], 300, 1100)

    const rotated = `${path}.1`
    renameSync(path, rotated)
    const fresh = ["a new file", ...logLines(50)]
    writeFileSync(path, fileOf(fresh))
    await expectPublished([path, rotated], 51, 1400)
    await expectPublished([], 0, 1400, fileOf([...lines, ...grown]))
    await expectPublished(["-"], 0, 51, fileOf(fresh))
    expect(await storedLines(service.url, topic)).toEqual([...lines, ...grown, ...fresh])
  })

  it("are events with the host as their source and the time of reading", async () => {
    const before = Date.now()
    await expectPublished([fileWith("app.log", "a line\n")], 1, 0)
    const [event] = await eventsOf(service.url, topic)
    expect(event).toMatchObject({ source: hostname(), payload: { line: "a line" } })
    expect(event?.event_id).toMatch(/^[0-9a-f]{16}-0-[0-9a-f]{12}$/)
    expect(Date.parse(event?.timestamp ?? "")).toBeGreaterThanOrEqual(before)
    expect(Date.parse(event?.timestamp ?? "")).toBeLessThanOrEqual(Date.now())
  })

  it("count their last line as well, if it has no end, and once more if it grew", async () => {
    const path = fileWith("app.log", "one\ntwo")
    await expectPublished([path], 2, 0)
    appendFileSync(path, "\n")
    await expectPublished([path], 0, 2)
    appendFileSync(path, "thr")
    await expectPublished([path], 1, 2)
    appendFileSync(path, "ee\r\n")
    await expectPublished([path], 1, 2)
    expect(await storedLines(service.url, topic)).toEqual(["one", "two", "thr", "three"])
  })

  it("are told apart by their first line, or else by a source", async () => {
    const [one, other] = [fileWith("one", "head\nsame\n1\n"), fileWith("other", "head\nsame\n2\n")]
    await expectPublished([one], 3, 0)
    await expectPublished([other], 1, 2)
    await expectPublished(["--source", "other", other], 3, 0)
    expect(await storedLines(service.url, topic)).toEqual(["head", "same", "1", "2", "head", "same", "2"])
  })

  it("may hold anything", async () => {
    const long = "x".repeat(1500)
    const bytes = Buffer.from([0x61, 0xff, 0x00, 0x0a])
    const content = Buffer.concat([Buffer.from(`\ufeff${long}\n\u0000\u001b[31m\r\n\n`), bytes])
    await expectPublished([fileWith("anything", content)], 4, 0)
    expect(await payloadsOf()).toEqual([
      { line: long },
      { line: "\u0000\u001b[31m" },
      { line: "" },
      { line: "a\ufffd\u0000", base64: bytes.subarray(0, -1).toString("base64") }
    ])
    await expectPublished([fileWith("empty", "")], 0, 0)
  })

  it("may be pipes", async () => {
    const path = fileWith("pipe", "")
    spawnSync("sh", ["-c", `rm ${path}; mkfifo ${path}`])
    const publishing = publish([path], "")
    writeFileSync(path, "one\ntwo\n")
    expect((await publishing).code).toBe(0)
    expect(await storedLines(service.url, topic)).toEqual(["one", "two"])
  })

  it("that cannot be read are told, and the others are published", async () => {
    const good = fileWith("good.log", "a line\n")
    const gzipped = fileWith("app.log.gz", gzipSync("a line\n"))
    const sub = `${good}.d`
    mkdirSync(sub)
    const { code, stderr } = await publish([`${good}.not`, sub, gzipped, good])
    expect(code).toBe(1)
    expect(stderr).toContain(`sekali: ${good}.not cannot be read: there is no such file\n`)
    expect(stderr).toContain(`sekali: ${sub} cannot be read: it is a folder\n`)
    expect(stderr).toContain(
      `sekali: ${gzipped} is compressed (gzip); publish it with: zcat FILE | sekali publish\n`
    )
    expect(summaryOf(stderr)).toEqual({ stored: 1, duplicates: 0, conflicts: 0, failed: 3 })
    expect((await publish([`${good}.not`])).code).toBe(1)
  })
})

describe("events as NDJSON", () => {
  it("are published as they are, and what they leave out is filled in", async () => {
    const lines = [
      `{"topic":"${topic}","event_id":"a-1","timestamp":"2026-11-22T10:00:00Z","source":"a","payload":{"n":12345678901234567890}}`,
      "",
      '{"event_id":"a-2","payload":2}',
      '{"payload":3}'
    ]
    const path = fileWith("events.ndjson", fileOf(lines))
    await expectPublished(["--source", "b", path], 3, 0)
    await expectPublished(["--source", "b"], 0, 3, fileOf(lines))
    const events = await eventsOf(service.url, topic)
    expect(events).toMatchObject([
      { event_id: "a-1", source: "a", timestamp: "2026-11-22T10:00:00Z" },
      { event_id: "a-2", source: "b", payload: 2 },
      { event_id: expect.stringMatching(/^[0-9a-f]{16}-\d+-[0-9a-f]{12}$/), source: "b", payload: 3 }
    ])
    const stored = await fetch(`${service.url}/events/${topic}/a-1`)
    expect(await stored.text()).toContain('"payload":{"n":12345678901234567890}')
  })

  it("that conflict are told with their place, and end with 3 when all the others are in", async () => {
    const path = fileWith("events.ndjson", '{"event_id":"x","payload":1}\n')
    await expectPublished([path], 1, 0)
    writeFileSync(path, '{"event_id":"w"}\n{"event_id":"x","payload":2}\n{"event_id":"y"}\n')
    const { code, stderr } = await publish([path])
    expect(code).toBe(3)
    expect(stderr).toMatch(
      new RegExp(`^sekali: ${path}:2 \\(byte 17\\): conflict: ${topic}/x is known with other content`, "m")
    )
    expect(summaryOf(stderr)).toEqual({ stored: 2, duplicates: 0, conflicts: 1, failed: 0 })
    expect(await payloadsOf()).toEqual([1, {}, {}])
  })

  it("that are not valid are told with their line and what is wrong, and do not keep the others", async () => {
    const input = [
      '{"event_id":"1"}',
      '{"event_id":"2","timestamp":"yesterday","extra":1}',
      "no json",
      // The service of these tests takes no more than 4096 bytes.
      `{"event_id":"4","payload":"${"x".repeat(5000)}"}`,
      '{"event_id":"5"}'
    ]
    const { code, stderr } = await publish(["--format", "ndjson"], fileOf(input))
    expect(code).toBe(1)
    expect(stderr).toMatch(
      /^sekali: standard input:2 \(byte 17\): \/extra is not known here; \/timestamp must be an ISO 8601 /m
    )
    expect(stderr).toMatch(/^sekali: standard input:3 \(byte 68\): is not JSON: /m)
    expect(stderr).toMatch(/^sekali: standard input:4 \(byte 76\): .*\(413\).*more than 4096 bytes/m)
    expect(summaryOf(stderr)).toEqual({ stored: 2, duplicates: 0, conflicts: 0, failed: 3 })
    expect((await eventsOf(service.url, topic)).map(({ event_id }) => event_id)).toEqual(["1", "5"])
  })

  it("of which many are wrong do not flood what is said", async () => {
    const path = fileWith("wrong.ndjson", "{\n".repeat(100))
    const { stderr } = await publish(["--format", "ndjson", path])
    expect(stderr.split("\n").filter((line) => line.includes("is not JSON"))).toHaveLength(20)
    expect(summaryOf(stderr)).toMatchObject({ failed: 100 })
  })
})

describe("while it runs", () => {
  it("says every few seconds how far it is, without a terminal in plain lines", async () => {
    const command = start(["publish", "--topic", topic], { url: service.url })
    command.write("one\ntwo\n")
    await command.said(/^sekali: 2 events \(\d+\/s\): 2 stored, 0 duplicates, 0 conflicts, 0 failed\n/m)
    command.endInput()
    expect((await command.ended).code).toBe(0)
  })

  it.skipIf(process.platform !== "linux")(
    "draws a bar on a terminal, and leaves no trace of it",
    async () => {
      const path = fileWith("events.ndjson", '{"event_id":"1"}\nno json\n{"event_id":"2"}\n')
      const words = `stty cols 200; exec ${process.execPath} dist/main.js publish --topic ${topic} ${path}`
      const command = start(["--quiet", "--return", "--command", words, "/dev/null"], {
        url: service.url,
        command: ["script"]
      })
      const { code, stdout } = await command.ended
      expect(code).toBe(1)
      expect(stdout).toMatch(/-{16} 0 % \| 0 \(0\/s\) \| 0 stored, 0 duplicates/)
      const [, fault = ""] = stdout.split("\r\u001b[Ksekali: ")
      expect(fault).toMatch(/^.*events\.ndjson:2 \(byte 17\): is not JSON.*\r\n/)
      // Behind the last time that the bar was erased.
      expect(stdout.split("\u001b[2K").at(-1)).toMatch(/^sekali: 2 events in .*2 stored.*\r\n$/)
      // Wrapping of lines is off while there is a bar.
      expect(stdout.lastIndexOf("\u001b[?7h")).toBeGreaterThan(stdout.lastIndexOf("\u001b[?7l"))
    }
  )
})
