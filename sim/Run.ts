/**
 * One run: a plan carried out in a world, first with faults and outages, then in calm, and at the end the verdict of
 * the checker. The run ends its time of faults with one more outage, so that all that was acknowledged by then has
 * proved itself; in the calm that follows everything must finish within a bounded time (G7).
 */

import { check, type Violation } from "./Checker.ts"
import type { Choices, Deviation } from "./Choices.ts"
import { lastLook, observer, publisher, reader, type Stage } from "./Clients.ts"
import type { Counters } from "./Counters.ts"
import { noDiskFaults } from "./Disk.ts"
import type { Entry } from "./History.ts"
import { noNetworkFaults } from "./Network.ts"
import type { Plan, PlannedOutage } from "./Plan.ts"
import { databaseFile, Supervisor } from "./Service.ts"
import type { Swarm } from "./Swarm.ts"
import type { Note } from "./Trace.ts"
import { EscapeError, type Outcome, type Process, simulate, type World } from "./World.ts"

/** How long, in virtual time, the faults may go on while publishers are not done. */
export const faultMillisMax = 30_000

/** In how much virtual time after the last fault everything must be done (G7). */
export const calmMillisMax = 120_000

/**
 * By how much a server may answer later than it promises: a body may arrive in pieces with pauses, and steps stall.
 * Together with the longest promise of a plan it is less than a client's patience.
 */
const answerSecondsSlack = 8

/** No run takes more steps of the scheduler than this, whatever its virtual time. */
const stepsMax = 400_000

/** How long an outage waits for the moment that it is to fall into. */
const outageMillisMax = 3000

/** A service that has been started so often since the last fault does not recover. */
const calmStartsMax = 20

/** What came of a run. */
export interface RunResult {
  readonly violations: ReadonlyArray<Violation>
  /** Two runs of one plan and one seed agree in it, wherever they take place. */
  readonly digest: string
  readonly history: ReadonlyArray<Entry>
  /** What befell the world, in order. */
  readonly notes: ReadonlyArray<Note>
  /** The choices that were not the harmless ones. */
  readonly deviations: ReadonlyArray<Deviation>
  readonly counters: Counters
  readonly operations: number
  readonly starts: number
  readonly steps: number
  readonly virtualMillis: number
}

/** What a run is made of. The swarm is left out in a replay, whose choices say all. */
export interface RunOptions {
  readonly plan: Plan
  readonly choices: Choices
  /** What `Random` is drawn from. */
  readonly seed: number
  readonly swarm?: Swarm
  readonly verbose?: boolean
}

/** Carries a plan out. */
export const runPlan = (options: RunOptions): RunResult => {
  const history: Array<Entry> = []
  let last: World | undefined
  let starts = 0
  let violations: ReadonlyArray<Violation>
  try {
    violations = simulate(
      {
        choices: options.choices,
        seed: options.seed,
        diskFaults: options.swarm?.disk ?? noDiskFaults,
        networkFaults: options.swarm?.network ?? noNetworkFaults,
        wallJumps: options.swarm?.wallJumps ?? 0,
        verbose: options.verbose ?? false
      },
      (world) => {
        last = world
        const run = new Run(world, options.plan, history)
        const found = run.carryOut()
        starts = run.starts
        return found
      }
    )
  } catch (error) {
    if (!(error instanceof EscapeError)) throw error
    violations = [{ guarantee: "simulation", detail: error.message }]
  }
  if (last === undefined) throw new Error("there was no world")
  return {
    violations,
    digest: last.trace.digest(),
    history,
    notes: last.trace.notes,
    deviations: options.choices.deviations,
    counters: last.counters,
    operations: history.filter(({ kind }) => kind === "invoked").length,
    starts,
    steps: last.scheduler.steps,
    virtualMillis: last.time.now / 1000
  }
}

class Run {
  private readonly world: World
  private readonly plan: Plan
  private readonly history: Array<Entry>
  private readonly supervisor: Supervisor
  private outagesLeft: number
  /** Called as an answer with a 2xx leaves the server. */
  private succeeded: () => void = () => undefined
  private startsBeforeCalm = Number.POSITIVE_INFINITY

  constructor(world: World, plan: Plan, history: Array<Entry>) {
    this.world = world
    this.plan = plan
    this.history = history
    this.outagesLeft = plan.outages.length
    const record = (entry: Entry) => void history.push(entry)
    world.network.delivered = (call, server) =>
      record({ kind: "delivered", at: world.time.now, call, server })
    world.network.answered = (call, server, status) => {
      record({ kind: "answered", at: world.time.now, call, server })
      if (status < 300) this.succeeded()
    }
    this.supervisor = new Supervisor(world, plan.limits, record)
  }

  get starts(): number {
    return this.supervisor.starts()
  }

  carryOut(): ReadonlyArray<Violation> {
    const { history, plan, supervisor, world } = this
    const { publishers, others } = this.startClients()
    const published = () => publishers.every(ended)
    this.scheduleOutages(plan.outages)

    this.run(() => published() && this.outagesLeft === 0, faultMillisMax)
    this.lastOutage()
    world.heal()
    this.startsBeforeCalm = this.starts
    history.push({ kind: "calm", at: world.time.now })

    let outcome = this.run(() => published() && others.every(ended), calmMillisMax)
    if (outcome._tag === "Done") {
      const look = world.start("closing", (process) => lastLook(this.stage(publishers), process))
      outcome = this.run(() => ended(look), calmMillisMax)
    }
    supervisor.release()
    supervisor.stop()
    if (outcome._tag === "Done") outcome = this.run(() => !supervisor.current().sim.alive, calmMillisMax)
    history.push({ kind: "end", at: world.time.now, ...this.describe(outcome) })
    // A service that did not end would keep its database from the checker.
    world.crash(supervisor.current(), "kill")
    return this.judge()
  }

