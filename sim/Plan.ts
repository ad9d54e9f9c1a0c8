/**
 * What is asked of the service in one run: who publishes what, who reads, and when the machine fails. A plan is plain
 * data, drawn with fast-check from a seed, so that it can be printed, kept, and made smaller when a run has failed. It
 * holds no luck: that is in the choices, which are drawn beside it.
 *
 * Keys come from a small pool, so that the same id is met again with the same content, with other content, in another
 * topic and in another spelling of the topic, by the same publisher and by others.
 */
import fc from "fast-check"
import type { KeyIndexLimits } from "../src/Config.ts"

/** An event to be sent. `payload` is JSON text, so that numbers stay what they are. */
export interface PlannedEvent {
  readonly topic: string
  readonly id: string
  readonly source: string
  readonly timestamp: string
  readonly payload: string
  /** In a part of the plans. */
  readonly sequence?: number
}

/** The events of one request, and how they are written. */
export interface PlannedSubmission {
  readonly events: ReadonlyArray<PlannedEvent>
  readonly shape: "one" | "array" | "envelope" | "lines"
  readonly minimal: boolean
  /** How long the publisher waits before it sends this. */
  readonly pauseMillis: number
}

/** Sends its submissions one after the other. */
export interface PlannedPublisher {
  readonly submissions: ReadonlyArray<PlannedSubmission>
  /** How often a submission is sent before it is given up with its outcome unknown; 0: until it is answered. */
  readonly attemptsMax: number
}

/** Follows the offsets from the beginning until the end of the run. */
export interface PlannedReader {
  readonly limit: number
  readonly topic: string | null
  readonly pauseMillis: number
  /** How long it waits for an answer before it goes away and asks again; when the faults have stopped, long enough. */
  readonly patienceMillis: number
}

/** Asks this and that at any moment. */
export interface PlannedObserver {
  readonly calls: ReadonlyArray<"stats" | "metrics" | "topics" | "conflicts" | "lookup" | "newest" | "lines">
  readonly pauseMillis: number
  /** How long it waits for an answer before it goes away. */
  readonly patienceMillis: number
}

/** Follows a topic as it grows, and is killed and started again. */
export interface PlannedSubscriber {
  readonly topic: string | null
  readonly from: "the beginning" | "now"
  /** How long it takes over each event. */
  readonly readMillis: number
  readonly outages: ReadonlyArray<{ readonly afterMillis: number; readonly downMillis: number }>
}

/** The server's process ends. */
export interface PlannedOutage {
  readonly kind: "kill" | "power cut" | "stop"
  /** Since the one before it happened, or since the start. */
  readonly afterMillis: number
  /**
   * What it falls into after that time: the next step; or the n-th change to the disk or sync, in its middle; or the
   * moment in which the n-th good answer leaves, to anyone or to who reads; or the moment in which publishes crowd. A
   * stop falls into such a crowd, or between two steps.
   */
  readonly within: "a step" | "a change" | "a sync" | "an answer" | "a reading" | "a crowd"
  /** The n of that. */
  readonly count: number
  readonly downMillis: number
}

/** Another aggregator, which exchanges its events with the first one through mirrors. */
export interface PlannedPeer {
  readonly publishers: ReadonlyArray<PlannedPublisher>
  readonly readers: ReadonlyArray<PlannedReader>
  readonly outages: ReadonlyArray<PlannedOutage>
}

/** A mirror is killed and started again. */
export interface PlannedMirrorOutage {
  readonly mirror: number
  readonly afterMillis: number
  readonly downMillis: number
  /** What it finds of the cursor that it kept. */
  readonly cursor: "kept" | "older" | "lost"
}

/** A mirror does not reach the aggregator that it reads, or the one that it publishes to. */
export interface PlannedPartition {
  readonly mirror: number
  readonly side: "from" | "to"
  readonly afterMillis: number
  readonly forMillis: number
}

/** The limits of the service in this run: small, so that each is met. */
export interface PlannedLimits {
  readonly queueEventsMax: number
  readonly queueBytesMax: number
  readonly commitEventsMax: number
  readonly publishSecondsMax: number
  readonly windowRowsMax: number
  readonly checkpointPages: number
  /** When gaps in sequences are given up, where events have any. */
  readonly gaps?: PlannedGaps
  /** Those of the index of keys, if they are not its own. */
  readonly keys?: PlannedKeys
}

