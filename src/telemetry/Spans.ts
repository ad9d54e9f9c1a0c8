/**
 * Spans named `Module.method` on the way of an event. A span is opened only inside of another one that is sampled: where
 * no trace was begun at the door, the effect is run as it is, and a look at a field of the fiber is all that it costs.
 */
import { Effect, type Tracer } from "effect"

/** The span that is open, if there is one that is sampled. */
export const currentSpan: Effect.Effect<Tracer.AnySpan | undefined> = Effect.withFiberRuntime((fiber) => {
  const span = fiber.currentSpan
  return Effect.succeed(span?.sampled === true ? span : undefined)
})

/** Runs an effect in a span, as part of the one that is open. */
export const within =
  (name: string) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.withFiberRuntime<A, E, R>((fiber) =>
      fiber.currentSpan?.sampled === true
        ? (Effect.withSpan(effect, name, { captureStackTrace: false }) as Effect.Effect<A, E, R>)
        : effect
    )

/** Runs an effect in a span of its own trace, linked to those that it serves; without these, in none. */
export const serving =
  (name: string, spans: ReadonlyArray<Tracer.AnySpan>) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    spans.length === 0
      ? effect
      : (Effect.withSpan(effect, name, {
          root: true,
          captureStackTrace: false,
          links: spans.map((span) => ({ _tag: "SpanLink" as const, span, attributes: {} }))
        }) as Effect.Effect<A, E, R>)
