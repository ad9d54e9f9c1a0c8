/**
 * Where the history is written: a relay between the bad network and a service, one for each client process. It passes
 * every byte on as it comes, also those of a request that is cut short, and reads along.
 *
 * What it writes is true of itself as a client: a request is `invoked` and `delivered` as its last bytes are passed on
 * to the service, and has `returned` when the whole answer has come back to here, whether or not the network lets it
 * reach the process behind. A connection that ends before leaves the outcome `unknown`. As all relays of a service and
 * all that befalls it are noted by one thread in the order in which it saw them, what stands before something else in
 * the history was before it. A request that never came whole is not in the history: nothing of it may take effect.
 */
import { once } from "node:events"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"
import { type JsonObject, readJson } from "../../../sim/check/Json.ts"
import type { Operation, PageParameters } from "../../../sim/History.ts"
import type { Aggregator } from "./aggregator.ts"
import { type Message, makeMessageReader } from "./messages.ts"
import { Broken, type Run } from "./run.ts"

/** A relay that runs. */
export interface Recorder {
  readonly port: number
  /** How many connections the client has begun. */
  readonly connections: () => number
  /** The keys of events for which an answer has come back to here that says what became of them. */
  readonly acknowledged: ReadonlySet<string>
  /** The process is no more: what it has not been answered, it will not send again. */
  readonly gaveUp: () => void
  readonly close: () => void
}

/** Starts a relay for the client of this name. */
export const startRecorder = async (run: Run, aggregator: Aggregator, client: string): Promise<Recorder> => {
  const { history } = aggregator
  const submissions = new Submissions(client, (submission) => history.add({ kind: "gave up", submission }))
  const sockets = new Set<Socket>()
  let calls = 0
  let connections = 0

  const relay = (socket: Socket): void => {
    connections++
    const { serving } = aggregator
    // Where no service runs, nobody listens.
    if (serving === undefined) {
      run.count("connections refused")
      return void socket.resetAndDestroy()
    }
    const service = connect({ host: "127.0.0.1", port: serving.port, allowHalfOpen: true })
    for (const each of [socket, service]) {
      sockets.add(each)
      each.once("close", () => sockets.delete(each))
    }
    /** What was asked on this connection and is not answered yet; nothing for what the history does not know. */
    const asked: Array<string | undefined> = []
    /** Answers to requests that had not come whole. */
    let answeredEarly = 0

    const noteRequest = (message: Message): void => {
      if (answeredEarly > 0) {
        answeredEarly--
        return
      }
      const call = `${client}.${++calls}`
      const operation = operationOf(message, submissions)
      asked.push(operation === undefined ? undefined : call)
      if (operation === undefined) return
      history.add({ kind: "invoked", process: client, call, operation })
      history.add({ kind: "delivered", call, server: serving.name })
      if (operation.type === "publish") {
        run.count("requests to publish")
        if (operation.attempt > 1) run.count("requests sent again")
        run.count("events received", operation.events.length)
        submissions.noteAsked(call, operation)
      }
      run.happened()
    }
    const noteAnswer = ({ start, headers, body }: Message): void => {
      const status = Number(start.split(" ")[1])
      if (asked.length === 0) {
        answeredEarly++
        run.count(`${status} to half a request`)
        return
      }
      const call = asked.shift()
      if (status >= 400) run.count(`${status}`)
      if (call === undefined) return
      history.add({ kind: "returned", call, status, headers, body })
      if (submissions.noteAnswered(call, status)) run.count("answers to publish")
      run.happened()
    }
    const noteEnd = (why: string): void => {
      for (const call of asked.splice(0)) {
        if (call === undefined) continue
        history.add({ kind: "unknown", call, why })
        run.count("requests without an answer")
      }
      run.happened()
    }

    const requests = makeMessageReader()
    const answers = makeMessageReader()
    const guarded = (note: () => void): void => {
      try {
        note()
      } catch (error) {
        run.fail(error)
      }
    }
    socket.pause()
    service.once("connect", () => socket.resume())
    socket.on("data", (bytes: Buffer) => {
      guarded(() => requests.push(bytes).forEach(noteRequest))
      if (service.writable) service.write(bytes)
    })
    service.on("data", (bytes: Buffer) => {
      guarded(() => answers.push(bytes).forEach(noteAnswer))
      if (socket.writable) socket.write(bytes)
    })
    socket.on("end", () => void (service.writable && service.end()))
    service.on("end", () => {
      guarded(() => answers.end().forEach(noteAnswer))
      if (socket.writable) socket.end()
    })
    service.on("close", () => guarded(() => noteEnd("the connection ended")))
    for (const [each, other] of [
      [socket, service],
      [service, socket]
    ] as const) {
      each.on("error", () => other.destroy())
      each.on("close", () => other.destroy())
    }
  }

  const server = createServer({ allowHalfOpen: true }, relay)
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  return {
    port: (server.address() as AddressInfo).port,
    connections: () => connections,
    acknowledged: submissions.acknowledged,
    gaveUp: () => submissions.gaveUp(),
    close: () => {
      server.close()
      for (const socket of sockets) socket.resetAndDestroy()
    }
  }
}

