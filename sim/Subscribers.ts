/**
 * The subscribers of a run: the very follower of `src/client/`, each in a process of its own. They read as slowly as their
 * plan says, are cut off by the network, and are killed and started again from the offset of the last event that they
 * have seen. What they see goes into the history, event by event. In the calm each goes on until it has seen the newest
 * event that matches, and ends.
 */
import { HttpClient } from "@effect/platform"
import { Cause, Duration, Effect, Stream } from "effect"
import * as Follower from "../src/client/Follower.ts"
import { call, query, type Stage } from "./Clients.ts"
import type { NetworkError } from "./Exchange.ts"
import type { Entry } from "./History.ts"
import { makeHttpClient, type Streamed } from "./HttpClientEdge.ts"
import type { Request } from "./Network.ts"
import type { PlannedSubscriber } from "./Plan.ts"
import type { Process } from "./World.ts"

/** How long a stream may be silent; the service's heartbeat in runs is shorter. */
const silentSecondsMax = 4

/** How often a subscriber looks whether it has seen what it is to see. */
const lookMillis = 250

interface One {
  readonly name: string
  readonly plan: PlannedSubscriber
  /** The offset of the last event that it has seen: what it keeps when it is killed. */
  seen: number | undefined
  /** Whether it has seen all that it is to see. */
  isThrough: boolean
  /** Whether it is started again. */
  down: boolean
  /** The streams that are open: how to say that each is over. */
  readonly open: Set<() => void>
  process: Process | undefined
}

export class Subscribers {
  private readonly stage: Stage
  private readonly all: ReadonlyArray<One>

  constructor(stage: Stage, plans: ReadonlyArray<PlannedSubscriber>, prefix: string) {
    this.stage = stage
    this.all = plans.map((plan, index) => ({
      name: `${prefix}subscriber-${index}`,
      plan,
      seen: plan.from === "the beginning" ? 0 : undefined,
      isThrough: false,
      down: false,
      open: new Set(),
      process: undefined
    }))
  }

  /** Starts them, and lets their outages come. */
  begin(): void {
    const { world, record, calm } = this.stage
    for (const one of this.all) {
      const { topic, from, outages } = one.plan
      record({ kind: "subscribes", at: world.time.now, subscriber: one.name, topic, from })
      this.start(one)
      let at = 0
      for (const { afterMillis, downMillis } of outages) {
        at += afterMillis
        world.time.after(at * 1000, this, () => {
          if (calm() || one.process?.sim.alive !== true) return
          world.counters.count("subscriber: killed")
          world.crash(one.process, "kill")
          this.hangUp(one)
          one.down = true
          world.time.after(downMillis * 1000, this, () => {
            one.down = false
            this.start(one)
          })
        })
        at += downMillis
      }
    }
  }

  /** Whether all have ended. */
  get haveEnded(): boolean {
    return this.all.every(({ down, process }) => !down && (process === undefined || hasEnded(process)))
  }

  get processes(): ReadonlyArray<Process> {
    return this.all.flatMap(({ process }) => (process === undefined ? [] : [process]))
  }

  private start(one: One): void {
    const { world } = this.stage
    one.process = world.start(one.name, (process) => this.live(one, process))
    // Its process ends with it, and leaves its connections behind.
    one.process.main?.addObserver(() => this.hangUp(one))
  }

  private hangUp(one: One): void {
    for (const close of one.open) close()
    one.open.clear()
  }

