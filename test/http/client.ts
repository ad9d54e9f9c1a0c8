/**
 * Clients for the HTTP tests: calls over `node:http`, which sends a path as it is given, and bare sockets for what no
 * well-behaved client does. Answers are read with the schemas of the contract, and nothing they do not name may be there.
 */
import { type IncomingHttpHeaders, request } from "node:http"
import { connect, type Socket } from "node:net"
import { Schema } from "effect"
import { expect } from "vitest"
import { PublishAnswer, problems, StatsAnswer, strict } from "../../src/http/Api.ts"
import type { RunningServer } from "../support/server.ts"

/** An answer, with its body as it came. */
export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
}

/** What goes with a call besides its method and path. */
export interface CallOptions {
  readonly headers?: Readonly<Record<string, string | ReadonlyArray<string>>>
  readonly body?: string | Uint8Array
  /** Leaves the length out, so that the body is sent in chunks. */
  readonly chunked?: boolean
}

/** Makes one call. */
export const call = (
  { host, port, agent }: RunningServer,
  method: string,
  path: string,
  { headers = {}, body, chunked = false }: CallOptions = {}
): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const length = body === undefined || chunked ? {} : { "content-length": String(Buffer.byteLength(body)) }
    const sent = Object.entries({ ...length, ...headers }).map(
      ([name, value]) => [name, typeof value === "string" ? value : [...value]] as const
    )
    const outgoing = request(
      { host, port, agent, method, path, headers: Object.fromEntries(sent) },
      (incoming) => {
        const chunks: Array<Buffer> = []
        incoming.on("data", (chunk: Buffer) => chunks.push(chunk))
        incoming.on("error", reject)
        incoming.on("end", () =>
          resolve({
            status: incoming.statusCode ?? 0,
            headers: incoming.headers,
            text: Buffer.concat(chunks).toString("utf8")
          })
        )
      }
    )
    outgoing.on("error", reject)
    outgoing.end(body)
  })

/** Reads something. */
export const get = (server: RunningServer, path: string, headers: Record<string, string> = {}) =>
  call(server, "GET", path, { headers })

/** Publishes a body as it is. */
export const post = (
  server: RunningServer,
  body: string | Uint8Array,
  headers: Record<string, string> = {},
  path = "/publish"
) => call(server, "POST", path, { body, headers: { "content-type": "application/json", ...headers } })

/** The value of an answer, which must be what the schema says and nothing else. */
export const decoded = <A, I>(schema: Schema.Schema<A, I>, { text }: Pick<Answer, "text">): A =>
  Schema.decodeUnknownSync(schema, strict)(JSON.parse(text))

/** An event to publish. */
export const event = (eventId: string, further: Readonly<Record<string, unknown>> = {}) => ({
  topic: "test.topic",
  event_id: eventId,
  timestamp: "2026-11-22T10:00:00.123Z",
  source: "service-a",
  ...further
})

/** Publishes values as JSON, which must be accepted. */
export const publish = async (server: RunningServer, value: unknown): Promise<typeof PublishAnswer.Type> => {
  const answer = await post(server, JSON.stringify(value))
  expect([answer.status, answer.headers["content-type"]], answer.text).toEqual([202, "application/json"])
  return decoded(PublishAnswer, answer)
}

/** The books, which must balance. */
export const stats = async (server: RunningServer): Promise<typeof StatsAnswer.Type> => {
  const answer = await get(server, "/stats")
  expect(answer.status, answer.text).toBe(200)
  const books = decoded(StatsAnswer, answer)
  expect(books.received).toBe(books.unique_processed + books.duplicate_dropped)
  return books
}

const problemSchemas = {
  400: problems.malformed,
  404: problems.notFound,
  405: problems.notFound,
  410: problems.cursorLost,
  413: problems.tooLarge,
  415: problems.unsupported,
  422: problems.invalid,
  503: problems.unavailable
}

const Problem = Schema.Struct({
  type: Schema.String,
  title: Schema.String,
  status: Schema.Int,
  detail: Schema.String,
  instance: Schema.String,
  errors: Schema.optional(Schema.Array(Schema.Struct({ pointer: Schema.String, detail: Schema.String }))),
  retry_after: Schema.optional(Schema.Int),
  after: Schema.optional(Schema.Int),
  epoch: Schema.optional(Schema.Int),
  last_offset: Schema.optional(Schema.Int),
  base_offset: Schema.optional(Schema.Int)
})

/** Checks that an answer is a problem of this status and type, and reads it. */
export const problem = (
  answer: Answer,
  status: keyof typeof problemSchemas,
  type: string,
  instance = "/publish"
) => {
  expect([answer.status, answer.headers["content-type"]], answer.text).toEqual([
    status,
    "application/problem+json"
  ])
  Schema.validateSync(problemSchemas[status] as Schema.Schema<unknown>, strict)(JSON.parse(answer.text))
  const told = decoded(Problem, answer)
  expect(told).toMatchObject({ type: `urn:sekali:problem:${type}`, status, instance })
  for (const text of [told.title, told.detail]) expect(text.length).toBeGreaterThan(0)
  if (status === 503) expect(answer.headers["retry-after"]).toBe(String(told.retry_after))
  return told
}

/** The faults of a 422, by pointer in the order told. */
export const faults = (answer: Answer, instance = "/publish"): ReadonlyArray<readonly [string, string]> =>
  (problem(answer, 422, "invalid-input", instance).errors ?? []).map(({ pointer, detail }) => [
    pointer,
    detail
  ])

/** A bare connection, and what has come back on it. */
export interface RawClient {
  readonly socket: Socket
  /** All that was received so far. */
  readonly received: () => string
  /** Whether the other side has ended or broken the connection. */
  readonly ended: () => boolean
  readonly write: (bytes: string | Uint8Array) => void
  readonly destroy: () => void
}

/** Opens a bare connection; it stays half open when the service ends its side. */
export const raw = ({ host, port }: RunningServer): Promise<RawClient> =>
  new Promise((resolve, reject) => {
    const socket = connect({ host, port, allowHalfOpen: true })
    let received = ""
    let ended = false
    socket.setEncoding("utf8")
    socket.on("data", (text: string) => {
      received += text
    })
    for (const end of ["end", "close", "error"]) {
      socket.on(end, () => {
        ended = true
      })
    }
    socket.once("error", reject)
    socket.once("connect", () =>
      resolve({
        socket,
        received: () => received,
        ended: () => ended,
        write: (bytes) => void (socket.writable && socket.write(bytes)),
        destroy: () => void socket.destroy()
      })
    )
  })

/** The head of a publish on a bare connection. */
export const publishHead = (...headers: ReadonlyArray<string>): string =>
  ["POST /publish HTTP/1.1", "host: sekali", "content-type: application/json", ...headers, "", ""].join(
    "\r\n"
  )
