/**
 * The service's heartbeat: while the store can be written it is told so every few seconds, from which follows for how
 * much of the time the service was available. Where the store is in trouble it is asked to prove itself first, so that
 * trouble which was found while nobody publishes ends without a publisher's help.
 */
import { Cause, Effect, Exit, Option } from "effect"
import { beatSeconds } from "../store/Availability.ts"
import { EventStore } from "../store/EventStore.ts"

/** Beats at once, then again and again as long as the scope lives, and once more at its end. */
export const beating = Effect.gen(function* () {
  const store = yield* EventStore
  let starting = true
  let failing = false
  const beat = Effect.gen(function* () {
    if (Option.isSome(yield* store.trouble)) yield* store.append([])
    yield* store.beat(starting)
    starting = false
  }).pipe(
    Effect.exit,
    Effect.tap((exit) => {
      const begins = Exit.isFailure(exit) && !failing
      failing = Exit.isFailure(exit)
      return begins
        ? Effect.logError("the heartbeat cannot be stored").pipe(
            Effect.annotateLogs({ cause: String(Cause.squash(exit.cause)) })
          )
        : Effect.void
    })
  )
  yield* Effect.addFinalizer(() => beat)
  yield* beat
  yield* Effect.forkScoped(Effect.forever(Effect.zipRight(Effect.sleep(`${beatSeconds} seconds`), beat)))
})
