/**
 * `sekali publish` in trouble: it is killed, the service is killed, nobody answers, somebody else does, it is asked to
 * stop. It loses no line and stores none twice, and says what it could not do (G2, G7).
 */

import { writeFileSync } from "node:fs"
import type { RequestListener } from "node:http"
import { join } from "node:path"
import { afterEach, describe, expect, it } from "vitest"
import { answering, closeAnswering, nobody } from "../support/answering.ts"
import { stats, until } from "../support/client.ts"
import { endCommands, run, start } from "../support/command.ts"
import { runHere } from "../support/commandline.ts"
import { cleanUp, type Serving, serve, temporaryFolder } from "../support/process.ts"
import { type Fault, scripted, startProxy } from "../support/proxy.ts"
import { fileOf, logLines, storedLines } from "./logs.ts"

afterEach(async () => {
  await endCommands()
  await cleanUp()
  closeAnswering()
})

/** A service on a port, or on any one. */
const serveOn = (database: string, port = "0"): Promise<Serving> =>
  serve({ database, environment: { SEKALI_PORT: port } })

/** Says that it lives, and answers nothing else. */
const liveOnly: RequestListener = ({ url }, response) => {
  if (url === "/health/live") response.end('{"status":"live"}')
}

const fileWith = (content: string): string => {
  const path = join(temporaryFolder(), "app.log")
  writeFileSync(path, content)
  return path
}

const received = (url: string) => async () => (await stats(url)).received

describe("killed", () => {
  it("the command is, again and again, and has in the end published each line once", async () => {
    const folder = temporaryFolder()
    const lines = logLines(4000)
    const path = join(folder, "app.log")
    writeFileSync(path, fileOf(lines))
    const { url } = await serveOn(join(folder, "sekali.db"))
    for (const events of [1, 800, 2000]) {
      const command = start(["publish", "--topic", "a", path], { url })
      const before = (await stats(url)).received
      await until(received(url), (count) => count >= before + events)
      command.kill("SIGKILL")
      expect((await command.ended).signal).toBe("SIGKILL")
    }
    const { code, stderr } = await run(["publish", "--topic", "a", path], { url })
    expect(code, stderr).toBe(0)
    expect(stderr).toMatch(/ [\d,]+ stored, [1-9][\d,]* duplicates, 0 conflicts, 0 failed/)
    expect(await storedLines(url, "a")).toEqual(lines)
  })

  it("the service is, again and again, and the command goes on when it is back", async () => {
    const folder = temporaryFolder()
    const database = join(folder, "sekali.db")
    const lines = logLines(6000)
    const path = join(folder, "app.log")
    writeFileSync(path, fileOf(lines))
    let service = await serveOn(database)
    const { url } = service
    const port = String(service.port)
    const command = start(["publish", "--topic", "a", path], { url })
    for (const events of [1, 1500, 3500]) {
      await until(received(url), (count) => count >= events)
      service.kill("SIGKILL")
      await service.ended
      service = await serveOn(database, port)
    }
    const { code, stderr } = await command.ended
    expect(code, stderr).toBe(0)
    expect(stderr).toMatch(/[1-9][\d,]* of them retries/)
    expect(await storedLines(url, "a")).toEqual(lines)
  })
})

describe("on a bad network", () => {
  it("it sends again what was cut or swallowed, and each line is stored once", async () => {
    const folder = temporaryFolder()
    const lines = logLines(6000)
    const path = join(folder, "app.log")
    writeFileSync(path, fileOf(lines))
    const { url, port } = await serveOn(join(folder, "sekali.db"))
    const faults: ReadonlyArray<Fault> = [
      { kind: "swallow-answer" },
      { kind: "refuse" },
      { kind: "cut-answer", bytes: 20 },
      { kind: "cut-request", bytes: 1000 },
      { kind: "half-close-client", bytes: 100 },
      { kind: "swallow-answer" }
    ]
    const pass = { kind: "pass" } as const
    // Its first exchange asks whether this is a service; then every other one goes wrong.
    const proxy = await startProxy(
      () => ({ host: "127.0.0.1", port }),
      scripted(pass, ...faults.flatMap((fault) => [fault, pass]))
    )
    const { code, stderr } = await run(["publish", path], { url: proxy.url })
    await proxy.close()
    expect(code, stderr).toBe(0)
    for (const { kind } of faults) expect(proxy.struck[kind], kind).toBeGreaterThan(0)
    expect(stderr).toMatch(/ 6 of them retries/)
    // Of what was stored before its answer was lost, the answer to the retry says that it is known.
    expect(stderr).toMatch(/ [1-9][\d,]* duplicates, 0 conflicts, 0 failed/)
    expect(await storedLines(url, "logs")).toEqual(lines)
  })
})

