/**
 * The service's HTTP server, on the simulated network. It serves the very app that Node's server would serve
 * (`HttpApp.toHandled`), and behaves as that one does around it: each request runs in a fiber of its own, which
 * is interrupted when the client disconnects; closing stops to accept and waits for what is under way; a body
 * is bounded by `MaxBodySize`; an answer's stream that fails ends the answer; a stream leaves in pieces, as fast as
 * they are read, where its client reads it so, and is gathered otherwise. Neither a promise nor a
 * `ReadableStream` is involved, since those would run outside of the simulation. Uploads of forms, sockets and
 * raw Node bodies are not simulated and end in a defect that says so.
 */
import {
  Cookies,
  Headers,
  HttpApp,
  HttpIncomingMessage,
  HttpServer,
  HttpServerError,
  HttpServerRequest,
  type HttpServerResponse,
  UrlParams
} from "@effect/platform"
import { Context, Duration, Effect, Exit, Inspectable, Option, Runtime, type Scope, Stream } from "effect"
import { type DirectCall, type DirectPublish, ShortWay } from "../src/http/DirectPublish.ts"
import type { PlainAnswer } from "../src/http/Problems.ts"
import type { VirtualTime } from "./Clock.ts"
import type { Answer, Delivery, Network } from "./Network.ts"
import { labelled, type SimProcess } from "./Scheduler.ts"

/** What the edge needs of the process that serves. */
export interface ServerHost {
  readonly network: Network
  readonly time: VirtualTime
  readonly process: SimProcess
}

/** `HttpServer`, and the short way of a publish, at an address of the simulated network. */
export const httpServer = (host: ServerHost, address: string) => {
  const short: Short = { publish: undefined }
  return Context.make(HttpServer.HttpServer, makeServer(host, address, short)).pipe(
    Context.add(ShortWay, {
      install: (publish) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            short.publish = publish
          }),
          () =>
            Effect.sync(() => {
              short.publish = undefined
            })
        )
    })
  )
}

/** The short way, as long as the service offers it. */
interface Short {
  publish: DirectPublish | undefined
}

/** The server alone. The address is `host:port`. */
export const makeServer = (
  host: ServerHost,
  address: string,
  short: Short = { publish: undefined }
): HttpServer.HttpServer => {
  const [hostname = "localhost", port = "80"] = address.split(":")
  return HttpServer.make({
    address: { _tag: "TcpAddress", hostname, port: Number(port) },
    serve: (app, middleware) => serve(host, address, short, HttpApp.toHandled(app, respond, middleware))
  })
}

type Handled = Effect.Effect<void, unknown, HttpServerRequest.HttpServerRequest | Scope.Scope>

const serve = Effect.fnUntraced(function* (
  host: ServerHost,
  address: string,
  short: Short,
  handled: Handled
) {
  const runtime = yield* Effect.runtime<never>()
  const runFork = Runtime.runFork(runtime)
  let underWay = 0
  let whenIdle: () => void = () => undefined

  const accept = (delivery: Delivery) => {
    underWay++
    const request = new IncomingRequest(host.time, delivery)
    const { method, originalUrl: target, headers } = request
    const call = short.publish?.({ method, target, headers })
    if (call !== undefined) return carry(call, request, delivery)
    const handling = Effect.provideService(handled, HttpServerRequest.HttpServerRequest, request).pipe(
      labelled(delivery.exchange)
    ) as Effect.Effect<void, unknown>
    // Node calls its listener from the event loop; so the fiber waits for its turn here, too.
    const fiber = runFork(handling, { immediate: false })
    fiber.addObserver(() => {
      delivery.end()
      if (--underWay === 0) whenIdle()
    })
    return () => fiber.unsafeInterruptAsFork(HttpServerError.clientAbortFiberId)
  }

  // A publish on its short way: it has no fiber but for the arrival of its body.
  const carry = (call: DirectCall | PlainAnswer, request: IncomingRequest, delivery: Delivery) => {
    let isOver = false
    const end = () => {
      if (isOver) return
      isOver = true
      delivery.end()
      if (--underWay === 0) whenIdle()
    }
    const answer = (answer: PlainAnswer) => {
      if (isOver) return
      delivery.answer(answer)
      end()
    }
    if ("status" in call) {
      answer(call)
      return () => undefined
    }
    const arrival = Effect.map(request.arrayBuffer, (body) => call.arrived()(new Uint8Array(body), answer))
    const fiber = runFork(labelled(delivery.exchange)(arrival), { immediate: false })
    return () => {
      fiber.unsafeInterruptAsFork(HttpServerError.clientAbortFiberId)
      call.left()
      end()
    }
  }

  const idle = Effect.async<void>((resume) => {
    if (underWay === 0) return resume(Effect.void)
    whenIdle = () => resume(Effect.void)
  })
  const listen = Effect.sync(() => host.network.listen(address, { process: host.process, accept }))
  yield* Effect.acquireRelease(listen, (close) => Effect.zipRight(Effect.sync(close), idle))
})

