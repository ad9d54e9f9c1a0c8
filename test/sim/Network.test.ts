import { type HttpApp, HttpServer, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect, Exit, Layer, Stream } from "effect"
import { describe, expect, it } from "vitest"
import { Choices, type Deviation } from "../../sim/Choices.ts"
import { type Answer, type NetworkFaults, noNetworkFaults, type Request } from "../../sim/Network.ts"
import { launch, type Process, simulate, type World } from "../../sim/World.ts"

const address = "here:1234"
type App = HttpApp.Default<unknown>

interface Setting {
  readonly world: World
  readonly server: Process
  /** Sends from a process of its own; answers what came of it, once it has. */
  readonly send: (
    request: Partial<Request>,
    timeoutMillis?: number
  ) => { value: Exit.Exit<Answer, unknown> | undefined; readonly process: Process }
}

const serve = (world: World, app: App) =>
  world.start("server", (process) =>
    launch(
      HttpServer.serve(app).pipe(Layer.provide(Layer.succeedContext(world.httpServer(process, address))))
    )
  )

const withServer = <A>(
  app: App,
  body: (setting: Setting) => A,
  options: { readonly faults?: Partial<NetworkFaults>; readonly choices?: ReadonlyArray<Deviation> } = {}
) =>
  simulate(
    {
      choices: options.choices === undefined ? Choices.seeded(1) : Choices.replay(options.choices),
      networkFaults: { ...noNetworkFaults, ...options.faults }
    },
    (world) => {
      const server = serve(world, app)
      world.run(() => world.network.isListening(address))
      const send: Setting["send"] = (request, timeoutMillis) => {
        const complete = { method: "GET", url: "/", ...request } as const
        const process = world.start("client", () =>
          Effect.exit(
            world.network.send(
              "client",
              address,
              complete,
              timeoutMillis === undefined ? {} : { timeoutMillis }
            )
          ).pipe(Effect.map((exit) => (sent.value = exit)))
        )
        const sent = { value: undefined as Exit.Exit<Answer, unknown> | undefined, process }
        return sent
      }
      return body({ world, server, send })
    }
  )

const request = HttpServerRequest.HttpServerRequest
const ok = (body: string) => HttpServerResponse.text(body)
const tagOf = (exit: Exit.Exit<unknown, unknown> | undefined) =>
  exit === undefined
    ? "none"
    : Exit.match(exit, {
        onSuccess: () => "answer",
        onFailure: (cause) => (cause._tag === "Fail" ? (cause.error as { _tag: string })._tag : cause._tag)
      })

describe("an exchange", () => {
  const echo: App = Effect.gen(function* () {
    const { headers, method, originalUrl, remoteAddress, ...incoming } = yield* request
    void incoming
    const text = yield* (yield* request).text
    return yield* HttpServerResponse.json(
      {
        method,
        originalUrl,
        text,
        type: headers["content-type"],
        length: headers["content-length"],
        remoteAddress
      },
      { status: 201, headers: { "x-more": "yes" } }
    )
  }).pipe(Effect.orDie)

  it("brings the request to the app and the answer back", () => {
    const exit = withServer(echo, ({ send, world }) => {
      const sent = send({
        method: "POST",
        url: "/path?q=1",
        headers: { "Content-Type": "text/plain" },
        body: "häh"
      })
      world.run(() => sent.value !== undefined)
      return sent.value
    })
    expect(exit?._tag).toBe("Success")
    const { body, headers, status } = (exit as Exit.Success<Answer, never>).value
    expect(status).toBe(201)
    expect(headers).toMatchObject({ "content-type": "application/json", "x-more": "yes" })
    expect(JSON.parse(body)).toMatchObject({
      method: "POST",
      originalUrl: "/path?q=1",
      text: "häh",
      type: "text/plain",
      length: "4"
    })
  })

  it("offers the body as text, JSON, bytes and stream, in pieces too", () => {
    const app: App = Effect.gen(function* () {
      const incoming = yield* request
      const text = yield* incoming.text
      const json = yield* incoming.json
      const bytes = new Uint8Array(yield* incoming.arrayBuffer)
      const chunks = yield* Stream.runCollect(incoming.stream)
      return yield* HttpServerResponse.json([
        text,
        json,
        bytes.length,
        Buffer.concat([...chunks]).toString(),
        chunks.length
      ])
    }).pipe(Effect.orDie)
    const body = JSON.stringify({ a: "x".repeat(50) })
    for (const bodyInPieces of [0, 1]) {
      const exit = withServer(
        app,
        ({ send, world }) => {
          const sent = send({ method: "POST", body: new TextEncoder().encode(body) })
          world.run(() => sent.value !== undefined)
          return sent.value
        },
        { faults: { bodyInPieces } }
      )
      const answer = JSON.parse((exit as Exit.Success<Answer, never>).value.body) as ReadonlyArray<unknown>
      expect(answer.slice(0, 4)).toEqual([body, JSON.parse(body), body.length, body])
      expect(answer[4]).toBeGreaterThanOrEqual(1 + bodyInPieces)
    }
  })

  it("gathers streams, empty bodies, HEAD, and the ends of streams that fail", () => {
    const stream = Stream.make("a", "b", "c").pipe(
      Stream.tap(() => Effect.sleep(5)),
      Stream.encodeText
    )
    const broken = Stream.concat(Stream.encodeText(Stream.make("half")), Stream.fail("broken"))
    const apps: Array<[string, App, Request["method"]]> = [
      ["abc", Effect.succeed(HttpServerResponse.stream(stream)), "GET"],
      ["half", Effect.succeed(HttpServerResponse.stream(broken)), "GET"],
      ["", HttpServerResponse.empty(), "GET"],
      ["", Effect.succeed(ok("not seen")), "HEAD"],
      ["raw", Effect.succeed(HttpServerResponse.raw("raw")), "GET"]
    ]
    for (const [expected, app, method] of apps) {
      const exit = withServer(app, ({ send, world }) => {
        const sent = send({ method })
        world.run(() => sent.value !== undefined)
        return sent.value
      })
      expect((exit as Exit.Success<Answer, never>).value.body).toBe(expected)
    }
  })

  it("answers 500 for a defect, as the real server does", () => {
    const exit = withServer(Effect.dieMessage("a bug"), ({ send, world }) => {
      const sent = send({})
      world.run(() => sent.value !== undefined)
      return sent.value
    })
    expect((exit as Exit.Success<Answer, never>).value.status).toBe(500)
  })
})