/** Limits that are not met by ordinary traffic. */
export const easyLimits: PlannedLimits = {
  queueEventsMax: 64,
  queueBytesMax: 1024 * 1024,
  commitEventsMax: 64,
  publishSecondsMax: 10,
  windowRowsMax: 1000,
  checkpointPages: 1000
}

/** The limits of the index of keys. */
export type PlannedKeys = KeyIndexLimits["Type"]

/** The limits of gaps in sequences. */
export interface PlannedGaps {
  readonly seconds: number
  readonly events: number
  readonly max: number
}

/** A whole run. */
export interface Plan {
  /** Whether the service has run before, for a moment, and left its database; if not, it is created. */
  readonly database?: "left" | "none"
  readonly publishers: ReadonlyArray<PlannedPublisher>
  readonly readers: ReadonlyArray<PlannedReader>
  readonly observers: ReadonlyArray<PlannedObserver>
  /** Of the first aggregator. */
  readonly subscribers: ReadonlyArray<PlannedSubscriber>
  readonly outages: ReadonlyArray<PlannedOutage>
  /**
   * How the time of faults ends: what is acknowledged by then has to be there after it. Without an outage the process
   * goes on, and has to recover by itself.
   */
  readonly lastOutage: "kill" | "power cut" | "stop" | "none"
  readonly limits: PlannedLimits
  /**
   * In most runs none. A mirror copies from the first aggregator to the first peer, one from each peer to the next, and
   * one from the last back to the first: with one peer both ways, with two in a ring.
   */
  readonly peers: ReadonlyArray<PlannedPeer>
  readonly mirrorOutages: ReadonlyArray<PlannedMirrorOutage>
  readonly partitions: ReadonlyArray<PlannedPartition>
}

/** No request of a plan has more events than this. */
export const requestEventsMax = 6

const topics = ["app.log", "app.audit", "metrics"] as const
const spellings = { "app.log": "App.Log", "app.audit": "APP.audit", metrics: "METRICS" } as const

const payloads = [
  "{}",
  '{"n":1}',
  '{"n":2}',
  '{"text":"café","list":[1,2,3],"deep":{"a":null,"b":true}}',
  '{"big":12345678901234567890,"small":0.1}',
  `{"text":"${"x".repeat(700)}"}`
] as const

const timestamps = [
  "2026-11-22T10:00:00Z",
  "2026-11-22T17:00:00.250+07:00",
  "2026-11-22T09:59:59.999999Z"
] as const

const event = (publisher: number): fc.Arbitrary<PlannedEvent> =>
  fc
    .record({
      topic: fc.constantFrom(...topics),
      otherSpelling: fc.boolean(),
      shared: fc.boolean(),
      number: fc.nat(11),
      // The content follows the key unless told otherwise, so that most repetitions are duplicates.
      deviates: fc.constantFrom(0, 0, 0, 0, 0, 0, 1, 2),
      timestamp: fc.constantFrom(...timestamps),
      spaced: fc.boolean()
    })
    .map(({ topic, otherSpelling, shared, number, deviates, timestamp, spaced }) => {
      const owner = shared ? "s" : `p${publisher}`
      const payload = payloads[(number + (deviates === 1 ? 1 : 0)) % payloads.length] ?? payloads[0]
      return {
        topic: otherSpelling ? spellings[topic] : topic,
        id: `${owner}-${number}`,
        source: deviates === 2 ? "other" : `source-${number % 2}`,
        timestamp,
        payload: spaced ? payload.replaceAll(":", " : ").replaceAll(",", ", ") : payload
      }
    })

const submission = (publisher: number): fc.Arbitrary<PlannedSubmission> =>
  fc
    .record({
      events: fc.array(event(publisher), { minLength: 1, maxLength: requestEventsMax }),
      batch: fc.constantFrom("array" as const, "envelope" as const, "lines" as const),
      minimal: fc.constantFrom(false, false, false, true),
      pauseMillis: fc.constantFrom(0, 1, 10, 100, 800)
    })
    .map(({ events, batch, minimal, pauseMillis }) => ({
      events,
      shape: events.length === 1 ? "one" : batch,
      minimal,
      pauseMillis
    }))

const publisher = (index: number, submissionsMax = 6): fc.Arbitrary<PlannedPublisher> =>
  fc.record({
    submissions: fc.array(submission(index), { minLength: 1, maxLength: submissionsMax }),
    attemptsMax: fc.constantFrom(0, 0, 0, 1, 3)
  })

