/**
 * Health checks: `live` says that the process serves, `ready` that it can store events.
 */
import { Effect, Option } from "effect"
import { Draining } from "../domain/Errors.ts"
import { Intake } from "../pipeline/Intake.ts"
import { EventStore } from "../store/EventStore.ts"
import { problemResponse } from "./Problems.ts"
import { handlersOf } from "./Routes.ts"

const ready = Effect.gen(function* () {
  const intake = yield* Intake
  const store = yield* EventStore
  if (yield* intake.closed) return yield* new Draining()
  const trouble = yield* store.trouble
  if (Option.isSome(trouble)) return yield* trouble.value
  return { status: "ready" as const }
})

/** Whether the service can store events. */
export const isReady = Effect.isSuccess(ready)

/** The handlers of the group `health`. */
export const handlers = handlersOf("health", {
  live: () => Effect.succeed({ status: "live" as const }),
  ready: () =>
    // A check that fails is an answer to who asked, not a refusal to take note of.
    Effect.catchAll(ready, ({ problem }) => problemResponse(problem))
})
