/**
 * A keep-alive connection on a bare socket. It costs little enough to measure with, and it tells what a client library
 * hides: whether a request had left as a whole when its connection was lost.
 */
import net from "node:net"

/** An answer as it came. */
export interface Answer {
  readonly status: number
  readonly headers: ReadonlyMap<string, string>
  readonly body: string
}

/** The connection ended before the answer was there. */
export class ConnectionLost extends Error {
  override readonly name = "ConnectionLost"
}

/** A connection, on which one request is under way at a time. */
export interface Connection {
  /** Sends bytes that make up a request, or the part of it that was still missing, and waits for its answer. */
  readonly request: (bytes: Buffer | string) => Promise<Answer>
  /** Sends bytes and waits for nothing. */
  readonly send: (bytes: Buffer | string) => void
  readonly close: () => void
}

/** The bytes of a request. */
export const requestBytes = (method: string, path: string, body?: string): Buffer => {
  const content =
    body === undefined
      ? ""
      : `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n`
  return Buffer.from(`${method} ${path} HTTP/1.1\r\nhost: localhost\r\n${content}\r\n${body ?? ""}`)
}

/** The bytes of a publish of these events. */
export const publishBytes = (events: unknown): Buffer =>
  requestBytes("POST", "/publish", JSON.stringify(events))

interface Waiting {
  readonly resolve: (answer: Answer) => void
  readonly reject: (error: Error) => void
}

const endOfHead = Buffer.from("\r\n\r\n")

/** The body of an answer that begins at `from`, and where it ends; undefined as long as it is not there as a whole. */
const bodyAt = (
  received: Buffer,
  from: number,
  headers: Answer["headers"]
): { readonly body: string; readonly end: number } | undefined => {
  if (headers.get("transfer-encoding") !== "chunked") {
    const end = from + Number(headers.get("content-length") ?? 0)
    return received.length < end ? undefined : { body: received.toString("utf8", from, end), end }
  }
  const chunks: Array<Buffer> = []
  let at = from
  while (true) {
    const endOfSize = received.indexOf("\r\n", at)
    if (endOfSize < 0) return undefined
    const size = Number.parseInt(received.toString("latin1", at, endOfSize), 16)
    const end = endOfSize + 2 + size + 2
    if (received.length < end) return undefined
    if (size === 0) return { body: Buffer.concat(chunks).toString("utf8"), end }
    chunks.push(received.subarray(endOfSize + 2, end - 2))
    at = end
  }
}

/** Connects to a port of this machine. */
export const connect = (port: number): Promise<Connection> =>
  new Promise((resolve, reject) => {
    const socket = net.connect({ port, host: "127.0.0.1", noDelay: true })
    let received = Buffer.alloc(0)
    let waiting: Waiting | undefined
    let lost = false
    const lose = (error: Error) => {
      lost = true
      waiting?.reject(error)
      waiting = undefined
      reject(error)
    }
    socket.on("error", (error) => lose(new ConnectionLost(error.message)))
    socket.on("close", () => lose(new ConnectionLost("the connection was closed")))
    socket.on("data", (chunk) => {
      received = received.length === 0 ? chunk : Buffer.concat([received, chunk])
      const head = received.indexOf(endOfHead)
      if (head < 0 || waiting === undefined) return
      const [first = "", ...fields] = received.toString("latin1", 0, head).split("\r\n")
      const headers = new Map(
        fields.map((field) => {
          const colon = field.indexOf(":")
          return [field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim()]
        })
      )
      const found = bodyAt(received, head + endOfHead.length, headers)
      if (found === undefined) return
      const answer = { status: Number(first.split(" ")[1]), headers, body: found.body }
      received = received.subarray(found.end)
      const { resolve } = waiting
      waiting = undefined
      resolve(answer)
    })
    socket.on("connect", () =>
      resolve({
        request: (bytes) =>
          new Promise((resolve, reject) => {
            if (lost) return reject(new ConnectionLost("the connection was closed before"))
            waiting = { resolve, reject }
            socket.write(bytes)
          }),
        send: (bytes) => void socket.write(bytes),
        close: () => socket.destroy()
      })
    )
  })
