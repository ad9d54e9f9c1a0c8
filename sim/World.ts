/**
 * One simulated world: machines with a disk and a wall clock each, processes on them, a network between them,
 * and one virtual time for all. It runs in a single synchronous loop, without a promise or a timer of the real
 * world, so that the same choices give the same run to the last step.
 *
 * What can befall a process. *Killed*: it stops where it stands, at any step or in the middle of a call to the
 * disk; no finalizer runs; its locks and connections are gone; what it wrote stays in the page cache. *Power
 * cut*: the same for all processes of the machine, and the disk keeps what `Disk` says it keeps. *Stopped*: its
 * main fiber is interrupted and finalizers run for as long as they take. *Ended by itself*: whatever it left
 * running ends with it. Clocks may jump (see `Clock`). What never happens: a process that is over does another
 * step, or reaches the disk, the network or another process.
 */
import { Cause, Effect, Exit, Fiber, FiberId, MutableRef, Option } from "effect"
import type { Choices } from "./Choices.ts"
import { makeClock, VirtualTime, WallClock } from "./Clock.ts"
import { Counters } from "./Counters.ts"
import { Disk, type DiskFaults, noDiskFaults } from "./Disk.ts"
import { fiberCounter, type Guard, guard } from "./Guard.ts"
import { httpServer } from "./HttpEdge.ts"
import type { Mount, Operation } from "./Mount.ts"
import { Network, type NetworkFaults, noNetworkFaults } from "./Network.ts"
import { type CrashKind, forgetRoots, fork, type Machine, type Process, surroundings } from "./Process.ts"
import { SimProcess, SimScheduler } from "./Scheduler.ts"
import { Connection, closeGhosts } from "./Sqlite.ts"
import { enterHost, leaveHost } from "./SqliteVfs.ts"
import { hashText, scramble, Trace } from "./Trace.ts"
import { waitingFibers } from "./Waiting.ts"

export { type CrashKind, launch, type Machine, type Process } from "./Process.ts"

export interface WorldOptions {
  readonly choices: Choices
  /** What the `Random` of every process and SQLite's own chance are drawn from; the choices' seed by default. */
  readonly seed?: number
  readonly diskFaults?: DiskFaults
  readonly networkFaults?: NetworkFaults
  /** How often, per 16 steps, a machine's wall clock jumps. */
  readonly wallJumps?: number
  /** Also keep a line for every step, in `trace.steps`, and what processes log, in the story. */
  readonly verbose?: boolean
}

export interface Limits {
  readonly stepsMax?: number
  /** Virtual time from here on. */
  readonly millisMax?: number
}

/** How driving the world ended. `waiting` says who still waits for what. */
export type Outcome =
  | { readonly _tag: "Done" }
  | { readonly _tag: "Stuck"; readonly waiting: ReadonlyArray<string> }
  | { readonly _tag: "Exhausted"; readonly limit: "steps" | "time"; readonly waiting: ReadonlyArray<string> }

/** The code under simulation touched the real world, or was woken by it. The run means nothing. */
export class EscapeError extends Error {
  override readonly name = "EscapeError"
}

let inUse = false

/**
 * Makes a world, lets `body` act in it, and clears it away. `body` is synchronous. Everything real is under
 * guard meanwhile; an `EscapeError` says what was touched and where.
 */
export const simulate = <A>(options: WorldOptions, body: (world: World) => A): A => {
  if (inUse) throw new Error("a simulation runs already")
  const world = new World(options)
  const fibersBefore = MutableRef.get(fiberCounter)
  const { stackTraceLimit } = Error
  inUse = true
  try {
    // Fiber ids go into hashes and logs; a run begins them at the same number wherever it takes place.
    MutableRef.set(fiberCounter, 0)
    // Most errors of a run are those that were asked for, and their stacks cost more than they say.
    if (options.verbose !== true) Error.stackTraceLimit = 0
    world.enter()
    const result = body(world)
    world.checkEscapes()
    return result
  } finally {
    world.clear()
    Error.stackTraceLimit = stackTraceLimit
    MutableRef.set(fiberCounter, Math.max(fibersBefore, MutableRef.get(fiberCounter)))
    inUse = false
  }
}

export class World {
  readonly choices: Choices
  readonly time = new VirtualTime()
  readonly trace: Trace
  readonly counters = new Counters()
  readonly scheduler: SimScheduler
  readonly network: Network
  readonly processes = new Map<SimProcess, Process>()
  private readonly seed: number
  private readonly options: WorldOptions
  private readonly machines = new Map<string, Machine>()
  private readonly starts = new Map<string, number>()
  private guard: Guard | undefined
  /** Set while the harness itself reads a disk. */
  private reader: { readonly mount: Mount; readonly machine: Machine } | undefined
  private randomBytes = 0

