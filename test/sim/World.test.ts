/**
 * The edges together, proven with the sample service: runs repeat to the last bit, what is durable stays, what is
 * not is lost where the model says it may be, and nothing accumulates.
 */
import { execFile } from "node:child_process"
import { inspect, promisify } from "node:util"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { describe, expect, it } from "vitest"
import { Choices } from "../../sim/Choices.ts"
import { Counters } from "../../sim/Counters.ts"
import { noDiskFaults } from "../../sim/Disk.ts"
import { root } from "../../sim/loader/mutate.mjs"
import { openConnections } from "../../sim/Sqlite.ts"
import { simulate, type World } from "../../sim/World.ts"
import { digestOf } from "./digest.ts"
import { roughNetwork, run, type ScenarioOptions, type ScenarioResult, startServer } from "./Scenario.ts"

const rates = { quantum: 0.3, delay: 0.1, cost: 0.3, sched: 0.5 }

const runs = (times: number, options: Partial<ScenarioOptions>): ReadonlyArray<ScenarioResult> =>
  Array.from({ length: times }, (_, index) => {
    const seed = index + 1
    return run({ choices: Choices.seeded(seed, { rates }), seed, events: 8, ...options })
  })

/** Runs in which every fiber is preempted all the time: what a race needs to be found. */
const restless = (times: number, options: Partial<ScenarioOptions>): ReadonlyArray<ScenarioResult> =>
  Array.from({ length: times }, (_, seed) =>
    run({ choices: Choices.seeded(seed), seed, events: 6, ...options })
  )

const failed = (results: ReadonlyArray<ScenarioResult>) =>
  results.filter((result) => result.violations.length > 0 || result.outcome._tag !== "Done")

const lost = (results: ReadonlyArray<ScenarioResult>) =>
  results.filter((result) => result.violations.some((violation) => violation.startsWith("lost")))

describe("a run", () => {
  it("repeats to the last bit, in this process and in a fresh one", async () => {
    const seeds = [1, 2, 3, 4]
    const here = seeds.map(digestOf)
    expect(new Set(here).size).toBe(seeds.length)
    expect(seeds.map(digestOf)).toEqual(here)
    const args = ["--import", "./sim/loader/register.mjs", "test/sim/digest.ts", ...seeds.map(String)]
    const fresh = await promisify(execFile)(process.execPath, args, { cwd: root })
    expect(fresh.stdout.trim().split(" ")).toEqual(here)
  })

  it("replays from its deviations alone, and from fewer of them still runs", () => {
    const choices = Choices.seeded(11, { rates })
    const options = {
      seed: 11,
      crashes: 2,
      crashKind: "power cut",
      network: roughNetwork,
      events: 6
    } as const
    const recorded = run({ ...options, choices })
    const replayed = run({ ...options, choices: Choices.replay(choices.deviations) })
    expect(replayed).toEqual(recorded)
    const told = run({ ...options, choices: Choices.replay(choices.deviations), verbose: true })
    expect(told.digest).toBe(recorded.digest)
    const half = choices.deviations.filter((_, index) => index % 2 === 0)
    expect(failed([run({ ...options, choices: Choices.replay(half) })])).toEqual([])
    expect(run({ ...options, choices: Choices.replay([]) }).outcome._tag).toBe("Done")
  })
})

