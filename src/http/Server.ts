/**
 * The contract served: handlers, generated pages, and what is the same for every call. Each error of the router, of
 * decoding and of a bug leaves as a problem; 500 is left for bugs, which are logged.
 */
import {
  HttpApi,
  HttpApiBuilder,
  HttpApiError,
  type HttpApp,
  HttpRouter,
  HttpServer,
  HttpServerRequest,
  HttpServerResponse
} from "@effect/platform"
import { Cause, Effect, Layer } from "effect"
import { Draining, InvalidInput, MethodNotAllowed, NotFound, type Problem } from "../domain/Errors.ts"
import { faultsOf } from "../domain/Faults.ts"
import { Intake } from "../pipeline/Intake.ts"
import { Api } from "./Api.ts"
import * as Attempts from "./Attempts.ts"
import * as Backup from "./Backup.ts"
import * as Health from "./Health.ts"
import * as Pages from "./Pages.ts"
import { documentPath, pagePath } from "./Pages.ts"
import { problemResponse } from "./Problems.ts"
import * as Publish from "./Publish.ts"
import * as Reading from "./Reading.ts"
import * as ReadingRoom from "./ReadingRoom.ts"
import * as Refusals from "./Refusals.ts"

/** Every path that is served, as a shape, with its methods. */
const routes = (() => {
  const methods = new Map<string, Array<string>>([
    [documentPath, ["GET"]],
    [pagePath, ["GET"]]
  ])
  HttpApi.reflect(Api, {
    onGroup: () => {},
    onEndpoint: ({ endpoint }) =>
      methods.set(endpoint.path, [...(methods.get(endpoint.path) ?? []), endpoint.method])
  })
  return [...methods].map(([path, allowed]) => ({
    shape: new RegExp(`^${path.replace(/:[a-z_]+/g, "[^/]+")}$`),
    allowed: allowed.includes("GET") ? [...allowed, "HEAD"] : allowed
  }))
})()

// A path is what it says: the router neither folds case nor slashes (it would do so in the query, too), and leaves it to
// the contract how long a parameter may be.
const routing = HttpRouter.setRouterConfig({
  caseSensitive: true,
  ignoreDuplicateSlashes: false,
  ignoreTrailingSlash: false,
  maxParamLength: Number.MAX_SAFE_INTEGER
})

const pathOf = (url: string): string => url.split("?", 1)[0] ?? url

// The router takes a semicolon for the beginning of the query; here it is a character of a path like any other.
const routed = (request: HttpServerRequest.HttpServerRequest): HttpServerRequest.HttpServerRequest => {
  const path = pathOf(request.url)
  if (!path.includes(";")) return request
  return request.modify({ url: path.replaceAll(";", "%3B") + request.url.slice(path.length) })
}

// The platform reads the parameters of the contract's endpoints. What it does not see is found here: any on the pages,
// and the one name that it cannot put into an object.
const unseenParameters = ({ url }: HttpServerRequest.HttpServerRequest): ReadonlyArray<string> => {
  const path = pathOf(url)
  const names = [...new Set(new URLSearchParams(url.slice(path.length)).keys())]
  return path === documentPath || path === pagePath ? names : names.filter((name) => name === "__proto__")
}

const unrouted = (request: HttpServerRequest.HttpServerRequest) => {
  const path = pathOf(request.originalUrl)
  const allowed = routes.find(({ shape }) => shape.test(path))?.allowed
  if (allowed === undefined || allowed.includes(request.method)) {
    return problemResponse(new NotFound({ detail: `Nothing is served at ${path}; see ${pagePath}.` }).problem)
  }
  const error = new MethodNotAllowed({ method: request.method, allowed })
  return problemResponse(error.problem, { allow: allowed.join(", ") })
}

const bug: Problem = {
  status: 500,
  type: "bug",
  title: "A bug in the service",
  detail: "The service made a mistake. It is in its log; please report it."
}

const isTagged = (error: unknown, tag: string): boolean =>
  typeof error === "object" && error !== null && "_tag" in error && error._tag === tag

// What a failed call is answered with. Interruption passes: the caller has gone, or the process is about to.
const failed = (cause: Cause.Cause<unknown>) =>
  Effect.gen(function* () {
    if (Cause.isInterruptedOnly(cause)) return yield* Effect.failCause(cause as Cause.Cause<never>)
    const request = yield* HttpServerRequest.HttpServerRequest
    const error = Cause.squash(cause)
    if (isTagged(error, "RouteNotFound")) return yield* unrouted(request)
    if (error instanceof HttpApiError.HttpApiDecodeError) {
      // Only parameters are decoded by the platform; the body of a publish is ours.
      const errors = faultsOf(error.issues, ([name]) => String(name ?? ""))
      return yield* problemResponse(new InvalidInput({ errors }).problem)
    }
    yield* Effect.logError("a call failed on a bug", cause).pipe(
      Effect.annotateLogs({ method: request.method, path: pathOf(request.originalUrl) })
    )
    return yield* problemResponse(bug)
  })

const respond = (app: HttpApp.Default, request: HttpServerRequest.HttpServerRequest) => {
  const unseen = unseenParameters(request)
  if (unseen.length > 0) {
    const errors = unseen.map((pointer) => ({ pointer, detail: "is not known here" }))
    return problemResponse(new InvalidInput({ errors }).problem)
  }
  return app.pipe(
    Effect.catchAllCause(failed),
    Effect.provideService(HttpServerRequest.HttpServerRequest, routed(request))
  )
}

/** What surrounds every call. */
const around = HttpApiBuilder.middleware(
  Effect.gen(function* () {
    const intake = yield* Intake
    const refusals = yield* Refusals.Refusals
    const refuse = Effect.suspend(() => {
      const { problem } = new Draining()
      return Effect.zipRight(refusals.note(problem), problemResponse(problem))
    })
    return (app: HttpApp.Default) =>
      Effect.gen(function* () {
        const request = yield* HttpServerRequest.HttpServerRequest
        const refused = (yield* intake.closed) && !request.originalUrl.startsWith("/health/")
        const response = yield* refused ? refuse : respond(app, request)
        // Once the service drains, who asks again shall ask somebody else.
        return (yield* intake.closed)
          ? HttpServerResponse.setHeader(response, "connection", "close")
          : response
      })
  })
)

/** The whole of HTTP, on whatever server is provided. */
export const layer = HttpApiBuilder.serve().pipe(
  Layer.provide(Pages.layer),
  Layer.provide(around),
  Layer.provide(routing),
  Layer.provide(HttpApiBuilder.api(Api)),
  Layer.provide(Layer.mergeAll(Publish.layer, Reading.layer, Backup.layer, Health.layer)),
  Layer.provide(Attempts.layer),
  Layer.provide(Refusals.layer),
  Layer.provide(ReadingRoom.layer),
  Layer.provide(HttpServer.layerContext)
)
