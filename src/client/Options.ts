/**
 * The settings of a publisher: what each means, its default, and what is allowed. Units and qualifiers stand last in
 * the names.
 */
import { Effect, Schema } from "effect"
import { Source } from "../http/Api.ts"
import { InvalidOptions, type Trouble } from "./Errors.ts"

/** Told of each retry, before its wait begins. */
export interface Retry {
  /** How often this request was sent so far. */
  readonly attempts: number
  /** How many events it carries. */
  readonly events: number
  /** How long until it is sent again. */
  readonly waitMillis: number
  readonly trouble: Trouble
}

/** When to stop sending a request again. Where nothing is set, never. */
export interface GiveUp {
  /** A request is sent at most so often. */
  readonly attempts?: number | undefined
  /** A request is not sent again later than so many seconds after it was first sent. */
  readonly seconds?: number | undefined
}

/** The options that both faces of the client have. Only `url` is required. */
export interface BaseOptions {
  /** Where the service is, such as `http://127.0.0.1:8080`; a path is kept as a prefix. */
  readonly url: string
  /** The source of events that name none. */
  readonly source?: string | undefined
  /**
   * How ids are made for events that have none (see `EventIds.ts`): `ulid`, the default, as `<source>-<ULID>`;
   * `counter` as `<source>-<epoch ms>-<counter>-<hash>`.
   */
  readonly ids?: "ulid" | "counter" | undefined
  /**
   * Numbers events that bear no `sequence`, per topic and source, from 0 or on behind the highest number that the service
   * knows; false. No two processes may do so with one source at the same time, and events that bear a number of their own
   * do not belong into such a series. See `Numbering.ts` for what comes of a restart. It takes `requestsMax` 1.
   */
  readonly sequences?: boolean | undefined
  /** Events in one request; 1,000. It must not be over the service's own limit (10,000 by default). */
  readonly batchEventsMax?: number | undefined
  /** Bytes of one request, unless a single event has more; 1 MiB. */
  readonly batchBytesMax?: number | undefined
  /** How long an event waits for others to share its request with; 5 ms. */
  readonly lingerMillis?: number | undefined
  /** Events that are held until they have their outcome: with so many `publish` waits; 10,000. */
  readonly bufferEventsMax?: number | undefined
  /** Bytes of the events that are held; 8 MiB. No single event can be larger. */
  readonly bufferBytesMax?: number | undefined
  /**
   * Requests that may be under way at the same time; 1, which keeps the order of offsets that of publishing. With more,
   * a request can be stored before one that was sent earlier.
   */
  readonly requestsMax?: number | undefined
  /** How long to wait for the answer to a request before it is sent again; 30 s. */
  readonly requestSecondsMax?: number | undefined
  /**
   * The first retry waits a random time up to this (full jitter), each next one up to twice as long as the one before;
   * 100 ms. The service's Retry-After is waited for in any case, and the random time comes on top.
   */
  readonly backoffMillisFirst?: number | undefined
  /** What that bound grows to; 10 s. */
  readonly backoffMillisMax?: number | undefined
  /** When to stop sending a request again; never, if nothing is set. */
  readonly giveUp?: GiveUp | undefined
  /**
   * How long the end of the scope may take to flush, in seconds; 30. What is left then ends in `OutcomeUnknown`. (`close`
   * itself takes as long as it takes, and can be interrupted.)
   */
  readonly closeSecondsMax?: number | undefined
}

/** The options of an Effect-native publisher. */
export interface PublisherOptions extends BaseOptions {
  /** Told of each retry, in the fiber that sends: while it runs, nothing else is sent by it. */
  readonly onRetry?: ((retry: Retry) => Effect.Effect<void>) | undefined
}

/** Options that are whole and checked. */
export interface Resolved {
  /** Where to publish. */
  readonly publishUrl: string
  /** Where to ask for sequences. */
  readonly sourcesUrl: string
  readonly source: string | undefined
  readonly ids: "ulid" | "counter"
  readonly sequences: boolean
  readonly batchEventsMax: number
  readonly batchBytesMax: number
  readonly lingerMillis: number
  readonly bufferEventsMax: number
  readonly bufferBytesMax: number
  readonly requestsMax: number
  readonly requestSecondsMax: number
  readonly backoffMillisFirst: number
  readonly backoffMillisMax: number
  readonly attemptsMax: number
  readonly retrySecondsMax: number
  readonly closeSecondsMax: number
  readonly onRetry: (retry: Retry) => Effect.Effect<void>
}

