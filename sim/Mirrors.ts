/**
 * The mirrors of a run: the very mirror of `src/mirror/`, each in a process of its own, from each aggregator to the next
 * and from the last to the first. They are killed and started again, with the cursor that they kept, an older one or
 * none, and are cut off from either side. What they ask and are told goes into the history of the aggregator that they
 * ask, as that of any client: each request that publishes is a submission of its own.
 */
import { HttpClient } from "@effect/platform"
import { Cause, Effect } from "effect"
import * as Mirror from "../src/mirror/Mirror.ts"
import type { Aggregator } from "./Aggregator.ts"
import type { Link } from "./check/Convergence.ts"
import { type JsonObject, readJson } from "./check/Json.ts"
import type { Entry, Operation, PageParameters } from "./History.ts"
import { makeHttpClient } from "./HttpClientEdge.ts"
import type { Answer, Request } from "./Network.ts"
import { type Plan, requestEventsMax } from "./Plan.ts"
import type { Process, World } from "./World.ts"

interface One extends Link {
  /** The cursors that it has saved, the newest last. */
  readonly cursors: Array<string>
  /** What it has asked and not been told yet: how to give each up. */
  readonly asked: Set<() => void>
  process: Process | undefined
}

/** Small, so that pages end in the middle of what is there. */
const pageEventsMax = 8

/** Runs take long, and most of that time nothing is new. */
const pollMillisMax = 1000

export class Mirrors {
  private readonly world: World
  private readonly aggregators: ReadonlyArray<Aggregator>
  private readonly mirrors: ReadonlyArray<One>
  private isCalm = false

  constructor(world: World, aggregators: ReadonlyArray<Aggregator>) {
    this.world = world
    this.aggregators = aggregators
    const count = aggregators.length === 1 ? 0 : aggregators.length
    this.mirrors = Array.from({ length: count }, (_, from) => ({
      mirror: `mirror-${from}`,
      from,
      to: (from + 1) % count,
      cursors: [],
      asked: new Set(),
      process: undefined
    }))
  }

  get links(): ReadonlyArray<Link> {
    return this.mirrors
  }

  /** Starts them all, and lets befall them what is planned. */
  begin({ mirrorOutages, partitions }: Plan): void {
    const { choices, time } = this.world
    // Nothing strikes any more once the faults have stopped.
    const isCalm = () => this.isCalm || choices.isCalm
    for (const mirror of this.mirrors) this.start(mirror, false)
    let at = 0
    for (const { mirror: index, afterMillis, cursor, downMillis } of mirrorOutages) {
      const mirror = this.mirrors[index]
      at += afterMillis
      if (mirror === undefined) continue
      time.after(at * 1000, this, () => {
        if (isCalm()) return
        this.kill(mirror)
        this.world.counters.count(`mirror: killed, cursor ${cursor}`)
        if (cursor === "older") mirror.cursors.pop()
        if (cursor === "lost") mirror.cursors.length = 0
        time.after(downMillis * 1000, this, () => {
          if (!isCalm() && mirror.process?.sim.alive !== true) this.start(mirror, false)
        })
      })
    }
    for (const { mirror: index, side, afterMillis, forMillis } of partitions) {
      const mirror = this.mirrors[index]
      if (mirror === undefined) continue
      const { site } = this.aggregators[mirror[side]] as Aggregator
      const cut = (isCut: boolean) => () => {
        if (!isCalm()) this.world.network.partition(mirror.mirror, site.address, isCut)
      }
      time.after(afterMillis * 1000, this, cut(true))
      time.after((afterMillis + forMillis) * 1000, this, cut(false))
    }
  }

  /** Has each copy what there is, and end. */
  catchUp(): void {
    this.isCalm = true
    for (const mirror of this.mirrors) {
      this.kill(mirror)
      this.start(mirror, true)
    }
  }

  /** Whether each has ended that was to catch up. */
  get haveEnded(): boolean {
    return this.mirrors.every(({ process }) => process?.sim.alive !== true)
  }

  stop(): void {
    this.isCalm = true
    for (const mirror of this.mirrors) this.kill(mirror)
  }

  private kill(mirror: One): void {
    if (mirror.process?.sim.alive !== true) return
    this.world.crash(mirror.process, "kill")
    for (const giveUp of mirror.asked) giveUp()
    mirror.asked.clear()
  }