/** A request as the service sees it. */
class IncomingRequest extends Inspectable.Class implements HttpServerRequest.HttpServerRequest {
  readonly [HttpServerRequest.TypeId]: HttpServerRequest.TypeId = HttpServerRequest.TypeId
  readonly [HttpIncomingMessage.TypeId]: HttpIncomingMessage.TypeId = HttpIncomingMessage.TypeId
  readonly delivery: Delivery
  readonly method: HttpServerRequest.HttpServerRequest["method"]
  readonly url: string
  readonly headers: Headers.Headers
  readonly remoteAddress: Option.Option<string>
  private readonly time: VirtualTime

  constructor(
    time: VirtualTime,
    delivery: Delivery,
    changed: {
      readonly url?: string
      readonly headers?: Headers.Headers
      readonly remoteAddress?: string
    } = {}
  ) {
    super()
    this.time = time
    this.delivery = delivery
    this.method = delivery.request.method
    this.url = changed.url ?? delivery.request.url
    this.headers = changed.headers ?? headersOf(delivery)
    this.remoteAddress = Option.some(changed.remoteAddress ?? delivery.client)
  }

  get source(): Delivery {
    return this.delivery
  }

  get originalUrl(): string {
    return this.delivery.request.url
  }

  get cookies() {
    return Cookies.parseHeader(this.headers["cookie"] ?? "")
  }

  modify(changed: {
    readonly url?: string
    readonly headers?: Headers.Headers
    readonly remoteAddress?: string
  }) {
    return new IncomingRequest(this.time, this.delivery, { url: this.url, headers: this.headers, ...changed })
  }

  get stream(): Stream.Stream<Uint8Array, HttpServerError.RequestError> {
    const { body } = this.delivery
    return Stream.unfoldEffect(0, (index) => {
      const piece = body[index]
      if (piece === undefined) return Effect.succeed(Option.none())
      return Effect.as(this.until(piece.at), Option.some([piece.bytes, index + 1] as const))
    })
  }

  get arrayBuffer(): Effect.Effect<ArrayBuffer, HttpServerError.RequestError> {
    return Effect.map(this.bytes, (bytes) => {
      const copy = new ArrayBuffer(bytes.length)
      new Uint8Array(copy).set(bytes)
      return copy
    })
  }

  get text(): Effect.Effect<string, HttpServerError.RequestError> {
    return Effect.map(this.bytes, (bytes) =>
      Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("utf8")
    )
  }

  get json(): Effect.Effect<unknown, HttpServerError.RequestError> {
    return Effect.tryMap(this.text, {
      try: (text) => (text === "" ? null : (JSON.parse(text) as unknown)),
      catch: (cause) => this.error(cause)
    })
  }

  get urlParamsBody(): Effect.Effect<UrlParams.UrlParams, HttpServerError.RequestError> {
    return Effect.map(this.text, (text) => UrlParams.fromInput(new URLSearchParams(text)))
  }

  get multipart() {
    return Effect.dieMessage("a form upload is not simulated")
  }

  get multipartStream() {
    return Stream.dieMessage("a form upload is not simulated")
  }

  get upgrade() {
    return Effect.dieMessage("a web socket is not simulated")
  }

