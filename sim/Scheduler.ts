/**
 * Which fiber runs next, and for how long. Real machines order fibers by luck; here every bit of that luck is
 * a choice: which of the runnable tasks goes first, after how many operations a fiber is preempted, how many
 * steps of the others a woken fiber still waits (that is what opens a race's window), how much time a step takes, and
 * whether a fiber pauses right after it has called the database, where others may see what it left half done. What
 * never happens: the tasks of one fiber are not reordered among themselves, since Effect's own
 * schedulers keep that order too, and no fiber is passed over for ever.
 *
 * Each simulated operating-system process schedules through a handle of its own. A crash abandons the handle:
 * its tasks are dropped where they stand, no finalizer runs, and nothing ever wakes them again. That is the
 * difference between a crash and an interruption.
 *
 * A task that arrives while the simulation is not running one of its own was woken by something real (a
 * promise, a timer, another runtime). It is refused and reported as a `Leak`, with the fiber's name and stack.
 */
import { Effect, type Fiber, FiberRef, HashMap, Option, type Scheduler } from "effect"
import type { ChoiceStream, Choices } from "./Choices.ts"
import type { VirtualTime } from "./Clock.ts"
import { trimmedStack } from "./Guard.ts"
import { hashText, type Trace } from "./Trace.ts"

type AnyFiber = Fiber.RuntimeFiber<unknown, unknown>

/** The stable name of a fiber and its children: choices and reports are keyed by it. */
export const fiberLabel: FiberRef.FiberRef<string> = FiberRef.unsafeMake("")

/** Names the fibers of an effect, below the name of their process. */
export const labelled =
  (label: string) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.locally(self, fiberLabel, label)

/** A wake-up that came from outside the simulation. */
export interface Leak {
  readonly fiber: string
  readonly stack: string
}

/**
 * Operations a fiber may run before it is preempted; the first is as good as never. The gap between a check and
 * the act that relies on it is a few operations wide, and only a dense row of small numbers falls into it.
 */
const quanta = [
  2048, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 32, 48, 64, 96, 144, 216, 324
] as const
/** Steps of other fibers that a woken fiber sits out. */
const delays = [0, 1, 5, 20, 80] as const
/** What a step costs, in microseconds: mostly little, now and then a stall. */
const costs = [50, 50, 50, 50, 50, 50, 50, 50, 50, 1, 1, 200, 200, 500, 1000, 15_000] as const

/**
 * What a fiber that has called the database pauses for, in microseconds; the first is no pause. For that time, and as
 * many steps of others as `pauseSteps`, it is not its turn.
 */
const pauses = [undefined, undefined, 0, 300, 1000, 3000, 10_000] as const
const pauseSteps = 20

/**
 * What `shouldYield` answers to preempt. Effect yields at a priority that is given by setting it for a moment, which
 * takes a dozen operations; where none is given, the fiber keeps its own, and all have the same here.
 */
const samePriority = undefined as unknown as number

/** One fiber's tasks, in the order they came. */
interface Entry {
  readonly process: SimProcess
  readonly fiber: AnyFiber | undefined
  readonly tasks: Array<Scheduler.Task>
  notBefore: number
}

/** What is asked for each fiber of one name, looked up once. */
interface Lane {
  readonly hash: number
  readonly quantum: ChoiceStream
  readonly delay: ChoiceStream
  readonly cost: ChoiceStream
  readonly pause: ChoiceStream
}

export class SimScheduler {
  steps = 0
  /** The process whose code runs right now: the disk and the wall clock ask for it. */
  current: SimProcess | undefined
  readonly leaks: Array<Leak> = []
  private readonly order: ChoiceStream
  private readonly lanes = new Map<string, Lane>()
  private readonly ready: Array<Entry> = []
  /** Sorted by the step at which they become ready. */
  private readonly delayed: Array<Entry> = []
  private budget = 0
  private operations = 0
  private inside = 0
  /** The lane of the fiber whose step this is, and the pause that it has come to. */
  private running: Lane | undefined
  private pause: number | undefined

  private readonly choices: Choices
  private readonly trace: Trace
  private readonly time: VirtualTime

  constructor(choices: Choices, trace: Trace, time: VirtualTime) {
    this.choices = choices
    this.trace = trace
    this.time = time
    this.order = choices.of("sched")
  }

  process(name: string): SimProcess {
    return new SimProcess(this, name)
  }

  /** Runs what belongs to the simulation although it is not a step: a timer, the start of a process. */
  enter<A>(process: SimProcess | undefined, run: () => A): A {
    const before = this.current
    this.current = process
    this.inside++
    try {
      return run()
    } finally {
      this.inside--
      this.current = before
    }
  }

  idle(): boolean {
    return this.ready.length === 0 && this.delayed.length === 0
  }

  /** Runs one task of one fiber, and lets the time pass that it takes. */
  step(): void {
    const { delayed, ready } = this
    while (delayed.length > 0) {
      const first = delayed[0] as Entry
      if (first.notBefore > this.steps && ready.length > 0) break
      ready.push(first)
      delayed.shift()
    }
    const index = this.order.pick(ready.length)
    const entry = ready[index]
    if (entry === undefined) return
    ready.splice(index, 1)
    const task = entry.tasks.shift()
    const lane = this.lane(nameOf(entry.process, entry.fiber))
    if (entry.tasks.length > 0) this.place(entry, lane)
    else entry.process.entries.delete(entry.fiber)
    this.budget = quanta[lane.quantum.pick(quanta.length)] ?? quanta[0]
    this.operations = 0
    this.pause = undefined
    this.steps++
    this.running = lane
    if (task !== undefined) this.enter(entry.process, task)
    this.running = undefined
    if (this.trace.verbose) {
      const name = nameOf(entry.process, entry.fiber)
      this.trace.steps.push(
        `${this.steps} ${this.time.now} ${name} ${index}/${ready.length} ops ${this.operations}`
      )
    }
    this.trace.add(lane.hash)
    this.trace.add((index << 20) ^ this.operations)
    this.time.now += (costs[lane.cost.pick(costs.length)] ?? 0) + (this.pause ?? 0)
    this.pause = undefined
    this.trace.add(this.time.now)
  }

