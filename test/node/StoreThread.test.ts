/**
 * The store on a thread of its own, as it is built: it gives what the store gives that runs in the service's thread, it
 * is refused what that is refused, and it lets go of its database.
 */
import { existsSync, statSync, writeFileSync } from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Option, Scope, Stream } from "effect"
import fc from "fast-check"
import { defaults, Settings } from "../../src/Config.ts"
import type { StoreRefused } from "../../src/domain/Errors.ts"
import { Backups } from "../../src/store/Backups.ts"
import { EventStore } from "../../src/store/EventStore.ts"
import * as Metrics from "../../src/telemetry/Metrics.ts"
import { collidingEvent } from "../support/events.ts"
import { openStoreAt, type Store, temporaryFolder } from "../support/stores.ts"

// The program of the thread lies beside the module only where it is built.
const built = (): Promise<typeof import("../../src/node/StoreThread.ts")> =>
  import(new URL("../../dist/node/StoreThread.js", import.meta.url).href)

const openThread = (file: string) =>
  Effect.gen(function* () {
    const { layer, start } = yield* Effect.promise(built)
    const settings = Layer.succeed(Settings, { ...defaults, database: `file:${file}` })
    return yield* Layer.build(layer(start()).pipe(Layer.provideMerge(Metrics.layer), Layer.provide(settings)))
  })

const openClosable = (file: string) =>
  Effect.gen(function* () {
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
    const context = yield* Scope.extend(openThread(file), scope)
    return { context, close: Scope.close(scope, Exit.void) }
  })

/** All that can be asked of a store, without what differs from one to the next: its id, and the time of day. */
const allOf = (store: Store, keys: ReadonlyArray<{ readonly topic: string; readonly eventId: string }>) =>
  Effect.gen(function* () {
    const scan = (order: "asc" | "desc") =>
      store.scan({ filter: {}, order, after: undefined, eventsMax: 1000 })
    const found = {
      books: yield* store.books,
      byTopic: yield* store.booksByTopic(10),
      ascending: yield* scan("asc"),
      descending: yield* scan("desc"),
      known: yield* Effect.forEach(keys, store.lookup),
      topics: yield* store.topics({ after: undefined, limit: 10 }),
      sources: yield* store.sources({ topic: undefined, source: undefined, after: undefined, limit: 10 }),
      conflicts: yield* store.conflicts({ after: undefined, limit: 10 }),
      ahead: yield* Effect.either(store.scan({ filter: {}, order: "asc", after: 1_000_000, eventsMax: 1 })),
      trouble: yield* store.trouble
    }
    return JSON.parse(
      JSON.stringify(found, (name, value) =>
        ["storeId", "processedAt", "lastDuplicateAt", "lastConflictAt", "openedAt"].includes(name)
          ? undefined
          : value
      )
    )
  })

describe("the store on a thread of its own", () => {
  it.live("gives what the store gives", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const alone = yield* openStoreAt(`${folder}/alone.db`)
      const thread = Context.get(yield* openThread(`${folder}/thread.db`), EventStore)
      const batches = fc.sample(fc.array(collidingEvent, { minLength: 1, maxLength: 12 }), {
        seed: 7,
        numRuns: 60
      })
      for (const events of batches) {
        expect(yield* thread.append(events)).toEqual(yield* alone.append(events))
      }
      expect(yield* thread.append([])).toEqual([])
      const keys = [...batches.flat(), { topic: "no.such", eventId: "x" }]
      expect(yield* allOf(thread, keys)).toEqual(yield* allOf(alone, keys))
      yield* thread.beat(true)
      expect((yield* thread.availability).day.share).toBe(1)
      expect(Option.getOrThrow(yield* thread.size).database).toBe(statSync(`${folder}/thread.db`).size)
    }).pipe(Effect.scoped)
  )

  it.live("counts the ages of duplicates for the service", () =>
    Effect.gen(function* () {
      const context = yield* openThread(`${yield* temporaryFolder}/sekali.db`)
      const store = Context.get(context, EventStore)
      const [event] = fc.sample(collidingEvent, { seed: 1, numRuns: 1 })
      if (event === undefined) return
      yield* store.append([event, event, event])
      const ages = Context.get(context, Metrics.Metrics).duplicateAgeSeconds.get()
      expect(ages.count).toBe(2)
    }).pipe(Effect.scoped)
  )

  it.live("makes a backup, one at a time", () =>
    Effect.gen(function* () {
      const context = yield* openThread(`${yield* temporaryFolder}/sekali.db`)
      const { take } = Context.get(context, Backups)
      const [bytes, content, second] = yield* Effect.scoped(
        Effect.gen(function* () {
          const backup = yield* take
          const second = yield* Effect.flip(Effect.scoped(take))
          const pieces = yield* Stream.runCollect(backup.content)
          return [backup.bytes, Buffer.concat([...pieces]), second] as const
        })
      )
      expect(content.length).toBe(bytes)
      expect(content.subarray(0, 15).toString()).toBe("SQLite format 3")
      expect(second._tag).toBe("BackupUnderWay")
      // What was given up makes place for the next one.
      expect((yield* Effect.scoped(take)).bytes).toBe(bytes)
    }).pipe(Effect.scoped)
  )

  it.live("is refused a file that is no database, in the same words", () =>
    Effect.gen(function* () {
      const file = `${yield* temporaryFolder}/sekali.db`
      writeFileSync(file, "no database, but long enough to be taken for a header of one. ".repeat(20))
      const refusal = yield* Effect.flip(openThread(file))
      expect(refusal._tag).toBe("StoreRefused")
      const alone = yield* Effect.flip(openStoreAt(file))
      expect(refusal.message).toBe((alone as StoreRefused).message)
    }).pipe(Effect.scoped)
  )

  it.live("lets go of its database when it is closed, and leaves no log behind", () =>
    Effect.gen(function* () {
      const file = `${yield* temporaryFolder}/sekali.db`
      const { context, close } = yield* openClosable(file)
      const [event] = fc.sample(collidingEvent, { seed: 1, numRuns: 1 })
      if (event !== undefined) yield* Context.get(context, EventStore).append([event])
      yield* close
      expect(existsSync(`${file}-wal`)).toBe(false)
      const again = yield* openStoreAt(file)
      expect((yield* again.books).received).toBe(1)
    }).pipe(Effect.scoped)
  )
})
