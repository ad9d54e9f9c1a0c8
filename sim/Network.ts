/**
 * The network between clients and servers, HTTP exchange by exchange.
 *
 * What may happen. *A request is lost*, and its sender learns of it by a reset or not at all. *An answer is
 * lost* in the same two ways, after the work was done. *A request arrives twice*, as a proxy that retries makes
 * it; the first answer to come back counts. *Anything is delayed*, each message by its own measure, so that
 * what was sent later may arrive earlier. *A body arrives in pieces*, with pauses. *A connection breaks* while
 * the server works; the server notices, which interrupts the request's fiber, or a proxy keeps it from noticing
 * and the work goes on. *A partition* keeps what a client sends to one address from arriving for a while; what is
 * under way arrives. *A crash* resets all connections to that process; an answer that had already left it
 * may still arrive. *Nobody listens*: the connection is refused.
 *
 * *An answer that comes in pieces* is cut between two of them: its client learns of it by a reset or not at all, and its
 * server after a while; what was under way is lost. Pieces keep their order, and one is under way at a time, so that
 * who reads slowly slows the server down. Such requests are not repeated by a proxy.
 *
 * What never happens. A message is not altered, cut short or made up, except that a server whose body stream
 * fails ends the answer there, as Node's does. An exchange is not answered twice, nor with the answer to
 * another one.
 */
import { Effect } from "effect"
import type { Choices } from "./Choices.ts"
import type { VirtualTime } from "./Clock.ts"
import type { Counters } from "./Counters.ts"
import {
  type Answer,
  type Delivery,
  type Listener,
  type NetworkError,
  type NetworkFaults,
  noNetworkFaults,
  type Outgoing,
  type Piece,
  Refused,
  type Request,
  Reset,
  TimedOut
} from "./Exchange.ts"
import { Incoming } from "./Incoming.ts"
import type { SimProcess, SimScheduler } from "./Scheduler.ts"
import { hashText, type Trace } from "./Trace.ts"

export * from "./Exchange.ts"

interface Exchange {
  readonly id: string
  readonly client: string
  readonly request: Request
  readonly running: Set<Running>
  settle: ((result: Effect.Effect<Answer, NetworkError>) => void) | undefined
  /** Where the client reads the answer in pieces. */
  readonly incoming: Incoming | undefined
}

/** An answer that began. */
export interface Opened {
  readonly answer: Answer
  /** Its pieces; nothing where it is whole. */
  readonly incoming: Incoming | undefined
}

/** One delivery of an exchange, at work on a server. */
interface Running {
  readonly process: SimProcess
  readonly exchange: Exchange
  /** A proxy's own copy of a request does not end with the client's connection. */
  readonly sent: "by the client" | "by a proxy"
  readonly disconnect: () => void
  answered: boolean
}

// A process that is started again bears its name with a number.
const linkOf = (client: string, address: string): string => `${client.replace(/#\d+$/, "")} ${address}`

/** What every message takes, and what a delayed one may take on top, in microseconds. */
const latency = 300
const delays = [300, 1000, 4000, 20_000, 100_000, 700_000] as const

export class Network {
  faults: NetworkFaults
  /** Hears of every copy of a request that reaches a server: its exchange, and the server's process. */
  delivered: ((exchange: string, server: string) => void) | undefined
  /** Hears of every answer that leaves a server: its exchange, the server's process, and its status. */
  answered: ((exchange: string, server: string, status: number) => void) | undefined
  /** Pairs of a client and an address that are cut off from each other. */
  private readonly cuts = new Set<string>()
  private readonly listeners = new Map<string, Listener>()
  private readonly running = new Set<Running>()
  private readonly sent = new Map<string, number>()
  private readonly waiting = new Set<Exchange>()
  private readonly choices: Choices
  private readonly time: VirtualTime
  private readonly scheduler: SimScheduler
  private readonly trace: Trace
  private readonly counters: Counters

