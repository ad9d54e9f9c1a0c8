/**
 * The HTTP edge on Node: one `node:http` server with limits on how long a request may take to arrive, so that a client
 * that sends a byte a second holds nobody up, and with an end that does not wait for clients that never finish.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { Socket } from "node:net"
import type { Duplex } from "node:stream"
import { HttpServer } from "@effect/platform"
import type { ServeError } from "@effect/platform/HttpServerError"
// The one module: the index of the package would load much more, at every start.
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { Context, Effect, Layer } from "effect"
import { Settings } from "../Config.ts"
import { Line } from "../domain/Line.ts"
import { concatenate, smallBodyBytes } from "../http/Body.ts"
import { type DirectCall, type DirectPublish, ShortWay } from "../http/DirectPublish.ts"
import type { PlainAnswer } from "../http/Problems.ts"
import { Pace } from "./Pace.ts"
import { connectionTaken } from "./Scheduling.ts"

/** How long an idle connection is kept. */
const keepAliveSeconds = 65

/**
 * How many connections may wait until the event loop has time to take them, as far as the system allows it
 * (net.core.somaxconn). With Node's own 511, most of a crowd that comes back at once after a restart waits until the
 * system tries again, which takes seconds.
 */
const backlog = 4096

/** How long answers that are under way at the end may take to leave. */
const lastAnswersSeconds = 1

const problems: Readonly<Record<string, readonly [status: string, type: string]>> = {
  ERR_HTTP_REQUEST_TIMEOUT: ["408 Request Timeout", "request-timeout"],
  HPE_HEADER_OVERFLOW: ["431 Request Header Fields Too Large", "headers-too-large"]
}

const problemBody = (status: number, type: string, title: string, detail: string, further = {}): string =>
  JSON.stringify({ type: `urn:sekali:problem:${type}`, title, status, detail, instance: "", ...further })

// The socket listens before the service is built and until after it has closed; meanwhile nobody else answers.
const answerOutsideOfService = (response: ServerResponse) => {
  const detail = "The service is starting or stopping. Nothing of this request was stored; send it again."
  response.writeHead(503, {
    "content-type": "application/problem+json",
    "retry-after": "1",
    connection: "close"
  })
  response.end(problemBody(503, "not-serving", "Starting or stopping", detail, { retry_after: 1 }))
}

// What does not even parse as HTTP, or does not arrive in time, is answered here, on the bare socket. The connection is
// given up as soon as the answer is out: a client that goes on sending would otherwise keep what its request holds. Where
// a request before it still waits for its own answer there is none: it would be taken for that.
const refuseUnparsed = (error: NodeJS.ErrnoException, socket: Duplex, isAwaited: boolean) => {
  if (!socket.writable || error.code === "ECONNRESET" || isAwaited) return void socket.destroy()
  const [status, type] = problems[error.code ?? ""] ?? ["400 Bad Request", "malformed-request"]
  const detail = "The request was not understood as HTTP, or did not arrive in time."
  const body = problemBody(Number(status.slice(0, 3)), type, status.slice(4), detail)
  const head = `HTTP/1.1 ${status}\r\ncontent-type: application/problem+json\r\nconnection: close\r\n`
  socket.end(`${head}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`, () => socket.destroy())
}

/** What answers requests, as long as the service is there. */
interface Answering {
  long: ((request: IncomingMessage, response: ServerResponse) => void) | undefined
  short: DirectPublish | undefined
}

/** An answer that is not sent yet, and how to end it where its turn can no longer come. */
interface Pending {
  readonly response: ServerResponse
  readonly close: () => void
}

/** The answers that are not sent yet, of each connection. */
type Unanswered = WeakMap<Duplex, Line<Pending>>

const send = (response: ServerResponse, { status, headers, body }: PlainAnswer, unanswered: Unanswered) => {
  if (response.destroyed) return
  const { connection, ...others } = headers
  // An answer that closes the connection must be the last: those to the requests behind it would not be sent.
  const isLast = () => {
    const last = unanswered.get(response.req.socket)?.last
    return last === undefined || last.value.response === response
  }
  const closing = connection === undefined || !isLast() ? {} : { connection }
  response.writeHead(status, { ...others, ...closing, "content-length": Buffer.byteLength(body) })
  response.end(body)
}

