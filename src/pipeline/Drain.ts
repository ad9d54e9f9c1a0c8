/**
 * How the service stops: first nothing new is taken, then what waits is committed, answered and told to subscribers, and only then do the
 * layers below (the HTTP server, the Consumer, the store) close. Layers close in the reverse of the order in which
 * they were built, so this one is built last.
 */
import { Effect, Layer } from "effect"
import { Consumer } from "./Consumer.ts"
import { Feed } from "./Feed.ts"
import { Intake } from "./Intake.ts"

/** Drains the pipeline when its scope closes. */
export const layer: Layer.Layer<never, never, Intake | Consumer | Feed> = Layer.scopedDiscard(
  Effect.gen(function* () {
    const intake = yield* Intake
    const consumer = yield* Consumer
    const feed = yield* Feed
    yield* Effect.addFinalizer(() =>
      Effect.gen(function* () {
        const { events } = yield* intake.level
        yield* Effect.logInfo("draining").pipe(Effect.annotateLogs({ events }))
        yield* intake.close
        yield* Effect.exit(consumer.ended)
        yield* feed.close
      })
    )
  })
)
