/**
 * The table of the youngest keys against the plainest one that there is.
 */
import { describe, expect, it } from "@effect/vitest"
import fc from "fast-check"
import { hashSpan } from "../../../src/store/keys/Hash.ts"
import { Table } from "../../../src/store/keys/Table.ts"

// Hashes that meet in one place of a table of any size, hashes that are equal, and any.
const anyHash = fc.oneof(
  fc.nat(5),
  fc.nat(20).map((upper) => upper * 2 ** 32 + 61),
  fc.constantFrom(0, 63, 2 ** 31, 2 ** 32 - 1, hashSpan - 1),
  fc.integer({ min: 0, max: hashSpan - 1 })
)

describe("Table", () => {
  it("has every offset of a hash, in the order in which they were added, however it grows", () => {
    fc.assert(
      fc.property(fc.array(anyHash, { maxLength: 400 }), (hashes) => {
        const table = new Table()
        const model = new Map<number, Array<number>>()
        for (const [index, hash] of hashes.entries()) {
          const offset = 2 ** 52 + index
          table.add(hash, offset)
          model.set(hash, [...(model.get(hash) ?? []), offset])
          expect(table.offsetsOf(hash)).toEqual(model.get(hash))
        }
        expect(table.size).toBe(hashes.length)
        for (const [hash, offsets] of model) expect(table.offsetsOf(hash)).toEqual(offsets)
        for (const hash of [1, 62, 2 ** 33, hashSpan - 2])
          expect(table.offsetsOf(hash)).toEqual(model.get(hash) ?? [])
        const entries: Array<readonly [number, number]> = []
        table.forEach((hash, offset) => void entries.push([hash, offset]))
        const byOffset = [...entries].sort(([, a], [, b]) => a - b)
        expect(byOffset).toEqual(hashes.map((hash, index) => [hash, 2 ** 52 + index]))
      }),
      { seed: 1 }
    )
  })

  it("takes as many keys as the largest commit brings", () => {
    const table = new Table()
    const hashOf = (key: number) => (key * 2_654_435_761) % hashSpan
    for (let key = 0; key < 1_000_000; key++) table.add(hashOf(key), key)
    expect(table.size).toBe(1_000_000)
    expect(table.offsetsOf(hashOf(999_999))).toEqual([999_999])
  })
})
