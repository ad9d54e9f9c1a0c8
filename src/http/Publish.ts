/**
 * `POST /publish`: decode, check, offer, wait for the commit, answer. The answer leaves after the commit or not at all
 * (G1), and tells each event's outcome (G8).
 */
import { type HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Deferred, Effect } from "effect"
import { Settings } from "../Config.ts"
import { WaitedTooLong } from "../domain/Errors.ts"
import type { Outcome } from "../domain/Event.ts"
import { Intake } from "../pipeline/Intake.ts"
import { attemptHeader } from "./Api.ts"
import { Attempts } from "./Attempts.ts"
import { readBody } from "./Body.ts"
import { decodeBody } from "./Decoding.ts"
import { handlersOf } from "./Routes.ts"

const wantsMinimal = (prefer: string | undefined): boolean =>
  prefer !== undefined && /(^|[,;\s])return\s*=\s*"?minimal"?\s*($|[,;])/i.test(prefer)

const answer = (
  outcomes: ReadonlyArray<Outcome>,
  minimal: boolean
): HttpServerResponse.HttpServerResponse => {
  const counts = { stored: 0, duplicate: 0, conflict: 0 }
  for (const { outcome } of outcomes) counts[outcome]++
  const summary = {
    status: "accepted",
    accepted: outcomes.length,
    stored: counts.stored,
    duplicates: counts.duplicate,
    conflicts: counts.conflict
  }
  return HttpServerResponse.text(JSON.stringify(minimal ? summary : { ...summary, results: outcomes }), {
    status: 202,
    contentType: "application/json",
    ...(minimal ? { headers: { "preference-applied": "return=minimal" } } : {})
  })
}

/** Takes a publish through the pipeline. */
export const publish = (request: HttpServerRequest.HttpServerRequest) =>
  Effect.gen(function* () {
    const settings = yield* Settings
    const intake = yield* Intake
    yield* Effect.flatMap(Attempts, ({ note }) => note(request.headers[attemptHeader]))
    const { type, bytes, room } = yield* readBody(request, intake, settings)
    const events = yield* decodeBody(bytes, type, settings)
    const pending = yield* room.offer(events)
    const outcomes = yield* Effect.timeoutFail(Deferred.await(pending), {
      duration: `${settings.publishSecondsMax} seconds`,
      onTimeout: () => new WaitedTooLong({ seconds: settings.publishSecondsMax })
    })
    return answer(outcomes, wantsMinimal(request.headers["prefer"]))
  }).pipe(Effect.scoped)

/** The handlers of the group `publishing`. */
export const handlers = handlersOf("publishing", { publish: ({ request }) => publish(request) })
