/**
 * The service under simulation: the very `run` of `src/App.ts`, on the simulated edges. A supervisor starts it again
 * whenever its process has ended, as an orchestrator would, until it is told to stop.
 */
import { Reactivity } from "@effect/experimental"
import { SqlError } from "@effect/sql/SqlError"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Cause, Context, Effect, FiberRef, HashSet, Logger } from "effect"
import { run } from "../src/App.ts"
import { defaults, KeyIndexLimits, ReadingLimits, SequenceLimits, Settings } from "../src/Config.ts"
import { Database } from "../src/store/Database.ts"
import type { Entry, ServerChange } from "./History.ts"
import { countingKeys } from "./KeyCounts.ts"
import { type PlannedLimits, requestEventsMax } from "./Plan.ts"
import type { CrashKind, Process, World } from "./World.ts"

/** One aggregator: its processes and its machine bear its name, and it is reached at its address. */
export interface Site {
  readonly name: string
  readonly address: string
}

/** The one that every run has. */
export const firstSite: Site = { name: "server", address: "sekali:8080" }

/** The file of its database, on the disk of the site's machine. */
export const databaseFile = "sekali.db"

/** What the service logs that tells of a branch worth counting, and the name it is counted under. */
const branches: ReadonlyArray<readonly [prefix: string, name: string]> = [
  ["commits fail", "service: commit failed"],
  ["commits fail: the store reported an unexpected error", "service: commit failed unexpectedly"],
  ["the store is well again", "service: store well again"],
  ["the connection to the database was rebuilt", "service: connection rebuilt"],
  ["conflict", "service: conflict"],
  ["duplicates dropped", "service: duplicates dropped"],
  ["refused: the queue is full", "service: queue full"],
  ["refused: shutting down", "service: refused while draining"],
  ["refused: waited too long", "service: waited too long"],
  ["a call failed on a bug", "service: bug"]
]

const countingLogger = (world: World) =>
  Logger.make(({ message, annotations }) => {
    const text = String(Array.isArray(message) ? message[0] : message)
    for (const [prefix, name] of branches) if (text.startsWith(prefix)) world.counters.count(name)
    if (text === "draining") {
      for (const [key, value] of annotations) {
        if (key === "events" && Number(value) > 0) world.counters.count("service: drained what waited")
      }
    }
  })

const writeLogAgain = ({ mount }: Process) =>
  Effect.try({
    try: () => {
      const log = `${databaseFile}-wal`
      if (!mount.exists(log)) return
      const handle = mount.open(log, { create: false, syncsEntry: false })
      const content = new Uint8Array(handle.size)
      handle.read(content, 0)
      handle.write(content, 0)
      handle.sync()
    },
    catch: (cause) =>
      new SqlError({ cause: { code: "SQLITE_IOERR", cause }, message: "the log cannot be written again" })
  })

const database = ({ counters }: World, process: Process, checkpointPages: number) =>
  Database.of({
    name: databaseFile,
    writeLogAgain: writeLogAgain(process),
    connect: SqliteClient.make({ filename: databaseFile, disableWAL: true }).pipe(
      // SQLite checkpoints by itself after so many pages of log; by default a run would not come so far.
      Effect.tap((sql) =>
        Effect.flatMap(Effect.scoped(sql.reserve), (connection) =>
          connection.executeUnprepared(`PRAGMA wal_autocheckpoint = ${checkpointPages}`, [], undefined)
        )
      ),
      Effect.catchAllDefect((cause) => new SqlError({ cause, message: "the database cannot be opened" })),
      Effect.map((sql) => countingKeys(sql, counters)),
      Effect.provideServiceEffect(Reactivity.Reactivity, Reactivity.make)
    )
  })

const service = (world: World, process: Process, { address }: Site, limits: PlannedLimits) => {
  const edges = Context.make(Database, database(world, process, limits.checkpointPages)).pipe(
    Context.add(Settings, {
      ...defaults,
      queueEventsMax: limits.queueEventsMax,
      queueBytesMax: limits.queueBytesMax,
      commitEventsMax: limits.commitEventsMax,
      requestEventsMax,
      publishSecondsMax: limits.publishSecondsMax,
      gapSeconds: limits.gaps?.seconds ?? defaults.gapSeconds,
      gapEvents: limits.gaps?.events ?? defaults.gapEvents,
      heartbeatSeconds: 1.5
    }),
    Context.add(SequenceLimits, { gapsMax: limits.gaps?.max ?? 1000 }),
    Context.add(ReadingLimits, {
      windowRowsMax: limits.windowRowsMax,
      windowBytesMax: 2000,
      pageStepsMax: 4,
      pageBytesMax: 3000,
      streamBytesMax: 1000,
      feedEventsMax: 8,
      feedBytesMax: 1500
    }),
    Context.merge(limits.keys === undefined ? Context.empty() : Context.make(KeyIndexLimits, limits.keys)),
    Context.merge(world.httpServer(process, address))
  )
  return run.pipe(
    Effect.provide(edges),
    Effect.locallyWith(FiberRef.currentLoggers, HashSet.add(countingLogger(world)))
  )
}