  private live(one: One, process: Process) {
    const { plan } = one
    const { address, calm, published, record, world } = this.stage
    const following = Follower.events({
      url: `http://${address}`,
      topic: plan.topic ?? undefined,
      after: one.seen,
      silentSecondsMax,
      requestSecondsMax: 2,
      backoffMillisMax: 1000,
      onRetry: ({ trouble }) =>
        Effect.sync(() => {
          world.counters.count(`subscriber: came again after ${trouble.kind}`)
        })
    }).pipe(
      Stream.runForEach(({ offset, json }) =>
        Effect.gen(function* () {
          if (plan.readMillis > 0) yield* Effect.sleep(Duration.millis(plan.readMillis))
          if (one.isThrough) return
          record({ kind: "followed", at: world.time.now, subscriber: one.name, event: json })
          world.counters.count("subscriber: saw an event")
          one.seen = offset
        })
      ),
      Effect.provideService(
        HttpClient.HttpClient,
        makeHttpClient(
          () => Effect.dieMessage("a subscriber asks for nothing but streams"),
          (address, request) => this.open(one, process, address, request)
        )
      ),
      Effect.tapErrorCause((cause) =>
        Effect.sync(() => {
          world.trace.note(`${process.name} fails: ${Cause.pretty(cause).split("\n", 1)[0]}`)
          world.counters.count("subscriber: failed")
        })
      )
    )
    return Effect.gen(this, function* () {
      yield* Effect.forkDaemon(following)
      while (!(published() && calm())) yield* Effect.sleep(Duration.millis(lookMillis))
      for (let after: number | undefined; ; ) {
        const parameters = { limit: 1, order: "desc", topic: plan.topic ?? undefined, after } as const
        const answer = yield* call(
          this.stage,
          process,
          { method: "GET", url: `/events${query(parameters)}` },
          { type: "page", parameters }
        )
        if (answer._tag === "Left" || answer.right.status !== 200) {
          yield* Effect.sleep(Duration.millis(lookMillis))
          continue
        }
        const { events, next, more } = JSON.parse(answer.right.body) as {
          readonly events: ReadonlyArray<{ readonly offset: number }>
          readonly next: number
          readonly more: boolean
        }
        // A page can be short of what matches although there is more.
        if (events.length === 0 && more) {
          after = next
          continue
        }
        const last = events[0]?.offset ?? 0
        // One that began at some moment, and saw nothing, may have begun behind all of it. Nor does it see anything from
        // here on: it would be owed all that is behind that.
        const isThrough = () => {
          one.isThrough = one.seen === undefined || one.seen >= last
          return one.isThrough
        }
        while (!isThrough()) yield* Effect.sleep(Duration.millis(lookMillis))
        return
      }
    })
  }

  // One stream, with its entries in the history.
  private open(
    one: One,
    process: Process,
    address: string,
    request: Request
  ): Effect.Effect<Streamed, NetworkError> {
    return Effect.suspend(() => {
      const { record, world } = this.stage
      const { network, time } = world
      let call: string | undefined
      const settle = (entry: (call: string) => Entry) => {
        if (call !== undefined) record(entry(call))
        call = undefined
        one.open.delete(abandon)
      }
      const over = (why: string) => settle((call) => ({ kind: "unknown", at: time.now, call, why }))
      let leave: () => void = () => undefined
      const abandon = () => {
        over("the stream is over")
        leave()
      }
      const opened = (exchange: string, close: () => void) => {
        call = exchange
        leave = close
        const { searchParams } = new URL(request.url, "http://any")
        const after = searchParams.get("after")
        const operation = {
          type: "subscribe",
          topic: searchParams.get("topic") ?? undefined,
          after: after === null ? undefined : Number(after)
        } as const
        record({ kind: "invoked", at: time.now, process: process.name, call: exchange, operation })
        one.open.add(abandon)
      }
      return network.open(`${process.name}.stream`, address, request, opened).pipe(
        Effect.map(({ answer, incoming }) => {
          if (incoming === undefined) {
            const { status, headers, body } = answer
            settle((call) => ({ kind: "returned", at: time.now, call, status, headers, body }))
          }
          return { answer, pull: incoming?.pull, close: abandon }
        }),
        Effect.tapError((error) =>
          Effect.sync(() =>
            error._tag === "Refused"
              ? settle((call) => ({ kind: "refused", at: time.now, call }))
              : over(error._tag)
          )
        ),
        Effect.onInterrupt(() => Effect.sync(abandon))
      )
    })
  }
}

const hasEnded = ({ exit, sim }: Process): boolean => exit !== undefined || !sim.alive
