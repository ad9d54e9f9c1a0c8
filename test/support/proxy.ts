/**
 * A bad network: a TCP proxy between a publisher and the service that delays, cuts, half-closes, refuses and swallows
 * answers, as its plan says for each exchange. It knows nothing of HTTP but that both sides take turns: an exchange
 * begins with the first bytes that a client sends on a connection, or sends there after the last answer began.
 */
import { once } from "node:events"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"

/** What befalls an exchange. Bytes count from its beginning; what never sends so many passes. */
export type Fault =
  | { readonly kind: "pass" }
  /** Both directions stand still for so long before their first bytes. */
  | { readonly kind: "delay"; readonly requestMillis: number; readonly answerMillis: number }
  /** The connection is reset before anything reaches the service. */
  | { readonly kind: "refuse" }
  /** So many bytes of the request reach the service; then both connections are reset. */
  | { readonly kind: "cut-request"; readonly bytes: number }
  /** The service answers; so many bytes of that reach the client, then both connections are reset. */
  | { readonly kind: "cut-answer"; readonly bytes: number }
  /** The service answers; the client's connection ends after so many bytes of that, as if that were all. */
  | { readonly kind: "half-close-client"; readonly bytes: number }
  /** The service sees its client's side of the connection end after so many bytes; its answer still passes. */
  | { readonly kind: "half-close-server"; readonly bytes: number }
  /** The service answers, and the client's connection is reset instead. */
  | { readonly kind: "swallow-answer" }
  /** The service answers, and the client hears nothing, on a connection that stays open. */
  | { readonly kind: "swallow-silently" }

/** Says what befalls the exchange of this number, counted from 0. */
export type Plan = (exchange: number) => Fault

/** These, one after the other; then everything passes. */
export const scripted =
  (...faults: ReadonlyArray<Fault>): Plan =>
  (exchange) =>
    faults[exchange] ?? { kind: "pass" }

/** How often each fault befalls an exchange: 0 to 1, together at most 1. What is left passes. */
export type Rates = Readonly<Partial<Record<Exclude<Fault["kind"], "pass">, number>>>

/** Faults by these rates. The same seed and number give the same fault. */
export const seeded =
  (seed: number, rates: Rates, delayMillisMax = 50): Plan =>
  (exchange) => {
    let left = chance(seed, exchange, 0)
    const bytes = Math.floor(chance(seed, exchange, 1) ** 3 * 2000)
    for (const [kind, rate] of Object.entries(rates) as ReadonlyArray<[keyof Rates, number]>) {
      left -= rate
      if (left >= 0) continue
      if (kind === "delay") {
        const requestMillis = chance(seed, exchange, 2) * delayMillisMax
        return { kind, requestMillis, answerMillis: chance(seed, exchange, 3) * delayMillisMax }
      }
      if (kind === "refuse" || kind === "swallow-answer" || kind === "swallow-silently") return { kind }
      return { kind, bytes }
    }
    return { kind: "pass" }
  }

// A number from 0 to 1 that follows from the place alone (splitmix32).
const chance = (...place: ReadonlyArray<number>): number => {
  let state = 0
  for (const part of place) {
    state = (state ^ part) + 0x9e3779b9
    state = Math.imul(state ^ (state >>> 16), 0x21f0aaad)
    state = Math.imul(state ^ (state >>> 15), 0x735a2d97)
    state ^= state >>> 15
  }
  return (state >>> 0) / 2 ** 32
}

/** Where the service is; asked for each connection, so that a service may come back elsewhere. */
export type Target = () => { readonly host: string; readonly port: number }

/** A proxy that runs. */
export interface RunningProxy {
  readonly host: string
  readonly port: number
  /** `http://host:port`, without a slash at the end. */
  readonly url: string
  /** How many exchanges have begun. */
  readonly exchanges: () => number
  /** How often each fault struck: an exchange that ended before its fault is not among them. */
  readonly struck: Readonly<Record<Fault["kind"], number>>
  /** Another plan, for the exchanges that begin from here on; their numbers go on. */
  readonly follow: (plan: Plan) => void
  /** Resets every connection, and takes no new ones. */
  readonly close: () => Promise<void>
}