describe("without a service", () => {
  it("it waits until there is one, and says so", async () => {
    const { url, port } = await nobody()
    const command = start(["publish"], { url })
    command.write("one\n")
    await command.said(/does not answer yet \(.*ECONNREFUSED.*\); it is tried again and again/)
    await command.said(/no acknowledgement \(.*ECONNREFUSED.*\); trying again in /)
    await serveOn(join(temporaryFolder(), "sekali.db"), port)
    await command.said(/the service answers again, after /)
    command.endInput()
    expect((await command.ended).code).toBe(0)
    expect(await storedLines(url, "logs")).toEqual(["one"])
  })

  it("it gives up where it was told to, with 1, and says what is missing", async () => {
    const { url } = await nobody()
    const { code, stderr } = await runHere(["publish", "--give-up-after", "0.5", fileWith("one\ntwo\n")], {
      url
    })
    expect(code).toBe(1)
    expect(stderr).toMatch(/0 stored, 0 duplicates, 0 conflicts, 0 failed, 2 without an answer/)
    expect(stderr).toMatch(
      /nothing was answered; publish it again from its beginning, and nothing is stored twice/
    )
    expect(stderr).toMatch(/^sekali: Given up .*ECONNREFUSED/m)
  })

  it("a question that was damaged on its way does not make another service of it", async () => {
    const { url } = await answering((request, response) => {
      response.writeHead(request.method === "GET" ? 400 : 503).end()
    })
    const { code, stderr } = await runHere(["publish", "--give-up-after", "0.2", fileWith("one\n")], { url })
    expect(code).toBe(1)
    expect(stderr).toMatch(/^sekali: Given up/m)
    expect(stderr).not.toMatch(/is not Sekali/)
  })

  it.each<[name: string, listener: RequestListener, sentence: RegExp]>([
    [
      "404",
      (_request, response) => response.writeHead(404).end("not found"),
      /What answers at .* is not Sekali: GET \/health\/live gives status 404\.\n$/
    ],
    [
      "a page of its own",
      (_request, response) => response.end("<h1>It works!</h1>"),
      /is not Sekali: GET \/health\/live gives another body than Sekali's\.\n$/
    ],
    [
      "what is no HTTP",
      (_request, response) => response.socket?.end("SSH-2.0-OpenSSH_9.6\r\n"),
      /cannot be reached: .*\n$/
    ]
  ])("it ends at once with 1 if what is there answers with %s", async (_, listener, sentence) => {
    const { url } = await answering(listener)
    const { code, stdout, stderr } = await runHere(["publish", fileWith("one\n")], { url })
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" })
    expect(stderr).toMatch(sentence)
  })

  it("it ends at once with 1 if there is no such host", async () => {
    // Too long a name to be asked for anywhere.
    const url = `http://${"a".repeat(64)}`
    const { code, stderr } = await runHere(["publish", fileWith("one\n")], { url })
    expect(code).toBe(1)
    expect(stderr).toMatch(/^sekali: http:\/\/a+ cannot be reached: getaddrinfo ENOTFOUND a+\.\n$/)
  })

  it("it ends with 1 if publishing is not allowed there", async () => {
    const { url } = await answering(({ url, method }, response) =>
      url === "/health/live" && method === "GET"
        ? response.end('{"status":"live"}')
        : response.writeHead(403).end("no")
    )
    const { code, stderr } = await runHere(["publish", fileWith("one\n")], { url })
    expect(code).toBe(1)
    expect(stderr).toMatch(/^sekali: The service refused the event \(403\)/m)
  })
})

describe("asked to stop", () => {
  it.each([["SIGINT", 130] as const, ["SIGTERM", 143] as const])(
    "by %s, it sends what it has read, says how far it came, and ends with %i",
    async (signal, code) => {
      const { url } = await serveOn(join(temporaryFolder(), "sekali.db"))
      const command = start(["publish"], { url })
      const lines = logLines(100)
      command.write(fileOf(lines))
      command.write("half a li")
      await until(received(url), (count) => count === lines.length)
      command.kill(signal)
      const ended = await command.ended
      expect(ended.code).toBe(code)
      expect(ended.stderr).toMatch(/^sekali: stopping: nothing more is read/m)
      expect(ended.stderr).toMatch(/ 100 stored, /)
      expect(ended.stderr).toMatch(
        /not finished: all is answered up to standard input:100 \(byte \d+\); publish it again/
      )
      expect(await storedLines(url, "logs")).toEqual(lines)
    }
  )

  it("in the middle of a file, it can be finished later", async () => {
    const folder = temporaryFolder()
    const lines = logLines(10_000)
    const path = join(folder, "app.log")
    writeFileSync(path, fileOf(lines))
    const service = await serveOn(join(folder, "sekali.db"))
    const { url } = service
    const command = start(["publish", path], { url })
    await until(received(url), (count) => count > 0)
    // Nothing is answered until it has understood that it is to stop.
    service.kill("SIGSTOP")
    command.kill("SIGINT")
    await command.said(/stopping/)
    service.kill("SIGCONT")
    const { code, stderr } = await command.ended
    expect(code).toBe(130)
    const reached = Number(/all is answered up to .*app\.log:(\d+) /.exec(stderr)?.[1])
    expect(reached).toBeGreaterThan(0)
    expect(reached).toBeLessThan(lines.length)
    // Among them nothing that was not told.
    expect(await storedLines(url, "logs")).toEqual(lines.slice(0, reached))
    expect((await run(["publish", path], { url })).code).toBe(0)
    expect(await storedLines(url, "logs")).toEqual(lines)
  })

  it("it waits for a service that does not answer, but not for long", async () => {
    const { url, server } = await answering(liveOnly)
    const command = start(["publish"], { url })
    command.write("one\n")
    await new Promise<void>((resolve) => server.on("request", ({ url }) => url === "/publish" && resolve()))
    command.kill("SIGINT")
    const { code, stderr } = await command.ended
    expect(code).toBe(130)
    expect(stderr).toMatch(/, 1 without an answer; 1 request, /)
    expect(stderr).toMatch(/not finished: nothing was answered/)
  })

  it("twice, it ends at once", async () => {
    const { url, server } = await answering(liveOnly)
    const command = start(["publish"], { url })
    command.write("one\n")
    await new Promise<void>((resolve) => server.on("request", ({ url }) => url === "/publish" && resolve()))
    command.kill("SIGINT")
    await command.said(/stopping/)
    const impatient = setInterval(() => command.kill("SIGINT"), 50)
    const { code, stderr } = await command.ended
    clearInterval(impatient)
    expect(code).toBe(130)
    expect(stderr).not.toContain("not finished")
  })
})
