/**
 * Fibers in any order: which one goes on next, and after how many steps it stops for another, is drawn from a seed. Time
 * passes only when nobody has anything to do; if then nobody sleeps either, all wait for each other, and the run fails.
 */
import { Cause, Clock, Duration, Effect, Exit, type Scheduler, Utils } from "effect"

/** Runs an effect in an order of fibers that follows from a seed. */
export const runInterleaved = <A, E>(seed: number, effect: Effect.Effect<A, E>): Promise<A> =>
  new Promise((resolve, reject) => {
    const { scheduler, clock } = makeWorld(seed, () => reject(new Error("everybody waits for somebody else")))
    Effect.runFork(Effect.withClock(effect, clock), { scheduler }).addObserver(
      Exit.match({ onSuccess: resolve, onFailure: (cause) => reject(Cause.squash(cause)) })
    )
  })

// To yield takes some twenty steps itself: were it done more often, fibers would do nothing else.
const yieldsPerStepMax = 0.03

interface Sleeper {
  readonly at: number
  readonly wake: () => void
}

const makeWorld = (seed: number, onStandstill: () => void) => {
  const chance = new Utils.PCGRandom(seed)
  const yieldsPerStep = chance.number() * yieldsPerStepMax
  const tasks: Array<Scheduler.Task> = []
  const sleepers = new Set<Sleeper>()
  let now = Date.UTC(2026, 10, 22)
  let running = false

  const run = () => {
    for (let turn = 0; turn < 1000 && tasks.length > 0; turn++) {
      const [task] = tasks.splice(chance.integer(tasks.length), 1)
      task?.()
    }
    // By the next turn of the event loop promises that are resolved have said so.
    setImmediate(tasks.length > 0 ? run : idle)
  }
  const idle = () => {
    if (tasks.length > 0) return run()
    const [next] = [...sleepers].sort((left, right) => left.at - right.at)
    if (next === undefined) {
      running = false
      return onStandstill()
    }
    sleepers.delete(next)
    now = next.at
    // It may wake nobody: a sleeper that is interrupted as it lies down does not say so.
    next.wake()
    setImmediate(idle)
  }

  const scheduler: Scheduler.Scheduler = {
    shouldYield: () => (chance.number() < yieldsPerStep ? 0 : false),
    scheduleTask: (task) => {
      tasks.push(task)
      if (running) return
      running = true
      setImmediate(run)
    }
  }
  const clock: Clock.Clock = {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeMillis: () => now,
    unsafeCurrentTimeNanos: () => BigInt(now) * 1_000_000n,
    currentTimeMillis: Effect.sync(() => now),
    currentTimeNanos: Effect.sync(() => BigInt(now) * 1_000_000n),
    sleep: (duration) =>
      Effect.async((resume) => {
        // In whole milliseconds, as real timers.
        const sleeper = { at: now + Math.ceil(Duration.toMillis(duration)), wake: () => resume(Effect.void) }
        sleepers.add(sleeper)
        return Effect.sync(() => sleepers.delete(sleeper))
      })
  }
  return { scheduler, clock }
}