  constructor(options: WorldOptions) {
    this.options = options
    this.choices = options.choices
    this.seed = options.seed ?? options.choices.seed
    this.trace = new Trace(() => this.time.now, options.verbose)
    this.choices.trace = this.trace
    this.scheduler = new SimScheduler(this.choices, this.trace, this.time)
    this.network = new Network({ ...this, faults: options.networkFaults ?? noNetworkFaults })
  }

  /** Replaces the real world by this one. @internal */
  enter(): void {
    this.guard = guard(
      () => this.wallMillis(),
      () => this.scheduler.current?.nameOf(Option.getOrUndefined(Fiber.getCurrentFiber())) ?? "the harness"
    )
    const key = hashText(`sqlite/${this.seed}`)
    enterHost({
      mount: () => this.currentProcess()?.mount ?? this.reader?.mount,
      wallMillis: () => this.wallMillis(),
      randomByte: () => scramble(key ^ Math.imul(++this.randomBytes, 0x9e3779b1)) & 255,
      sleep: (micros) => {
        this.time.now += micros
      },
      called: () => this.scheduler.called()
    })
  }

  /** A machine by name, made at its first mention. */
  machine(name: string): Machine {
    const known = this.machines.get(name)
    if (known !== undefined) return known
    const now = () => this.time.now
    const disk = new Disk(name, this.choices, this.counters, now, this.options.diskFaults ?? noDiskFaults)
    const machine: Machine = { name, disk, wall: new WallClock(this.time) }
    this.machines.set(name, machine)
    return machine
  }

  /**
   * Starts a process. The effect finds the virtual clock, seeded chance, no tracer, and `env` as its
   * environment. Its name is the given one, with a number from the second start on; its machine bears the
   * plain name unless told otherwise.
   */
  start(
    name: string,
    main: (process: Process) => Effect.Effect<unknown, unknown>,
    options: { readonly machine?: string; readonly env?: Readonly<Record<string, string>> } = {}
  ): Process {
    const times = (this.starts.get(name) ?? 0) + 1
    this.starts.set(name, times)
    const sim = this.scheduler.process(times === 1 ? name : `${name}#${times}`)
    const machine = this.machine(options.machine ?? name)
    const mount = machine.disk.mount(sim.name)
    const process: Process = { name: sim.name, machine, sim, mount, exit: undefined, main: undefined }
    this.processes.set(sim, process)
    this.trace.note(`${sim.name} starts`)
    const runtime = surroundings({
      clock: makeClock(this.time, machine.wall, sim),
      random: `${this.seed}/${sim.name}`,
      env: options.env ?? {},
      log: this.options.verbose === true ? (line) => this.trace.remark(`${sim.name} logs ${line}`) : undefined
    })
    this.scheduler.enter(sim, () => {
      process.main = fork(
        Effect.suspend(() => main(process)),
        sim,
        runtime
      )
    })
    process.main?.addObserver((exit) => {
      if (!sim.alive) return
      process.exit = exit
      this.trace.note(`${sim.name} ends ${howItEnded(exit)}`)
      this.bury(process)
    })
    return process
  }

  /** The HTTP server of a process, at an address of the network. */
  httpServer(process: Process, address: string) {
    return httpServer({ network: this.network, time: this.time, process: process.sim }, address)
  }

  /** Asks a process to stop, as SIGTERM does; it takes the time its finalizers take. */
  stop(process: Process): void {
    if (!process.sim.alive) return
    this.trace.note(`${process.name} is asked to stop`)
    this.counters.count("process: stopped")
    this.scheduler.enter(process.sim, () => process.main?.unsafeInterruptAsFork(FiberId.none))
  }

  /** Crashes a process, or with a power cut its whole machine. */
  crash(process: Process, kind: CrashKind): void {
    if (kind === "power cut") {
      this.powerCut(process.machine)
    } else if (process.sim.alive) {
      this.trace.note(`${process.name} is killed`)
      this.counters.count("process: killed")
      this.bury(process)
    }
  }

  /** Cuts the power of a machine, whether or not anything runs on it. */
  powerCut(machine: Machine): void {
    for (const process of [...this.processes.values()]) {
      if (process.machine === machine && process.sim.alive) this.bury(process)
    }
    const losses = machine.disk.powerCut()
    this.trace.note(`${machine.name} loses power${losses.length === 0 ? "" : `: ${losses.join(", ")}`}`)
    this.counters.count("process: power cut")
  }

  /**
   * Arms a crash in the middle of the process's n-th change to the disk from now, 1 being the next: before it,
   * after it, or with a write done in part. `kinds` says which changes count, all by default; `happened` hears of
   * the change it fell into.
   */
  crashInOperation(
    process: Process,
    kind: CrashKind,
    n: number,
    options: {
      readonly happened?: ((operation: Operation) => void) | undefined
      readonly kinds?: ReadonlyArray<Operation["kind"]> | undefined
    } = {}
  ): void {
    const { happened, kinds } = options
    let left = n
    process.mount.deathIn = (operation) => {
      if ((kinds !== undefined && !kinds.includes(operation.kind)) || --left > 0) return undefined
      process.mount.deathIn = undefined
      return () => {
        this.trace.note(`${process.name} crashes in a ${operation.kind} of ${operation.file}`)
        this.counters.count(`process: crashed in a ${operation.kind}`)
        this.crash(process, kind)
        happened?.(operation)
      }
    }
  }

