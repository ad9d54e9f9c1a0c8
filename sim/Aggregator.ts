/**
 * One aggregator of a run: the service and its supervisor, the clients that use it, the outages that befall it, and the
 * history of all that. Its history, together with its database, is all that the checker needs to judge it.
 */
import { Cause, Exit } from "effect"
import { check, type Query, type Violation } from "./Checker.ts"
import { lastLook, observer, publisher, reader, type Stage } from "./Clients.ts"
import { checkSequences } from "./check/Sequences.ts"
import type { Entry } from "./History.ts"
import type { Operation } from "./Mount.ts"
import type {
  PlannedLimits,
  PlannedObserver,
  PlannedOutage,
  PlannedPublisher,
  PlannedReader,
  PlannedSubscriber
} from "./Plan.ts"
import { databaseFile, type Site, Supervisor } from "./Service.ts"
import { SqliteError } from "./Sqlite.ts"
import { Subscribers } from "./Subscribers.ts"
import type { Process, World } from "./World.ts"

/** What is asked of it. */
export interface Part {
  readonly publishers: ReadonlyArray<PlannedPublisher>
  readonly readers: ReadonlyArray<PlannedReader>
  readonly observers: ReadonlyArray<PlannedObserver>
  readonly subscribers: ReadonlyArray<PlannedSubscriber>
  readonly outages: ReadonlyArray<PlannedOutage>
  readonly limits: PlannedLimits
}

/** In how much virtual time after the last fault everything must be done (G7). */
export const calmMillisMax = 120_000

/** A service that has been started so often since the last fault does not recover. */
const calmStartsMax = 20

/** How long an outage waits for the moment that it is to fall into. */
const outageMillisMax = 3000

/**
 * By how much a server may answer later than it promises: a body may arrive in pieces with pauses, and steps stall.
 * Together with the longest promise of a plan it is less than a client's patience.
 */
const answerSecondsSlack = 8

export class Aggregator {
  readonly site: Site
  readonly history: Array<Entry> = []
  readonly supervisor: Supervisor
  private readonly world: World
  private readonly part: Part
  private readonly publishers: Array<Process> = []
  private others: ReadonlyArray<Process> = []
  private subscribers: Subscribers | undefined
  private outagesLeft: number
  /** Called as an answer with a 2xx leaves the server. */
  private succeeded: (isReading: boolean) => void = () => undefined
  /** The server of each publish that is under way. */
  private readonly publishing = new Map<string, string>()
  /** Called as one more publish has reached a server, with how many are under way there. */
  private crowded: (publishes: number) => void = () => undefined
  private startsBeforeCalm = Number.POSITIVE_INFINITY
  /** Whether so much time has passed at the end that no gap in a sequence may be open. */
  hasWaitedForGaps = false

  constructor(world: World, site: Site, part: Part) {
    this.world = world
    this.site = site
    this.part = part
    this.outagesLeft = part.outages.length
    this.supervisor = new Supervisor(world, site, part.limits, (entry) => this.record(entry))
  }

  record(entry: Entry): void {
    this.history.push(entry)
  }

