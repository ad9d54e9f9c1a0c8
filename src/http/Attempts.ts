/**
 * How often this process was asked to publish, and how many of these requests their publishers had sent before. This
 * is a sign of trouble on the way, and no guarantee rests on it: the books count events, not requests.
 */
import { Context, Effect, Layer } from "effect"
import { Metrics } from "../telemetry/Metrics.ts"

/** Requests to publish since this process started. */
export interface AttemptCounts {
  readonly attempts: number
  /** Those of them that say they are not the first attempt. */
  readonly retries: number
}

/** Counts requests to publish. */
export class Attempts extends Context.Tag("sekali/Attempts")<
  Attempts,
  {
    /** Counts a request by its header `Sekali-Attempt`: any value but a whole number from 1 counts as the first. */
    readonly note: (header: string | undefined) => void
    readonly counts: Effect.Effect<AttemptCounts>
  }
>() {}

const isRetry = (header: string | undefined): boolean =>
  header !== undefined && /^[1-9]\d{0,15}$/.test(header) && Number(header) > 1

/** Counts among the metrics of the service. */
export const layer: Layer.Layer<Attempts, never, Metrics> = Layer.effect(
  Attempts,
  Effect.map(Metrics, ({ publishAttempts, publishRetries }) => ({
    note: (header) => {
      publishAttempts.update(1)
      if (isRetry(header)) publishRetries.update(1)
    },
    counts: Effect.sync(() => ({
      attempts: publishAttempts.get().count,
      retries: publishRetries.get().count
    }))
  }))
)
