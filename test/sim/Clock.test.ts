import { Effect, Fiber } from "effect"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { Choices } from "../../sim/Choices.ts"
import { VirtualTime } from "../../sim/Clock.ts"
import { simulate } from "../../sim/World.ts"

describe("virtual time", () => {
  it("fires timers in the order of their time, and of their setting where that is equal", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(50), fc.boolean())), (timers) => {
        const time = new VirtualTime()
        const fired: Array<number> = []
        const cancels = timers.map(([after], index) => time.after(after, time, () => fired.push(index)))
        timers.forEach(([, cancel], index) => {
          if (cancel) expect(cancels[index]?.()).toBe(true)
        })
        let before = 0
        while (time.next() !== undefined) {
          time.fireNext()
          expect(time.now).toBeGreaterThanOrEqual(before)
          before = time.now
        }
        const expected = timers
          .map(([after, cancel], index) => ({ after, cancel, index }))
          .filter((timer) => !timer.cancel)
        expected.sort((a, b) => a.after - b.after || a.index - b.index)
        expect(fired).toEqual(expected.map((timer) => timer.index))
        expect(fired.map((index) => cancels[index]?.())).toEqual(fired.map(() => false))
      })
    )
  })

  it("never fires what lies in infinity, nor what belonged to the dead", () => {
    const time = new VirtualTime()
    const owner = {}
    time.after(Number.POSITIVE_INFINITY, time, () => undefined)
    time.after(5, owner, () => undefined)
    time.forget(owner)
    expect(time.next()).toBeUndefined()
  })

  it("lets a long sleep pass in no time, and a shorter timeout come first", () => {
    const outcome = simulate({ choices: Choices.seeded(1) }, (world) => {
      const process = world.start("sleeper", () =>
        Effect.sleep("1 hour").pipe(
          Effect.timeout("10 minutes"),
          Effect.flip,
          Effect.map((error) => error._tag)
        )
      )
      world.run(() => process.exit !== undefined)
      return { exit: process.exit, minutes: Math.round(world.time.now / 60e6) }
    })
    expect(outcome).toMatchObject({ exit: { value: "TimeoutException" }, minutes: 10 })
  })

  it("jumps on the wall, both ways, and not in what is slept or measured", () => {
    const jumps = { back: 0, ahead: 0 }
    for (let seed = 0; seed < 20; seed++) {
      simulate({ choices: Choices.seeded(seed), wallJumps: 0.2 }, (world) => {
        const walls: Array<number> = []
        const look = Effect.gen(function* () {
          const before = yield* Effect.clockWith((clock) => clock.currentTimeNanos)
          yield* Effect.sleep(100)
          walls.push(yield* Effect.clockWith((clock) => clock.currentTimeMillis))
          const slept = Number((yield* Effect.clockWith((clock) => clock.currentTimeNanos)) - before) / 1e6
          expect(slept).toBeGreaterThanOrEqual(100)
          expect(slept).toBeLessThan(400)
        })
        const process = world.start("watcher", () =>
          Effect.flatMap(Effect.fork(Effect.repeatN(look, 50)), Fiber.join)
        )
        world.run(() => process.exit !== undefined)
        expect(process.exit?._tag).toBe("Success")
        jumps.back += world.counters.get("clock: jumped back")
        jumps.ahead += world.counters.get("clock: jumped ahead")
        const falls = walls.filter((wall, index) => index > 0 && wall < (walls[index - 1] ?? 0)).length
        if (world.counters.get("clock: jumped back") === 0) expect(falls).toBe(0)
      })
    }
    expect(jumps.back).toBeGreaterThan(0)
    expect(jumps.ahead).toBeGreaterThan(0)
  })
})
