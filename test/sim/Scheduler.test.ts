import { Deferred, Effect, Fiber, Queue, Random, Ref } from "effect"
import { describe, expect, it } from "vitest"
import { Choices } from "../../sim/Choices.ts"
import { labelled } from "../../sim/Scheduler.ts"
import { EscapeError, type Outcome, simulate, type World } from "../../sim/World.ts"

const runIn = <A>(seed: number, effect: Effect.Effect<A>, replay?: Choices) =>
  simulate({ choices: replay ?? Choices.seeded(seed), seed, verbose: true }, (world) => {
    const process = world.start("program", () => effect)
    const outcome = world.run(() => process.exit !== undefined, { stepsMax: 10_000 })
    const value = process.exit?._tag === "Success" ? (process.exit.value as A) : undefined
    return {
      outcome,
      value,
      digest: world.trace.digest(),
      steps: world.trace.steps,
      deviations: world.choices.deviations
    }
  })

/** Counts each name once, unless a fiber is preempted between its look and its note. */
const race = Effect.gen(function* () {
  const seen = new Set<string>()
  const count = yield* Ref.make(0)
  const visit = (name: string) =>
    Effect.gen(function* () {
      if (yield* Effect.sync(() => seen.has(name))) return
      yield* Ref.update(count, (n) => n + 1)
      yield* Effect.sync(() => seen.add(name))
    })
  yield* Effect.forEach(["a", "b", "a", "c", "b", "a"], visit, { concurrency: "unbounded", discard: true })
  return (yield* Ref.get(count)) - seen.size
})

describe("the scheduler", () => {
  it("finds a race in some orders, and the same one again", () => {
    const runs = Array.from({ length: 400 }, (_, seed) => runIn(seed, race))
    const found = runs.filter((run) => run.value !== 0)
    expect(found.length).toBeGreaterThan(2)
    expect(found.length).toBeLessThan(50)
    expect(new Set(runs.map((run) => run.digest)).size).toBeGreaterThan(380)
    expect(runIn(0, race, Choices.replay([])).value).toBe(0)
    for (const seed of [1, 2, 3]) {
      const [once, twice] = [runIn(seed, race), runIn(seed, race)]
      expect(twice).toEqual(once)
      const replayed = runIn(seed, race, Choices.replay(once.deviations))
      expect(replayed.steps).toEqual(once.steps)
    }
  })

  it("keeps the order of what one fiber is told", () => {
    const program = Effect.gen(function* () {
      const heard: Array<number> = []
      const queue = yield* Queue.unbounded<number>()
      const listener = yield* Effect.fork(
        Effect.repeatN(
          Effect.map(Queue.take(queue), (n) => heard.push(n)),
          49
        )
      )
      for (let n = 0; n < 50; n++) yield* Queue.offer(queue, n)
      yield* Fiber.join(listener)
      return heard.every((n, index) => n === index)
    })
    for (let seed = 0; seed < 30; seed++) expect(runIn(seed, program).value).toBe(true)
  })

  it("overlaps what takes no time otherwise, since steps cost time", () => {
    const program = Effect.gen(function* () {
      const before = yield* Effect.clockWith((clock) => clock.currentTimeNanos)
      yield* Effect.repeatN(Effect.yieldNow(), 100)
      return Number((yield* Effect.clockWith((clock) => clock.currentTimeNanos)) - before) / 1e6
    })
    expect(runIn(1, program).value).toBeGreaterThan(4)
  })

  it("gives every process chance of its own, from the seed", () => {
    const numbers = Effect.all([Random.next, Random.nextInt])
    expect(runIn(1, numbers).value).toEqual(runIn(1, numbers).value)
    expect(runIn(1, numbers).value).not.toEqual(runIn(2, numbers).value)
  })

  it("crashes a process without a finalizer, and it never moves again", () => {
    let finalizers = 0
    let ticks = 0
    const tick = Effect.forever(
      Effect.zipRight(
        Effect.sleep(1),
        Effect.sync(() => ticks++)
      )
    )
    const program = Effect.acquireUseRelease(
      Effect.void,
      () => tick,
      () => Effect.sync(() => finalizers++)
    )
    simulate({ choices: Choices.seeded(1) }, (world) => {
      const crashed = world.start("crashed", () => program)
      const stopped = world.start("stopped", () => program)
      world.run(() => ticks > 20)
      world.crash(crashed, "kill")
      world.stop(stopped)
      world.run(() => stopped.exit !== undefined)
      const then = ticks
      expect(finalizers).toBe(1)
      expect(crashed.exit).toBeUndefined()
      expect(world.run(() => false)).toEqual({ _tag: "Stuck", waiting: [] })
      expect([ticks, finalizers]).toEqual([then, 1])
    })
  })

  it("says who waits for what when nothing moves", () => {
    const program = Effect.gen(function* () {
      const never = yield* Deferred.make<void>()
      yield* Effect.fork(labelled("other")(Effect.withSpan(Deferred.await(never), "Module.method")))
      yield* Effect.forkDaemon(Effect.annotateLogs(Deferred.await(never), { fiber: "annotated" }))
      return yield* Effect.async<void>(() => undefined)
    })
    const { outcome } = runIn(1, program)
    expect(outcome._tag).toBe("Stuck")
    const waiting = (outcome as Extract<Outcome, { _tag: "Stuck" }>).waiting.join("\n")
    expect(waiting).toMatch(/^program #\d+ waits/m)
    expect(waiting).toMatch(/^program:other #\d+ waits for what #\d+ made in Module\.method/m)
    expect(waiting).toMatch(/^program:annotated #\d+ waits for what/m)
  })

  it("stops at its limits", () => {
    simulate({ choices: Choices.seeded(1) }, (world) => {
      world.start("spinner", () => Effect.forever(Effect.yieldNow()))
      expect(world.run(() => false, { stepsMax: 100 })).toMatchObject({ _tag: "Exhausted", limit: "steps" })
      expect(world.run(() => false, { millisMax: 5 })).toMatchObject({ _tag: "Exhausted", limit: "time" })
    })
  })

  it("refuses to be woken from outside, and names who was", () => {
    let wake: () => void = () => undefined
    const sleeper = labelled("sleeper")(
      Effect.async<void>((resume) => {
        wake = () => resume(Effect.void)
      })
    )
    const attempt = (world: World) => {
      world.start("program", () => sleeper)
      world.run(() => world.scheduler.idle())
      wake()
      world.run(() => false)
    }
    const run = () => simulate({ choices: Choices.seeded(1) }, attempt)
    expect(run).toThrow(EscapeError)
    expect(run).toThrow(/program:sleeper was woken from outside of the simulation[\s\S]*Scheduler\.test\.ts/)
  })
})
