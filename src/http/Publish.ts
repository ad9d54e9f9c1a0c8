/**
 * `POST /publish`: decode, check, offer, wait for the commit, answer. The answer leaves after the commit or not at all
 * (G1), and tells each event's outcome (G8).
 */
import type { HttpServerRequest } from "@effect/platform"
import { Clock, Deferred, Duration, Effect } from "effect"
import { Settings, type SettingsShape } from "../Config.ts"
import { WaitedTooLong } from "../domain/Errors.ts"
import type { Outcome } from "../domain/Event.ts"
import { Intake } from "../pipeline/Intake.ts"
import { Metrics } from "../telemetry/Metrics.ts"
import { within } from "../telemetry/Spans.ts"
import { attemptHeader } from "./Api.ts"
import { noteAttempt } from "./Attempts.ts"
import { readBody } from "./Body.ts"
import { decodeBody } from "./Decoding.ts"
import { type PlainAnswer, responseOf } from "./Problems.ts"
import { handlersOf } from "./Routes.ts"

const wantsMinimal = (prefer: string | undefined): boolean =>
  prefer !== undefined && /(^|[,;\s])return\s*=\s*"?minimal"?\s*($|[,;])/i.test(prefer)

/** The answer to a publish, in the form that its header `Prefer` asks for. */
export const publishAnswer = (outcomes: ReadonlyArray<Outcome>, prefer: string | undefined): PlainAnswer => {
  const counts = { stored: 0, duplicate: 0, conflict: 0 }
  for (const { outcome } of outcomes) counts[outcome]++
  const summary = {
    status: "accepted",
    accepted: outcomes.length,
    stored: counts.stored,
    duplicates: counts.duplicate,
    conflicts: counts.conflict
  }
  const minimal = wantsMinimal(prefer)
  return {
    status: 202,
    headers: {
      "content-type": "application/json",
      ...(minimal ? { "preference-applied": "return=minimal" } : {})
    },
    body: JSON.stringify(minimal ? summary : { ...summary, results: outcomes })
  }
}

/** How long a publisher waits for the commit of its events. */
export const patience = (settings: Pick<SettingsShape, "publishSecondsMax">): Duration.Duration =>
  Duration.seconds(settings.publishSecondsMax)

/** Takes a publish through the pipeline. */
export const publish = Effect.fnUntraced(function* (request: HttpServerRequest.HttpServerRequest) {
  const settings = yield* Settings
  const intake = yield* Intake
  noteAttempt(yield* Metrics, request.headers[attemptHeader])
  const { type, bytes, room } = yield* within("Body.readBody")(readBody(request, intake, settings))
  const receivedAt = yield* Clock.currentTimeNanos
  const events = yield* within("Decoding.decodeBody")(Effect.suspend(() => decodeBody(bytes, type, settings)))
  const pending = yield* room.offer(events, receivedAt)
  const outcomes = yield* Effect.timeoutFail(Deferred.await(pending), {
    duration: patience(settings),
    onTimeout: () => new WaitedTooLong({ seconds: settings.publishSecondsMax })
  })
  return responseOf(publishAnswer(outcomes, request.headers["prefer"]))
}, Effect.scoped)

/** The handlers of the group `publishing`. */
export const handlers = handlersOf("publishing", { publish: ({ request }) => publish(request) })