  /** Whether a process is one of its servers. */
  isServer(process: string): boolean {
    return process.replace(/#\d+$/, "") === this.site.name
  }

  delivered(call: string, server: string): void {
    this.record({ kind: "delivered", at: this.world.time.now, call, server })
    if (!call.includes("publisher-")) return
    this.publishing.set(call, server)
    this.crowded([...this.publishing.values()].filter((name) => name === server).length)
  }

  answered(call: string, server: string, status: number): void {
    this.record({ kind: "answered", at: this.world.time.now, call, server })
    this.publishing.delete(call)
    if (status < 300) this.succeeded(!call.includes("publisher-"))
  }

  /** Starts its clients, and lets its outages come. */
  begin(): void {
    const { part, world } = this
    const { stage } = this
    // The clients of the first aggregator bear plain names.
    const prefix = this.site.name === "server" ? "" : `${this.site.name}-`
    for (const [index, planned] of part.publishers.entries()) {
      this.publishers.push(
        world.start(`${prefix}publisher-${index}`, (process) => publisher(stage, process, planned))
      )
    }
    const readers = part.readers.map((planned, index) =>
      world.start(`${prefix}reader-${index}`, (process) => reader(stage, process, planned))
    )
    const known = part.publishers.flatMap(({ submissions }) => submissions.flatMap(({ events }) => events))
    const observers = part.observers.map((planned, index) =>
      world.start(`${prefix}observer-${index}`, (process) => observer(stage, process, planned, known))
    )
    this.others = [...readers, ...observers]
    this.subscribers = new Subscribers(stage, part.subscribers, prefix)
    this.subscribers.begin()
    this.scheduleOutages(part.outages)
  }

  /** Whether its publishers are done, and its outages have happened. */
  get isThrough(): boolean {
    return this.publishers.every(ended) && this.outagesLeft === 0
  }

  /** Whether all of its clients are done. */
  get isQuiet(): boolean {
    const { haveEnded = true } = this.subscribers ?? {}
    return this.publishers.every(ended) && this.others.every(ended) && haveEnded
  }

  /** Whether the service fails to start, again and again, although the faults have stopped. */
  get cannotRecover(): boolean {
    return this.supervisor.starts() - this.startsBeforeCalm > calmStartsMax
  }

  /** Says that the faults have stopped. */
  calm(): void {
    this.startsBeforeCalm = this.supervisor.starts()
    this.record({ kind: "calm", at: this.world.time.now })
  }

  /** Reads its books once more. */
  look(): Process {
    const name = this.site.name === "server" ? "closing" : `${this.site.name}-closing`
    return this.world.start(name, (process) => lastLook(this.stage, process))
  }

  /** Whether it keeps its guarantees, by its history and its database. */
  judge(): ReadonlyArray<Violation> {
    const { history, part, site } = this
    const { publishSecondsMax, queueEventsMax, queueBytesMax } = part.limits
    const bounds = {
      progressMicrosMax: calmMillisMax * 1000,
      answerMicrosMax: (publishSecondsMax + answerSecondsSlack) * 1_000_000,
      queueEventsMax,
      queueBytesMax
    }
    // A client that has died asks nothing any more, and would be taken for one that is content.
    const clients = [...this.publishers, ...this.others, ...(this.subscribers?.processes ?? [])]
    const died = clients.flatMap(({ name, exit }): ReadonlyArray<Violation> => {
      if (exit === undefined || Exit.isSuccess(exit)) return []
      return [{ guarantee: "simulation", detail: `${name} died: ${Cause.pretty(exit.cause)}` }]
    })
    try {
      const found = this.read((sql) => [...check(history, sql, bounds), ...this.judgeSequences(sql)])
      return [...died, ...found]
    } catch (error) {
      if (!(error instanceof SqliteError)) throw error
      return [
        ...died,
        { guarantee: "integrity", detail: `the database of ${site.name} cannot be read: ${error}` }
      ]
    }
  }

  private judgeSequences(query: Query): ReadonlyArray<Violation> {
    const { gaps } = this.part.limits
    const noneOpen = this.hasWaitedForGaps
    const bounds = { noneOpen, gapsMax: gaps?.max ?? Number.POSITIVE_INFINITY }
    const { violations, seen } = checkSequences(query, bounds)
    for (const name of seen) this.world.counters.count(name)
    return violations
  }

  /** Asks its database as its disk holds it. */
  read<A>(ask: (query: (sql: string) => ReadonlyArray<Record<string, unknown>>) => A): A {
    return this.world.readDatabase(this.world.machine(this.site.name), databaseFile, (connection) => {
      connection.exec("PRAGMA locking_mode = EXCLUSIVE")
      return ask((sql) => connection.all(sql))
    })
  }

  private get stage(): Stage {
    return {
      world: this.world,
      address: this.site.address,
      record: (entry) => this.record(entry),
      published: () => this.publishers.every(ended),
      calm: () => this.startsBeforeCalm !== Number.POSITIVE_INFINITY
    }
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
    if ((kind === "stop" && within !== "a crowd") || within === "a step" || !process.sim.alive) {
      crash()
      return
    }
    // What the outage waits for may not come: a server that nobody asks anything is struck all the same.
    let over = false
    const once =
      <A extends ReadonlyArray<unknown>>(strike: (...told: A) => void) =>
      (...told: A) => {
        if (over) return
        over = true
        process.mount.deathIn = undefined
        this.succeeded = () => undefined
        this.crowded = () => undefined
        strike(...told)
      }
    world.time.after(outageMillisMax * 1000, this, once(crash))
    if (within === "a crowd") {
      this.crowded = (publishes) => {
        if (publishes > 1) world.time.after(0, this, once(crash))
      }
    } else if (within === "an answer" || within === "a reading") {
      let left = count
      this.succeeded = (isReading) => {
        if ((within === "a reading" && !isReading) || --left > 0) return
        world.counters.count("process: crashed as it answered")
        world.time.after(0, this, once(crash))
      }
    } else if (kind !== "stop") {
      const kinds = within === "a sync" ? (["sync"] as const) : undefined
      const happened = once(({ file }: Operation) => {
        // In the middle of a commit, or of the checkpoint that follows one.
        if (supervisor.isReady && file.endsWith("-wal")) {
          world.counters.count("process: crashed in the log of a service that was ready")
        }
        supervisor.noteCrash(kind)
        struck()
      })
      world.crashInOperation(process, kind, count, { happened, kinds })
    }
  }
}

const ended = (process: Process): boolean => process.exit !== undefined || !process.sim.alive
