/**
 * The contract served: handlers, generated pages, and what is the same for every call. Each error leaves as a problem;
 * 500 is left for bugs, which are logged.
 */
import { type HttpApp, HttpServer, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Cause, Clock, Effect, Layer } from "effect"
import { Draining } from "../domain/Errors.ts"
import { Intake } from "../pipeline/Intake.ts"
import * as Attempts from "./Attempts.ts"
import * as Backup from "./Backup.ts"
import * as DirectPublish from "./DirectPublish.ts"
import * as Health from "./Health.ts"
import { pages } from "./Pages.ts"
import { answered, bug, problemResponse } from "./Problems.ts"
import * as Publish from "./Publish.ts"
import * as Reading from "./Reading.ts"
import * as ReadingRoom from "./ReadingRoom.ts"
import * as Refusals from "./Refusals.ts"
import { pathOf, route } from "./Routes.ts"

// Interruption passes: the caller has gone, or the process is about to.
const failed = (cause: Cause.Cause<never>) =>
  Effect.gen(function* () {
    if (Cause.isInterruptedOnly(cause)) return yield* Effect.failCause(cause)
    const request = yield* HttpServerRequest.HttpServerRequest
    yield* Effect.logError("a call failed on a bug", cause).pipe(
      Effect.annotateLogs({ method: request.method, path: pathOf(request.originalUrl) })
    )
    return yield* problemResponse(bug)
  })

/** What surrounds every call. */
const around = <R>(app: HttpApp.Default<never, R>): HttpApp.Default<never, R | Intake | Refusals.Refusals> =>
  Effect.gen(function* () {
    const intake = yield* Intake
    const request = yield* HttpServerRequest.HttpServerRequest
    const refused = (yield* intake.closed) && !request.originalUrl.startsWith("/health/")
    const response = yield* refused ? answered(new Draining()) : Effect.catchAllCause(app, failed)
    // Once the service drains, who asks again shall ask somebody else.
    return (yield* intake.closed) ? HttpServerResponse.setHeader(response, "connection", "close") : response
  })

const serve = Effect.gen(function* () {
  const handlers = {
    ...Publish.handlers,
    ...Reading.handlers(yield* Clock.currentTimeNanos),
    ...Backup.handlers,
    ...Health.handlers
  }
  yield* DirectPublish.install
  yield* HttpServer.serveEffect(around(answered(route(handlers, yield* pages))))
})

/** The whole of HTTP, on whatever server is provided. */
export const layer = Layer.scopedDiscard(serve).pipe(
  Layer.provide([Attempts.layer, Refusals.layer, ReadingRoom.layer])
)
