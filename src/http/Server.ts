/**
 * The contract served: handlers, generated pages, and what is the same for every call. Each error leaves as a problem;
 * 500 is left for bugs, which are logged.
 */
import { type HttpApp, HttpServer, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Cause, Clock, Context, Effect, Layer } from "effect"
import { Draining } from "../domain/Errors.ts"
import { Intake } from "../pipeline/Intake.ts"
import { Metrics } from "../telemetry/Metrics.ts"
import * as Backup from "./Backup.ts"
import * as DirectPublish from "./DirectPublish.ts"
import * as Health from "./Health.ts"
import * as MetricsHandler from "./Metrics.ts"
import { pages } from "./Pages.ts"
import { answered, bug, problemResponse } from "./Problems.ts"
import * as Publish from "./Publish.ts"
import * as Reading from "./Reading.ts"
import * as ReadingRoom from "./ReadingRoom.ts"
import * as Refusals from "./Refusals.ts"
import { pathOf, type Route, route } from "./Routes.ts"

// Interruption passes: the caller has gone, or the process is about to.
const failed = Effect.fnUntraced(function* (cause: Cause.Cause<never>) {
  if (Cause.isInterruptedOnly(cause)) return yield* Effect.failCause(cause)
  const request = yield* HttpServerRequest.HttpServerRequest
  yield* Effect.logError("a call failed on a bug", cause).pipe(
    Effect.annotateLogs({ method: request.method, path: pathOf(request.originalUrl) })
  )
  return yield* problemResponse(bug)
})

/** Those who watch the service are answered also while it drains. */
const isWatching = (path: string | undefined): boolean =>
  path === "/metrics" || (path?.startsWith("/health/") ?? false)

/** What no route was found for is counted under this one. */
const noRoute = "(none)"

/** What surrounds every call. */
const around = <R>(
  find: (request: HttpServerRequest.HttpServerRequest) => Route<R>
): HttpApp.Default<never, R | Intake | Refusals.Refusals | Metrics> =>
  Effect.gen(function* () {
    const intake = yield* Intake
    const metrics = yield* Metrics
    const { path, app } = find(yield* HttpServerRequest.HttpServerRequest)
    const refused = (yield* intake.closed) && !isWatching(path)
    const answer = answered<HttpServerResponse.HttpServerResponse, R | HttpServerRequest.HttpServerRequest>(
      refused ? new Draining() : app
    )
    const response = yield* Effect.catchAllCause(answer, failed)
    metrics.answered(path ?? noRoute, response.status)
    // Once the service drains, who asks again shall ask somebody else.
    return (yield* intake.closed) ? HttpServerResponse.setHeader(response, "connection", "close") : response
  })

const serve = Effect.gen(function* () {
  const handlers = {
    ...Publish.handlers,
    ...Reading.handlers(yield* Clock.currentTimeNanos),
    ...Backup.handlers,
    ...MetricsHandler.handlers,
    ...Health.handlers
  }
  yield* DirectPublish.install
  yield* HttpServer.serveEffect(around(route(handlers, yield* pages)))
})

/** What calls share, and nobody else has. */
const shared = Effect.gen(function* () {
  const refusals = Context.make(Refusals.Refusals, yield* Refusals.make)
  return Context.add(refusals, ReadingRoom.ReadingRoom, yield* ReadingRoom.make)
})

/** The whole of HTTP, on whatever server is provided. */
export const layer = Layer.scopedDiscard(Effect.flatMap(shared, (context) => Effect.provide(serve, context)))
