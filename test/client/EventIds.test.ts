/**
 * Ids that a publisher makes, under wall clocks that stand still, jump and fall.
 */
import { type Clock, Effect, Random, TestClock, TestContext } from "effect"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import * as EventIds from "../../src/client/EventIds.ts"

const kinds = [
  ["ulid", EventIds.ulid, /^service-a-[0-7][0-9A-HJKMNP-TV-Z]{25}$/],
  ["counter", EventIds.counter, /^service-a-\d{13}-\d{4}-[0-9a-f]{8}$/]
] as const

/** The ids that are made at these times, in this order. */
const idsAt = (
  make: Effect.Effect<EventIds.EventIds>,
  times: ReadonlyArray<number>,
  { seed = 1, source = "service-a" } = {}
): ReadonlyArray<string> =>
  Effect.runSync(
    Effect.gen(function* () {
      const ids = yield* make
      const clock = yield* Effect.clock
      return yield* Effect.forEach(times, (time) =>
        Effect.withClock(ids.next(source), {
          ...clock,
          currentTimeMillis: Effect.succeed(time)
        } as Clock.Clock)
      )
    }).pipe(Effect.withRandom(Random.make(seed)))
  )

const expectRising = (ids: ReadonlyArray<string>) => {
  const wrong = ids.findIndex((id, index) => index > 0 && id <= (ids[index - 1] ?? ""))
  expect(wrong === -1 ? [] : ids.slice(wrong - 1, wrong + 1)).toEqual([])
}

const now = Date.UTC(2026, 10, 22)

describe.each(kinds)("%s", (_name, make, shape) => {
  it("has its shape, with the source in front and the time of the clock", () => {
    const [id = ""] = idsAt(make, [now])
    expect(id).toMatch(shape)
    const [later = ""] = idsAt(make, [now + 1], { seed: 2 })
    expect(later > id).toBe(true)
  })

  it("never repeats and always grows, however the clock jumps and falls", () => {
    const anyTime = fc.oneof(
      fc.constantFrom(now, now + 1, now - 1, now - 3_600_000, now + 3_600_000, 0, -5),
      fc.integer({ min: now - 100, max: now + 100 }),
      fc.double({ min: 0, max: 2 ** 43, noNaN: true })
    )
    fc.assert(
      fc.property(fc.array(anyTime, { maxLength: 300 }), fc.integer(), (times, seed) => {
        const ids = idsAt(make, times, { seed })
        expectRising(ids)
        for (const id of ids) expect(id).toMatch(shape)
      })
    )
  })

  it("never repeats and always grows over many draws within a millisecond", () => {
    const ids = idsAt(make, new Array<number>(50_000).fill(now))
    expectRising(ids)
  })

  it("differs between makers, with one source at one time", () => {
    const all = Array.from({ length: 200 }, (_, seed) => idsAt(make, [now, now], { seed })).flat()
    expect(new Set(all).size).toBe(all.length)
    const twins = Effect.runSync(
      Effect.gen(function* () {
        const [one, other] = [yield* make, yield* make]
        return [yield* one.next("s"), yield* other.next("s")]
      }).pipe(Effect.provide(TestContext.TestContext))
    )
    expect(twins[0]).not.toBe(twins[1])
  })

  it("follows from the Clock and Random alone", () => {
    const times = [now, now, now + 5, now]
    expect(idsAt(make, times)).toEqual(idsAt(make, times))
    const atStart = () =>
      Effect.runSync(
        Effect.flatMap(make, (ids) => Effect.zip(ids.next("s"), TestClock.currentTimeMillis)).pipe(
          Effect.withRandom(Random.make(3)),
          Effect.provide(TestContext.TestContext)
        )
      )
    expect(atStart()).toEqual(atStart())
  })

  it("is an id that the service takes, also with the longest source", () => {
    for (const source of ["é", "😀".repeat(255), "x".repeat(255)]) {
      const [id = ""] = idsAt(make, [now], { source })
      expect([...id].length).toBeLessThanOrEqual(255)
      expect(id).not.toMatch(/\p{Cs}/u)
      expect(id.startsWith([...source].slice(0, 220).join(""))).toBe(true)
    }
  })
})

it("counter: goes on to the next millisecond when its digits are used up", () => {
  const ids = idsAt(EventIds.counter, new Array<number>(10_002).fill(now))
  expectRising(ids)
  expect(ids.at(-2)?.slice(0, -9)).toBe(`service-a-${now + 1}-0000`)
})