const limits: fc.Arbitrary<PlannedLimits> = fc.record({
  queueEventsMax: fc.constantFrom(64, 16, 8, requestEventsMax),
  queueBytesMax: fc.constantFrom(1024 * 1024, 32 * 1024, 8 * 1024),
  commitEventsMax: fc.constantFrom(64, 12, requestEventsMax),
  publishSecondsMax: fc.constantFrom(5, 2),
  windowRowsMax: fc.constantFrom(1000, 3, 1),
  checkpointPages: fc.constantFrom(1000, 20, 4),
  keys: fc.record({
    youngKeysMax: fc.constantFrom(32_768, 32_768, 2, 2, 5, 16),
    keysPerPage: fc.constantFrom(200, 2, 1),
    runsPerMerge: fc.constantFrom(8, 3, 2, 2),
    pagesPerStep: fc.constantFrom(32, 2, 1, 1),
    filterBytesMax: fc.constantFrom(1024 * 1024, 1024 * 1024, 16, 0)
  })
})

const outage: fc.Arbitrary<ReadonlyArray<PlannedOutage>> = fc
  .record({
    kind: fc.constantFrom("kill" as const, "power cut" as const, "stop" as const, "stop" as const),
    afterMillis: fc.constantFrom(5, 20, 60, 150, 400),
    within: fc.constantFrom(
      "a step" as const,
      "a change" as const,
      "a sync" as const,
      "an answer" as const,
      "a crowd" as const,
      "a crowd" as const
    ),
    count: fc.constantFrom(1, 2, 3, 5, 8, 13, 21),
    downMillis: fc.constantFrom(1, 20, 400)
  })
  .map((outage) => [outage])

// A process dies as it syncs what it has written; another one recovers that, and the power goes as soon as somebody has
// been told of it.
const killThenCut: fc.Arbitrary<ReadonlyArray<PlannedOutage>> = fc
  .record({
    afterMillis: fc.constantFrom(20, 60, 150),
    syncs: fc.constantFrom(1, 1, 1, 2, 3),
    answers: fc.constantFrom(1, 1, 1, 2, 4),
    within: fc.constantFrom("an answer" as const, "a reading" as const)
  })
  .map(({ afterMillis, syncs, answers, within }) => [
    { kind: "kill", afterMillis, within: "a sync", count: syncs, downMillis: 1 },
    // It counts from the next process on: that is started after the millisecond of this one's end.
    { kind: "power cut", afterMillis: 2, within, count: answers, downMillis: 20 }
  ])

// Those who go away do so while they wait for their turn, or in the moment in which it comes.
const patience = fc.constantFrom(15_000, 15_000, 15_000, 1, 2, 4, 8)

const reader: fc.Arbitrary<PlannedReader> = fc.record({
  limit: fc.constantFrom(100, 1, 2, 5),
  topic: fc.constantFrom(null, null, "app.>", "app.log", "*"),
  pauseMillis: fc.constantFrom(1, 5, 40),
  patienceMillis: patience
})

const subscriber: fc.Arbitrary<PlannedSubscriber> = fc.record({
  topic: fc.constantFrom(null, null, "app.>", "app.log", "*"),
  from: fc.constantFrom("the beginning" as const, "the beginning" as const, "now" as const),
  readMillis: fc.constantFrom(0, 0, 10, 100),
  outages: fc.array(
    fc.record({
      afterMillis: fc.constantFrom(10, 60, 200, 800),
      downMillis: fc.constantFrom(1, 40, 500)
    }),
    { maxLength: 3 }
  )
})

const noPeers = fc.constant({ peers: [], mirrorOutages: [], partitions: [] })

// Their publishers' own keys begin behind those of the first aggregator's; the shared ones are the same everywhere.
const peer = (index: number): fc.Arbitrary<PlannedPeer> =>
  fc.record({
    publishers: fc.array(publisher(10 + index, 3), { minLength: 1, maxLength: 2 }),
    readers: fc.array(reader, { maxLength: 1 }),
    outages: fc.array(outage, { maxLength: 1 }).map((outages) => outages.flat())
  })

const mirrored = (peers: number) =>
  fc.record({
    peers: fc.tuple(...Array.from({ length: peers }, (_, index) => peer(index))),
    mirrorOutages: fc.array(
      fc.record({
        mirror: fc.nat(peers),
        afterMillis: fc.constantFrom(20, 60, 150, 400, 1000),
        downMillis: fc.constantFrom(1, 100),
        cursor: fc.constantFrom("kept" as const, "kept" as const, "older" as const, "lost" as const)
      }),
      { maxLength: 4 }
    ),
    partitions: fc.array(
      fc.record({
        mirror: fc.nat(peers),
        side: fc.constantFrom("from" as const, "to" as const),
        afterMillis: fc.constantFrom(1, 30, 150, 600),
        forMillis: fc.constantFrom(50, 400, 2000)
      }),
      { maxLength: 3 }
    )
  })

