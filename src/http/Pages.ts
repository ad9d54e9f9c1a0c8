/**
 * The pages that are generated from the contract: `/openapi.json` and `/docs`. They are made when one of them is first
 * asked for: together they are large, and a start should not wait for them.
 */
import { HttpApi, HttpApiBuilder, HttpApiSwagger, HttpRouter, HttpServer } from "@effect/platform"
import { Context, Effect, Layer } from "effect"
import { Api } from "./Api.ts"

/** Where the contract is served as an OpenAPI document. */
export const documentPath = "/openapi.json"

/** Where it is served for people. */
export const pagePath = "/docs"

// The pages need the contract alone, and none of the handlers that the platform would look for beside it.
const contract = Layer.succeed(HttpApi.Api, { api: Api as never, context: Context.empty() })

const router = Layer.merge(
  HttpApiSwagger.layer({ path: pagePath }),
  HttpApiBuilder.middlewareOpenApi({ path: documentPath })
).pipe(
  Layer.provideMerge(HttpApiBuilder.Router.Live),
  Layer.provide(contract),
  Layer.merge(HttpServer.layerContext)
)

/** What answers at both paths, for the life of the scope. */
export const pages = Effect.gen(function* () {
  const scope = yield* Effect.scope
  const made = yield* Effect.cached(
    Effect.gen(function* () {
      const built = yield* Layer.buildWithScope(router, scope)
      const app = yield* HttpRouter.toHttpApp(yield* Context.get(built, HttpApiBuilder.Router).router)
      return Effect.provide(app, built)
    })
  )
  // Who goes away while the pages are made must not leave them unmade for everyone else.
  const app = Effect.orDie(Effect.flatten(Effect.uninterruptible(made)))
  return [documentPath, pagePath].map((path) => ({ path, app }))
})
