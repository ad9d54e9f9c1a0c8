/**
 * The hash of a key: within its span, spread evenly over pages, different with each seed, topic and id.
 */
import { describe, expect, it } from "@effect/vitest"
import fc from "fast-check"
import { hashSpan, keyHash } from "../../../src/store/keys/Hash.ts"
import { pageOf } from "../../../src/store/keys/Pages.ts"

const range = (count: number) => Array.from({ length: count }, (_, index) => index)

/** Families of ids as publishers make them. */
const families: ReadonlyArray<readonly [string, (index: number) => string]> = [
  ["numbers", (index) => String(index)],
  ["padded numbers", (index) => String(index).padStart(20, "0")],
  ["a common beginning", (index) => `${"host-17/app.log/".repeat(10)}${index}`],
  ["a common end", (index) => `${index}${"/host-17".repeat(10)}`],
  ["letters of all kinds", (index) => String.fromCodePoint(0x100 + (index % 40_000), 0x1f600 + (index >> 5))]
]

describe("keyHash", () => {
  it("is a whole number within its span, of any text, and the same each time", () => {
    const anySeed = fc.integer({ min: 0, max: 2 ** 32 - 1 })
    fc.assert(
      fc.property(anySeed, fc.nat(), fc.string({ unit: "binary", maxLength: 255 }), (seed, topic, id) => {
        const hash = keyHash(seed, topic, id)
        if (!(Number.isSafeInteger(hash) && hash >= 0 && hash < hashSpan)) expect(hash).toBeUndefined()
        expect(keyHash(seed, topic, id)).toBe(hash)
      }),
      { seed: 1 }
    )
    for (const id of ["", "\0", "\ud800", "x".repeat(100_000)])
      expect(keyHash(1, 1, id)).toBeLessThan(hashSpan)
  })

  it("uses all of its bits, and spreads any family of ids evenly over pages", () => {
    for (const [name, idOf] of families) {
      const hashes = range(40_000).map((index) => keyHash(3, 1, idOf(index)))
      expect([name, new Set(hashes).size]).toEqual([name, 40_000])
      for (let bit = 0; bit < 52; bit++) {
        const set = hashes.filter((hash) => Math.floor(hash / 2 ** bit) % 2 === 1).length
        expect([name, bit, Math.abs(set - 20_000) < 700]).toEqual([name, bit, true])
      }
      const pages = new Array<number>(200).fill(0)
      for (const hash of hashes) pages[pageOf(hash, 200)] = (pages[pageOf(hash, 200)] ?? 0) + 1
      // 200 in the mean, and 14 around it.
      expect([name, Math.min(...pages) > 130, Math.max(...pages) < 280]).toEqual([name, true, true])
    }
  })

  it("is another one with another seed, topic, or order of the same letters", () => {
    for (const seed of [0, 1, 2, 2 ** 31, 2 ** 32 - 1]) {
      const keys = range(50).flatMap((topic) => range(200).map((id) => keyHash(seed, topic, `${id}`)))
      expect([seed, new Set(keys).size]).toEqual([seed, 10_000])
    }
    expect(new Set(range(10_000).map((seed) => keyHash(seed, 1, "0"))).size).toBe(10_000)
    const orders = ["abc", "acb", "bac", "bca", "cab", "cba", "abc\0", "\0abc", "ab", "a"]
    expect(new Set(orders.map((id) => keyHash(1, 1, id))).size).toBe(orders.length)
  })
})