type Publish = Extract<Operation, { readonly type: "publish" }>

/** The submissions of one process, told apart by what it sends: an attempt that is no first one repeats the last. */
class Submissions {
  readonly acknowledged = new Set<string>()
  readonly #client: string
  readonly #giveUp: (submission: string) => void
  readonly #open = new Set<string>()
  readonly #ofCall = new Map<string, Publish>()
  #last: { readonly name: string; readonly body: string } | undefined
  #count = 0
  #isGone = false

  constructor(client: string, giveUp: (submission: string) => void) {
    this.#client = client
    this.#giveUp = giveUp
  }

  nameOf(body: string, attempt: number): string {
    if (attempt === 1 || this.#last?.body !== body) {
      this.#last = { name: `${this.#client}/${++this.#count}`, body }
    }
    return this.#last.name
  }

  noteAsked(call: string, publish: Publish): void {
    const { submission } = publish
    // What the process had sent before it was killed may come after its death.
    if (this.#isGone && !this.#open.has(submission)) this.#giveUp(submission)
    this.#open.add(submission)
    this.#ofCall.set(call, publish)
  }

  /** Notes an answer; gives back whether it was one to a publish. */
  noteAnswered(call: string, status: number): boolean {
    const publish = this.#ofCall.get(call)
    this.#ofCall.delete(call)
    if (publish === undefined) return false
    if (status < 500) this.#open.delete(publish.submission)
    for (const event of status === 202 ? publish.events : []) {
      const { topic, event_id } = JSON.parse(event) as { readonly topic: string; readonly event_id: string }
      this.acknowledged.add(`${topic}/${event_id}`)
    }
    return true
  }

  gaveUp(): void {
    this.#isGone = true
    for (const submission of this.#open) this.#giveUp(submission)
  }
}

/** What a request asks for, nothing where the history does not know it. */
const operationOf = ({ start, headers, body }: Message, submissions: Submissions): Operation | undefined => {
  const [method, target = ""] = start.split(" ")
  const { pathname, searchParams } = new URL(target, "http://any")
  const parameters = Object.fromEntries(
    [...searchParams].map(([name, value]) => [name, /^\d+$/.test(value) ? Number(value) : value])
  )
  if (method === "POST" && pathname === "/publish") {
    const attempt = Math.max(1, Number(headers["sekali-attempt"] ?? 1))
    const submission = submissions.nameOf(body, attempt)
    const minimal = headers["prefer"] === "return=minimal"
    return { type: "publish", submission, attempt, events: eventsOf(body), minimal }
  }
  if (method !== "GET") throw new Broken("simulation", `the history knows no ${start}`)
  if (pathname === "/events") {
    const type = headers["accept"] === "application/x-ndjson" ? "stream" : "page"
    return { type, parameters: parameters as PageParameters }
  }
  const [, topic, id] = /^\/events\/([^/]+)\/([^/]+)$/.exec(pathname) ?? []
  if (topic !== undefined && id !== undefined) {
    return { type: "lookup", topic: decodeURIComponent(topic), event_id: decodeURIComponent(id) }
  }
  if (pathname === "/stats") return { type: "stats" }
  if (pathname === "/topics") return { type: "topics", ...parameters }
  if (pathname === "/conflicts") return { type: "conflicts", ...parameters }
  if (pathname.startsWith("/health/")) return undefined
  throw new Broken("simulation", `the history knows no ${start}`)
}

/** Each event of a body as JSON text, with its payload exact. */
const eventsOf = (text: string): ReadonlyArray<string> =>
  (readJson(text) as ReadonlyArray<JsonObject>).map((event) => {
    const members = [...event].map(
      ([name, value]) => `${JSON.stringify(name)}:${name === "payload" ? value : JSON.stringify(value)}`
    )
    return `{${members.join(",")}}`
  })
