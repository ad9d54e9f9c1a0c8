/**
 * Traces: spans are sent to an OpenTelemetry collector, as OTLP in JSON over HTTP. A trace that a caller has begun
 * (`traceparent`) is continued, and left out where the caller does. Loaded only where traces are asked for.
 */
import * as OtlpSerialization from "@effect/opentelemetry/OtlpSerialization"
import * as OtlpTracer from "@effect/opentelemetry/OtlpTracer"
import { FetchHttpClient, HttpMiddleware } from "@effect/platform"
import { ConfigProvider, Effect, Layer, Option, Tracer } from "effect"
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

const decoded = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** What the standard's variables say of the service: the name of its own stands above the one among the attributes. */
const resourceOf = ({
  OTEL_SERVICE_NAME: ownName,
  OTEL_RESOURCE_ATTRIBUTES: pairs = ""
}: NodeJS.ProcessEnv) => {
  const given = pairs.split(",").flatMap((pair) => {
    const [, name, value] = /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/.exec(pair) ?? []
    return name === undefined || value === undefined ? [] : [[decoded(name), decoded(value)] as const]
  })
  const {
    "service.name": name,
    "service.version": _,
    ...attributes
  }: Record<string, string> = Object.fromEntries(given)
  return { serviceName: ownName || name || "sekali", serviceVersion: version, attributes }
}

/** Sends the spans of a service to the collector at a base address, until the service ends. */
export const traced =
  (endpoint: string) =>
  <A, E, R>(service: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.gen(function* () {
      const tracer = yield* OtlpTracer.make({
        url: `${endpoint.replace(/\/+$/, "")}/v1/traces`,
        resource: resourceOf(process.env),
        shutdownTimeout: lastSpans
        // It would read the variables as well, and tell what they name twice, undecoded.
      }).pipe(Effect.withConfigProvider(ConfigProvider.fromMap(new Map())))
      return yield* Effect.withTracer(service, minding(tracer, yield* Effect.tracer))
    }).pipe(
      Effect.scoped,
      HttpMiddleware.withTracerDisabledWhenEffect(({ url }) => isWatching(url)),
      Effect.provide(Layer.merge(FetchHttpClient.layer, OtlpSerialization.layerJson))
    ) as Effect.Effect<A, E, R>