  constructor(world: {
    readonly choices: Choices
    readonly time: VirtualTime
    readonly scheduler: SimScheduler
    readonly trace: Trace
    readonly counters: Counters
    readonly faults?: NetworkFaults
  }) {
    this.choices = world.choices
    this.time = world.time
    this.scheduler = world.scheduler
    this.trace = world.trace
    this.counters = world.counters
    this.faults = world.faults ?? noNetworkFaults
  }

  /** Serves an address until the answer is called. Whoever listened there before is no longer asked. */
  listen(address: string, listener: Listener): () => void {
    this.listeners.set(address, listener)
    return () => {
      if (this.listeners.get(address) === listener) this.listeners.delete(address)
    }
  }

  isListening(address: string): boolean {
    return this.listeners.get(address)?.process.alive === true
  }

  /**
   * One exchange, from the fiber of a client. Interrupting it closes the connection, and so does the timeout,
   * which costs no fibers of its own, unlike `Effect.timeout`.
   */
  send(
    client: string,
    address: string,
    request: Request,
    options: {
      readonly timeoutMillis?: number
      /** Hears of the exchange's name as it begins. */
      readonly opened?: (exchange: string) => void
    } = {}
  ): Effect.Effect<Answer, NetworkError> {
    return Effect.async((resume) => {
      const exchange = this.begin(client, request)
      options.opened?.(exchange.id)
      const cancel = this.time.after((options.timeoutMillis ?? Number.POSITIVE_INFINITY) * 1000, this, () => {
        this.counters.count("network: timed out")
        exchange.settle?.(Effect.fail(new TimedOut({ exchange: exchange.id })))
        this.leave(exchange)
      })
      exchange.settle = (result) => {
        cancel()
        exchange.settle = undefined
        this.waiting.delete(exchange)
        resume(result)
      }
      this.transmit(exchange, address)
      return Effect.sync(() => {
        cancel()
        this.leave(exchange)
      })
    })
  }

  /** Like `send`, but for an answer that may come in pieces, and may never end. */
  open(
    client: string,
    address: string,
    request: Request,
    /** Hears of the exchange's name as it begins, and how its client goes away. */
    opened: (exchange: string, close: () => void) => void
  ): Effect.Effect<Opened, NetworkError> {
    return Effect.async((resume) => {
      const incoming = new Incoming()
      const exchange = this.begin(client, request, incoming)
      opened(exchange.id, () => this.leave(exchange))
      let began = false
      exchange.settle = (result) => {
        exchange.settle = undefined
        this.waiting.delete(exchange)
        began = true
        resume(Effect.map(result, (answer) => ({ answer, incoming: incoming.begun ? incoming : undefined })))
      }
      this.transmit(exchange, address)
      return Effect.sync(() => {
        if (!began) this.leave(exchange)
      })
    })
  }

  /** The process is dead: its connections break. */
  drop(process: SimProcess): void {
    for (const [address, listener] of this.listeners) {
      if (listener.process === process) this.listeners.delete(address)
    }
    for (const running of this.running) {
      if (running.process !== process) continue
      this.running.delete(running)
      running.exchange.running.delete(running)
      if (running.answered) continue
      this.counters.count("network: reset by a crash")
      this.reset(running.exchange)
    }
  }

  /** Cuts a client off from an address, also when it is started again, or ends that. */
  partition(client: string, address: string, isCut: boolean): void {
    this.trace.note(`${client} is ${isCut ? "cut off from" : "connected again to"} ${address}`)
    if (isCut) this.cuts.add(linkOf(client, address))
    else this.cuts.delete(linkOf(client, address))
  }

  /** No more faults. */
  heal(): void {
    this.faults = noNetworkFaults
    this.cuts.clear()
  }

  /** Exchanges that still wait for their answer, for the report of a run that is stuck. */
  pending(): ReadonlyArray<string> {
    return [...this.waiting].map((exchange) => {
      const { client, id, request, running } = exchange
      const where = [...running].map((each) => each.process.name).join(", ")
      return `${client} waits for ${request.method} ${request.url} (${id}), ${where === "" ? "not at any server" : `at ${where}`}`
    })
  }

