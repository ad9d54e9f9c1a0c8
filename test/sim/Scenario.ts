/**
 * One run of the sample service: publishers that retry until they are answered, crashes among them, and at the
 * end a look at what the disk holds.
 */
import { HttpServer } from "@effect/platform"
import { Data, Effect, Layer, Schedule } from "effect"
import type { Choices } from "../../sim/Choices.ts"
import { type DiskFaults, noDiskFaults } from "../../sim/Disk.ts"
import { type Answer, type NetworkFaults, noNetworkFaults, type Request } from "../../sim/Network.ts"
import { type CrashKind, launch, type Outcome, type Process, simulate, type World } from "../../sim/World.ts"
import { database, type Flaw, serve } from "./Sample.ts"

export interface ScenarioOptions {
  readonly choices: Choices
  readonly seed?: number
  readonly flaw?: Flaw
  readonly crashes?: number
  readonly crashKind?: CrashKind
  /** Whether crashes fall into the middle of calls to the disk, or between steps. */
  readonly crashInOperations?: boolean
  readonly publishers?: number
  readonly events?: number
  readonly network?: NetworkFaults
  readonly disk?: DiskFaults
  readonly wallJumps?: number
  readonly verbose?: boolean
}

export interface ScenarioResult {
  readonly outcome: Outcome
  readonly acknowledged: number
  readonly violations: ReadonlyArray<string>
  readonly digest: string
  readonly steps: number
  readonly counts: ReadonlyMap<string, number>
  readonly story: ReadonlyArray<string>
}

const address = "sample:80"

/** Faults as a machine without mercy has them. */
export const cruelDisk: DiskFaults = {
  ...noDiskFaults,
  lostWrite: 0.4,
  tornWrite: 0.3,
  lostTruncate: 0.5,
  lostEntry: 0.5,
  undoneDelete: 0.5
}
export const roughNetwork: NetworkFaults = {
  ...noNetworkFaults,
  requestLost: 0.05,
  answerLost: 0.1,
  duplicated: 0.1,
  connectionBroken: 0.03,
  delayed: 0.4,
  bodyInPieces: 0.1,
  disconnectUnseen: 0.5,
  answerDiesWithServer: 0.5
}

export const run = (options: ScenarioOptions): ScenarioResult =>
  simulate(
    {
      choices: options.choices,
      seed: options.seed ?? 1,
      diskFaults: options.disk ?? cruelDisk,
      networkFaults: options.network ?? noNetworkFaults,
      wallJumps: options.wallJumps ?? 0,
      verbose: options.verbose ?? false
    },
    (world) => {
      const { choices } = options
      const acknowledged = new Map<string, number>()
      let server = startServer(world, options.flaw ?? "none")
      const publishers = Array.from({ length: options.publishers ?? 3 }, (_, index) =>
        world.start(`publisher-${index + 1}`, (process) =>
          publish(world, process, options.events ?? 16, acknowledged)
        )
      )
      const finished = () => publishers.every((publisher) => publisher.exit !== undefined)
      const limits = { stepsMax: 60_000, millisMax: 3_600_000 }
      let outcome: Outcome = { _tag: "Done" }
      for (let crash = 0; crash < (options.crashes ?? 0) && !finished(); crash++) {
        const kind = options.crashKind ?? choices.oneOf("crash-kind", ["kill", "power cut"])
        if (options.crashInOperations === true) {
          world.crashInOperation(server, kind, 1 + choices.int("crash-operation", 0, 60))
          outcome = world.run(() => !server.sim.alive || finished(), limits)
        } else {
          const at = world.scheduler.steps + 5 + choices.int("crash-step", 0, 150)
          outcome = world.run(() => world.scheduler.steps >= at || !server.sim.alive || finished(), limits)
          world.crash(server, kind)
        }
        if (server.sim.alive) break
        const now = world.time.now
        outcome = world.run(() => world.time.now > now + 20_000 || finished(), limits)
        server = startServer(world, options.flaw ?? "none")
      }
      world.heal()
      for (let starts = 0; starts < 10 && outcome._tag === "Done" && !finished(); starts++) {
        outcome = world.run(() => finished() || !server.sim.alive, limits)
        if (!server.sim.alive) server = startServer(world, options.flaw ?? "none")
      }
      server.machine.disk.faults = options.disk ?? cruelDisk
      world.crash(server, options.crashKind ?? "kill")
      return {
        outcome,
        acknowledged: acknowledged.size,
        violations: check(world, acknowledged),
        digest: world.trace.digest(),
        steps: world.scheduler.steps,
        counts: world.counters.counts,
        story: world.trace.story()
      }
    }
  )

export const startServer = (world: World, flaw: Flaw): Process =>
  world.start("server", (process) =>
    serve(
      flaw,
      Layer.mergeAll(
        database("sample.db"),
        Layer.succeedContext(world.httpServer(process, address)),
        HttpServer.layerContext
      ),
      launch
    )
  )

class NotYet extends Data.TaggedError("NotYet")<{ readonly answer: Answer }> {}

export const post = (topic: string, id: string, payload: string): Request => ({
  method: "POST",
  url: "/publish",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ topic, id, payload })
})

const publish = (world: World, process: Process, events: number, acknowledged: Map<string, number>) =>
  Effect.forEach(
    Array.from({ length: events }, (_, index) => index),
    (index) => {
      const key = index + world.choices.pick(`key/${process.name}`, 2)
      const request = post(`topic-${key % 2}`, `event-${key}`, "x".repeat(30 + 60 * (key % 4)))
      return world.network.send(process.name, address, request, { timeoutMillis: 2000 }).pipe(
        Effect.filterOrFail(
          (answer) => answer.status === 200,
          (answer) => new NotYet({ answer })
        ),
        Effect.retry(
          Schedule.exponential("10 millis").pipe(
            Schedule.jittered,
            Schedule.union(Schedule.spaced("1 second"))
          )
        ),
        Effect.andThen((answer) => {
          const name = `topic-${key % 2}/event-${key}`
          const stored = (JSON.parse(answer.body) as { readonly stored: boolean }).stored
          acknowledged.set(name, (acknowledged.get(name) ?? 0) + (stored ? 1 : 0))
        })
      )
    },
    { discard: true }
  )

const check = (world: World, acknowledged: ReadonlyMap<string, number>): ReadonlyArray<string> =>
  world.readDatabase(world.machine("server"), "sample.db", (db) => {
    const violations: Array<string> = []
    try {
      db.exec("PRAGMA locking_mode=EXCLUSIVE")
      const verdict = db.all("PRAGMA integrity_check")[0]?.["integrity_check"]
      if (verdict !== "ok") violations.push(`integrity: ${verdict}`)
      const rows = db.all("SELECT topic, id FROM events")
      const stored = new Set(rows.map(({ topic, id }) => `${topic}/${id}`))
      for (const [name, times] of acknowledged) {
        if (!stored.has(name)) violations.push(`lost: ${name}`)
        if (times > 1) violations.push(`stored twice: ${name}`)
      }
      for (const { topic, n } of db.all("SELECT topic, n FROM counters")) {
        const events = rows.filter((row) => row["topic"] === topic).length
        if (events !== n) violations.push(`${topic} counts ${n} of ${events}`)
      }
    } catch (error) {
      const gone = String(error).includes("no such table")
      if (acknowledged.size > 0) violations.push(gone ? "lost: everything" : `unreadable: ${String(error)}`)
    }
    return violations
  })
