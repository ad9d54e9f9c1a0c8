/**
 * Keys of one hash: the index cannot tell them apart, and the store must, in one commit and across many. Here all keys
 * share three hashes, at the edges of what a hash may be.
 */
import { expect, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import fc from "fast-check"
import { vi } from "vitest"
import { KeyIndexLimits } from "../../../src/Config.ts"
import { EventStore, layerMemory } from "../../../src/store/EventStore.ts"
import { collidingEvent, makeEvents } from "../../support/events.ts"
import { databaseAt, openClosable, temporaryFolder } from "../../support/stores.ts"

vi.mock("../../../src/store/keys/Hash.ts", async (original) => {
  const hash = await original<typeof import("../../../src/store/keys/Hash.ts")>()
  const few = [0, hash.hashSpan / 2, hash.hashSpan - 1]
  return {
    ...hash,
    keyHash: (...key: Parameters<typeof hash.keyHash>) => few[hash.keyHash(...key) % few.length]
  }
})

it.scoped("G2: keys that have one hash are kept apart, in memory, in runs and in a batch", () =>
  Effect.gen(function* () {
    const file = `${yield* temporaryFolder}/sekali.db`
    const memory = Context.get(yield* Layer.build(layerMemory), EventStore)
    let real = yield* openClosable(databaseAt(file))
    const batches = [
      makeEvents(20),
      makeEvents(20, { topic: "other" }),
      ...fc.sample(fc.array(collidingEvent, { maxLength: 12 }), { numRuns: 60, seed: 1 }),
      makeEvents(30)
    ]
    for (const [index, batch] of batches.entries()) {
      const events = [...batch, ...batch.slice(0, 3)]
      expect(yield* real.store.append(events)).toEqual(yield* memory.append(events))
      for (const { topic, eventId } of events) {
        const found = yield* real.store.lookup({ topic, eventId })
        expect(found).toEqual(yield* memory.lookup({ topic, eventId }))
      }
      if (index % 7 === 6) {
        yield* real.close
        real = yield* openClosable(databaseAt(file))
      }
    }
  }).pipe(
    Effect.provideService(KeyIndexLimits, {
      youngKeysMax: 5,
      keysPerPage: 2,
      runsPerMerge: 2,
      pagesPerStep: 1,
      filterBytesMax: 64
    })
  )
)
