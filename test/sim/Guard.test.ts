import * as crypto from "node:crypto"
import * as timers from "node:timers"
import * as timersPromises from "node:timers/promises"
import { Effect, type Scope } from "effect"
import { describe, expect, it } from "vitest"
import { Choices } from "../../sim/Choices.ts"
import { labelled } from "../../sim/Scheduler.ts"
import { EscapeError, simulate } from "../../sim/World.ts"

/** Runs an effect as a process; answers what it gave, or throws what it escaped by. */
const runIn = <A>(effect: Effect.Effect<A, never, Scope.Scope>): A =>
  simulate({ choices: Choices.seeded(1) }, (world) => {
    const process = world.start("program", () => Effect.scoped(effect))
    const outcome = world.run(() => process.exit !== undefined)
    if (process.exit?._tag !== "Success") throw new Error(`${outcome._tag} ${String(process.exit)}`)
    return process.exit.value as A
  })

const escapes: Record<string, Effect.Effect<unknown>> = {
  "Date.now": Effect.sync(() => Date.now()),
  "new Date()": Effect.sync(() => new Date().toISOString()),
  "Date()": Effect.sync(() => Date()),
  setTimeout: Effect.sync(() => setTimeout(() => undefined, 1)),
  setInterval: Effect.never,
  setImmediate: Effect.sync(() => timers.setImmediate(() => undefined)),
  queueMicrotask: Effect.sync(() => queueMicrotask(() => undefined)),
  "process.nextTick": Effect.sync(() => process.nextTick(() => undefined)),
  "process.hrtime.bigint": Effect.sync(() => process.hrtime.bigint()),
  "performance.now": Effect.sync(() => performance.now()),
  "process.uptime": Effect.sync(() => process.uptime()),
  "scheduler.wait": Effect.sync(() => timersPromises.scheduler.wait(1)),
  "AbortSignal.timeout": Effect.sync(() => AbortSignal.timeout(1)),
  MessageChannel: Effect.sync(() => new MessageChannel().port1.postMessage(1)),
  "crypto.randomFillSync": Effect.sync(() => crypto.randomFillSync(new Uint8Array(1))),
  "crypto.subtle": Effect.sync(() => globalThis.crypto.subtle.digest("SHA-256", new Uint8Array(1))),
  "Math.random": Effect.sync(() => Math.random()),
  "crypto.randomUUID": Effect.sync(() => crypto.randomUUID()),
  "crypto.getRandomValues": Effect.sync(() => globalThis.crypto.getRandomValues(new Uint8Array(1))),
  "Promise.prototype.then": Effect.promise(() => Promise.resolve(1)),
  "Promise.prototype.catch": Effect.sync(() => Promise.resolve(1).catch(() => undefined)),
  "Promise.prototype.finally": Effect.sync(() => Promise.resolve(1).finally(() => undefined))
}

/** What Effect does on the culprit's behalf, from a stack that the culprit is no longer on. */
const withinEffect = ["setInterval", "Promise.prototype.then"]

describe("the guard", () => {
  for (const [what, effect] of Object.entries(escapes)) {
    it(`reports ${what}, with the place`, () => {
      let error: unknown
      try {
        runIn(labelled("culprit")(effect))
      } catch (thrown) {
        error = thrown
      }
      expect(error).toBeInstanceOf(EscapeError)
      const { message } = error as EscapeError
      expect(message).toContain(`${what} was used in a run`)
      expect(message).toContain("by program:culprit")
      if (!withinEffect.includes(what)) expect(message).toContain("test/sim/Guard.test.ts")
      expect(message).not.toContain("sim/Guard.ts:")
    })
  }

  it("reports work on another runtime, and who does it", () => {
    expect(() => runIn(Effect.sync(() => Effect.runFork(Effect.yieldNow())))).toThrow(
      /Promise\.prototype\.then/
    )
    expect(() =>
      runIn(Effect.sync(() => Effect.runSync(Effect.clockWith((clock) => clock.currentTimeMillis))))
    ).toThrow(/Date\.now was used/)
  })

  it("lets Effect stamp its fibers and hash its objects", () => {
    const program = Effect.gen(function* () {
      yield* Effect.forEach([1, 2, 3], () => Effect.sleep(10), { concurrency: "unbounded" })
      const when = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      return new Date(when).getTime() === when && Date.parse("2026-01-01T00:00:00Z") === Date.UTC(2026, 0, 1)
    })
    expect(runIn(program)).toBe(true)
  })

  it("restores everything, even after a run that throws", () => {
    const before = [
      Date,
      Date.now,
      setTimeout,
      Math.random,
      process.nextTick,
      process.hrtime.bigint,
      performance.now
    ]
    const then = Promise.prototype.then
    expect(() =>
      simulate({ choices: Choices.seeded(1) }, () => {
        throw new Error("from within")
      })
    ).toThrow("from within")
    expect(before).toEqual([
      Date,
      Date.now,
      setTimeout,
      Math.random,
      process.nextTick,
      process.hrtime.bigint,
      performance.now
    ])
    expect(Promise.prototype.then).toBe(then)
    expect(Object.hasOwn(performance, "now")).toBe(false)
    expect(Math.random()).not.toBe(Math.random())
    expect(crypto.randomUUID()).not.toBe(crypto.randomUUID())
  })
})