  toJSON(): unknown {
    return HttpIncomingMessage.inspect(this, {
      _id: "@effect/platform/HttpServerRequest",
      method: this.method,
      url: this.originalUrl
    })
  }

  private get bytes(): Effect.Effect<Uint8Array, HttpServerError.RequestError> {
    const { body } = this.delivery
    const last = body[body.length - 1]
    if (last === undefined) return Effect.succeed(new Uint8Array(0))
    return Effect.flatMap(HttpIncomingMessage.MaxBodySize, (bytesMax) => {
      let size = 0
      for (const piece of body) {
        size += piece.bytes.length
        // Too much is noticed as soon as it has come, not at the end.
        if (Option.isSome(bytesMax) && size > Number(bytesMax.value)) {
          return Effect.zipRight(this.until(piece.at), this.error(new Error("maxBytes exceeded")))
        }
      }
      const all = body.length === 1 ? last.bytes : Buffer.concat(body.map((piece) => piece.bytes))
      return Effect.as(this.until(last.at), all)
    })
  }

  /** Waits until a piece of the body is there. */
  private until(at: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      const missing = at - this.time.now
      return missing <= 0 ? Effect.void : Effect.sleep(Duration.micros(BigInt(missing)))
    })
  }

  private error(cause: unknown): HttpServerError.RequestError {
    return new HttpServerError.RequestError({ request: this, reason: "Decode", cause })
  }
}

const headersOf = (delivery: Delivery): Headers.Headers => {
  const { body, request } = delivery
  const length = body.reduce((sum, piece) => sum + piece.bytes.length, 0)
  const implied = length > 0 ? { host: "sekali", "content-length": String(length) } : { host: "sekali" }
  return Headers.fromInput({ ...implied, ...request.headers })
}

/** Gathers the answer and lets it leave. */
const respond = (
  request: HttpServerRequest.HttpServerRequest,
  response: HttpServerResponse.HttpServerResponse
) => {
  const { delivery } = request as IncomingRequest
  const leave = (body: string): void =>
    delivery.answer(answerOf(response, request.method === "HEAD" ? "" : body))
  const { body } = response
  if (request.method === "HEAD") return Effect.sync(() => leave(""))
  switch (body._tag) {
    case "Empty":
      return Effect.sync(() => leave(""))
    case "Uint8Array":
      return Effect.sync(() => leave(Buffer.from(body.body).toString("utf8")))
    case "Raw":
      if (typeof body.body === "string") {
        const text = body.body
        return Effect.sync(() => leave(text))
      }
      return Effect.dieMessage("a raw body of Node is not simulated")
    case "FormData":
      return Effect.dieMessage("a form is not simulated")
    case "Stream":
      return Effect.suspend(() => {
        if (delivery.begin !== undefined) {
          const { status, headers } = answerOf(response, "")
          const outgoing = delivery.begin({ status, headers })
          return Stream.runForEach(body.stream, (chunk) =>
            Effect.async<void>((resume) => outgoing.write(chunk, () => resume(Effect.void)))
          ).pipe(
            Effect.interruptible,
            Effect.exit,
            Effect.flatMap((exit) => {
              outgoing.end()
              return Exit.isSuccess(exit) ? Effect.void : Effect.failCause(exit.cause)
            })
          )
        }
        const chunks: Array<Uint8Array> = []
        return Stream.runForEach(body.stream, (chunk) => Effect.sync(() => chunks.push(chunk))).pipe(
          Effect.interruptible,
          Effect.exit,
          Effect.flatMap((exit) => {
            leave(Buffer.concat(chunks).toString("utf8"))
            return Exit.isSuccess(exit) ? Effect.void : Effect.failCause(exit.cause)
          })
        )
      })
  }
}

const answerOf = (response: HttpServerResponse.HttpServerResponse, body: string): Answer => {
  const headers: Record<string, string> = { ...response.headers }
  if (!Cookies.isEmpty(response.cookies))
    headers["set-cookie"] = Cookies.toSetCookieHeaders(response.cookies).join(", ")
  return { status: response.status, headers, body }
}
