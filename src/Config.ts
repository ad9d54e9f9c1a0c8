/**
 * Every setting and limit of the service, in one place: its name in the environment, its unit, its default, what is
 * allowed, and how the settings must fit together. A wrong value stops the start.
 */
import { Config, type ConfigError, Context, Data, Effect, Either, LogLevel } from "effect"

/** The settings, as the service uses them. Sizes are in bytes, times in seconds, as the names say. */
export interface SettingsShape {
  readonly host: string
  readonly port: number
  /** `file:` and a path. */
  readonly database: string
  readonly queueEventsMax: number
  /** Bodies, from their first byte to the commit. */
  readonly queueBytesMax: number
  /** Nothing else is done while SQLite runs a statement; the larger a commit, the longer the others wait. */
  readonly commitEventsMax: number
  readonly requestEventsMax: number
  readonly requestBytesMax: number
  readonly eventBytesMax: number
  /** Answers to readers that are under way, until they are sent. */
  readonly readBytesMax: number
  /** Subscribers to streams of events at a time. */
  readonly subscribersMax: number
  /** How long a stream of events may be silent. */
  readonly heartbeatSeconds: number
  /** How long a client may leave an answer standing, or a request. */
  readonly stalledSecondsMax: number
  /** How long a request's headers may take to arrive. */
  readonly headersSecondsMax: number
  /** How long a whole request may take to arrive. */
  readonly requestSecondsMax: number
  /** How long a publisher waits for its answer once its request is here. */
  readonly publishSecondsMax: number
  readonly shutdownSecondsMax: number
  /** How long a gap in a sequence may be open before its numbers are declared missing. */
  readonly gapSeconds: number
  /** How far a gap in a sequence may lie behind the highest number before it is declared missing. */
  readonly gapEvents: number
  readonly logLevel: LogLevel.LogLevel
  readonly logFormat: "pretty" | "json" | "auto"
}

/** The settings of this process. */
export class Settings extends Context.Tag("sekali/Settings")<Settings, SettingsShape>() {}

/** Settings that cannot be used; `faults` holds a sentence for each, with the variable, its value and what is allowed. */
export class SettingsError extends Data.TaggedError("SettingsError")<{
  readonly faults: ReadonlyArray<string>
}> {
  override get message(): string {
    return this.faults.join("\n")
  }
}

const kibibyte = 1024
const mebibyte = 1024 * kibibyte

const logLevels: Record<string, LogLevel.LogLevel> = {
  trace: LogLevel.Trace,
  debug: LogLevel.Debug,
  info: LogLevel.Info,
  warn: LogLevel.Warning,
  error: LogLevel.Error,
  off: LogLevel.None
}

interface Setting<A> {
  readonly variable: string
  readonly initial: A
  /** What the value must be, in words. */
  readonly allowed: string
  /** The value of a text, or undefined where it is not allowed. */
  readonly read: (text: string) => A | undefined
  /** What it is for, for the help. */
  readonly purpose: string
}

const whole = (
  variable: string,
  initial: number,
  least: number,
  most: number,
  purpose: string
): Setting<number> => ({
  variable,
  initial,
  purpose,
  allowed: `a whole number from ${least} to ${most}`,
  read: (text) => {
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
    return value >= least && value <= most ? value : undefined
  }
})

const seconds = (variable: string, initial: number, purpose: string): Setting<number> => ({
  variable,
  initial,
  purpose,
  allowed: "a number of seconds from 0.1 to 3600",
  read: (text) => {
    const value = /^\d{1,4}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN
    return value >= 0.1 && value <= 3600 ? value : undefined
  }
})

const choice = <A>(
  variable: string,
  initial: A,
  choices: Readonly<Record<string, A>>,
  purpose: string
): Setting<A> => ({
  variable,
  initial,
  purpose,
  allowed: `one of ${Object.keys(choices).join(", ")}`,
  read: (text) => (Object.hasOwn(choices, text) ? choices[text] : undefined)
})

type Definitions = { readonly [Name in keyof SettingsShape]: Setting<SettingsShape[Name]> }

