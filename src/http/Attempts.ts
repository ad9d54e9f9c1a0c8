/**
 * How often this process was asked to publish, and how many of these requests their publishers had sent before. This
 * is a sign of trouble on the way, and no guarantee rests on it: the books count events, not requests.
 */
import type { MetricsShape } from "../telemetry/Metrics.ts"

/** Requests to publish since this process started. */
export interface AttemptCounts {
  readonly attempts: number
  /** Those of them that say they are not the first attempt. */
  readonly retries: number
}

type Counts = Pick<MetricsShape, "publishAttempts" | "publishRetries">

const isRetry = (header: string | undefined): boolean =>
  header !== undefined && /^[1-9]\d{0,15}$/.test(header) && Number(header) > 1

/** Counts a request by its header `Sekali-Attempt`: any value but a whole number from 1 counts as the first. */
export const noteAttempt = (
  { publishAttempts, publishRetries }: Counts,
  header: string | undefined
): void => {
  publishAttempts.update(1)
  if (isRetry(header)) publishRetries.update(1)
}

/** What was counted. */
export const attemptCounts = ({ publishAttempts, publishRetries }: Counts): AttemptCounts => ({
  attempts: publishAttempts.get().count,
  retries: publishRetries.get().count
})
