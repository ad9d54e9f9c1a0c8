import { describe, expect, it } from "vitest"
import { Pace } from "../../src/node/Pace.ts"

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

/** Takes longer than a turn may. */
const long = () => {
  const until = performance.now() + 30
  while (performance.now() < until);
}

describe("what has arrived", () => {
  it("is done at once while the turn is young", () => {
    const pace = new Pace()
    const done: Array<number> = []
    pace.do(() => done.push(1))
    expect(done).toEqual([1])
  })

  it("waits for later turns where a turn has taken long, in its order, and none is lost", async () => {
    const pace = new Pace()
    const done: Array<number> = []
    for (let number = 0; number < 5; number++) {
      pace.do(() => {
        done.push(number)
        long()
      })
    }
    expect(done).toEqual([0])
    const seen: Array<number> = []
    while (done.length < 5) {
      await turn()
      seen.push(done.length)
      // What comes meanwhile goes behind what waits.
      if (seen.length === 1) pace.do(() => done.push(5))
    }
    while (done.length < 6) await turn()
    expect(done).toEqual([0, 1, 2, 3, 4, 5])
    // Never two in one turn: between any two of them others had theirs.
    for (const [index, count] of seen.entries()) expect(count - (seen[index - 1] ?? 1)).toBeLessThanOrEqual(1)
    pace.do(() => done.push(6))
    await turn()
    await turn()
    expect(done.at(-1)).toBe(6)
  })
})
