/**
 * The whole service as one layer. It needs only its edges: an HTTP server, a database to connect to, its settings, and
 * the clock, chance and scheduler that every Effect has.
 */
import { HttpServer } from "@effect/platform"
import { Clock, Context, Effect, Layer } from "effect"
import { isoTime } from "./domain/Timestamp.ts"
import * as Server from "./http/Server.ts"
import * as Consumer from "./pipeline/Consumer.ts"
import * as Drain from "./pipeline/Drain.ts"
import * as Feed from "./pipeline/Feed.ts"
import * as Intake from "./pipeline/Intake.ts"
import { Database } from "./store/Database.ts"
import * as SqlEventStore from "./store/SqlEventStore.ts"
import * as Metrics from "./telemetry/Metrics.ts"
import { ProcessFigures } from "./telemetry/ProcessFigures.ts"

/**
 * The next layer up: built when all below it are, on what they give. Layers merged or provided in Effect's own way are
 * built side by side, in a fiber each, which costs ten times as many steps; a start has nothing to win by that.
 */
const on =
  <Out, E, In>(layer: Layer.Layer<Out, E, In>) =>
  <Below, EBelow, R>(below: Effect.Effect<Context.Context<Below>, EBelow, R>) =>
    Effect.flatMap(below, (context) =>
      Effect.map(Effect.provide(Layer.build(layer), context), (built) => Context.merge(context, built))
    )

/** The service. Layers close in the reverse of this order: it drains, then HTTP ends, then the Consumer and the store. */
export const layer = Layer.scopedContext(
  Layer.build(Metrics.layer).pipe(
    on(SqlEventStore.layer),
    on(Intake.layer),
    on(Feed.layer),
    on(Consumer.layer),
    on(Server.layer),
    on(Drain.layer)
  )
)

/** Where the service can be reached from here: a wildcard address is no address to call. */
const addressOf = ({ address }: Context.Tag.Service<typeof HttpServer.HttpServer>): string => {
  if (address._tag !== "TcpAddress") return address.path
  const wildcard = address.hostname === "0.0.0.0" || address.hostname === "::"
  const host = wildcard ? "127.0.0.1" : address.hostname
  return `http://${host.includes(":") ? `[${host}]` : host}:${address.port}`
}

// What a newcomer needs: where it is, where the events go, the documentation, and a call to try.
const announce = Effect.gen(function* () {
  const address = addressOf(yield* HttpServer.HttpServer)
  const { name } = yield* Database
  yield* Effect.logInfo("serving").pipe(
    Effect.annotateLogs({
      address,
      database: name,
      docs: `${address}/docs`,
      contract: `${address}/openapi.json`
    })
  )
  const event = { topic: "demo.hello", event_id: "first-1", source: "me", payload: { hello: "world" } }
  const timestamp = isoTime(yield* Clock.currentTimeMillis)
  const body = JSON.stringify({ ...event, timestamp })
  yield* Effect.logInfo(
    `try: curl -X POST ${address}/publish -H 'content-type: application/json' -d '${body}'`
  )
})

/**
 * Serves until it is interrupted, and then drains and closes. It fails when the service cannot start, or when the
 * Consumer ends unasked.
 */
export const run = Effect.scoped(
  Effect.gen(function* () {
    const startedAt = yield* Clock.currentTimeNanos
    const context = yield* Layer.build(layer)
    const age = yield* Effect.flatMap(ProcessFigures, ({ age }) => age)
    const seconds = Metrics.secondsBetween(startedAt, yield* Clock.currentTimeNanos)
    Context.get(context, Metrics.Metrics).recoverySeconds.update(age ?? seconds)
    yield* announce
    yield* Context.get(context, Consumer.Consumer).ended
    return yield* Effect.dieMessage("the consumer ended unasked")
  })
)