  private stage(publishers: ReadonlyArray<Process>): Stage {
    return {
      world: this.world,
      record: (entry) => void this.history.push(entry),
      published: () => publishers.every(ended),
      calm: () => this.startsBeforeCalm !== Number.POSITIVE_INFINITY
    }
  }

  private startClients() {
    const { plan, world } = this
    const publishers: Array<Process> = []
    const stage = this.stage(publishers)
    for (const [index, planned] of plan.publishers.entries()) {
      publishers.push(world.start(`publisher-${index}`, (process) => publisher(stage, process, planned)))
    }
    const readers = plan.readers.map((planned, index) =>
      world.start(`reader-${index}`, (process) => reader(stage, process, planned))
    )
    const known = plan.publishers.flatMap(({ submissions }) => submissions.flatMap(({ events }) => events))
    const observers = plan.observers.map((planned, index) =>
      world.start(`observer-${index}`, (process) => observer(stage, process, planned, known))
    )
    return { publishers, others: [...readers, ...observers] }
  }

  // Drives the world, and looks after the service between its steps.
  private run(until: () => boolean, millisMax: number): Outcome {
    return this.world.run(
      () => {
        this.supervisor.look()
        return until() || this.cannotRecover()
      },
      { stepsMax, millisMax }
    )
  }

  private cannotRecover(): boolean {
    return this.starts - this.startsBeforeCalm > calmStartsMax
  }

  private scheduleOutages([outage, ...later]: ReadonlyArray<PlannedOutage>): void {
    if (outage === undefined) return
    this.world.time.after(outage.afterMillis * 1000, this, () =>
      this.strike(outage, () => {
        this.outagesLeft = later.length
        this.scheduleOutages(later)
      })
    )
  }

  private strike({ kind, within, count, downMillis }: PlannedOutage, struck: () => void): void {
    const { supervisor, world } = this
    const process = supervisor.current()
    supervisor.stayDown(downMillis)
    const crash = () => {
      if (kind === "stop") supervisor.stop()
      else supervisor.crash(kind)
      struck()
    }
    if (kind === "stop" || within === "a step" || !process.sim.alive) {
      crash()
      return
    }
    // What the outage waits for may not come: a server that nobody asks anything is struck all the same.
    let over = false
    const once = (strike: () => void) => () => {
      if (over) return
      over = true
      process.mount.deathIn = undefined
      this.succeeded = () => undefined
      strike()
    }
    world.time.after(outageMillisMax * 1000, this, once(crash))
    if (within === "an answer") {
      let left = count
      this.succeeded = () => {
        if (--left > 0) return
        world.counters.count("process: crashed as it answered")
        world.time.after(0, this, once(crash))
      }
    } else {
      const kinds = within === "a sync" ? (["sync"] as const) : undefined
      const happened = once(() => {
        supervisor.noteCrash(kind)
        struck()
      })
      world.crashInOperation(process, kind, count, { happened, kinds })
    }
  }

  // The faults end with the process. A stop may take its time, and the service may be down already.
  private lastOutage(): void {
    const { plan, supervisor } = this
    supervisor.current().mount.deathIn = undefined
    if (plan.lastOutage === "none") return
    if (plan.lastOutage !== "stop") {
      supervisor.crash(plan.lastOutage)
      return
    }
    supervisor.stop()
    const process = supervisor.current()
    this.world.run(() => !process.sim.alive, { stepsMax, millisMax: 20_000 })
  }

  private describe(outcome: Outcome) {
    if (this.cannotRecover()) {
      const waiting = [`the service does not start: ${this.supervisor.lastFailure()}`]
      return { outcome: "exhausted" as const, waiting }
    }
    if (outcome._tag === "Done") return { outcome: "done" as const }
    return {
      outcome: outcome._tag === "Stuck" ? ("stuck" as const) : ("exhausted" as const),
      waiting: outcome.waiting
    }
  }

  private judge(): ReadonlyArray<Violation> {
    const { history, world } = this
    const found: Array<Violation> = []
    const bad = {
      "service: bug": "a call failed on a bug",
      "service: stop cut short while ready": "a stop did not end"
    }
    for (const [name, detail] of Object.entries(bad)) {
      if (world.counters.get(name) > 0) found.push({ guarantee: "G7", detail })
    }
    try {
      return world.readDatabase(world.machine("server"), databaseFile, (connection) => {
        connection.exec("PRAGMA locking_mode = EXCLUSIVE")
        const { publishSecondsMax, queueEventsMax, queueBytesMax } = this.plan.limits
        const bounds = {
          progressMicrosMax: calmMillisMax * 1000,
          answerMicrosMax: (publishSecondsMax + answerSecondsSlack) * 1_000_000,
          queueEventsMax,
          queueBytesMax
        }
        return [...found, ...check(history, (sql) => connection.all(sql), bounds)]
      })
    } catch (error) {
      return [...found, { guarantee: "integrity", detail: `the database cannot be read: ${String(error)}` }]
    }
  }
}

const ended = (process: Process): boolean => process.exit !== undefined || !process.sim.alive