/** Each setting: its variable, default, what is allowed and what it is for. */
export const definitions: Definitions = {
  host: {
    variable: "SEKALI_HOST",
    initial: "127.0.0.1",
    purpose: "the address to listen on",
    allowed: "a host name or an IP address",
    read: (text) => (/^[A-Za-z0-9.:_-]{1,255}$/.test(text) ? text : undefined)
  },
  port: whole("SEKALI_PORT", 8080, 0, 65_535, "the port to listen on; 0 takes a free one"),
  database: {
    variable: "SEKALI_DATABASE",
    initial: "file:./data/sekali.db",
    purpose: "where the events are kept",
    allowed: "file: and a path, such as file:./data/sekali.db",
    read: (text) => (/^file:[^\0?#]+$/.test(text) && !text.endsWith("/") ? text : undefined)
  },
  queueEventsMax: whole(
    "SEKALI_QUEUE_EVENTS_MAX",
    16_384,
    1,
    10_000_000,
    "events that may wait for a commit"
  ),
  queueBytesMax: whole(
    "SEKALI_QUEUE_BYTES_MAX",
    64 * mebibyte,
    kibibyte,
    64 * 1024 * mebibyte,
    "bytes of request bodies that may be held, from their first byte to the commit"
  ),
  commitEventsMax: whole(
    "SEKALI_COMMIT_EVENTS_MAX",
    2000,
    1,
    1_000_000,
    "events in one commit, but for a request that has more"
  ),
  requestEventsMax: whole("SEKALI_REQUEST_EVENTS_MAX", 10_000, 1, 1_000_000, "events in one request"),
  requestBytesMax: whole(
    "SEKALI_REQUEST_BYTES_MAX",
    16 * mebibyte,
    kibibyte,
    256 * mebibyte,
    "bytes of one request's body"
  ),
  eventBytesMax: whole("SEKALI_EVENT_BYTES_MAX", mebibyte, 256, 64 * mebibyte, "bytes of one event"),
  readBytesMax: whole(
    "SEKALI_READ_BYTES_MAX",
    64 * mebibyte,
    kibibyte,
    64 * 1024 * mebibyte,
    "bytes of answers to readers that may be under way"
  ),
  subscribersMax: whole("SEKALI_SUBSCRIBERS_MAX", 5000, 1, 1_000_000, "subscribers at a time"),
  heartbeatSeconds: seconds("SEKALI_HEARTBEAT_SECONDS", 15, "how long a stream of events may be silent"),
  stalledSecondsMax: seconds(
    "SEKALI_STALLED_SECONDS_MAX",
    60,
    "how long a client may leave an answer standing before it is cut off"
  ),
  headersSecondsMax: seconds("SEKALI_HEADERS_SECONDS_MAX", 10, "time for a request's headers to arrive"),
  requestSecondsMax: seconds("SEKALI_REQUEST_SECONDS_MAX", 30, "time for a whole request to arrive"),
  publishSecondsMax: seconds("SEKALI_PUBLISH_SECONDS_MAX", 10, "time in which a publish is answered"),
  shutdownSecondsMax: seconds("SEKALI_SHUTDOWN_SECONDS_MAX", 10, "time in which a shutdown is done"),
  gapSeconds: seconds(
    "SEKALI_GAP_SECONDS",
    30,
    "time after which the numbers of a gap in a sequence are declared missing"
  ),
  gapEvents: whole(
    "SEKALI_GAP_EVENTS",
    10_000,
    1,
    1_000_000_000,
    "numbers that a sequence may go on beyond a gap before that is declared missing"
  ),
  logLevel: choice("SEKALI_LOG_LEVEL", LogLevel.Info, logLevels, "the least severe lines that are logged"),
  logFormat: choice(
    "SEKALI_LOG_FORMAT",
    "auto",
    { auto: "auto", pretty: "pretty", json: "json" },
    "how lines are logged; auto is pretty on a terminal, else json"
  )
}

const names = Object.keys(definitions) as ReadonlyArray<keyof SettingsShape>

/** The settings when nothing is set. */
export const defaults: SettingsShape = Object.fromEntries(
  names.map((name) => [name, definitions[name].initial])
) as unknown as SettingsShape

/** Pairs of settings of which the first must not be less than the second, and why. */
const relations: ReadonlyArray<readonly [keyof SettingsShape, keyof SettingsShape, string]> = [
  ["queueEventsMax", "requestEventsMax", "a request must fit into the empty queue"],
  ["queueBytesMax", "requestBytesMax", "a request must fit into the empty queue"],
  ["requestBytesMax", "eventBytesMax", "an event must fit into a request"],
  ["requestSecondsMax", "headersSecondsMax", "a request's time includes that of its headers"],
  ["stalledSecondsMax", "heartbeatSeconds", "a stream that waits for events must not count as left standing"]
]

/** A sentence for each pair of settings that do not fit together. */
export const faultsBetween = (settings: SettingsShape): ReadonlyArray<string> =>
  relations
    .filter(([greater, less]) => settings[greater] < settings[less])
    .map(([greater, less, why]) => {
      const [big, small] = [definitions[greater].variable, definitions[less].variable]
      return `${big} is ${settings[greater]}, which is less than ${small}, ${settings[less]}: ${why}.`
    })

const readSetting = <A>({
  variable,
  initial,
  allowed,
  read
}: Setting<A>): Config.Config<Either.Either<A, string>> =>
  Config.string(variable).pipe(
    Config.map((text) => {
      const value = read(text.trim())
      return value === undefined
        ? Either.left(`${variable} is ${JSON.stringify(text)}, but must be ${allowed}.`)
        : Either.right(value)
    }),
    Config.withDefault(Either.right(initial))
  )

/** The settings from the environment, or every fault in them. */
export const settingsFromEnvironment: Effect.Effect<SettingsShape, SettingsError | ConfigError.ConfigError> =
  Effect.gen(function* () {
    const read = yield* Effect.forEach(names, (name) =>
      Effect.map(readSetting<unknown>(definitions[name]), (value) => [name, value] as const)
    )
    const faults = read.flatMap(([, value]) => (Either.isLeft(value) ? [value.left] : []))
    if (faults.length > 0) return yield* new SettingsError({ faults })
    const settings = Object.fromEntries(
      read.map(([name, value]) => [name, Either.getOrThrow(value)])
    ) as unknown as SettingsShape
    const between = faultsBetween(settings)
    return between.length > 0 ? yield* new SettingsError({ faults: between }) : settings
  })

/**
 * How much one step of a reading may look at, so that none stops the process for long. These are not settings of an
 * operator: the defaults hold everywhere but in simulations, where they are small so that every boundary is met.
 */
export class ReadingLimits extends Context.Reference<ReadingLimits>()("sekali/ReadingLimits", {
  defaultValue: () => ({
    /** Rows that a step through the store looks at. */
    windowRowsMax: 1000,
    /** Bytes of payload that a step through the store reads, unless a single event has more. */
    windowBytesMax: 4 * mebibyte,
    /** Steps that a page takes, before it leaves the rest to the next call. */
    pageStepsMax: 20,
    /** Bytes of payload in a page, unless a single event has more. */
    pageBytesMax: 4 * mebibyte,
    /** Bytes of payload that a stream holds at a time, unless a single event has more. */
    streamBytesMax: mebibyte / 4,
    /** Events, and bytes of their payloads, that are kept for subscribers who are at the end of the store. */
    feedEventsMax: 10_000,
    feedBytesMax: 8 * mebibyte
  })
}) {}

/**
 * How many gaps of one series may be open: where there are more after a commit, the oldest are declared missing in it.
 * This bounds the books of a source whose numbers make no sense, and is no setting of an operator either.
 */
export class SequenceLimits extends Context.Reference<SequenceLimits>()("sekali/SequenceLimits", {
  defaultValue: () => ({ gapsMax: 1000 })
}) {}

/**
 * How the index of keys is kept. These are no settings of an operator either; in simulations they are small, so that
 * runs of keys are written and merged every few events.
 */
export class KeyIndexLimits extends Context.Reference<KeyIndexLimits>()("sekali/KeyIndexLimits", {
  defaultValue: () => ({
    /** So many of the youngest keys are kept in memory; then they are written as a run. */
    youngKeysMax: 32_768,
    /** Keys on a page of a run, in the mean; with a quarter more it still fits on a page of the database. */
    keysPerPage: 200,
    /** So many runs of one level are merged into one of the next. */
    runsPerMerge: 8,
    /** Pages that a merge writes at a time. */
    pagesPerStep: 32,
    /** Bytes of the filters in memory, besides those that are being made; at 14 bits a key, those of 76 million keys. */
    filterBytesMax: 128 * mebibyte
  })
}) {}