describe("durability", () => {
  it("holds through power cuts between steps and within calls to the disk", () => {
    for (const crashInOperations of [false, true]) {
      const results = runs(20, {
        crashes: 3,
        crashKind: "power cut",
        crashInOperations,
        network: roughNetwork
      })
      expect(failed(results)).toEqual([])
    }
  })

  it("is lost to power cuts without the pragma, which better-sqlite3 does not set", () => {
    const results = runs(20, { crashes: 3, crashKind: "power cut", flaw: "no synchronous pragma" })
    expect(lost(results).length).toBeGreaterThan(15)
  })

  it("needs no pragma against kills, for the page cache survives them", () => {
    const results = runs(20, {
      crashes: 3,
      crashKind: "kill",
      flaw: "no synchronous pragma",
      network: roughNetwork
    })
    expect(failed(results)).toEqual([])
  })

  it("is lost even to kills by an answer that comes before the commit", () => {
    const results = restless(40, {
      crashes: 3,
      crashKind: "kill",
      crashInOperations: true,
      flaw: "answers before the commit"
    })
    expect(lost(results).length).toBeGreaterThan(0)
  })

  it("holds through errors of the disk, a full one, and both kinds of crash", () => {
    const disk = {
      ...noDiskFaults,
      readError: 0.002,
      writeError: 0.01,
      syncError: 0.02,
      full: 0.005,
      lostWrite: 0.4,
      tornWrite: 0.3
    }
    const results = runs(30, { crashes: 4, crashInOperations: true, disk, network: roughNetwork })
    expect(failed(results)).toEqual([])
    const counters = new Counters()
    for (const result of results) for (const [name, times] of result.counts) counters.count(name, times)
    const kinds = [
      "disk: readError",
      "disk: writeError",
      "disk: syncError",
      "disk: full",
      "disk: lostWrite",
      "disk: tornWrite",
      "process: crashed in a write",
      "process: crashed in a sync",
      "network: answerLost",
      "network: duplicated",
      "network: reset by a crash",
      "network: refused",
      "network: requestLost"
    ]
    for (const kind of kinds) expect([kind, counters.get(kind)]).not.toEqual([kind, 0])
  })
})

describe("races", () => {
  it("are found: a check and an insert without a transaction", () => {
    const results = restless(60, { flaw: "checks, then inserts", network: roughNetwork })
    expect(failed(results).length).toBeGreaterThan(2)
    const twice = failed(results).flatMap((result) => result.violations)
    expect(twice.some((violation) => violation.includes("twice") || violation.includes("counts"))).toBe(true)
  })
})

describe("two processes", () => {
  it("cannot hold one database: the second is refused while the first lives, and not after", () => {
    simulate({ choices: Choices.seeded(1) }, (world) => {
      const listening = () => world.network.isListening("sample:80")
      const first = startServer(world, "none")
      expect(world.run(listening)._tag).toBe("Done")
      const second = startServer(world, "none")
      world.run(() => second.exit !== undefined)
      expect(inspect(second.exit, { depth: 20 })).toContain("database is locked")
      world.crash(first, "kill")
      expect(listening()).toBe(false)
      startServer(world, "none")
      expect(world.run(listening)._tag).toBe("Done")
    })
  })
})

describe("many runs", () => {
  it("leave nothing behind", async () => {
    setFlagsFromString("--expose-gc")
    const collect = runInNewContext("gc") as () => void
    const roots = () => {
      const store = (
        globalThis as unknown as Record<symbol | string, Map<unknown, { readonly roots?: Set<unknown> }>>
      )["effect/GlobalValue"]
      return store?.get(Symbol.for("effect/FiberScope/Global"))?.roots?.size
    }
    const worlds: Array<WeakRef<World>> = []
    const each = (seed: number) =>
      simulate({ choices: Choices.seeded(seed, { rates }) }, (world) => {
        worlds.push(new WeakRef(world))
        const server = startServer(world, "none")
        world.run(() => world.network.isListening("sample:80"))
        world.crash(server, "power cut")
        startServer(world, "none")
        world.run(() => world.scheduler.steps > 50 + seed)
      })
    each(0)
    const rootsBefore = roots()
    for (let seed = 1; seed < 40; seed++) each(seed)
    expect(roots()).toBe(rootsBefore)
    expect(openConnections()).toBe(0)
    // What was looked at in a turn of the event loop lives until its end.
    await new Promise((resolve) => setImmediate(resolve))
    collect()
    // The last one may still lie on the stack or in a cache of the engine.
    expect(worlds.filter((world) => world.deref() !== undefined).length).toBeLessThanOrEqual(2)
  })
})
