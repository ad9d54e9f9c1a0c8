/**
 * One run: a plan carried out in a world, first with faults and outages, then in calm, and at the end the verdict of
 * the checker. The run ends its time of faults with one more outage, so that all that was acknowledged by then has
 * proved itself; in the calm that follows everything must finish within a bounded time (G7). Where there are several
 * aggregators, each is judged by its own history, and all together by what they hold at the end (G9).
 */
import { Aggregator, calmMillisMax, type Part } from "./Aggregator.ts"
import type { Violation } from "./Checker.ts"
import type { Choices, Deviation } from "./Choices.ts"
import type { Counters } from "./Counters.ts"
import { checkConvergence } from "./check/Convergence.ts"
import { noDiskFaults } from "./Disk.ts"
import { emptyDatabase } from "./EmptyDatabase.ts"
import type { Entry } from "./History.ts"
import { Mirrors } from "./Mirrors.ts"
import { noNetworkFaults } from "./Network.ts"
import type { Plan } from "./Plan.ts"
import { databaseFile, firstSite, type Site } from "./Service.ts"
import type { Swarm } from "./Swarm.ts"
import type { Note } from "./Trace.ts"
import { EscapeError, type Outcome, simulate, type World } from "./World.ts"

/** How long, in virtual time, the faults may go on while publishers are not done. */
export const faultMillisMax = 30_000

/** Gaps that may be open for longer are not waited for; the slack is for the look at them and for steps that stall. */
const gapSecondsWaitedMax = 2
const gapSecondsSlack = 3

/** No run takes more steps of the scheduler than this, whatever its virtual time. */
const stepsMax = 400_000

/** What the scheduler does where it does not do the next thing next, by the kind of its choice. */
const schedulings: Readonly<Record<string, string>> = {
  sched: "another task first",
  quantum: "preempted",
  delay: "delayed",
  pause: "paused after a statement"
}

/** What came of a run. */
export interface RunResult {
  readonly violations: ReadonlyArray<Violation>
  /** Two runs of one plan and one seed agree in it, wherever they take place. */
  readonly digest: string
  /** That of every aggregator, one after the other. */
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
  const { plan } = options
  // Made before the world is: each takes one of its own.
  const databases =
    plan.database === "left" ? partsOf(plan).map(([site]) => [site.name, emptyDatabase(site)] as const) : []
  let last: World | undefined
  let run: Run | undefined
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
        for (const [name, database] of databases) world.machine(name).disk.put(databaseFile, database)
        run = new Run(world, plan)
        return run.carryOut()
      }
    )
  } catch (error) {
    // Whatever is wrong here, it is a run that says nothing: its seed has to be told.
    if (last === undefined || run === undefined) throw error
    const detail = error instanceof EscapeError ? error.message : String((error as Error).stack ?? error)
    violations = [{ guarantee: "simulation", detail }]
  }
  if (last === undefined || run === undefined) throw new Error("there was no world")
  const history = run.aggregators.flatMap(({ history }) => history)
  for (const [name] of options.choices.deviations) {
    const done = schedulings[name.split("/", 1)[0] ?? ""]
    if (done !== undefined) last.counters.count(`scheduler: ${done}`)
  }
  return {
    violations,
    digest: last.trace.digest(),
    history,
    notes: last.trace.notes,
    deviations: options.choices.deviations,
    counters: last.counters,
    operations: history.filter(({ kind }) => kind === "invoked").length,
    starts: run.aggregators.reduce((sum, { supervisor }) => sum + supervisor.starts(), 0),
    steps: last.scheduler.steps,
    virtualMillis: last.time.now / 1000
  }
}

/** What is asked of each aggregator, by its site. */
const partsOf = (plan: Plan): ReadonlyArray<readonly [Site, Part]> => [
  [firstSite, plan],
  ...plan.peers.map((peer, index) => {
    const name = `peer-${index + 1}`
    const site = { name, address: `${name}:8080` }
    return [site, { ...peer, observers: [], subscribers: [], limits: plan.limits }] as const
  })
]

class Run {
  readonly aggregators: ReadonlyArray<Aggregator>
  private readonly world: World
  private readonly plan: Plan
  private readonly mirrors: Mirrors

  constructor(world: World, plan: Plan) {
    this.world = world
    this.plan = plan
    this.aggregators = partsOf(plan).map(([site, part]) => new Aggregator(world, site, part))
    const serving = (server: string) => this.aggregators.find((aggregator) => aggregator.isServer(server))
    world.network.delivered = (call, server) => serving(server)?.delivered(call, server)
    world.network.answered = (call, server, status) => serving(server)?.answered(call, server, status)
    this.mirrors = new Mirrors(world, this.aggregators)
  }