  private begin(client: string, request: Request, incoming?: Incoming): Exchange {
    const number = (this.sent.get(client) ?? 0) + 1
    this.sent.set(client, number)
    const exchange: Exchange = {
      id: `${client}.${number}`,
      client,
      request,
      running: new Set(),
      settle: undefined,
      incoming
    }
    this.waiting.add(exchange)
    this.counters.count("network: request")
    this.trace.note(`${exchange.id} sends ${request.method} ${request.url}`)
    return exchange
  }

  private transmit(exchange: Exchange, address: string): void {
    const isCut = this.cuts.has(linkOf(exchange.client, address))
    if (isCut) this.counters.count("network: cut off")
    if (this.strikes("requestLost", exchange) || isCut) {
      this.loseSilentlyOrNot(exchange)
      return
    }
    this.after(this.delay(exchange), () => this.deliver(exchange, address, "by the client"))
    if (exchange.incoming === undefined && this.strikes("duplicated", exchange)) {
      this.after(this.delay(exchange), () => this.deliver(exchange, address, "by a proxy"))
    }
    if (this.strikes("connectionBroken", exchange)) {
      const when = this.choices.oneOf(`net-break/${exchange.client}`, delays)
      this.after(latency + when, () => {
        this.fail(exchange, new Reset({ exchange: exchange.id }))
        this.leave(exchange)
      })
    }
  }

  private deliver(exchange: Exchange, address: string, sent: "by the client" | "by a proxy"): void {
    const listener = this.listeners.get(address)
    if (listener === undefined || !listener.process.alive) {
      this.counters.count("network: refused")
      this.after(latency, () => exchange.settle?.(Effect.fail(new Refused({ exchange: exchange.id }))))
      return
    }
    const { process } = listener
    let disconnect: () => void = () => undefined
    const running: Running = { process, exchange, sent, disconnect: () => disconnect(), answered: false }
    exchange.running.add(running)
    this.running.add(running)
    this.trace.note(`${exchange.id} arrives at ${process.name}`)
    this.delivered?.(exchange.id, process.name)
    const delivery: Delivery = {
      exchange: exchange.id,
      client: exchange.client,
      request: exchange.request,
      body: this.pieces(exchange),
      answer: (answer) => {
        if (running.answered || !process.alive) return
        running.answered = true
        this.carryBack(running, answer)
      },
      begin: exchange.incoming === undefined ? undefined : (head) => this.stream(running, head),
      end: () => {
        if (process.alive && !running.answered) this.counters.count("network: ended without an answer")
        this.running.delete(running)
        exchange.running.delete(running)
      }
    }
    this.scheduler.enter(process, () => {
      disconnect = listener.accept(delivery)
    })
    // The client went away while its request was under way: the request arrives, and after it the news.
    if (exchange.settle === undefined) this.leave(exchange)
  }

  private carryBack(running: Running, answer: Answer): void {
    const { exchange, process } = running
    this.answered?.(exchange.id, process.name, answer.status)
    const lost = this.strikes("answerLost", exchange)
    this.trace.note(`${exchange.id} is answered ${answer.status}${lost ? ", and the answer is lost" : ""}`)
    this.trace.add(hashText(answer.body))
    if (lost) {
      this.loseSilentlyOrNot(exchange)
      return
    }
    this.after(this.delay(exchange), () => {
      if (!process.alive && this.strikes("answerDiesWithServer", exchange)) return this.reset(exchange)
      exchange.settle?.(Effect.succeed(answer))
    })
  }