  private start(mirror: One, once: boolean): void {
    const [from, to] = [this.aggregators[mirror.from], this.aggregators[mirror.to]] as [
      Aggregator,
      Aggregator
    ]
    mirror.process = this.world.start(mirror.mirror, (process) =>
      Mirror.run({
        from: `http://${from.site.address}`,
        to: `http://${to.site.address}`,
        once,
        pageEventsMax,
        pollMillisMax
      }).pipe(
        Effect.provideService(
          HttpClient.HttpClient,
          makeHttpClient((address, request) => this.send(mirror, process, address, request))
        ),
        Effect.provideService(Mirror.MirrorCursor, {
          load: Effect.sync(() => mirror.cursors.at(-1)),
          save: (cursor: string) => Effect.sync(() => void mirror.cursors.push(cursor))
        }),
        Effect.scoped,
        Effect.tapErrorCause((cause) =>
          Effect.sync(() => {
            if (Cause.isInterruptedOnly(cause)) return
            this.world.trace.note(`${process.name} fails: ${Cause.pretty(cause).split("\n", 1)[0]}`)
            this.world.counters.count("mirror: failed")
          })
        )
      )
    )
  }

  // One exchange, with its entries in the history of the aggregator that is asked.
  private send(mirror: One, process: Process, address: string, request: Request) {
    return Effect.suspend(() => {
      const { time, network, counters } = this.world
      const aggregator = this.aggregators.find(({ site }) => site.address === address)
      const record = (entry: Entry) => aggregator?.record(entry)
      let exchange: { readonly call: string; readonly operation: Operation } | undefined

      const opened = (call: string) => {
        const operation = operationOf(call, request)
        exchange = { call, operation }
        // A mirror does not know how many events a request may have; it is told, and sends fewer.
        const invalid = operation.type === "publish" && operation.events.length > requestEventsMax
        const invoked = { kind: "invoked", at: time.now, process: process.name, call, operation } as const
        record(invalid ? { ...invoked, invalid } : invoked)
        mirror.asked.add(abandon)
      }
      const returned = ({ status, headers, body }: Answer) => {
        if (exchange === undefined) return
        const { call, operation } = exchange
        mirror.asked.delete(abandon)
        record({ kind: "returned", at: time.now, call, status, headers, body })
        if (operation.type !== "publish") return
        if (status !== 202) record({ kind: "gave up", at: time.now, submission: call })
        for (const outcome of ["stored", "duplicate", "conflict"]) {
          if (body.includes(`"outcome":"${outcome}"`)) counters.count(`mirror: ${outcome}`)
        }
      }
      const unanswered = (why: string) => {
        if (exchange === undefined) return
        const { call, operation } = exchange
        mirror.asked.delete(abandon)
        if (why === "Refused") record({ kind: "refused", at: time.now, call })
        else record({ kind: "unknown", at: time.now, call, why })
        if (operation.type === "publish") record({ kind: "gave up", at: time.now, submission: call })
      }
      const abandon = () => unanswered("it was killed")

      return network.send(process.name, address, request, { opened }).pipe(
        Effect.tap((answer) => Effect.sync(() => returned(answer))),
        Effect.tapError((error) => Effect.sync(() => unanswered(error._tag))),
        Effect.onInterrupt(() => Effect.sync(() => unanswered("it was given up")))
      )
    })
  }
}

const operationOf = (call: string, { method, url, body }: Request): Operation => {
  const { pathname, searchParams } = new URL(url, "http://any")
  if (method === "POST" && pathname === "/publish") {
    const text = typeof body === "string" ? body : Buffer.from(body ?? []).toString()
    return { type: "publish", submission: call, attempt: 1, events: eventsOf(text) }
  }
  if (pathname === "/stats") return { type: "stats" }
  if (pathname !== "/events") throw new Error(`the history knows no ${method} ${url}`)
  const parameters: Record<string, string | number> = {}
  for (const [name, value] of searchParams) {
    parameters[name] = name === "limit" || name === "after" ? Number(value) : value
  }
  return { type: "page", parameters: parameters as PageParameters }
}

/** Each event of a body as JSON text, with its payload exact. */
const eventsOf = (text: string): ReadonlyArray<string> => {
  const body = readJson(text)
  const events = body instanceof Map ? (body.get("events") ?? [body]) : body
  return (events as ReadonlyArray<JsonObject>).map((event) => {
    const members = [...event].map(
      ([name, value]) => `${JSON.stringify(name)}:${name === "payload" ? value : JSON.stringify(value)}`
    )
    return `{${members.join(",")}}`
  })
}
