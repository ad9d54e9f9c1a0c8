/**
 * `sekali mirror` as processes of their own between services that are processes as well: killed at any moment, all of
 * them, they end with the same events; and what the command says, and how it ends.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterEach, describe, expect, it } from "vitest"
import { answering, closeAnswering } from "../support/answering.ts"
import { allEvents, eventNumber, eventNumbers, keyOf, publish, stats, until } from "../support/client.ts"
import { endCommands, type Running, run, start } from "../support/command.ts"
import { runHere } from "../support/commandline.ts"
import { cleanUp, type Serving, serve, temporaryFolder } from "../support/process.ts"

afterEach(async () => {
  await endCommands()
  await cleanUp()
  closeAnswering()
})

const serveIn = (folder: string, name: string, port = 0) =>
  serve({ database: join(folder, `${name}.db`), environment: { SEKALI_PORT: String(port) } })

/** What a service holds, without what is its own. */
const contentsOf = async (url: string) =>
  (await allEvents(url))
    .map(({ offset: _offset, ...event }) => {
      const { processed_at, origin, ...content } = event as typeof event & Record<string, unknown>
      return content
    })
    .sort((left, right) => (keyOf(left) < keyOf(right) ? -1 : 1))

/** Publishes until it is acknowledged. */
const publishUntilTaken = async (url: string, event: ReturnType<typeof eventNumber>): Promise<void> => {
  for (;;) {
    try {
      await publish(url, [event])
      return
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }
}

describe("mirrors and services that are killed", () => {
  it("end with the same events, once each", async () => {
    const folder = temporaryFolder()
    const names = ["left", "right"] as const
    const services: Array<Serving> = await Promise.all(names.map((name) => serveIn(folder, name)))
    const urls = services.map(({ url }) => url)
    const mirror = (from: number): Running =>
      start([
        "mirror",
        `--from=${urls[from]}`,
        `--to=${urls[1 - from]}`,
        `--state=${join(folder, `${from}.json`)}`
      ])
    const mirrors = [mirror(0), mirror(1)]
    let rounds = 0
    const publishing = urls.map(async (url, side) => {
      let n = 0
      while (rounds < 6 || n < 60) await publishUntilTaken(url, eventNumber(n++, `side-${side}`))
      return n
    })
    for (; rounds < 6; rounds++) {
      const [side, other] = rounds % 2 === 0 ? [0, 1] : [1, 0]
      const { unique_processed: before } = await stats(urls[other] as string).catch(() => ({
        unique_processed: 0
      }))
      // Something has been copied, then all of this side and the other mirror die.
      await until(
        () => stats(urls[other] as string),
        ({ unique_processed }) => unique_processed > before + 3
      )
      const dying = [mirrors[0], mirrors[1], ...(rounds % 3 === 2 ? [services[side]] : [])] as const
      for (const process of dying) process?.kill("SIGKILL")
      for (const process of dying) await process?.ended
      if (rounds % 3 === 2) services[side] = await serveIn(folder, names[side] ?? "", services[side]?.port)
      for (const from of [0, 1]) mirrors[from] = mirror(from)
    }
    const published = (await Promise.all(publishing)).reduce((sum, count) => sum + count, 0)
    for (const url of urls)
      await until(
        () => stats(url),
        ({ unique_processed }) => unique_processed >= published
      )
    for (const { kill, ended } of mirrors) {
      kill("SIGTERM")
      expect(await ended).toMatchObject({ code: 0, stdout: "" })
    }
    const [left, right] = await Promise.all(urls.map(contentsOf))
    expect(left?.length).toBe(published)
    expect(left).toEqual(right)
    for (const url of urls)
      expect(await stats(url)).toMatchObject({ conflicts: 0, unique_processed: published })
  })
})

describe("the command", () => {
  it("copies once, and knows the next time where it was", async () => {
    const folder = temporaryFolder()
    const [from, to] = await Promise.all([serveIn(folder, "from"), serveIn(folder, "to")])
    await publish(from.url, eventNumbers(2500))
    const words = ["mirror", "--once", "--from", from.url, "--to", `${to.url}/`]
    const options = { environment: { XDG_STATE_HOME: join(folder, "state") } }
    const first = await run(words, options)
    expect(first, first.stderr).toMatchObject({ code: 0, stdout: "" })
    expect(first.stderr).toContain(" all is copied: 2500 read, 2500 sent, 2500 stored, 0 duplicates,")
    expect(await contentsOf(to.url)).toEqual(await contentsOf(from.url))
    const files = readdirSync(join(folder, "state", "sekali"))
    expect(files).toEqual([expect.stringMatching(/^mirror-[0-9a-f]{16}\.json$/)])
    await publish(from.url, [eventNumber(2500)])
    const second = await run(words, options)
    expect(second.stderr).toContain(" all is copied: 1 read, 1 sent, 1 stored, 0 duplicates,")
  })

  it.each(["SIGINT", "SIGTERM"] as const)("ends in order on %s", async (signal) => {
    const folder = temporaryFolder()
    const [from, to] = await Promise.all([serveIn(folder, "from"), serveIn(folder, "to")])
    const cursor = join(folder, "cursor.json")
    const mirror = start(["mirror", `--from=${from.url}`, `--to=${to.url}`, `--state=${cursor}`])
    await mirror.said(/ mirroring /)
    await publish(from.url, [eventNumber(1)])
    await until(
      () => stats(to.url),
      () => existsSync(cursor)
    )
    mirror.kill(signal)
    const { code, stderr } = await mirror.ended
    expect(code).toBe(0)
    expect(stderr).toMatch(
      / stopped: 1 read, 1 sent, 1 stored, 0 duplicates, 0 conflicts, 0 skipped, 0 refused\n$/
    )

    // One that is to copy once has not done so.
    const silent = await answering(({ url }, response) => {
      if (url === "/health/live") response.end('{"status":"live"}')
    })
    const place = join(folder, "other.json")
    const once = start(["mirror", "--once", `--from=${from.url}`, `--to=${silent.url}`, `--state=${place}`])
    await once.said(/ starting /)
    once.kill(signal)
    expect((await once.ended).code).toBe(signal === "SIGINT" ? 130 : 143)
  })

  it("waits for services that are not there yet", async () => {
    const folder = temporaryFolder()
    const from = await serveIn(folder, "from")
    const { port, url } = await serveIn(folder, "to").then(async (service) => {
      service.kill("SIGKILL")
      await service.ended
      return service
    })
    await publish(from.url, eventNumbers(10))
    const mirror = start([
      "mirror",
      "--once",
      `--from=${from.url}`,
      `--to=${url}`,
      `--state=${join(folder, "s.json")}`
    ])
    await mirror.said(/no answer; trying again until there is one to=http:\S+ trouble=".*ECONNREFUSED/)
    await serveIn(folder, "to", port)
    const { code, stderr } = await mirror.ended
    expect(code, stderr).toBe(0)
    expect(stderr).toContain("answers again")
    expect(stderr).toContain(" 10 stored,")
  })

  it("refuses what cannot be, with a sentence", async () => {
    const folder = temporaryFolder()
    const service = await serveIn(folder, "one")
    const other = await serveIn(folder, "two")
    const notes = join(folder, "notes.txt")
    writeFileSync(notes, "not a cursor\n")
    const locked = join(folder, "locked")
    writeFileSync(locked, "")
    const both = [`--from=${service.url}`, `--to=${other.url}`]
    const cases: ReadonlyArray<readonly [words: ReadonlyArray<string>, code: number, sentence: string]> = [
      [[], 2, "--from"],
      [[`--from=${service.url}`], 2, "--to"],
      [
        [`--from=${service.url}`, "--to=nowhere"],
        2,
        '--to is "nowhere", but must be an http or https address'
      ],
      [[...both, "--pause=0"], 2, '--pause is "0", but must be a number of seconds'],
      [[...both, "extra"], 2, '"extra" is one argument too many'],
      [[`--from=${service.url}`, `--to=${service.url}`], 1, "Both addresses lead to the same store"],
      [[`--from=${service.url}`, `--to=${other.url}/elsewhere`], 1, "is not Sekali"],
      [[...both, `--state=${notes}`], 1, `is no cursor of a mirror, and is left alone. (--state ${notes})`],
      [[...both, `--state=${folder}`], 1, `The file ${folder} cannot be read`],
      [[...both, `--state=${locked}/cursor.json`], 1, `The file ${locked}/cursor.json cannot be read`]
    ]
    for (const [words, code, sentence] of cases) {
      const ended = await runHere(["mirror", ...words], { environment: { XDG_STATE_HOME: folder } })
      expect([ended.code, ended.stdout], `${words} ${ended.stderr}`).toEqual([code, ""])
      expect(ended.stderr).toContain(sentence)
    }
    expect(readFileSync(notes, "utf8")).toBe("not a cursor\n")
    expect((await stats(other.url)).received).toBe(0)
  })
})