  /** Called after every statement of the database: the fiber may be preempted at once, and pause. */
  called(): void {
    if (this.running === undefined || this.pause !== undefined) return
    this.pause = pauses[this.running.pause.pick(pauses.length)]
    if (this.pause !== undefined) this.budget = 1
  }

  /** Called by Effect before every operation of a fiber. */
  shouldYield(process: SimProcess): number | false {
    this.operations++
    if (--this.budget > 0 && process.alive) return false
    this.budget = Number.MAX_SAFE_INTEGER
    return samePriority
  }

  schedule(process: SimProcess, task: Scheduler.Task, fiber: AnyFiber | undefined): void {
    if (!process.alive) return
    if (this.inside === 0) {
      this.leaks.push({ fiber: nameOf(process, fiber), stack: trimmedStack() })
      return
    }
    const waiting = process.entries.get(fiber)
    if (waiting !== undefined) {
      waiting.tasks.push(task)
      return
    }
    const entry: Entry = { process, fiber, tasks: [task], notBefore: 0 }
    process.entries.set(fiber, entry)
    if (fiber !== undefined) process.watch(fiber)
    this.place(entry, this.lane(nameOf(process, fiber)))
  }

  abandon(process: SimProcess): void {
    for (const list of [this.ready, this.delayed]) {
      const kept = list.filter((entry) => entry.process !== process)
      list.length = 0
      list.push(...kept)
    }
    process.entries.clear()
    this.budget = 0
  }

  private place(entry: Entry, lane: Lane): void {
    const drawn = delays[lane.delay.pick(delays.length)] ?? 0
    const delay = this.pause !== undefined && lane === this.running ? drawn + pauseSteps : drawn
    if (delay === 0) {
      this.ready.push(entry)
      return
    }
    entry.notBefore = this.steps + delay
    let index = this.delayed.length
    while (index > 0 && (this.delayed[index - 1] as Entry).notBefore > entry.notBefore) index--
    this.delayed.splice(index, 0, entry)
  }

  private lane(name: string): Lane {
    const known = this.lanes.get(name)
    if (known !== undefined) return known
    const of = (kind: string) => this.choices.of(`${kind}/${name}`)
    const lane = {
      hash: hashText(name),
      quantum: of("quantum"),
      delay: of("delay"),
      cost: of("cost"),
      pause: of("pause")
    }
    this.lanes.set(name, lane)
    return lane
  }
}

/** One operating-system process as Effect sees it: the scheduler of all its fibers. */
export class SimProcess implements Scheduler.Scheduler {
  alive = true
  readonly entries = new Map<AnyFiber | undefined, Entry>()
  /** Fibers that have run and not ended: who to ask when nothing moves. */
  readonly fibers = new Set<AnyFiber>()

  private readonly scheduler: SimScheduler
  readonly name: string

  constructor(scheduler: SimScheduler, name: string) {
    this.scheduler = scheduler
    this.name = name
  }

  shouldYield(_fiber: AnyFiber): number | false {
    return this.scheduler.shouldYield(this)
  }

  scheduleTask(task: Scheduler.Task, _priority: number, fiber?: AnyFiber): void {
    this.scheduler.schedule(this, task, fiber)
  }

  /** Drops everything that this process would still have done. */
  abandon(): void {
    this.alive = false
    this.scheduler.abandon(this)
    this.fibers.clear()
  }

  watch(fiber: AnyFiber): void {
    if (this.fibers.has(fiber)) return
    this.fibers.add(fiber)
    fiber.addObserver(() => this.fibers.delete(fiber))
  }

  /** The name of one of its fibers, as choices and reports use it. */
  nameOf(fiber: AnyFiber | undefined): string {
    return nameOf(this, fiber)
  }
}

const names = new Map<string, Map<string, string>>()

/** The label; failing that, what the fiber calls itself in its logs, for fibers that the service itself forks. */
const labelOf = (fiber: AnyFiber): string => {
  const label = fiber.getFiberRef(fiberLabel)
  if (label !== "") return label
  const annotations = fiber.getFiberRef(FiberRef.currentLogAnnotations)
  if (HashMap.isEmpty(annotations)) return ""
  const called = Option.getOrUndefined(HashMap.get(annotations, "fiber"))
  return typeof called === "string" ? called : ""
}

const nameOf = (process: SimProcess, fiber: AnyFiber | undefined): string => {
  const label = fiber === undefined ? "" : labelOf(fiber)
  if (label === "") return process.name
  let ofProcess = names.get(process.name)
  if (ofProcess === undefined) {
    ofProcess = new Map()
    names.set(process.name, ofProcess)
  }
  let name = ofProcess.get(label)
  if (name === undefined) {
    name = `${process.name}:${label}`
    if (ofProcess.size < 10_000) ofProcess.set(label, name)
  }
  return name
}
