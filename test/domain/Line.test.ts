/**
 * A line keeps the order in which values came, whoever leaves it and when, and who has left leads to nobody any more.
 */
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { Line, type Place } from "../../src/domain/Line.ts"

describe("a line", () => {
  it("holds what a list would hold, in the same order", () => {
    fc.assert(
      fc.property(fc.array(fc.option(fc.nat(20), { freq: 2 })), (steps) => {
        const line = new Line<number>()
        const places: Array<Place<number>> = []
        let known: Array<number> = []
        for (const [value, leaver] of steps.entries()) {
          const place = leaver === null ? undefined : places[leaver]
          if (place === undefined) {
            places.push(line.join(value))
            known.push(value)
          } else {
            expect(line.leave(place)).toBe(known.includes(place.value))
            known = known.filter((other) => other !== place.value)
            expect([place.before, place.behind]).toEqual([undefined, undefined])
          }
          expect(line.all()).toEqual(known)
          expect(line.first?.value).toBe(known[0])
          expect(line.last?.value).toBe(known.at(-1))
        }
      })
    )
  })
})