// A day: timers hold no more than 24 of them.
const longestSeconds = 86_400
const largest = Number.MAX_SAFE_INTEGER

/** Fills the defaults in and checks what was given; every fault is told. */
export const resolve = (options: PublisherOptions): Effect.Effect<Resolved, InvalidOptions> =>
  Effect.suspend(() => {
    const faults: Array<string> = []
    const { count, amount } = numberChecks(faults)
    const { source, ids = "ulid", sequences = false, giveUp } = options
    if (source !== undefined && !Schema.is(Source)(source)) {
      faults.push("source must be 1 to 255 characters without control characters")
    }
    if (ids !== "ulid" && ids !== "counter") faults.push(`ids must be ulid or counter, not ${String(ids)}`)
    if (typeof sequences !== "boolean")
      faults.push(`sequences must be true or false, not ${String(sequences)}`)
    if (sequences === true && (options.requestsMax ?? 1) !== 1) {
      faults.push("requestsMax must be 1 with sequences: a request could overtake one with lower numbers")
    }
    const url = readAddress("url", options.url, faults)
    const resolved: Resolved = {
      publishUrl: `${url}/publish`,
      sourcesUrl: `${url}/sources`,
      source,
      ids,
      sequences,
      batchEventsMax: count("batchEventsMax", options.batchEventsMax, 1000, 1, 1_000_000),
      batchBytesMax: count("batchBytesMax", options.batchBytesMax, 1024 ** 2, 1, 1024 ** 3),
      lingerMillis: amount("lingerMillis", options.lingerMillis, 5, 0, longestSeconds * 1000),
      bufferEventsMax: count("bufferEventsMax", options.bufferEventsMax, 10_000, 1, 10_000_000),
      bufferBytesMax: count("bufferBytesMax", options.bufferBytesMax, 8 * 1024 ** 2, 1, 1024 ** 4),
      requestsMax: count("requestsMax", options.requestsMax, 1, 1, 1000),
      requestSecondsMax: amount("requestSecondsMax", options.requestSecondsMax, 30, 0.001, longestSeconds),
      backoffMillisFirst: amount(
        "backoffMillisFirst",
        options.backoffMillisFirst,
        100,
        0,
        longestSeconds * 1000
      ),
      backoffMillisMax: amount(
        "backoffMillisMax",
        options.backoffMillisMax,
        10_000,
        0,
        longestSeconds * 1000
      ),
      attemptsMax: count("giveUp.attempts", giveUp?.attempts, Number.POSITIVE_INFINITY, 1, largest),
      retrySecondsMax: amount("giveUp.seconds", giveUp?.seconds, Number.POSITIVE_INFINITY, 0, largest),
      closeSecondsMax: amount("closeSecondsMax", options.closeSecondsMax, 30, 0, longestSeconds),
      onRetry: options.onRetry ?? (() => Effect.void)
    }
    return faults.length > 0 ? new InvalidOptions({ faults }) : Effect.succeed(resolved)
  })

/** Checks of numbers, with the default of each and what is allowed; they add to the faults what is wrong. */
export const numberChecks = (faults: Array<string>) => {
  const numberOf =
    (kind: string, isOfKind: (value: number) => boolean) =>
    (name: string, value: number | undefined, initial: number, least: number, most: number): number => {
      if (value === undefined) return initial
      if (!(isOfKind(value) && value >= least && value <= most)) {
        faults.push(`${name} must be a ${kind} from ${least} to ${most}, not ${String(value)}`)
      }
      return value
    }
  return { count: numberOf("whole number", Number.isInteger), amount: numberOf("number", Number.isFinite) }
}

/** The address of a service without a slash at its end; adds to the faults what is wrong with it. */
export const readAddress = (name: string, url: string, faults: Array<string>): string => {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed === undefined || (parsed.protocol !== "http:" && parsed.protocol !== "https:")) {
    faults.push(`${name} must be an address such as http://127.0.0.1:8080, not ${String(url)}`)
    return ""
  }
  if (parsed.username !== "" || parsed.password !== "" || parsed.search !== "" || parsed.hash !== "") {
    faults.push(`${name} must have neither a user, a query nor a fragment`)
  }
  return `${parsed.origin}${parsed.pathname.replace(/\/+$/, "")}`
}