// A publish on its short way: its body is gathered, and whatever comes of it is sent.
const carry = (
  call: DirectCall,
  request: IncomingMessage,
  response: ServerResponse,
  unanswered: Unanswered,
  pace: Pace
) => {
  const chunks: Array<Buffer> = []
  request.on("data", (chunk: Buffer) => chunks.push(chunk))
  request.on("end", () => {
    const read = call.arrived()
    pace.do(() => {
      const [first] = chunks
      const body = chunks.length === 1 && first !== undefined ? first : concatenate(chunks)
      // While it waits for its commit it is held once, in the form in which it waits.
      chunks.length = 0
      read(body, (answer) => send(response, answer, unanswered))
    })
  })
  response.on("close", () => {
    if (response.writableEnded) return
    call.left()
    // Its room is given back, and nobody may hold its bytes any longer.
    chunks.length = 0
  })
}

// A target may be a whole address (RFC 9112, section 3.2.2); whatever host it names, what is asked for is here.
const withoutHost = (target: string): string => {
  if (target.startsWith("/")) return target
  const path = target.replace(/^https?:\/\/[^/?]*/i, "")
  return path === target || path.startsWith("/") ? path : `/${path}`
}

// Of the requests on a connection only the one that is being answered is told by Node when the connection closes. Those
// behind it are told here: what they hold would otherwise never be given back.
const closeWithConnection = (server: Server): Unanswered => {
  const unanswered: Unanswered = new WeakMap()
  server.on("connection", (socket: Socket) => {
    const pending = new Line<Pending>()
    unanswered.set(socket, pending)
    socket.once("close", () => {
      for (const { response, close } of pending.all()) if (response.socket === null) close()
    })
  })
  return unanswered
}

const awaitAnswer = (pending: Line<Pending>, response: ServerResponse) => {
  // Up to here nobody but Node listens; at an answer's end it takes from it the connection, which this one never had.
  const nodes = response.listeners("finish") as Array<() => void>
  const close = () => {
    for (const listener of nodes) response.off("finish", listener)
    response.destroy()
    response.emit("close")
  }
  const place = pending.join({ response, close })
  response.on("close", () => pending.leave(place))
}

const dispatch = (
  answering: Answering,
  request: IncomingMessage,
  response: ServerResponse,
  unanswered: Unanswered,
  pace: Pace,
  stalledMilliseconds: number
) => {
  const { method = "", headers, socket } = request
  const target = withoutHost(request.url ?? "")
  request.url = target
  const call = answering.short?.({ method, target, headers })
  const pending = unanswered.get(socket)
  const isRefused = call !== undefined && "status" in call
  // Where its turn is now, nothing that is about waiting concerns it. Under overload most requests take this way.
  const isItsTurn = pending?.first === undefined && response.socket !== null
  if (isRefused && isItsTurn) return send(response, call, unanswered)

  if (pending !== undefined) awaitAnswer(pending, response)
  // While an answer is being made nothing moves; how long that may take is for the service to say.
  response.on("timeout", (socket: Socket) => {
    if (response.headersSent || !request.complete) socket.destroy()
    else socket.setTimeout(stalledMilliseconds)
  })
  // What was refused before its body has come is read all the same, so that the refusal can be read, too; where the
  // answer is sent at once, Node does so.
  if (isRefused) {
    request.resume()
    return send(response, call, unanswered)
  }
  if (call !== undefined) return carry(call, request, response, unanswered, pace)
  // Who writes an answer waits until it is sent, also where the client has gone before: then it is over, too. An
  // answer that ends after that must not be over twice, for Node takes that for a mistake of its own.
  response.on("close", () => {
    if (response.writableFinished) return
    response.emit("finish")
    response.removeAllListeners("finish")
  })
  if (answering.long === undefined) answerOutsideOfService(response)
  else answering.long(request, response)
}

