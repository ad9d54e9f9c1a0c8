/**
 * The sending of a load over bare sockets, one request under way on each, in two ways. In a closed loop each connection
 * sends as soon as it has its answer: so the server decides the rate, and it is how much a server can take. In an open
 * loop requests fall due by a schedule whatever the server does, and their time counts from when they were due: a server
 * that stops for a moment is charged for all that would have arrived meanwhile.
 *
 * It costs as little as it can, since it shares the machine with what it measures.
 */
import net from "node:net"
import { ConnectionLost } from "../support/connection.ts"
import type { Prepared, Take } from "./events.ts"

/** An answer as it came. The body lasts only until the next turn. */
export interface Answer {
  readonly status: number
  readonly head: string
  readonly body: Buffer
}

/** Is told of each answer, and how many milliseconds it took. */
export type Answered = (prepared: Prepared, answer: Answer, milliseconds: number) => void

/** Sends all there is in a closed loop; fails at an answer that is not 202. The time until all was answered. */
export const sendClosed = async (
  port: number,
  connections: number,
  take: Take,
  answered: Answered
): Promise<number> => {
  const lines = await Promise.all(Array.from({ length: connections }, () => open(port)))
  const startedAt = performance.now()
  const publisher = async (line: Line) => {
    for (let prepared = take(); prepared !== undefined; prepared = take()) {
      const sentAt = performance.now()
      const answer = await line.request(prepared.bytes)
      if (answer.status !== 202) throw new Error(`answered ${answer.status}: ${answer.body}`)
      answered(prepared, answer, performance.now() - sentAt)
    }
  }
  try {
    await Promise.all(lines.map(publisher))
    return performance.now() - startedAt
  } finally {
    for (const line of lines) line.close()
  }
}

/** How a load is offered. */
export interface Offer {
  readonly port: number
  readonly connections: number
  readonly requestsPerSecond: number
  readonly seconds: number
  /** Whether a request that falls due while every connection is taken waits for one, or is left out. */
  readonly whenBusy: "wait" | "leave out"
}

/** What came of an offer, beside the answers. */
export interface Offered {
  /** When the schedule ended, by the clock of `performance`. What was under way then was still waited for. */
  readonly endedAt: number
  readonly due: number
  readonly leftOut: number
  /** Connections that ended before an answer. */
  readonly lost: number
}

/** Offers a load in an open loop, its arrivals as random as those of many publishers that know nothing of each other. */
export const sendOpen = async (offer: Offer, next: () => Prepared, answered: Answered): Promise<Offered> => {
  const { port, connections, requestsPerSecond, seconds, whenBusy } = offer
  const free = await Promise.all(Array.from({ length: connections }, () => open(port)))
  const lines = new Set(free)
  const startedAt = performance.now()
  const endsAt = startedAt + seconds * 1000
  let dueAt = startedAt
  let due = 0
  let leftOut = 0
  let lost = 0
  let underWay = 0
  let wake = () => {}

  const send = async (line: Line, prepared: Prepared, from: number) => {
    underWay++
    try {
      const answer = await line.request(prepared.bytes)
      answered(prepared, answer, performance.now() - from)
      if (!/\r\nconnection: close/i.test(answer.head)) return void free.push(line)
    } catch (error) {
      if (!(error instanceof ConnectionLost)) throw error
      lost++
    } finally {
      underWay--
      wake()
    }
    lines.delete(line)
    line.close()
    const another = await open(port)
    if (isOver) return another.close()
    lines.add(another)
    free.push(another)
  }

  let isOver = false
  let failure: unknown
  const sendWhatIsDue = (): void => {
    const now = performance.now()
    while (dueAt <= now && dueAt < endsAt) {
      // The one that has been idle for longest: a server closes those that stay so.
      const line = free.shift()
      if (line === undefined && whenBusy === "wait") return
      due++
      if (line === undefined) leftOut++
      else
        send(line, next(), dueAt).catch((error: unknown) => {
          failure ??= error
        })
      // The gaps between arrivals that are independent of each other.
      dueAt -= (Math.log(1 - Math.random()) / requestsPerSecond) * 1000
    }
  }
  try {
    while (failure === undefined && (dueAt < endsAt || underWay > 0)) {
      sendWhatIsDue()
      await new Promise<void>((resolve) => {
        wake = whenBusy === "wait" || dueAt >= endsAt ? resolve : () => {}
        setTimeout(resolve, 1)
      })
    }
    if (failure !== undefined) throw failure
    return { endedAt: endsAt, due, leftOut, lost }
  } finally {
    isOver = true
    for (const line of lines) line.close()
  }
}

/** A connection. */
interface Line {
  readonly request: (bytes: Buffer) => Promise<Answer>
  readonly close: () => void
}

interface Waiting {
  readonly resolve: (answer: Answer) => void
  readonly reject: (error: Error) => void
}

const endOfHead = Buffer.from("\r\n\r\n")

// Knows of HTTP what servers here make use of: an answer has a length.
const answerIn = (received: Buffer): Answer | undefined => {
  const end = received.indexOf(endOfHead)
  if (end < 0) return undefined
  const head = received.toString("latin1", 0, end)
  const [, length] = /\r\ncontent-length: *(\d+)/i.exec(head) ?? []
  if (length === undefined) throw new Error(`an answer without a length: ${head}`)
  const from = end + endOfHead.length
  const to = from + Number(length)
  if (received.length < to) return undefined
  return { status: Number(head.slice(9, 12)), head, body: received.subarray(from, to) }
}

const open = (port: number): Promise<Line> =>
  new Promise((resolve, reject) => {
    const socket = net.connect({ port, host: "127.0.0.1", noDelay: true })
    let received: Buffer = Buffer.alloc(0)
    let waiting: Waiting | undefined
    let isLost = false
    const lose = (error: Error) => {
      isLost = true
      waiting?.reject(error)
      waiting = undefined
      reject(error)
    }
    socket.on("error", (error) => lose(new ConnectionLost(error.message)))
    socket.on("close", () => lose(new ConnectionLost("the connection was closed")))
    socket.on("data", (chunk) => {
      received = received.length === 0 ? chunk : Buffer.concat([received, chunk])
      if (waiting === undefined) return
      const { resolve, reject } = waiting
      try {
        const answer = answerIn(received)
        if (answer === undefined) return
        received = Buffer.alloc(0)
        waiting = undefined
        resolve(answer)
      } catch (error) {
        waiting = undefined
        reject(error as Error)
      }
    })
    socket.on("connect", () =>
      resolve({
        request: (bytes) =>
          new Promise((resolve, reject) => {
            if (isLost) return reject(new ConnectionLost("the connection was closed before"))
            waiting = { resolve, reject }
            socket.write(bytes)
          }),
        close: () => socket.destroy()
      })
    )
  })
