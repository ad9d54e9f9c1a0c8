/**
 * What can come of publishing an event other than its outcome, and how the trouble of one request is told. Each error
 * says whether the event may be stored nevertheless.
 */
import { Data } from "effect"
import type { Fault } from "../domain/Errors.ts"

const sentenceOf = (faults: ReadonlyArray<Fault>): string =>
  faults.map(({ pointer, detail }) => (pointer === "" ? detail : `${pointer} ${detail}`)).join("; ")

/** Options that are wrong, or do not fit together; a sentence for each. */
export class InvalidOptions extends Data.TaggedError("InvalidOptions")<{
  readonly faults: ReadonlyArray<string>
}> {
  override get message(): string {
    return this.faults.join("\n")
  }
}

/** The event is not one that the contract knows: it was not taken, and nothing of it was sent. */
export class InvalidEvent extends Data.TaggedError("InvalidEvent")<{
  /** Every fault, with a JSON pointer into the event. */
  readonly faults: ReadonlyArray<Fault>
}> {
  override get message(): string {
    return `The event is not valid: ${sentenceOf(this.faults)}.`
  }
}

/** The publisher is closed: the event was not taken, and nothing of it was sent. */
export class PublisherClosed extends Data.TaggedError("PublisherClosed") {
  override get message(): string {
    return "The publisher is closed; nothing of the event was sent."
  }
}

/**
 * The service did not say where the numbers of a series go on: the event was not taken, and nothing of it was sent. Only
 * with the option `sequences`.
 */
export class SequenceUnknown extends Data.TaggedError("SequenceUnknown")<{
  readonly topic: string
  readonly source: string
  readonly detail: string
}> {
  override get message(): string {
    const { topic, source, detail } = this
    return `It is not known where the sequence of ${source} in the topic ${topic} goes on: ${detail}. Nothing was sent.`
  }
}

/**
 * The service refused the event, or its whole request, for a reason that sending it again does not mend (4xx). The
 * refused request stored nothing.
 */
export class Refused extends Data.TaggedError("Refused")<{
  /** The HTTP status; 0 where the request could not even be made. */
  readonly status: number
  readonly detail: string
  /** What is wrong with this event, with JSON pointers into it; empty where the refusal names no event. */
  readonly faults: ReadonlyArray<Fault>
}> {
  override get message(): string {
    const why = this.faults.length > 0 ? sentenceOf(this.faults) : this.detail
    return `The service refused the event${this.status === 0 ? "" : ` (${this.status})`}: ${why}`
  }
}

/** What kept a request from its answer. Such trouble passes: the request is sent again. */
export interface Trouble {
  /**
   * `network`: no connection, or it broke. `timeout`: no answer in time. `status`: 408, 429 or 5xx. `answer`: an answer
   * that is none of this service.
   */
  readonly kind: "network" | "timeout" | "status" | "answer"
  /** The HTTP status, where there was an answer. */
  readonly status: number | undefined
  readonly detail: string
  /** How long the service asks to be left alone, in milliseconds; 0 where it does not say. */
  readonly retryAfterMillis: number
}

/** The policy `giveUp` ended the retries. The event may be stored or not. */
export class GaveUp extends Data.TaggedError("GaveUp")<{
  /** How often the request was sent. */
  readonly attempts: number
  /** What kept the last attempt from its answer. */
  readonly trouble: Trouble
}> {
  override get message(): string {
    const times = this.attempts === 1 ? "once" : `${this.attempts} times`
    return `Given up after the event was sent ${times}; it may be stored or not. Last trouble: ${this.trouble.detail}`
  }
}

/** The publisher ended before the event had its outcome. */
export class OutcomeUnknown extends Data.TaggedError("OutcomeUnknown")<{
  /** Whether any request with the event had left: if so it may be stored or not, else it is not. */
  readonly sent: boolean
  /** Why the publisher ended. */
  readonly reason: string
}> {
  override get message(): string {
    const state = this.sent ? "was sent, and may be stored or not" : "was not sent yet"
    return `The outcome is unknown: ${this.reason}. The event ${state}.`
  }
}

/**
 * The service refuses to be followed from here, and will not do otherwise the next time. `cursor-ahead`: the offset is
 * not one of this store. `cursor-lost`: it is from a future that was lost when the store was restored from a backup; what
 * is left of before ends at `lastOffset`, and following goes on behind that.
 */
export class FollowRefused extends Data.TaggedError("FollowRefused")<{
  readonly status: number
  /** The type of the problem, as the service says it, such as `cursor-lost`. */
  readonly type: string | undefined
  readonly detail: string
  /** The offset that was to be followed from. */
  readonly cursor: number | undefined
  readonly lastOffset: number | undefined
}> {
  override get message(): string {
    return `The service refuses (${this.status}): ${this.detail}`
  }
}

/** Why an event that was taken has no outcome. */
export type PublishError = Refused | GaveUp | OutcomeUnknown