describe("faults", () => {
  /** Counts what reaches the server; slow enough to be caught at work. */
  const counting = () => {
    const seen = { begun: 0, done: 0, interrupted: 0 }
    const app: App = Effect.sync(() => seen.begun++).pipe(
      Effect.zipRight(Effect.sleep(50)),
      Effect.zipRight(Effect.sync(() => seen.done++)),
      Effect.as(ok("done")),
      Effect.onInterrupt(() => Effect.sync(() => seen.interrupted++)),
      Effect.interruptible
    )
    return { app, seen }
  }
  const attempt = (
    faults: Partial<NetworkFaults>,
    timeoutMillis = 2000,
    act: (setting: Setting) => void = () => undefined
  ) => {
    const { app, seen } = counting()
    return withServer(
      app,
      (setting) => {
        const sent = setting.send({}, timeoutMillis)
        act(setting)
        setting.world.run(() => sent.process.exit !== undefined)
        setting.world.run(() => false, { millisMax: 1000 })
        return { tag: tagOf(sent.value), ...seen, counts: setting.world.counters }
      },
      { faults }
    )
  }

  it("lose a request before it is carried out", () => {
    expect(attempt({ requestLost: 1 })).toMatchObject({ begun: 0, done: 0 })
    expect(["Reset", "TimedOut"]).toContain(attempt({ requestLost: 1 }).tag)
  })

  it("lose an answer after the work was done", () => {
    const lost = attempt({ answerLost: 1 })
    expect(lost).toMatchObject({ begun: 1, done: 1 })
    expect(["Reset", "TimedOut"]).toContain(lost.tag)
    expect(lost.counts.get("network: answerLost")).toBe(1)
  })

  it("deliver a request twice, and give one answer", () => {
    expect(attempt({ duplicated: 1 })).toMatchObject({ begun: 2, done: 2, tag: "answer" })
  })

  it("break the connection, which the server may notice", () => {
    const noticed = attempt({ connectionBroken: 1 })
    expect(noticed).toMatchObject({ begun: 1, interrupted: 1, done: 0, tag: "Reset" })
    expect(attempt({ connectionBroken: 1, disconnectUnseen: 1 })).toMatchObject({
      interrupted: 0,
      done: 1,
      tag: "Reset"
    })
  })

  it("let a client lose patience, which interrupts the work", () => {
    expect(attempt({}, 20)).toMatchObject({ begun: 1, interrupted: 1, done: 0, tag: "TimedOut" })
  })

  it("reorder by delaying", () => {
    let overtaken = 0
    for (let seed = 0; seed < 40; seed++) {
      const order: Array<string> = []
      simulate(
        { choices: Choices.seeded(seed), networkFaults: { ...noNetworkFaults, delayed: 0.5 } },
        (world) => {
          serve(
            world,
            Effect.map(request, (incoming) => {
              order.push(incoming.url)
              return ok("")
            })
          )
          world.run(() => world.network.isListening(address))
          const clients = ["/1", "/2"].map((url) =>
            world.start(url, () => world.network.send(url, address, { method: "GET", url }))
          )
          world.run(() => clients.every((client) => client.exit !== undefined))
        }
      )
      if (order[0] === "/2") overtaken++
    }
    expect(overtaken).toBeGreaterThan(3)
    expect(overtaken).toBeLessThan(37)
  })

  it("reset by a crash what is at work, and refuse while nobody listens", () => {
    const crashed = attempt({}, 2000, ({ server, world }) => {
      world.run(() => world.network.pending().some((line) => line.includes("at server")))
      expect(world.network.pending()).toEqual(["client waits for GET / (client.1), at server"])
      world.crash(server, "kill")
    })
    expect(crashed).toMatchObject({ tag: "Reset", done: 0, interrupted: 0 })
    const refused = attempt({}, 2000, ({ server, world }) => world.crash(server, "kill"))
    expect(refused).toMatchObject({ tag: "Refused", begun: 0 })
  })

  it("wait on closing for what is under way", () => {
    const { app, seen } = counting()
    withServer(app, ({ send, server, world }) => {
      const early = send({})
      world.run(() => seen.begun === 1)
      world.stop(server)
      world.run(() => !world.network.isListening(address))
      const late = send({})
      world.run(
        () => server.exit !== undefined && late.process.exit !== undefined && early.process.exit !== undefined
      )
      expect([tagOf(early.value), tagOf(late.value)]).toEqual(["answer", "Refused"])
      expect(seen).toEqual({ begun: 1, done: 1, interrupted: 0 })
    })
  })
})
