/**
 * The pages that are generated from the contract: `/openapi.json` and `/docs`. They are made when one of them is first
 * asked for: together they are large, and a start should not wait for them.
 */
import { HttpApi, HttpApiBuilder, HttpApiSwagger, HttpRouter } from "@effect/platform"
import { Context, Effect, Layer } from "effect"

/** Where the contract is served as an OpenAPI document. */
export const documentPath = "/openapi.json"

/** Where it is served for people. */
export const pagePath = "/docs"

const pages = Layer.merge(
  HttpApiSwagger.layer({ path: pagePath }),
  HttpApiBuilder.middlewareOpenApi({ path: documentPath })
).pipe(Layer.provideMerge(HttpApiBuilder.Router.Live))

/** Routes for both pages. */
export const layer = HttpApiBuilder.Router.use((router) =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const api = yield* HttpApi.Api
    const app = yield* Effect.cached(
      Effect.gen(function* () {
        const built = yield* Layer.buildWithScope(pages, scope)
        return yield* HttpRouter.toHttpApp(yield* Context.get(built, HttpApiBuilder.Router).router)
      }).pipe(Effect.provideService(HttpApi.Api, api))
    )
    // Who goes away while the pages are made must not leave them unmade for everyone else.
    const served = Effect.flatten(Effect.uninterruptible(app))
    yield* router.get(documentPath, served)
    yield* router.get(pagePath, served)
  })
)
