/**
 * `sekali tail`, as a process against real services: where it begins, what it prints, that it survives a restart of the
 * service without losing or repeating a line, and how it ends.
 */
import { join } from "node:path"
import { afterEach, describe, expect, it } from "vitest"
import { event, publish } from "../http/client.ts"
import { publish as publishTo, type SentEvent } from "../support/client.ts"
import { endCommands, run, start } from "../support/command.ts"
import { cleanUp, serve, temporaryFolder } from "../support/process.ts"
import { scripted, startProxy } from "../support/proxy.ts"
import { until, withServer } from "../support/server.ts"

afterEach(async () => {
  await endCommands()
  await cleanUp()
})

const idsOf = (stdout: string) =>
  stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => (JSON.parse(line) as { event_id: string }).event_id)

describe("sekali tail", () => {
  it("prints from an offset, only what matches, and ends at its limit; lines are as GET /events gives them", async () => {
    await withServer({}, async (server) => {
      await publish(server, [
        event("1", { topic: "shop.orders", payload: { total: 1 } }),
        event("2", { topic: "shop.orders.eu" }),
        event("3", { topic: "shop.orders", source: "other" }),
        event("4", { topic: "shop.orders", payload: 12345678901234567000 })
      ])
      const words = ["tail", "shop.*", "--after", "0", "--source", "service-a", "--limit", "2"]
      const ended = await run(words, { url: server.url })
      expect([ended.code, ended.stderr, idsOf(ended.stdout)]).toEqual([0, "", ["1", "4"]])
      const { events } = (await (await fetch(`${server.url}/events?event_id=1`)).json()) as {
        events: ReadonlyArray<unknown>
      }
      expect([JSON.parse(ended.stdout.split("\n")[0] ?? "")]).toEqual(events)
    })
  })

  it("prints lines for people, in which nothing moves the cursor of a terminal", async () => {
    await withServer({}, async (server) => {
      await publish(server, [
        event("1", { payload: { line: "a \u001b[31mred\u001b[0m line" } }),
        event("2", { source: "s\u202ex", payload: { n: 1 } })
      ])
      const { code, stdout } = await run(["tail", "--after", "0", "--limit", "2", "--format", "pretty"], {
        url: server.url
      })
      expect(code).toBe(0)
      expect(stdout).toBe(
        [
          "1  2026-11-22T10:00:00.123Z  test.topic  service-a  1  a \\u001b[31mred\\u001b[0m line",
          '2  2026-11-22T10:00:00.123Z  test.topic  s\\u202ex  2  {"n":1}',
          ""
        ].join("\n")
      )
    })
  })

  it("begins with what was stored since a time", async () => {
    await withServer({}, async (server) => {
      for (let n = 1; n <= 5; n++) await publish(server, event(`${n}`))
      const page = (await (await fetch(`${server.url}/events`)).json()) as {
        events: ReadonlyArray<{ event_id: string; processed_at: string }>
      }
      for (const { processed_at } of page.events) {
        const wanted = page.events.filter((event) => event.processed_at >= processed_at)
        const words = ["tail", "--since", processed_at, "--limit", String(wanted.length)]
        const { stdout } = await run(words, { url: server.url })
        expect(idsOf(stdout)).toEqual(wanted.map(({ event_id }) => event_id))
      }
      const { stdout } = await run(["tail", "--since", "1h", "--limit", "5"], { url: server.url })
      expect(idsOf(stdout)).toEqual(["1", "2", "3", "4", "5"])
    })
  })

  it("begins now, and loses or repeats no line while the service is killed and started again", async () => {
    const database = join(temporaryFolder(), "sekali.db")
    let service = await serve({ database })
    const proxy = await startProxy(() => ({ host: "127.0.0.1", port: service.port }), scripted())
    try {
      const named = (n: number): SentEvent => ({
        topic: "tail",
        event_id: `${n}`,
        timestamp: "2026-11-22T10:00:00Z",
        source: "a",
        payload: n
      })
      await publishTo(service.url, [named(0)])
      const tail = start(["tail", "--limit", "300"], { url: proxy.url })
      // The first exchange asks whether it is a service, the second one is the stream.
      await until(() => proxy.exchanges() === 2)
      let sent = 0
      const publishUntil = async (last: number) => {
        while (sent < last) await publishTo(service.url, [named(++sent), named(++sent)])
      }
      for (const last of [100, 200]) {
        await publishUntil(last)
        service.kill("SIGKILL")
        await service.ended
        service = await serve({ database })
      }
      await publishUntil(302)
      const { code, stdout, stderr } = await tail.ended
      const ids = idsOf(stdout).map(Number)
      expect(ids).toEqual(Array.from({ length: 300 }, (_, n) => (ids[0] ?? 0) + n))
      expect(ids[0]).toBeLessThan(100)
      expect(code).toBe(0)
      expect(stderr).toMatch(/going on when it answers\n[\s\S]*answers again\n/)
    } finally {
      await proxy.close()
    }
  })

  it("is ended by Ctrl-C with the offset to go on from, and by a reader that has enough", async () => {
    await withServer({}, async (server) => {
      await publish(server, [event("1"), event("2")])
      const tail = start(["tail", "--after", "0"], { url: server.url })
      let out = ""
      tail.onOutput((text) => {
        out += text
      })
      await until(() => idsOf(out).length === 2)
      tail.kill("SIGINT")
      const ended = await tail.ended
      expect([ended.code, ended.stderr]).toEqual([0, "sekali: stopped; to go on from here: --after 2\n"])
      const head = start([], {
        url: server.url,
        command: ["sh", "-c", `"${process.execPath}" dist/main.js tail --after 0 | head -n 1; echo end`]
      })
      let isOver = false
      head.onOutput((text) => {
        isOver = text.includes("end")
      })
      // That nobody reads any more shows when something is written.
      for (let n = 3; !isOver; n++) await publish(server, event(`${n}`))
      expect((await head.ended).stdout).toMatch(/"event_id":"1".*\nend\n$/)
    })
  })

  it("says what is wrong", async () => {
    await withServer({}, async (server) => {
      const { url } = server
      const failed = async (...words: ReadonlyArray<string>) => {
        const { code, stderr } = await run(["tail", ...words], { url })
        return [code, stderr.split("\n")[0]]
      }
      expect(await failed("--after", "7")).toEqual([
        1,
        expect.stringContaining("The offset 7 is ahead of the store, whose last offset is 0")
      ])
      expect(await failed("a..b")).toEqual([2, expect.stringContaining("topic must be a topic")])
      expect(await failed("--since", "yesterday")).toEqual([2, expect.stringContaining('--since is "yester')])
      expect(await failed("--since", "1m", "--after", "1")).toEqual([2, expect.stringContaining("both")])
      expect(await failed("--limit", "0")).toEqual([2, expect.stringContaining("--limit")])
    })
  })
})
