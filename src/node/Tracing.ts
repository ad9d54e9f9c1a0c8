/**
 * Traces: spans are sent to an OpenTelemetry collector, as OTLP in JSON over HTTP. A trace that a caller has begun
 * (`traceparent`) is continued, and left out where the caller does. Loaded only where traces are asked for.
 */
import * as OtlpSerialization from "@effect/opentelemetry/OtlpSerialization"
import * as OtlpTracer from "@effect/opentelemetry/OtlpTracer"
import { FetchHttpClient, HttpMiddleware } from "@effect/platform"
import { Effect, Layer, Option, Tracer } from "effect"
import { version } from "../http/Api.ts"

/** How long the last spans may take to leave when the service stops. */
const lastSpans = "1 second"

/** Who watches the service asks every few seconds; nobody wants to see that traced. */
const isWatching = (url: string): boolean => url === "/metrics" || url.startsWith("/health/")

// The collector's tracer sends every span. One below a parent that is not sampled is kept from it, and says so of itself;
// and so is what no request has asked for, such as the driver's spans while the schema is made.
const minding = (tracer: Tracer.Tracer, unsent: Tracer.Tracer): Tracer.Tracer =>
  Tracer.make({
    context: tracer.context,
    span: (name, parent, context, links, startTime, kind, options) => {
      const sampled = Option.match(parent, {
        onNone: () => kind !== "client",
        onSome: ({ sampled }) => sampled
      })
      const span = (sampled ? tracer : unsent).span(name, parent, context, links, startTime, kind, options)
      return sampled ? span : Object.assign(span, { sampled: false })
    }
  })

/** Sends the spans of a service to the collector at a base address, until the service ends. */
export const traced =
  (endpoint: string) =>
  <A, E, R>(service: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.gen(function* () {
      const tracer = yield* OtlpTracer.make({
        url: `${endpoint.replace(/\/+$/, "")}/v1/traces`,
        resource: { serviceName: process.env["OTEL_SERVICE_NAME"] ?? "sekali", serviceVersion: version },
        shutdownTimeout: lastSpans
      })
      return yield* Effect.withTracer(service, minding(tracer, yield* Effect.tracer))
    }).pipe(
      Effect.scoped,
      HttpMiddleware.withTracerDisabledWhenEffect(({ url }) => isWatching(url)),
      Effect.provide(Layer.merge(FetchHttpClient.layer, OtlpSerialization.layerJson))
    ) as Effect.Effect<A, E, R>