  carryOut(): ReadonlyArray<Violation> {
    const { aggregators, mirrors, plan, world } = this
    for (const aggregator of aggregators) aggregator.begin()
    mirrors.begin(plan)
    this.run(() => aggregators.every(({ isThrough }) => isThrough), faultMillisMax)
    this.lastOutage()
    world.heal()
    for (const aggregator of aggregators) aggregator.calm()

    let outcome = this.run(() => aggregators.every(({ isQuiet }) => isQuiet), calmMillisMax)
    // An event passes one mirror a round, and has to pass all but one.
    for (let round = 1; round < aggregators.length && outcome._tag === "Done"; round++) {
      mirrors.catchUp()
      outcome = this.run(() => mirrors.haveEnded, calmMillisMax)
    }
    mirrors.stop()
    if (outcome._tag === "Done") this.waitForGaps()
    if (outcome._tag === "Done") {
      const looks = aggregators.map((aggregator) => aggregator.look())
      outcome = this.run(() => looks.every(({ exit }) => exit !== undefined), calmMillisMax)
    }
    for (const { supervisor } of aggregators) {
      supervisor.release()
      supervisor.stop()
    }
    const isOver = () => aggregators.every(({ supervisor }) => !supervisor.current().sim.alive)
    if (outcome._tag === "Done") outcome = this.run(isOver, calmMillisMax)
    for (const aggregator of aggregators) {
      aggregator.record({ kind: "end", at: world.time.now, ...this.describe(outcome) })
      // A service that did not end would keep its database from the checker.
      world.crash(aggregator.supervisor.current(), "kill")
    }
    return this.judge()
  }

  // Lets gaps in sequences grow so old that they must be given up, where that does not take too long.
  private waitForGaps(): void {
    const { aggregators, plan, world } = this
    const seconds = plan.limits.gaps?.seconds
    if (seconds === undefined || seconds > gapSecondsWaitedMax) return
    const until = world.time.now + (seconds + gapSecondsSlack) * 1_000_000
    const outcome = this.run(() => world.time.now >= until, calmMillisMax)
    if (outcome._tag !== "Done") return
    for (const aggregator of aggregators) aggregator.hasWaitedForGaps = true
  }

  // Drives the world, and looks after the services between its steps.
  private run(until: () => boolean, millisMax: number): Outcome {
    return this.world.run(
      () => {
        for (const { supervisor } of this.aggregators) supervisor.look()
        return until() || this.aggregators.some(({ cannotRecover }) => cannotRecover)
      },
      { stepsMax, millisMax }
    )
  }

  // The faults end with the process. A stop may take its time, and the service may be down already.
  private lastOutage(): void {
    const { aggregators, plan, world } = this
    for (const { supervisor } of aggregators) {
      supervisor.current().mount.deathIn = undefined
      if (plan.lastOutage === "none") continue
      if (plan.lastOutage === "stop") supervisor.stop()
      else supervisor.crash(plan.lastOutage)
    }
    if (plan.lastOutage !== "stop") return
    const processes = aggregators.map(({ supervisor }) => supervisor.current())
    world.run(() => processes.every(({ sim }) => !sim.alive), { stepsMax, millisMax: 20_000 })
  }

  private describe(outcome: Outcome) {
    const broken = this.aggregators.find(({ cannotRecover }) => cannotRecover)
    if (broken !== undefined) {
      const waiting = [`${broken.site.name} does not start: ${broken.supervisor.lastFailure()}`]
      return { outcome: "exhausted" as const, waiting }
    }
    if (outcome._tag === "Done") return { outcome: "done" as const }
    return {
      outcome: outcome._tag === "Stuck" ? ("stuck" as const) : ("exhausted" as const),
      waiting: outcome.waiting
    }
  }

  private judge(): ReadonlyArray<Violation> {
    const { aggregators, world } = this
    const bad = {
      "service: bug": "a call failed on a bug",
      "service: commit failed unexpectedly": "a commit failed for no fault of the disk",
      "service: stop cut short while ready": "a stop did not end",
      "mirror: failed": "a mirror gave up",
      "subscriber: failed": "a subscriber gave up"
    }
    const found = Object.entries(bad).flatMap(
      ([name, detail]): ReadonlyArray<Violation> =>
        world.counters.get(name) > 0 ? [{ guarantee: "G7", detail }] : []
    )
    const alone = aggregators.flatMap((aggregator) => aggregator.judge())
    if (aggregators.length === 1 || found.length + alone.length > 0) return [...found, ...alone]
    return checkConvergence(
      aggregators.map((aggregator) => ({
        name: aggregator.site.name,
        history: aggregator.history,
        read: (ask) => aggregator.read(ask)
      })),
      this.mirrors.links
    )
  }
}
