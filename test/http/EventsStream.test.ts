import { it } from "@effect/vitest"
import { Chunk, Effect, Stream } from "effect"
import { expect } from "vitest"
import { defaults, Settings } from "../../src/Config.ts"
import { eventsStream } from "../../src/http/Events.ts"
import * as ReadingRoom from "../../src/http/ReadingRoom.ts"
import { EventStore } from "../../src/store/EventStore.ts"
import { makeEvents } from "../support/events.ts"
import { memoryStore, unavailable } from "../support/pipeline.ts"

it.scoped(
  "a stream whose next step fails has told of what the steps before have found, and says why it ends",
  () =>
    Effect.gen(function* () {
      const store = yield* memoryStore
      yield* store.append(makeEvents(5))
      let steps = 0
      const failing = EventStore.of({
        ...store,
        scan: (scan) => (++steps > 2 ? Effect.fail(unavailable) : store.scan({ ...scan, eventsMax: 2 }))
      })
      const response = yield* eventsStream({}).pipe(
        Effect.provideService(EventStore, failing),
        Effect.provideServiceEffect(ReadingRoom.ReadingRoom, ReadingRoom.make),
        Effect.provideService(Settings, defaults)
      )
      if (response.body._tag !== "Stream") return expect.fail("the answer is no stream")
      const text = yield* response.body.stream.pipe(Stream.decodeText(), Stream.runCollect)
      const lines = Chunk.join(text, "").trimEnd().split("\n")
      const told = lines.map((line) => JSON.parse(line) as { offset?: number; problem?: { type: string } })
      expect(told.map(({ offset, problem }) => offset ?? problem?.type)).toEqual([
        1,
        2,
        3,
        4,
        "urn:sekali:problem:store-unavailable"
      ])
    })
)
