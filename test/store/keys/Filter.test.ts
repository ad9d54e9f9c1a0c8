/**
 * The filter over the keys of a run: it never denies one that is there, and seldom asserts one that is not.
 */
import { describe, expect, it } from "@effect/vitest"
import fc from "fast-check"
import { Filter, filterBytes } from "../../../src/store/keys/Filter.ts"
import { hashSpan, keyHash } from "../../../src/store/keys/Hash.ts"

const hashesOf = (topic: number, count: number) =>
  Array.from({ length: count }, (_, index) => keyHash(7, topic, `event-${index}`))

describe("Filter", () => {
  it("never denies what was added, also when it is made anew of its bytes, or has too many", () => {
    const anyHash = fc.oneof(fc.integer({ min: 0, max: hashSpan - 1 }), fc.constantFrom(0, hashSpan - 1))
    fc.assert(
      fc.property(fc.array(anyHash, { maxLength: 200 }), fc.nat(300), (hashes, keys) => {
        const filter = Filter.for(keys)
        for (const hash of hashes) filter.add(hash)
        const kept = new Filter(Uint8Array.from(filter.bytes))
        expect(kept.bytes.length).toBe(filterBytes(keys))
        for (const hash of hashes) expect([filter.mayHold(hash), kept.mayHold(hash)]).toEqual([true, true])
      }),
      { seed: 1 }
    )
  })

  it("asserts about one of seven hundred that were not added, and none where nothing was", () => {
    for (const keys of [5, 1000, 32_768, 300_000]) {
      const filter = Filter.for(keys)
      const others = hashesOf(2, 200_000)
      expect(others.filter((hash) => filter.mayHold(hash))).toEqual([])
      for (const hash of hashesOf(1, keys)) filter.add(hash)
      const wrong = others.filter((hash) => filter.mayHold(hash)).length / others.length
      // Few keys are spread less evenly than many.
      expect([keys, wrong < (keys < 100 ? 0.01 : 1 / 500)]).toEqual([keys, true])
      if (keys > 100) expect([keys, wrong > 1 / 1500]).toEqual([keys, true])
    }
  })
})