  /** An answer leaves piece by piece. */
  private stream(running: Running, head: Omit<Answer, "body">): Outgoing {
    const { exchange, process } = running
    const { incoming } = exchange
    this.answered?.(exchange.id, process.name, head.status)
    let isCut = this.strikes("answerLost", exchange)
    this.trace.note(`${exchange.id} is answered ${head.status}${isCut ? ", and the answer is lost" : ""}`)
    /** When what left last arrives: what leaves later does not overtake it. */
    let lastAt = this.time.now
    const arriveInOrder = (arrive: () => void) => {
      lastAt = Math.max(lastAt, this.time.now + this.delay(exchange))
      this.after(lastAt - this.time.now, arrive)
    }
    const cut = () => {
      isCut = true
      this.loseSilentlyOrNot(exchange)
      this.after(this.delay(exchange), () => this.disconnect(running))
    }
    if (isCut) cut()
    else {
      arriveInOrder(() => {
        if (incoming !== undefined) incoming.begun = true
        exchange.settle?.(Effect.succeed({ ...head, body: "" }))
      })
    }
    return {
      write: (bytes, written) => {
        if (isCut || !process.alive) return
        this.counters.count("network: piece of a stream")
        this.trace.add(hashText(Buffer.from(bytes).toString("utf8")))
        if (this.strikes("streamCut", exchange)) return cut()
        const read = () =>
          this.after(latency, () => {
            if (process.alive && this.running.has(running)) this.scheduler.enter(process, written)
          })
        arriveInOrder(() => incoming?.arrive(bytes, read))
      },
      end: () => {
        running.answered = true
        if (!isCut && process.alive) arriveInOrder(() => incoming?.end("ended"))
      }
    }
  }

  private disconnect(running: Running): void {
    if (!running.process.alive || running.answered || !this.running.has(running)) return
    this.counters.count("network: client gone")
    this.scheduler.enter(running.process, running.disconnect)
  }

  private loseSilentlyOrNot(exchange: Exchange): void {
    if (this.choices.pick(`net-silence/${exchange.client}`, 2) === 0)
      this.after(this.delay(exchange), () => this.reset(exchange))
  }

  private reset(exchange: Exchange): void {
    this.after(latency, () => this.fail(exchange, new Reset({ exchange: exchange.id })))
  }

  private fail(exchange: Exchange, error: NetworkError): void {
    if (exchange.settle === undefined) exchange.incoming?.end(error)
    else exchange.settle(Effect.fail(error))
  }

  /** The client has gone; the servers that work for it are told, unless something in between hides it. */
  private leave(exchange: Exchange): void {
    exchange.settle = undefined
    this.waiting.delete(exchange)
    for (const running of exchange.running) {
      if (running.answered || running.sent === "by a proxy") continue
      // What is sent on a connection that is gone shows that it is.
      if (exchange.incoming === undefined && this.strikes("disconnectUnseen", exchange)) continue
      this.after(this.delay(exchange), () => this.disconnect(running))
    }
  }

  private pieces(exchange: Exchange): ReadonlyArray<Piece> {
    const { body } = exchange.request
    const bytes = typeof body === "string" ? Buffer.from(body) : body
    if (bytes === undefined || bytes.length === 0) return []
    if (!this.strikes("bodyInPieces", exchange)) return [{ at: this.time.now, bytes }]
    const count = 2 + this.choices.pick(`net-pieces/${exchange.client}`, 4)
    const size = Math.max(1, Math.ceil(bytes.length / count))
    const pieces: Array<Piece> = []
    for (let start = 0, at = this.time.now; start < bytes.length; start += size) {
      pieces.push({ at, bytes: bytes.subarray(start, start + size) })
      at += this.choices.oneOf(`net-pause/${exchange.client}`, [100, 2000, 50_000, 1_000_000])
    }
    return pieces
  }

  private delay(exchange: Exchange): number {
    if (!this.strikes("delayed", exchange)) return latency
    return latency + this.choices.oneOf(`net-delay/${exchange.client}`, delays)
  }

  private strikes(fault: keyof NetworkFaults, exchange: Exchange): boolean {
    const struck = this.choices.chance(`net-${fault}/${exchange.client}`, this.faults[fault])
    if (struck) {
      this.counters.count(`network: ${fault}`)
      this.trace.note(`${exchange.id} meets with ${fault}`)
    }
    return struck
  }

  private after(micros: number, run: () => void): void {
    this.time.after(micros, this, run)
  }
}