const makeServer = (answering: Answering) =>
  Effect.map(Settings, (settings): Server => {
    const { headersSecondsMax, requestSecondsMax, requestBytesMax, publishSecondsMax } = settings
    const { stalledSecondsMax, heartbeatSeconds } = settings
    const server = createServer({
      headersTimeout: headersSecondsMax * 1000,
      requestTimeout: requestSecondsMax * 1000,
      connectionsCheckingInterval: Math.min(1000, headersSecondsMax * 500),
      keepAliveTimeout: keepAliveSeconds * 1000,
      // As Node has it from 22 on: a small body is read without a pause of its connection.
      highWaterMark: smallBodyBytes
    })
    // A connection on which nothing moves is cut, but not before what it waits for had its time.
    const waits = [requestSecondsMax, publishSecondsMax + 1, 2 * heartbeatSeconds]
    const stalledMilliseconds = Math.max(stalledSecondsMax, ...waits) * 1000
    server.setTimeout(stalledMilliseconds)
    const unanswered = closeWithConnection(server)
    const pace = new Pace()
    server.on("clientError", (error, socket) => {
      const pending = unanswered.get(socket)?.all() ?? []
      refuseUnparsed(
        error,
        socket,
        pending.some(({ response }) => response.req.complete)
      )
    })
    server.on("connection", connectionTaken)
    server.on("request", (request: IncomingMessage, response: ServerResponse) =>
      dispatch(answering, request, response, unanswered, pace, stalledMilliseconds)
    )
    // A client that asks before it sends its body is not told to go on where the body is going to be refused.
    server.on("checkContinue", (request: IncomingMessage, response: ServerResponse) => {
      if (!(Number(request.headers["content-length"]) > requestBytesMax)) response.writeContinue()
      server.emit("request", request, response)
    })
    return server
  })

/** How many turns of the event loop without a request show that what had been sent was read. */
const quietTurns = 3

// A request that was sent before the end may lie unread in its socket, on a connection that looks idle. It is read, and
// answered with the advice to send it again, before such connections are closed.
const readWhatWasSent = (server: Server) =>
  Effect.async<void>((resume) => {
    let quiet = 0
    const heard = () => {
      quiet = 0
    }
    const turn = () => {
      if (quiet++ < quietTurns) return void setImmediate(turn)
      server.off("request", heard)
      server.off("connection", heard)
      resume(Effect.void)
    }
    server.on("request", heard)
    server.on("connection", heard)
    turn()
  }).pipe(Effect.timeout(`${lastAnswersSeconds} seconds`), Effect.ignore)

// Runs before the platform closes the server: no new connections; idle ones end, and then, after a moment for the
// answers that are under way, all others.
const closeConnections = (server: Server) =>
  Effect.async<void>((resume) => {
    const timer = setTimeout(() => server.closeAllConnections(), lastAnswersSeconds * 1000)
    server.close(() => {
      clearTimeout(timer)
      resume(Effect.void)
    })
    server.closeIdleConnections()
  })

/** Listens on the host and port of the settings. */
export const layer: Layer.Layer<HttpServer.HttpServer | ShortWay, ServeError, Settings> = Layer.scopedContext(
  Effect.gen(function* () {
    const { host, port } = yield* Settings
    const answering: Answering = { long: undefined, short: undefined }
    const server = yield* makeServer(answering)
    const { address } = yield* NodeHttpServer.make(() => server, { host, port, backlog })
    yield* Effect.addFinalizer(() => Effect.zipRight(readWhatWasSent(server), closeConnections(server)))
    const http = HttpServer.make({
      address,
      serve: (app, middleware) =>
        Effect.gen(function* () {
          const handler = yield* NodeHttpServer.makeHandler(app, middleware as never)
          yield* Effect.acquireRelease(
            Effect.sync(() => {
              answering.long = handler
            }),
            () =>
              Effect.sync(() => {
                answering.long = undefined
              })
          )
        })
    })
    const shortWay = ShortWay.of({
      install: (publish) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            answering.short = publish
          }),
          () =>
            Effect.sync(() => {
              answering.short = undefined
            })
        )
    })
    return Context.make(HttpServer.HttpServer, http).pipe(Context.add(ShortWay, shortWay))
  })
)