  /** No more faults from here on: disks, network and clocks behave, and what is broken stays broken. */
  heal(): void {
    this.trace.note("the faults stop")
    for (const machine of this.machines.values()) machine.disk.heal()
    for (const process of this.processes.values()) process.mount.deathIn = undefined
    this.network.heal()
    this.choices.isCalm = true
  }

  /** Runs the world until a condition holds, nothing can move any more, or a limit is reached. */
  run(until: () => boolean, limits: Limits = {}): Outcome {
    const { scheduler, time } = this
    const stepsMax = scheduler.steps + (limits.stepsMax ?? 1_000_000)
    const timeMax = time.now + (limits.millisMax ?? 86_400_000) * 1000
    while (!until()) {
      if (scheduler.steps >= stepsMax) return { _tag: "Exhausted", limit: "steps", waiting: this.waiting() }
      if (time.now >= timeMax) return { _tag: "Exhausted", limit: "time", waiting: this.waiting() }
      if (!scheduler.idle()) scheduler.step()
      else if (time.next() === undefined) return { _tag: "Stuck", waiting: this.waiting() }
      else this.fireNext()
      for (let next = time.next(); next !== undefined && next.at <= time.now; next = time.next())
        this.fireNext()
      if ((scheduler.steps & 15) === 0) this.maybeJump()
      if (this.guard?.violations.length !== 0 || scheduler.leaks.length > 0) this.checkEscapes()
    }
    return { _tag: "Done" }
  }

  /** Who waits for what, as well as can be told. */
  waiting(): ReadonlyArray<string> {
    return [...waitingFibers(this.scheduler, [...this.processes.keys()]), ...this.network.pending()]
  }

  /** Reads a database as the disk holds it now, without faults, through a connection of the harness's own. */
  readDatabase<A>(machine: Machine, file: string, read: (connection: Connection) => A): A {
    const { disk } = machine
    const { faults } = disk
    const wasCalm = this.choices.isCalm
    const mount = disk.mount("harness")
    disk.faults = noDiskFaults
    this.choices.isCalm = true
    this.reader = { mount, machine }
    try {
      const connection = new Connection(file)
      try {
        return read(connection)
      } finally {
        connection.close()
      }
    } finally {
      this.reader = undefined
      mount.fence()
      disk.faults = faults
      this.choices.isCalm = wasCalm
    }
  }

  /** @internal */
  checkEscapes(): void {
    const violation = this.guard?.violations[0]
    if (violation !== undefined)
      throw new EscapeError(`${violation.what} was used in a run by ${violation.who}\n${violation.stack}`)
    const leak = this.scheduler.leaks[0]
    if (leak !== undefined) {
      throw new EscapeError(`${leak.fiber} was woken from outside of the simulation\n${leak.stack}`)
    }
  }

  /** @internal */
  clear(): void {
    try {
      for (const process of this.processes.values()) {
        process.sim.abandon()
        process.mount.fence()
      }
      closeGhosts()
      leaveHost()
      forgetRoots()
    } finally {
      this.guard?.restore()
    }
  }

  private bury(process: Process): void {
    process.sim.abandon()
    process.mount.fence()
    this.time.forget(process.sim)
    this.network.drop(process.sim)
  }

  private currentProcess(): Process | undefined {
    const { current } = this.scheduler
    return current === undefined ? undefined : this.processes.get(current)
  }

  private wallMillis(): number {
    const machine = this.currentProcess()?.machine ?? this.reader?.machine
    return machine === undefined ? Math.floor(this.time.now / 1000) : machine.wall.millis()
  }

  private fireNext(): void {
    const owner = this.time.next()?.owner
    this.scheduler.enter(owner instanceof SimProcess ? owner : undefined, () => this.time.fireNext())
    this.trace.add(this.time.now)
  }

  private maybeJump(): void {
    const rate = this.options.wallJumps ?? 0
    for (const machine of this.machines.values()) {
      if (!this.choices.chance(`wall-jump/${machine.name}`, rate)) continue
      const millis = this.choices.oneOf(`wall-jump-millis/${machine.name}`, wallJumps)
      machine.wall.jump(millis)
      this.counters.count(millis < 0 ? "clock: jumped back" : "clock: jumped ahead")
      this.trace.note(`the clock of ${machine.name} jumps by ${millis} ms`)
    }
  }
}

const howItEnded = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) return "by itself"
  if (Cause.isInterruptedOnly(exit.cause)) return "by interruption"
  return `by failure: ${Cause.pretty(exit.cause).split("\n", 1)[0]}`
}

const wallJumps = [
  1, -1, 40, -40, 3000, -3000, 3_600_000, -3_600_000, 31_536_000_000, -31_536_000_000
] as const
