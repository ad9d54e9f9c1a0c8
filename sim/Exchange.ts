/**
 * What goes over the simulated network: requests and answers, the ways in which an exchange can fail, and what
 * a server is handed and hands back.
 */
import { Data } from "effect"
import type { SimProcess } from "./Scheduler.ts"

/** How often each fault happens to an exchange: 0 to 1. */
export interface NetworkFaults {
  readonly requestLost: number
  readonly answerLost: number
  readonly duplicated: number
  readonly connectionBroken: number
  readonly delayed: number
  readonly bodyInPieces: number
  /** Of the clients that go away, how many the server does not notice. */
  readonly disconnectUnseen: number
  /** Of the answers under way when their server dies, how many die with it. */
  readonly answerDiesWithServer: number
  /** Of the pieces of an answer that comes in pieces, how many the connection breaks before. */
  readonly streamCut: number
}

/** A network that only takes its time. */
export const noNetworkFaults: NetworkFaults = {
  requestLost: 0,
  answerLost: 0,
  duplicated: 0,
  connectionBroken: 0,
  delayed: 0,
  bodyInPieces: 0,
  disconnectUnseen: 0,
  answerDiesWithServer: 0,
  streamCut: 0
}

export interface Request {
  readonly method: "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS"
  /** Path and query. */
  readonly url: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
}

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** The connection broke: the request may have been carried out, or not. */
export class Reset extends Data.TaggedError("Reset")<{ readonly exchange: string }> {}

/** Nobody listens at this address: the request was not carried out. */
export class Refused extends Data.TaggedError("Refused")<{ readonly exchange: string }> {}

/** The client's patience ended, and with it the connection: the request may have been carried out, or not. */
export class TimedOut extends Data.TaggedError("TimedOut")<{ readonly exchange: string }> {}

export type NetworkError = Reset | Refused | TimedOut

/** A piece of a request's body, and when it is there. */
export interface Piece {
  readonly at: number
  readonly bytes: Uint8Array
}

/** How a server sends an answer in pieces. */
export interface Outgoing {
  /** Sends a piece; `written` is called when there is room for the next one. */
  readonly write: (bytes: Uint8Array, written: () => void) => void
  readonly end: () => void
}

/** A request that has reached a server. */
export interface Delivery {
  readonly exchange: string
  readonly client: string
  readonly request: Request
  readonly body: ReadonlyArray<Piece>
  /** To be called once, when the answer leaves. */
  readonly answer: (answer: Answer) => void
  /** Begins an answer that goes out in pieces, where the client reads it so; otherwise it has to be whole. */
  readonly begin: ((head: Omit<Answer, "body">) => Outgoing) | undefined
  /** To be called when nothing more will come of it. */
  readonly end: () => void
}

/** What serves an address: takes a delivery and says how to tell it that the client has gone. */
export interface Listener {
  readonly process: SimProcess
  readonly accept: (delivery: Delivery) => () => void
}
