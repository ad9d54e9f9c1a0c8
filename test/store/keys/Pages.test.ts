/**
 * Pages of keys: each hash belongs to one, entries are dealt out whole, and come back from their bytes.
 */
import { describe, expect, it } from "@effect/vitest"
import fc from "fast-check"
import { hashSpan } from "../../../src/store/keys/Hash.ts"
import { Dealer, fromBytes, pageOf, pagesFor, placeOf, toBytes } from "../../../src/store/keys/Pages.ts"

const anyHash = fc.oneof(
  fc.integer({ min: 0, max: hashSpan - 1 }),
  fc.constantFrom(0, 1, hashSpan - 1, hashSpan / 2, hashSpan / 2 - 1)
)
const anyPages = fc.oneof(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 2 ** 24 }))

describe("pages", () => {
  it("each hash belongs to one of them, and later hashes to later ones", () => {
    fc.assert(
      fc.property(anyHash, anyHash, anyPages, (one, other, pages) => {
        const [low, high] = [Math.min(one, other), Math.max(one, other)]
        expect(pageOf(low, pages)).toBeGreaterThanOrEqual(0)
        expect(pageOf(high, pages)).toBeLessThan(pages)
        expect(pageOf(low, pages)).toBeLessThanOrEqual(pageOf(high, pages))
      }),
      { seed: 1, numRuns: 1000 }
    )
  })

  it("have places of their own, run after run", () => {
    expect(placeOf(1, 2 ** 24 - 1)).toBeLessThan(placeOf(2, 0))
    expect(placeOf(2 ** 28, 5) - placeOf(2 ** 28, 0)).toBe(5)
    expect(Number.isSafeInteger(placeOf(2 ** 28, 2 ** 24 - 1))).toBe(true)
  })

  it("are as many as the entries take, at least one, and never more than a run has places for", () => {
    expect([0, 1, 200, 201, 4000].map((entries) => pagesFor(entries, 200))).toEqual([1, 1, 1, 2, 20])
    expect(pagesFor(1e15, 1)).toBe(2 ** 24)
  })
})

describe("Dealer", () => {
  it("deals out what belongs to its pages, as the plainest grouping does", () => {
    fc.assert(
      fc.property(
        fc.array(anyHash, { maxLength: 300 }),
        fc.integer({ min: 1, max: 40 }),
        fc.nat(39),
        fc.nat(39),
        (hashes, pages, one, other) => {
          const from = Math.min(one % pages, other % pages)
          const to = Math.max(one % pages, other % pages) + 1
          const dealer = new Dealer(from, to, pages)
          const model = Array.from({ length: to - from }, (): Array<readonly [number, number]> => [])
          for (const [index, hash] of hashes.entries()) {
            dealer.take(hash, 2 ** 52 - index)
            model[pageOf(hash, pages) - from]?.push([hash, 2 ** 52 - index])
          }
          const dealt = dealer.deal()
          expect(dealt.map((page) => [...page])).toEqual(model.map((page) => page.flat()))
          // As a database gives them back: anywhere in a larger block.
          for (const page of dealt) {
            const block = new Uint8Array(page.byteLength + 3)
            block.set(toBytes(page), 3)
            expect([...fromBytes(block.subarray(3))]).toEqual([...page])
          }
        }
      ),
      { seed: 1 }
    )
  })

  it("of bytes that were cut off, whole entries are left", () => {
    const bytes = toBytes(new Float64Array([1, 2, 3, 4]))
    expect([...fromBytes(bytes.subarray(0, 31))]).toEqual([1, 2])
    expect([...fromBytes(bytes.subarray(0, 15))]).toEqual([])
  })
})
