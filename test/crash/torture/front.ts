/**
 * The way of one client process to a service: a bad network, and behind it the relay that writes the history. Each
 * process has a way of its own, so that what comes late from one that was killed is not taken for its successor's.
 */
import {
  type Fault,
  type Plan,
  type Rates,
  type RunningProxy,
  seeded,
  startProxy
} from "../../support/proxy.ts"
import type { Aggregator } from "./aggregator.ts"
import type { Chance } from "./chance.ts"
import { type Recorder, startRecorder } from "./recorder.ts"
import type { Run } from "./run.ts"

/** How bad the network of a run is. */
export interface Network {
  readonly rates: Rates
  readonly delayMillisMax: number
}

const noFault: Fault = { kind: "pass" }

/** Draws how bad a network is: most kinds of fault are rare in it or never happen, so that each run is rough in its own way. */
export const drawNetwork = (chance: Chance, withSilence: boolean): Network => {
  const rate = () => chance.one([0, 0.02, 0.05, 0.15])
  return {
    rates: {
      delay: chance.one([0, 0.1, 0.3]),
      refuse: rate(),
      "cut-request": rate(),
      "cut-answer": rate(),
      "half-close-client": rate(),
      "half-close-server": rate(),
      "swallow-answer": rate(),
      // A client waits for half a minute before it gives such an exchange up.
      "swallow-silently": withSilence ? chance.one([0, 0, 0.01]) : 0
    },
    delayMillisMax: chance.one([5, 50, 500])
  }
}

/** All the ways to the services of a run. */
export class Fronts {
  readonly #run: Run
  readonly #network: Network
  readonly #open = new Set<Front>()

  constructor(run: Run, network: Network) {
    this.#run = run
    this.#network = network
  }

  /** Opens a way for a process of this name. */
  async open(aggregator: Aggregator, client: string): Promise<Front> {
    const run = this.#run
    const { seed } = run.chance.of(`the network of ${client} to ${aggregator.name}`)
    const rough = seeded(seed, this.#network.rates, this.#network.delayMillisMax)
    const recorder = await startRecorder(run, aggregator, client)
    const proxy = await startProxy(
      () => ({ host: "127.0.0.1", port: recorder.port }),
      run.isCalm ? () => noFault : rough
    )
    const front = new Front(proxy, recorder, rough)
    this.#open.add(front)
    if (run.isOver) await front.close()
    run.goesOn()
    return front
  }

  /** From here on everything passes. */
  calm(): void {
    for (const front of this.#open) front.follow(() => noFault)
  }

  /** Closes all of them, and counts what struck. */
  async close(): Promise<void> {
    for (const front of this.#open) {
      for (const [kind, times] of Object.entries(front.struck)) {
        if (kind !== "pass" && times > 0) this.#run.count(`network: ${kind}`, times)
      }
      await front.close()
    }
    this.#open.clear()
  }
}

/** One way. */
export class Front {
  readonly url: string
  readonly #proxy: RunningProxy
  readonly #recorder: Recorder
  readonly #rough: Plan

  constructor(proxy: RunningProxy, recorder: Recorder, rough: Plan) {
    this.url = proxy.url
    this.#proxy = proxy
    this.#recorder = recorder
    this.#rough = rough
  }

  /** Whether the process has begun to use it. */
  get isUsed(): boolean {
    return this.#recorder.connections() > 0
  }

  get acknowledged(): ReadonlySet<string> {
    return this.#recorder.acknowledged
  }

  get struck(): RunningProxy["struck"] {
    return this.#proxy.struck
  }

  follow(plan: Plan): void {
    this.#proxy.follow(plan)
  }

  /** Cuts it in this way, until it is healed. */
  cut(fault: Fault): void {
    this.follow(() => fault)
  }

  heal(): void {
    this.follow(this.#rough)
  }

  /** The process behind it is no more. */
  gaveUp(): void {
    this.#recorder.gaveUp()
  }

  async close(): Promise<void> {
    const closed = this.#proxy.close()
    this.#recorder.close()
    await closed
  }
}
