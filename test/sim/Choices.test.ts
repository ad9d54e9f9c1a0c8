import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { Choices, type Deviation, drawRates } from "../../sim/Choices.ts"

const draw = (choices: Choices, names: ReadonlyArray<string>) => names.map((name) => choices.pick(name, 10))
const names = fc.array(fc.constantFrom("a", "b", "c/1", "c/2"), { maxLength: 60 })

describe("choices", () => {
  it("depend on seed, name and occurrence alone", () => {
    fc.assert(
      fc.property(fc.integer(), names, (seed, asked) => {
        const values = draw(Choices.seeded(seed), asked)
        // Whatever is asked in between, the n-th answer to a name is the same.
        const only = draw(
          Choices.seeded(seed),
          asked.filter((name) => name === "a")
        )
        expect(values.filter((_, index) => asked[index] === "a")).toEqual(only)
      })
    )
  })

  it("replay from their deviations, and without one of them leave the others", () => {
    fc.assert(
      fc.property(fc.integer(), names, fc.nat(), (seed, asked, which) => {
        const recorded = Choices.seeded(seed)
        const values = draw(recorded, asked)
        const again = Choices.replay(
          JSON.parse(JSON.stringify(recorded.deviations)) as ReadonlyArray<Deviation>
        )
        expect(draw(again, asked)).toEqual(values)
        expect(again.deviations).toEqual(recorded.deviations)
        const left = recorded.deviations.filter((_, index) => index !== which % Math.max(1, asked.length))
        const fewer = Choices.replay(left)
        draw(fewer, asked)
        expect(fewer.deviations).toEqual(left)
      })
    )
  })

  it("are all harmless without deviations", () => {
    const choices = Choices.replay([])
    expect(draw(choices, ["a", "b"])).toEqual([0, 0])
    expect(choices.chance("c", 1)).toBe(false)
    expect(choices.int("d", 3, 9)).toBe(3)
    expect(choices.weighted("e", [0, 1])).toBe(0)
    expect(choices.oneOf("f", ["first", "second"])).toBe("first")
  })

  it("deviate at the rate of their kind, and count as occurrences even at rate zero", () => {
    const often = (rate: number) => {
      const choices = Choices.seeded(7, { rates: { fault: rate } })
      return Array.from({ length: 4000 }, () => choices.pick("fault/x", 2)).filter((value) => value === 1)
        .length
    }
    expect(often(0)).toBe(0)
    expect(often(1)).toBeGreaterThan(1850)
    expect(often(1)).toBeLessThan(2150)
    expect(often(0.1)).toBeGreaterThan(140)
    expect(often(0.1)).toBeLessThan(260)
    const choices = Choices.seeded(7)
    const hits = Array.from({ length: 4000 }, () => choices.chance("x", 0.25)).filter(Boolean).length
    expect(hits).toBeGreaterThan(880)
    expect(hits).toBeLessThan(1120)
    const aligned = Choices.seeded(7)
    aligned.chance("y", 0)
    const skipped = Choices.seeded(7)
    skipped.chance("y", 1)
    expect(aligned.pick("y", 1000)).toBe(skipped.pick("y", 1000))
  })

  it("draw weights, integers and rates within their bounds", () => {
    const choices = Choices.seeded(3)
    const drawn = Array.from({ length: 3000 }, () => choices.weighted("w", [1, 0, 3]))
    expect(new Set(drawn)).toEqual(new Set([0, 2]))
    expect(drawn.filter((index) => index === 2).length / 3000).toBeCloseTo(0.75, 1)
    expect(Array.from({ length: 500 }, () => choices.int("i", 5, 7)).every((n) => n >= 5 && n <= 7)).toBe(
      true
    )
    const rates = drawRates(choices, { lost: [0, 0.1], torn: [0, 0.5, 1] })
    expect([0, 0.1]).toContain(rates.lost)
    expect([0, 0.5, 1]).toContain(rates.torn)
  })

  it("do not repeat between seeds, names or occurrences", () => {
    const seen = new Set<number>()
    for (let seed = 0; seed < 20; seed++) {
      const choices = Choices.seeded(seed)
      for (let times = 0; times < 20; times++)
        for (const name of ["a", "b"]) seen.add(choices.pick(name, 2 ** 31))
    }
    expect(seen.size).toBe(800)
  })
})
