/**
 * The HTTP contract, written once: endpoints, parameters, bodies, answers and errors. The handlers decode with these
 * schemas, `/openapi.json` and `/docs` are generated from them, and clients take them from here. No handler lives here.
 */
import { HttpApi, HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "@effect/platform"
import { Option, ParseResult, Schema } from "effect"
import { parseTimestamp, timestampRule } from "../domain/Timestamp.ts"
import {
  normaliseTopic,
  parseTopicPattern,
  topicCharactersMax,
  topicPatternRule,
  topicRule
} from "../domain/Topic.ts"

/** Every fault of an input is told, and what is not known is refused by name: dropping it in silence would lose data. */
export const strict = { errors: "all", onExcessProperty: "error" } as const

const mustBe = (rule: string) => () => ({ message: `must be ${rule}`, override: true })

// ---------- values ----------

/** A member that may be left out, but not be `undefined` or `null`. */
const optional = <A, I>(schema: Schema.Schema<A, I>) => Schema.optionalWith(schema, { exact: true })

/** Text that a parser of the domain reads; decoding gives what the parser makes of it. */
const parsed = <A>(
  name: string,
  rule: string,
  parse: (text: string) => Option.Option<A>,
  isParsed: (value: unknown) => value is A,
  print: (value: A) => string
): Schema.Schema<A, string> =>
  Schema.transformOrFail(
    Schema.String.annotations({ message: mustBe(rule) }),
    Schema.declare(isParsed, { identifier: `${name}Value` }),
    {
      strict: true,
      decode: (text, _options, ast) =>
        Option.match(parse(text), {
          onNone: () => ParseResult.fail(new ParseResult.Type(ast, text, `must be ${rule}`)),
          onSome: ParseResult.succeed
        }),
      encode: (value) => ParseResult.succeed(print(value))
    }
  )

const isString = (value: unknown): value is string => typeof value === "string"
const isObject = (value: unknown): value is object => typeof value === "object" && value !== null

const topicDescription = `${topicRule}. Upper case is folded to lower case.`

/** A topic, normalised. */
export const Topic = parsed("Topic", topicRule, normaliseTopic, isString, (topic) => topic).annotations({
  identifier: "Topic",
  description: topicDescription,
  jsonSchema: {
    type: "string",
    minLength: 1,
    maxLength: topicCharactersMax,
    pattern: "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$"
  },
  examples: ["system.metrics.cpu"]
})

/** The longest name of an event or a source, in code points. */
export const nameCodePointsMax = 255
const nameRule = `1 to ${nameCodePointsMax} characters without control characters`

/** Whether a text can name an event or a source: 1 to 255 code points, no control characters, no lone surrogates. */
export const isName = (text: string): boolean =>
  text.length > 0 &&
  text.length <= 2 * nameCodePointsMax &&
  !/\p{Cc}|\p{Cs}/u.test(text) &&
  (text.length <= nameCodePointsMax || [...text].length <= nameCodePointsMax)

const Name = Schema.String.annotations({ message: mustBe(nameRule) }).pipe(
  Schema.filter(isName, {
    message: mustBe(nameRule),
    jsonSchema: {
      minLength: 1,
      maxLength: nameCodePointsMax,
      pattern: "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"
    }
  })
)

/** The publisher's name of an event. */
export const EventId = Name.annotations({
  identifier: "EventId",
  description: `The publisher's name of the event: ${nameRule}. Together with the topic it is the event's key.`,
  examples: ["service-a-01HGKXYZ123456-001"]
})

/** The name of the service an event comes from. */
export const Source = Name.annotations({
  identifier: "Source",
  description: `What the event comes from: ${nameRule}.`,
  examples: ["service-a"]
})

const Timestamp = Schema.String.annotations({ message: mustBe(timestampRule) }).pipe(
  Schema.filter((text) => Option.isSome(parseTimestamp(text)), {
    identifier: "Timestamp",
    description: `Event time: ${timestampRule}. It comes back as the text that was sent.`,
    jsonSchema: { format: "date-time" },
    message: mustBe(timestampRule),
    examples: ["2026-11-22T10:00:00.123Z"]
  })
)

/** What a sequence must be, for people. */
export const sequenceRule = "a whole number from 0 to 9007199254740991"

const Sequence = Schema.Number.annotations({ message: mustBe(sequenceRule) }).pipe(
  Schema.filter((value) => Number.isSafeInteger(value) && value >= 0, {
    identifier: "Sequence",
    description: "The publisher's count of its events in this topic.",
    jsonSchema: { type: "integer", minimum: 0, maximum: Number.MAX_SAFE_INTEGER },
    message: mustBe(sequenceRule)
  })
)

const Payload = Schema.Unknown.annotations({
  identifier: "Payload",
  description:
    "Any JSON value, nested at most 500 deep. It comes back as an equal value, numbers exact to the last digit.",
  jsonSchema: {}
})

const Count = Schema.NonNegativeInt
const Offset = Schema.Int.annotations({
  identifier: "Offset",
  description:
    "An event's place in the order of all events of the store; it only grows, with gaps, and never changes (G5)."
})
const Time = Schema.String.annotations({
  identifier: "Time",
  description: "An instant by the store's clock, in UTC.",
  jsonSchema: { type: "string", format: "date-time" },
  examples: ["2026-11-22T10:00:00.456Z"]
})

// ---------- publishing ----------

/** An event as it is published. */
export const PublishedEvent = Schema.Struct({
  topic: Topic,
  event_id: EventId,
  timestamp: Timestamp,
  source: Source,
  payload: optional(Payload),
  sequence: optional(Sequence),
  origin: optional(
    Source.annotations({
      description: "The store that first took the event; mirrors set it.",
      identifier: "Origin"
    })
  )
}).annotations({
  identifier: "PublishedEvent",
  parseOptions: strict
})

/** The envelope around a batch. */
export const Envelope = Schema.Struct({
  events: Schema.Array(PublishedEvent).pipe(Schema.minItems(1))
}).annotations({
  identifier: "Batch"
})

const PublishBody = Schema.Union(
  PublishedEvent,
  Schema.Array(PublishedEvent).pipe(Schema.minItems(1)),
  Envelope
).annotations({
  identifier: "PublishBody",
  description: "One event, an array of events, or an envelope around one."
})

const NdjsonBody = HttpApiSchema.withEncoding(
  Schema.String.annotations({
    description: "Newline-delimited JSON: one event a line. Blank lines are skipped."
  }),
  { kind: "Text", contentType: "application/x-ndjson" }
)

/** The header by which a publisher says which attempt at sending this request it is, from 1. */
export const attemptHeader = "sekali-attempt"

const PublishHeaders = Schema.Struct({
  [attemptHeader]: optional(
    Schema.String.annotations({
      description:
        "Which attempt at sending this request it is, from 1. It is counted (`publishes` in `/stats`) and changes " +
        "nothing else, so any other value is no error: it counts as the first attempt.",
      jsonSchema: { type: "integer", minimum: 1 }
    })
  )
})

const OutcomeAnswer = Schema.Struct({
  outcome: Schema.Literal("stored", "duplicate", "conflict"),
  offset: Offset
}).annotations({
  identifier: "Outcome",
  description:
    "`stored`: it was new. `duplicate`: its key is known with the same content. `conflict`: its key is known with other " +
    "content; the first one stands. The offset is that of the stored event (G8)."
})

/** The answer to a publish: every event it tells of is on disk (G1). */
export const PublishAnswer = Schema.Struct({
  status: Schema.Literal("accepted"),
  accepted: Count.annotations({ description: "How many events the request had." }),
  stored: Count,
  duplicates: Count.annotations({
    description: "Dropped with the same content; conflicts are not among these."
  }),
  conflicts: Count,
  results: optional(
    Schema.Array(OutcomeAnswer).annotations({
      description: "In the order sent; left out on `Prefer: return=minimal`."
    })
  )
}).annotations({ identifier: "PublishAnswer" })

// ---------- reading ----------

/** An event as it is read. */
export const EventAnswer = Schema.Struct({
  offset: Offset,
  topic: Schema.String,
  event_id: Schema.String,
  timestamp: Schema.String,
  source: Schema.String,
  payload: Payload,
  sequence: optional(Count),
  origin: optional(Schema.String),
  processed_at: Time,
  late: optional(
    Schema.Literal(true).annotations({
      description: "Where it is there: the event came after its sequence had been declared missing."
    })
  )
}).annotations({ identifier: "Event" })

/** A page of events. */
export const EventsAnswer = Schema.Struct({
  topic: Schema.NullOr(Schema.String).annotations({
    description: "The topic or pattern that was asked for."
  }),
  count: Count,
  events: Schema.Array(EventAnswer),
  next: Offset.annotations({
    description: "The offset of the last event that was looked at: pass it as `after` to go on."
  }),
  more: Schema.Boolean.annotations({
    description: "Whether to ask again at once. A page may be short although it is true."
  })
}).annotations({ identifier: "Events" })

// The second form of the answer: the platform knows one form for each status, so this one goes into the pages by hand.
const withEventsStream = (operation: Record<string, unknown>): Record<string, unknown> => {
  const { responses } = operation as {
    readonly responses: { readonly 200: { readonly content: Record<string, unknown> } }
  }
  const stream = {
    type: "string",
    description:
      "On `Accept: application/x-ndjson`: all events that match and are stored when the answer begins, one a line. If " +
      'the store fails in the middle, the last line is `{"problem":{…}}`.'
  }
  const content = { ...responses[200].content, "application/x-ndjson": { schema: stream } }
  return { ...operation, responses: { ...responses, 200: { ...responses[200], content } } }
}

/** An event, and what became of later deliveries with its key. */
export const KnownEventAnswer = Schema.Struct({
  ...EventAnswer.fields,
  duplicates: Count.annotations({ description: "Later deliveries that were dropped, conflicts among them." }),
  conflicts: Count,
  last_duplicate_at: Schema.NullOr(Time)
}).annotations({ identifier: "KnownEvent" })

/** A page of keys that were used again with other content. */
export const ConflictsAnswer = Schema.Struct({
  count: Count,
  conflicts: Schema.Array(
    Schema.Struct({
      topic: Schema.String,
      event_id: Schema.String,
      offset: Offset,
      conflicts: Count,
      last_conflict_at: Time,
      last_conflict_source: Schema.String
    }).annotations({ identifier: "ConflictedKey" })
  ),
  next: Offset,
  more: Schema.Boolean
}).annotations({ identifier: "Conflicts" })

const AvailabilityWindow = Schema.Struct({
  share: Schema.Number.annotations({
    description:
      "The share of that time in which events could be stored, from the first heartbeat on: 0 to 1."
  }),
  downtime_seconds: Schema.Number
}).annotations({ identifier: "AvailabilityWindow" })

/** The books of the whole store. */
export const StatsAnswer = Schema.Struct({
  received: Count.annotations({ description: "Deliveries in committed transactions (G4)." }),
  unique_processed: Count,
  duplicate_dropped: Count.annotations({
    description: "received − unique_processed; conflicts are among these."
  }),
  conflicts: Count,
  topics: Schema.Array(Schema.String).annotations({
    description: "The first 1,000 topics in alphabetical order."
  }),
  topics_total: Count,
  last_offset: Schema.Int.annotations({ description: "The greatest offset given out, 0 at first." }),
  store_id: Schema.String.annotations({
    description:
      "Names this store among all others. A store that is restored from a backup takes another name.",
    examples: ["8c1f0a52d97be346"]
  }),
  epoch: Count.annotations({
    description:
      "Counted from 1. A store that is restored from a backup begins a new epoch, in which offsets go on beyond any " +
      "that it can have given out since the backup."
  }),
  uptime: Schema.Number.annotations({ description: "Seconds since this process started to serve." }),
  duplicate_rate: Schema.Number.annotations({ description: "duplicate_dropped / received, 0 at first." }),
  queue: Schema.Struct({ events: Count, events_max: Count, bytes: Count, bytes_max: Count }),
  publishes: Schema.Struct({
    attempts: Count,
    retries: Count.annotations({ description: "Those of them that came with a `Sekali-Attempt` over 1." })
  }).annotations({ description: "Requests to publish since this process started." }),
  sequences: Schema.Struct({
    sources: Count.annotations({
      description: "Series: pairs of a topic and a source that numbers its events."
    }),
    gaps_open: Count.annotations({ description: "Gaps whose numbers are still waited for." }),
    declared_missing: Count.annotations({
      description:
        "Numbers that were ever given up: `missing` + `late`. It is counted up to 9007199254740991."
    }),
    missing: Count.annotations({ description: "Those that are still missing." }),
    late: Count.annotations({ description: "Those that came nevertheless: events marked `late`." }),
    sequence_reused: Count.annotations({
      description: "Events with a number that an earlier event of the same topic and source has."
    })
  }).annotations({ description: "What the sequences of all sources add up to; see `/sources`." }),
  availability: Schema.Struct({
    last_24_hours: AvailabilityWindow,
    last_30_days: AvailabilityWindow,
    recovery_seconds: Schema.Number.annotations({
      description: "How long the last start took, from the start of the process until it served."
    })
  }).annotations({
    description:
      "By heartbeats, which are stored every 10 s while the store can be written. A stretch without is an outage: the " +
      "process was gone, or the store in trouble."
  })
}).annotations({ identifier: "Stats" })

/** A page of topics. */
export const TopicsAnswer = Schema.Struct({
  count: Count,
  topics: Schema.Array(
    Schema.Struct({
      topic: Schema.String,
      events: Count,
      duplicates: Count.annotations({ description: "Deliveries that were dropped, conflicts among them." }),
      conflicts: Count,
      first_offset: Offset,
      last_offset: Offset,
      last_event_time: Schema.String.annotations({ description: "The latest event time, as it was sent." })
    }).annotations({ identifier: "TopicBook" })
  ),
  next: Schema.String.annotations({ description: "The last topic listed: pass it as `after` to go on." }),
  more: Schema.Boolean
}).annotations({ identifier: "Topics" })

const SequenceNumber = Schema.NonNegativeInt

/** A page of series. */
export const SourcesAnswer = Schema.Struct({
  count: Count,
  sources: Schema.Array(
    Schema.Struct({
      topic: Schema.String,
      source: Schema.String,
      first: SequenceNumber.annotations({
        description: "The number that was seen first: it opened the series."
      }),
      contiguous: SequenceNumber.annotations({
        description: "All numbers from `first` to this one are stored, or were given up."
      }),
      highest: SequenceNumber.annotations({ description: "The greatest number seen." }),
      gaps_open: Count,
      declared_missing: Count.annotations({
        description: "Numbers that were ever given up: `missing` + `late`."
      }),
      missing: Count,
      late: Count,
      sequence_reused: Count,
      gaps: Schema.Array(
        Schema.Struct({
          first: SequenceNumber,
          last: SequenceNumber,
          opened_at: Time.annotations({ description: "When a number beyond the gap came." })
        }).annotations({ identifier: "Gap" })
      ).annotations({ description: "The lowest of the open gaps, at most ten." })
    }).annotations({ identifier: "SourceBook" })
  ),
  next: Count.annotations({ description: "Where this page ends: pass it as `after` to go on." }),
  more: Schema.Boolean.annotations({
    description: "Whether to ask again at once. A page may be short, or empty, although it is true."
  })
}).annotations({ identifier: "Sources" })

/** The answer of a health check that passed. */
export const HealthAnswer = Schema.Struct({ status: Schema.Literal("live", "ready") }).annotations({
  identifier: "Health"
})

// ---------- parameters ----------

const parameters = <Fields extends Schema.Struct.Fields>(fields: Fields) =>
  Schema.Struct(fields).annotations({ parseOptions: strict })

const wholeParameter = (least: number, most: number) => {
  const rule = `a whole number from ${least} to ${most}`
  return parsed(
    "Whole",
    rule,
    (text) => {
      const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
      return value >= least && value <= most ? Option.some(value) : Option.none()
    },
    (value): value is number => typeof value === "number",
    String
  ).annotations({ jsonSchema: { type: "integer", minimum: least, maximum: most } })
}

const textParameter = <A>(rule: string, parse: (text: string) => Option.Option<A>) =>
  parsed(
    "Text",
    rule,
    (text) => Option.map(parse(text), (value) => ({ text, value })),
    (value): value is { readonly text: string; readonly value: A } => isObject(value),
    ({ text }) => text
  ).annotations({ jsonSchema: { type: "string" }, description: rule })

const OffsetCursor = wholeParameter(0, Number.MAX_SAFE_INTEGER).annotations({
  description:
    "Exclusive: only what lies behind this offset; with `order=desc`, only what is older; with `order=sequence`, only " +
    "what comes behind the event with this offset, which has to be one of those that are read (0: from the beginning)."
})
const Limit = wholeParameter(1, 1000).annotations({
  description: "How many at most; 100 where it is left out."
})

/** How many items a page has when the call does not say. */
export const limitDefault = 100

/** No parameter is known: a struct without fields would let every one pass. */
const NoParameters = Schema.Record({
  key: Schema.String,
  value: Schema.Never.annotations({ message: () => "is not known here" })
}).annotations({ parseOptions: strict })

/** What restricts and pages a reading of events. */
export const EventsParameters = parameters({
  topic: optional(textParameter(topicPatternRule, parseTopicPattern)),
  event_id: optional(EventId),
  source: optional(Source),
  since: optional(textParameter(`${timestampRule} (inclusive)`, parseTimestamp)),
  until: optional(textParameter(`${timestampRule} (exclusive)`, parseTimestamp)),
  limit: optional(Limit),
  order: optional(
    Schema.Literal("asc", "desc", "sequence").annotations({
      message: mustBe("asc, desc or sequence"),
      description:
        "By offset, or by sequence: the events of one `topic` (no pattern) and `source` that have one, by that and then " +
        "by offset. An event that came late stands where it belongs, so this shows what is stored; to follow what " +
        "comes, read by offset."
    })
  ),
  after: optional(OffsetCursor)
})

/** What restricts a stream of events, and where it begins. */
export const SubscriptionParameters = parameters({
  topic: optional(textParameter(topicPatternRule, parseTopicPattern)),
  source: optional(Source),
  after: optional(
    OffsetCursor.annotations({
      description:
        "Exclusive: only what lies behind this offset; 0 is the beginning, and without it the stream begins now."
    })
  )
})

/** The header by which a subscriber that comes again says what it saw last. */
export const lastEventIdHeader = "last-event-id"

const SubscriptionHeaders = Schema.Struct({
  [lastEventIdHeader]: optional(
    OffsetCursor.annotations({
      description:
        "The last `id` that was received; browsers send it when they reconnect. It goes before `after`."
    })
  )
})

// ---------- errors ----------

const problemFields = {
  type: Schema.String,
  title: Schema.String,
  status: Schema.Int,
  detail: Schema.String,
  instance: Schema.String
}

/** What every error's answer says, whatever its status. */
export const ProblemAnswer = Schema.Struct(problemFields)

const FaultAnswer = Schema.Struct({
  pointer: Schema.String.annotations({
    description: "A JSON pointer into the body, or the name of a parameter."
  }),
  detail: Schema.String
}).annotations({ identifier: "Fault" })

const problem = <Fields extends Schema.Struct.Fields>(
  status: number,
  identifier: string,
  description: string,
  fields: Fields
) =>
  HttpApiSchema.withEncoding(
    Schema.Struct({ ...problemFields, ...fields }).annotations({
      identifier,
      description,
      [HttpApiSchema.AnnotationStatus]: status
    }),
    { kind: "Json", contentType: "application/problem+json" }
  )

/** Errors as they are answered: `application/problem+json` (RFC 9457). */
export const problems = {
  malformed: problem(400, "Malformed", "The body is empty, not UTF-8 or not JSON.", {}),
  cursorLost: problem(
    410,
    "CursorLost",
    "The cursor names an offset that was given out after the backup from which the store was restored: what it stood " +
      "for is lost. Go on after `last_offset`.",
    {
      after: Offset,
      epoch: Count.annotations({ description: "The epoch that began with the restored backup." }),
      last_offset: Count.annotations({ description: "The last offset that survived." }),
      base_offset: Count.annotations({ description: "The epoch's offsets are greater than this one." })
    }
  ),
  notFound: problem(404, "NotFound", "There is no such thing.", {}),
  tooLarge: problem(413, "TooLarge", "The body, a batch or an event is over its limit.", {}),
  unsupported: problem(415, "Unsupported", "The body's type or encoding is not supported.", {}),
  invalid: problem(
    422,
    "Invalid",
    "Members or parameters are missing, wrong or unknown; every fault is named, up to 1,000.",
    {
      errors: Schema.Array(FaultAnswer)
    }
  ),
  unavailable: problem(503, "Unavailable", "Not now: send it again after `Retry-After` seconds.", {
    retry_after: Schema.Int.annotations({ description: "In seconds." })
  }),
  unsupportedBackup: problem(
    501,
    "BackupUnsupported",
    "This service's database cannot be copied while in use.",
    {}
  )
}

// ---------- endpoints ----------

/** The type of a stream of events. */
export const streamContentType = "text/event-stream"

const EventStream = HttpApiSchema.Text({ contentType: streamContentType }).annotations({
  identifier: "EventStream",
  description:
    "Server-Sent Events. Each has an event as `data`, one line of JSON as in `GET /events`, and its offset as `id`. An " +
    "`id` without `data` stands at the beginning and with each heartbeat: what lies before it did not match. If the store " +
    "fails, the last event is a `problem`."
})

/** The type of a backup. */
export const backupContentType = "application/vnd.sqlite3"

const publishing = HttpApiGroup.make("publishing").add(
  HttpApiEndpoint.post("publish", "/publish")
    .setPayload(Schema.Union(PublishBody, NdjsonBody))
    .setHeaders(PublishHeaders)
    .setUrlParams(NoParameters)
    .addSuccess(PublishAnswer, { status: 202 })
    .addError(problems.malformed)
    .addError(problems.tooLarge)
    .addError(problems.unsupported)
    .addError(problems.invalid)
    .addError(problems.unavailable)
    .annotate(OpenApi.Summary, "Publish events")
    .annotate(
      OpenApi.Description,
      "Answered after the commit: every event called `stored` or `duplicate` is on disk (G1). All or nothing: one " +
        "invalid event, and nothing is stored. Send a request again whenever no answer came: each event takes effect once."
    )
)

const reading = HttpApiGroup.make("reading")
  .add(
    HttpApiEndpoint.get("events", "/events")
      .setUrlParams(EventsParameters)
      .addSuccess(EventsAnswer)
      .addError(problems.cursorLost)
      .addError(problems.invalid)
      .addError(problems.unavailable)
      .annotate(OpenApi.Transform, withEventsStream)
      .annotate(OpenApi.Summary, "Read events by offset")
      .annotate(
        OpenApi.Description,
        "A reader who passes each page's `next` as `after` sees every event once, in order, across restarts (G5). A " +
          "cursor ahead of the store is an error, and so is one from a future that was lost when the store was restored."
      )
  )
  .add(
    HttpApiEndpoint.get("subscription", "/events/stream")
      .setUrlParams(SubscriptionParameters)
      .setHeaders(SubscriptionHeaders)
      .addSuccess(EventStream)
      .addError(problems.cursorLost)
      .addError(problems.invalid)
      .addError(problems.unavailable)
      .annotate(OpenApi.Summary, "Subscribe to events")
      .annotate(
        OpenApi.Description,
        "Every event that matches, once and in order, from when it is committed, until either side ends the stream. Come " +
          "again with the last `id`, as `Last-Event-ID` or as `after`, and nothing is missed or repeated, also across " +
          "restarts (G5). While nothing matches, a heartbeat comes every `SEKALI_HEARTBEAT_SECONDS`. A subscriber may be " +
          "slow, but one that reads nothing for `SEKALI_STALLED_SECONDS_MAX` is cut off."
      )
  )
  .add(
    HttpApiEndpoint.get("event", "/events/:topic/:event_id")
      .setPath(Schema.Struct({ topic: Topic, event_id: EventId }).annotations({ parseOptions: strict }))
      .setUrlParams(NoParameters)
      .addSuccess(KnownEventAnswer)
      .addError(problems.notFound)
      .addError(problems.invalid)
      .addError(problems.unavailable)
      .annotate(OpenApi.Summary, "Look an event up by its key")
  )
  .add(
    HttpApiEndpoint.get("conflicts", "/conflicts")
      .setUrlParams(parameters({ limit: optional(Limit), after: optional(OffsetCursor) }))
      .addSuccess(ConflictsAnswer)
      .addError(problems.cursorLost)
      .addError(problems.invalid)
      .addError(problems.unavailable)
      .annotate(OpenApi.Summary, "List keys that were used again with other content")
  )
  .add(
    HttpApiEndpoint.get("stats", "/stats")
      .setUrlParams(NoParameters)
      .addSuccess(StatsAnswer)
      .addError(problems.invalid)
      .addError(problems.unavailable)
      .annotate(OpenApi.Summary, "Read the books")
      .annotate(
        OpenApi.Description,
        "One snapshot of the committed counts: they balance, and survive restarts (G4)."
      )
  )
  .add(
    HttpApiEndpoint.get("topics", "/topics")
      .setUrlParams(parameters({ limit: optional(Limit), after: optional(Topic) }))
      .addSuccess(TopicsAnswer)
      .addError(problems.invalid)
      .addError(problems.unavailable)
      .annotate(OpenApi.Summary, "List topics in alphabetical order")
  )
  .add(
    HttpApiEndpoint.get("sources", "/sources")
      .setUrlParams(
        parameters({
          topic: optional(textParameter(topicPatternRule, parseTopicPattern)),
          source: optional(Source),
          limit: optional(Limit),
          after: optional(
            wholeParameter(0, Number.MAX_SAFE_INTEGER).annotations({
              description: "The `next` of a page, to go on behind it."
            })
          )
        })
      )
      .addSuccess(SourcesAnswer)
      .addError(problems.invalid)
      .addError(problems.unavailable)
      .annotate(OpenApi.Summary, "List the sequences of sources")
      .annotate(
        OpenApi.Description,
        "For each topic and source whose events have a `sequence`: what is contiguous, which gaps are open, what was given " +
          "up, came late or was numbered twice. In the order in which the series were opened."
      )
  )

const BackupFile = HttpApiSchema.Uint8Array({ contentType: backupContentType }).annotations({
  identifier: "BackupFile",
  description: "A SQLite database file, named in `Content-Disposition`."
})

const backing = HttpApiGroup.make("backup").add(
  HttpApiEndpoint.get("backup", "/backup")
    .setUrlParams(NoParameters)
    .addSuccess(BackupFile)
    .addError(problems.invalid)
    .addError(problems.unsupportedBackup)
    .addError(problems.unavailable)
    .annotate(OpenApi.Summary, "Fetch a backup of the whole store")
    .annotate(
      OpenApi.Description,
      "The database at one committed state, not older than the request; publishing goes on meanwhile. The answer begins " +
        "when the copy is made. One at a time: a second one gets 503. Put into service, a backup begins a new epoch."
    )
)

/** The type of the text for Prometheus. */
export const metricsContentType = "text/plain; version=0.0.4; charset=utf-8"

const FiguresText = HttpApiSchema.withEncoding(
  Schema.String.annotations({
    identifier: "Figures",
    description: "Prometheus' exposition format."
  }),
  { kind: "Text", contentType: metricsContentType }
)

const metrics = HttpApiGroup.make("metrics").add(
  HttpApiEndpoint.get("metrics", "/metrics")
    .setUrlParams(NoParameters)
    .addSuccess(FiguresText)
    .addError(problems.invalid)
    .annotate(OpenApi.Summary, "The service's figures, for Prometheus")
    .annotate(
      OpenApi.Description,
      "It is answered while the service drains, too, and while the store cannot be read: then without the store's figures."
    )
)

const health = HttpApiGroup.make("health")
  .add(
    HttpApiEndpoint.get("live", "/health/live")
      .setUrlParams(NoParameters)
      .addSuccess(HealthAnswer)
      .addError(problems.invalid)
      .annotate(OpenApi.Summary, "Whether the process serves")
  )
  .add(
    HttpApiEndpoint.get("ready", "/health/ready")
      .setUrlParams(NoParameters)
      .addSuccess(HealthAnswer)
      .addError(problems.invalid)
      .addError(problems.unavailable)
      .annotate(OpenApi.Summary, "Whether the service can store events")
  )

/** The version of the service and of its contract. */
export const version = "0.1.0"

/** The contract of the service. */
export class Api extends HttpApi.make("sekali")
  .add(publishing)
  .add(reading)
  .add(backing)
  .add(metrics)
  .add(health)
  .annotate(OpenApi.Title, "Sekali")
  .annotate(OpenApi.Version, version)
  .annotate(
    OpenApi.Description,
    "A publish-subscribe log aggregator: publish events as often as you like, and each takes effect exactly once."
  )
  .annotate(OpenApi.Transform, withoutPlatformErrors) {}

// Every decoding error of the platform is answered as one of our problems, so its own error, and the 400 that it stands
// for, is taken out of the pages. Only a publish has a 400 of its own, which the platform has put under the same answer.
function withoutPlatformErrors(spec: Record<string, unknown>): Record<string, unknown> {
  const { paths, components } = spec as unknown as Pages
  const schemas = Object.entries(components.schemas).filter(([name]) => !platformSchemas.has(name))
  const cleaned = Object.entries(paths).map(([path, operations]) => [
    path,
    Object.fromEntries(
      Object.entries(operations).map(([method, { responses, ...operation }]) => {
        const { 400: platform, ...others } = responses
        const own = platform?.content["application/json"]?.schema.anyOf?.find(
          ({ $ref }) => $ref === undefined
        )
        const malformed = own && {
          description: own.description,
          content: { "application/problem+json": { schema: own } }
        }
        return [method, { ...operation, responses: { ...others, ...(malformed && { 400: malformed }) } }]
      })
    )
  ])
  return {
    ...spec,
    paths: Object.fromEntries(cleaned),
    components: { ...components, schemas: Object.fromEntries(schemas) }
  }
}

const platformSchemas = new Set(["HttpApiDecodeError", "Issue", "PropertyKey"])

interface PageSchema {
  readonly $ref?: string
  readonly description?: string
  readonly anyOf?: ReadonlyArray<PageSchema>
}

/** What of the generated contract is looked into. */
interface Pages {
  readonly components: { readonly schemas: Readonly<Record<string, unknown>> }
  readonly paths: Readonly<Record<string, Readonly<Record<string, PageOperation>>>>
}

interface PageOperation {
  readonly responses: Readonly<
    Record<string, { readonly content: Readonly<Record<string, { readonly schema: PageSchema }>> }>
  >
}