/** Keeps the service running, and says in the history what befalls it. */
export class Supervisor {
  private readonly world: World
  private readonly site: Site
  private readonly limits: PlannedLimits
  private readonly record: (entry: Entry) => void
  private process: Process
  private count = 0
  private downMillis: number | undefined
  private failuresInARow = 0
  private state: "starting" | "ready" | "stopping" | "down" = "starting"
  private released = false
  private failure: string | undefined

  constructor(world: World, site: Site, limits: PlannedLimits, record: (entry: Entry) => void) {
    this.world = world
    this.site = site
    this.limits = limits
    this.record = record
    this.process = this.start()
  }

  /** The process that runs, or the last one that did. */
  current(): Process {
    return this.process
  }

  get isReady(): boolean {
    return this.state === "ready"
  }

  /** How often the service was started. */
  starts(): number {
    return this.count
  }

  /** Why the last process that ended by itself did so. */
  lastFailure(): string | undefined {
    return this.failure
  }

  /** How long the service stays down after its next end. */
  stayDown(millis: number): void {
    this.downMillis = millis
  }

  /**
   * Asks the process to stop, as SIGTERM does, and ends it when it has not stopped in time, as `src/main.ts` does. An
   * interruption that meets a concurrent loop of Effect 3.22 in the wrong moment can be lost, which it can while layers
   * are built; a service that was ready has no such excuse.
   */
  stop(): void {
    const { process, state } = this
    if (!process.sim.alive || state === "stopping") return
    this.note("stopping")
    this.state = "stopping"
    this.world.stop(process)
    this.world.time.after(defaults.shutdownSecondsMax * 1_000_000, this, () => {
      if (!process.sim.alive) return
      this.world.counters.count(`service: stop cut short while ${state}`)
      this.crash("kill")
    })
  }

  /** Kills the process, or cuts its machine's power, which can be done to a machine that runs nothing, too. */
  crash(kind: CrashKind): void {
    const { alive } = this.process.sim
    if (!alive && kind === "kill") return
    this.world.crash(this.process, kind)
    if (alive) this.noteCrash(kind)
  }

  /** Says that the process has crashed. */
  noteCrash(kind: CrashKind): void {
    if (this.state === "starting") this.world.counters.count("process: crashed while starting")
    this.note(kind === "kill" ? "killed" : "power cut")
    this.comeBack()
  }

  /** From here on, a process that ends is not started again. */
  release(): void {
    this.released = true
  }

  /** To be called between the steps of the world: sees whether the process got ready, or ended. */
  look(): void {
    const { process, state } = this
    if (process.sim.alive) {
      if (state === "starting" && this.world.network.isListening(this.site.address)) {
        this.state = "ready"
        this.failuresInARow = 0
        this.note("ready")
      }
    } else if (state !== "down") {
      const { exit } = process
      const failed = exit?._tag === "Failure" && !Cause.isInterruptedOnly(exit.cause)
      if (failed) {
        this.failuresInARow++
        this.failure = Cause.pretty(exit.cause).split("\n", 1)[0] ?? ""
      }
      this.note(failed ? "failed" : "stopped", failed ? this.failure : undefined)
      this.world.counters.count(failed ? "service: failed to start or go on" : "service: stopped gracefully")
      this.comeBack()
    }
  }

  private comeBack(): void {
    this.state = "down"
    if (this.released) return
    // A supervisor waits longer, the more starts have failed in a row.
    const usual = usualDownMillis * 8 ** Math.min(this.failuresInARow, 2)
    this.world.time.after((this.downMillis ?? usual) * 1000, this, () => {
      if (this.state === "down" && !this.released) this.process = this.start()
    })
    this.downMillis = undefined
  }

  private start(): Process {
    this.count++
    this.state = "starting"
    const process = this.world.start(this.site.name, (process) =>
      service(this.world, process, this.site, this.limits)
    )
    this.note("started", undefined, process)
    return process
  }

  private note(change: ServerChange["change"], detail?: string, process = this.process): void {
    const at = this.world.time.now
    this.record({
      kind: "server",
      at,
      server: process.name,
      change,
      ...(detail === undefined ? {} : { detail })
    })
  }
}

const usualDownMillis = 50