/** Starts a proxy in front of a service. */
export const startProxy = async (target: Target, firstPlan: Plan): Promise<RunningProxy> => {
  let plan = firstPlan
  let exchanges = 0
  const struck = {
    pass: 0,
    delay: 0,
    refuse: 0,
    "cut-request": 0,
    "cut-answer": 0,
    "half-close-client": 0,
    "half-close-server": 0,
    "swallow-answer": 0,
    "swallow-silently": 0
  }
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const service = connect({ ...target(), allowHalfOpen: true })
    sockets.add(client).add(service)
    relay(client, service, {
      next: () => plan(exchanges++),
      strike: (kind) => void struck[kind]++
    })
    for (const socket of [client, service]) socket.once("close", () => sockets.delete(socket))
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as AddressInfo
  return {
    host: "127.0.0.1",
    port,
    url: `http://127.0.0.1:${port}`,
    exchanges: () => exchanges,
    struck,
    follow: (next) => {
      plan = next
    },
    close: async () => {
      const closed = once(server, "close")
      server.close()
      for (const socket of sockets) socket.resetAndDestroy()
      await closed
    }
  }
}

interface Director {
  readonly next: () => Fault
  readonly strike: (kind: Fault["kind"]) => void
}

// One connection of a client, and the one to the service behind it.
const relay = (client: Socket, service: Socket, { next, strike }: Director): void => {
  let fault: Fault = { kind: "pass" }
  let requestBytes = 0
  let answerBytes = 0
  let inExchange = false

  const reset = () => {
    client.resetAndDestroy()
    service.resetAndDestroy()
  }
  // What cannot be passed on any more must not be waited for either.
  const write = (socket: Socket, bytes: Uint8Array) => {
    if (socket.writable) socket.write(bytes)
    else reset()
  }
  const pauseFor = (socket: Socket, millis: number, then: () => void) => {
    socket.pause()
    setTimeout(() => {
      then()
      socket.resume()
    }, millis)
  }

  client.on("data", (bytes: Buffer) => {
    if (!inExchange || answerBytes > 0) {
      inExchange = true
      requestBytes = 0
      answerBytes = 0
      fault = next()
      if (fault.kind === "pass") strike("pass")
    }
    const before = requestBytes
    requestBytes += bytes.length
    switch (fault.kind) {
      case "refuse":
        strike("refuse")
        return reset()
      case "delay":
        if (before > 0) return write(service, bytes)
        strike("delay")
        return pauseFor(client, fault.requestMillis, () => write(service, bytes))
      case "cut-request":
        if (requestBytes < fault.bytes) return write(service, bytes)
        strike("cut-request")
        // Reset only once these bytes have left.
        return void service.write(bytes.subarray(0, Math.max(0, fault.bytes - before)), reset)
      case "half-close-server":
        if (before > 0 && before >= fault.bytes) return
        if (requestBytes < fault.bytes) return write(service, bytes)
        strike("half-close-server")
        return void service.end(bytes.subarray(0, fault.bytes - before))
      default:
        return write(service, bytes)
    }
  })

  service.on("data", (bytes: Buffer) => {
    const before = answerBytes
    answerBytes += bytes.length
    switch (fault.kind) {
      case "swallow-answer":
        strike("swallow-answer")
        return reset()
      case "swallow-silently":
        if (before === 0) strike("swallow-silently")
        return
      case "delay":
        if (before > 0) return write(client, bytes)
        return pauseFor(service, fault.answerMillis, () => write(client, bytes))
      case "cut-answer":
        if (answerBytes < fault.bytes) return write(client, bytes)
        strike("cut-answer")
        return void client.write(bytes.subarray(0, Math.max(0, fault.bytes - before)), reset)
      case "half-close-client":
        if (before > 0 && before >= fault.bytes) return
        if (answerBytes < fault.bytes) return write(client, bytes)
        strike("half-close-client")
        return void client.end(bytes.subarray(0, fault.bytes - before))
      default:
        return write(client, bytes)
    }
  })

  for (const [socket, other] of [
    [client, service],
    [service, client]
  ] as const) {
    socket.on("end", () => void (other.writable && other.end()))
    socket.on("error", () => other.destroy())
    socket.on("close", () => other.destroy())
  }
}