/** Plans of about fifty operations. */
const plainPlan: fc.Arbitrary<Plan> = fc
  .record({
    publishers: fc.integer({ min: 1, max: 3 }),
    readers: fc.array(reader, { maxLength: 2 }),
    observers: fc.array(
      fc.record({
        calls: fc.array(
          fc.constantFrom(
            "stats",
            "stats",
            "metrics",
            "metrics",
            "topics",
            "conflicts",
            "lookup",
            "lookup",
            "newest",
            "lines"
          ),
          {
            minLength: 1,
            maxLength: 10
          }
        ),
        pauseMillis: fc.constantFrom(1, 5, 20, 100, 400),
        patienceMillis: patience
      }),
      { maxLength: 2 }
    ),
    subscribers: fc.oneof(
      { weight: 2, arbitrary: fc.constant([]) },
      { weight: 1, arbitrary: fc.array(subscriber, { minLength: 1, maxLength: 2 }) }
    ),
    outages: fc.array(fc.oneof(outage, killThenCut), {
      maxLength: 2
    }),
    database: fc.oneof(
      { weight: 7, arbitrary: fc.constant("left" as const) },
      { weight: 1, arbitrary: fc.constant("none" as const) }
    ),
    lastOutage: fc.constantFrom("power cut", "power cut", "kill", "stop", "stop", "none", "none"),
    limits,
    exchange: fc.oneof(
      { weight: 58, arbitrary: noPeers },
      { weight: 1, arbitrary: mirrored(1) },
      { weight: 1, arbitrary: mirrored(2) }
    )
  })
  .chain(({ publishers, outages, exchange, ...rest }) =>
    fc
      .tuple(...Array.from({ length: publishers }, (_, index) => publisher(index)))
      .map((list): Plan => ({ publishers: list, outages: outages.flat(), ...rest, ...exchange }))
  )

interface Sequencing {
  /** By how much each number is above the greatest that was given out in its series; or below it. */
  readonly steps: ReadonlyArray<number>
  readonly gaps: PlannedGaps
}

const sequencing: fc.Arbitrary<Sequencing> = fc.record({
  steps: fc.array(fc.constantFrom(1, 1, 1, 1, 1, 1, 2, 3, 5, 0, -1, -2), { minLength: 8, maxLength: 40 }),
  gaps: fc.record({
    seconds: fc.constantFrom(0.4, 2, 30),
    events: fc.constantFrom(2, 10, 10_000),
    max: fc.constantFrom(2, 1000)
  })
})

// Publishers that share a source take turns in giving out its numbers, and send them in whatever order they come to it;
// what is sent again bears another number than before.
const numbered = (plan: Plan, { steps, gaps }: Sequencing): Plan => {
  const given = new Map<string, number>()
  let turn = 0
  const number = ({ topic, source }: PlannedEvent): number => {
    const series = `${topic.toLowerCase()} ${source}`
    const step = steps[turn++ % steps.length] ?? 1
    const last = given.get(series) ?? 5
    given.set(series, Math.max(last, last + step))
    return Math.max(0, last + step)
  }
  const publishers = (list: ReadonlyArray<PlannedPublisher>): ReadonlyArray<PlannedPublisher> =>
    list.map((publisher) => ({
      ...publisher,
      submissions: publisher.submissions.map((submission) => ({
        ...submission,
        events: submission.events.map((event) => ({ ...event, sequence: number(event) }))
      }))
    }))
  return {
    ...plan,
    publishers: publishers(plan.publishers),
    peers: plan.peers.map((peer) => ({ ...peer, publishers: publishers(peer.publishers) })),
    limits: { ...plan.limits, gaps }
  }
}

/** Any plan; in a part of them events have sequences. */
export const planArbitrary: fc.Arbitrary<Plan> = plainPlan.chain((plan) =>
  fc.oneof(
    { weight: 3, arbitrary: fc.constant(plan) },
    { weight: 2, arbitrary: sequencing.map((sequencing) => numbered(plan, sequencing)) }
  )
)

/** The plan of a seed. */
export const planOf = (seed: number): Plan => {
  const [plan] = fc.sample(planArbitrary, { seed, numRuns: 1 })
  if (plan === undefined) throw new Error("fast-check drew no plan")
  return plan
}
