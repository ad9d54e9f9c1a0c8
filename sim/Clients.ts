/**
 * Those who use the service in a run: publishers that send again until they are answered, readers that follow the
 * offsets, and observers that ask at any moment. Each is a process of its own on the simulated network. All that they
 * ask and are told goes into the history, as they see it; they draw no conclusions.
 */
import { Cause, Duration, Effect, Random, Schedule } from "effect"
import type { Entry, Operation, PageParameters } from "./History.ts"
import type { Answer, Request } from "./Network.ts"
import type {
  PlannedEvent,
  PlannedObserver,
  PlannedPublisher,
  PlannedReader,
  PlannedSubmission
} from "./Plan.ts"
import type { Process, World } from "./World.ts"

/** What clients need of the run they are part of. */
export interface Stage {
  readonly world: World
  /** Of the service that they use. */
  readonly address: string
  readonly record: (entry: Entry) => void
  /** Whether every publisher is done: then readers read what is left and end. */
  readonly published: () => boolean
  /** Whether the faults have stopped. */
  readonly calm: () => boolean
}

/** How long a client waits for an answer before it takes the connection for dead, unless its plan says otherwise. */
const patienceMillis = 15_000

const backoff = Schedule.exponential("20 millis").pipe(
  Schedule.union(Schedule.spaced("2 seconds")),
  Schedule.jittered
)

/** One request, with its entries in the history; nothing where no answer came. */
export const call = (
  stage: Stage,
  process: Process,
  request: Request,
  operation: Operation,
  timeoutMillis = patienceMillis
) =>
  Effect.suspend(() => {
    const { world, record } = stage
    const number = (calls.get(process) ?? 0) + 1
    calls.set(process, number)
    // The network counts the requests of a client in the same way, so both speak of one exchange by one name.
    const id = `${process.name}.${number}`
    const at = () => world.time.now
    record({ kind: "invoked", at: at(), process: process.name, call: id, operation })
    return world.network.send(process.name, stage.address, request, { timeoutMillis }).pipe(
      Effect.tap(({ status, headers, body }) =>
        Effect.sync(() => record({ kind: "returned", at: at(), call: id, status, headers, body }))
      ),
      Effect.tapErrorCause((cause) =>
        Effect.sync(() => {
          const why = tagOf(Cause.squash(cause))
          if (why === "Refused") record({ kind: "refused", at: at(), call: id })
          else record({ kind: "unknown", at: at(), call: id, why })
        })
      ),
      Effect.either
    )
  })

const tagOf = (error: unknown): string =>
  typeof error === "object" && error !== null && "_tag" in error ? String(error._tag) : "lost"

const calls = new WeakMap<Process, number>()

// ---------- publishers ----------

const eventText = ({ topic, id, source, timestamp, payload, sequence }: PlannedEvent): string => {
  const head = JSON.stringify({ topic, event_id: id, timestamp, source, sequence })
  return `${head.slice(0, -1)},"payload":${payload}}`
}

const publishRequest = ({ shape, minimal }: PlannedSubmission, events: ReadonlyArray<string>): Request => {
  const body = {
    one: events[0] ?? "",
    array: `[${events.join(",")}]`,
    envelope: `{"events":[${events.join(",")}]}`,
    lines: events.join("\n")
  }[shape]
  return {
    method: "POST",
    url: "/publish",
    headers: {
      "content-type": shape === "lines" ? "application/x-ndjson" : "application/json",
      ...(minimal ? { prefer: "return=minimal" } : {})
    },
    body
  }
}

/** Sends each submission until it is answered with anything but "send it again", or patience ends. */
export const publisher = (stage: Stage, process: Process, plan: PlannedPublisher) =>
  Effect.forEach(
    plan.submissions,
    (submission, index) =>
      Effect.gen(function* () {
        yield* Effect.sleep(Duration.millis(submission.pauseMillis))
        const name = `${process.name}/${index}`
        const events = submission.events.map(eventText)
        const request = publishRequest(submission, events)
        const step = yield* Schedule.driver(backoff)
        for (let attempt = 1; ; attempt++) {
          const answer = yield* call(stage, process, request, {
            type: "publish",
            submission: name,
            attempt,
            events,
            minimal: submission.minimal
          })
          if (answer._tag === "Right" && answer.right.status !== 503) return
          if (attempt === plan.attemptsMax) {
            stage.record({ kind: "gave up", at: stage.world.time.now, submission: name })
            stage.world.counters.count("client: gave up")
            return
          }
          stage.world.counters.count("client: sent again")
          yield* Effect.ignore(step.next(undefined))
        }
      }),
    { discard: true }
  )

// ---------- readers ----------

interface Page {
  readonly next: number
  readonly more: boolean
}

const pageOf = (answer: Answer): Page | undefined => {
  try {
    const { next, more } = JSON.parse(answer.body) as Page
    return typeof next === "number" && typeof more === "boolean" ? { next, more } : undefined
  } catch {
    return undefined
  }
}

/** Parameters as the query of a request. */
export const query = (parameters: PageParameters): string => {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined)
  const texts = given.map(([name, value]): [string, string] => [name, String(value)])
  return texts.length === 0 ? "" : `?${new URLSearchParams(texts)}`
}

/** Follows the offsets from the first, and ends when the end is reached after the last publisher is done. */
export const reader = Effect.fnUntraced(function* (stage: Stage, process: Process, plan: PlannedReader) {
  let after: number | undefined
  // Where nothing new comes, a reader asks less and less often.
  let pauseMillis = plan.pauseMillis
  for (;;) {
    const last = stage.published()
    const parameters = { limit: plan.limit, topic: plan.topic ?? undefined, after }
    const answer = yield* call(
      stage,
      process,
      { method: "GET", url: `/events${query(parameters)}` },
      { type: "page", parameters, reader: process.name },
      stage.calm() ? patienceMillis : plan.patienceMillis
    )
    // A reader whose cursor is refused has nothing to go on with; the checker sees the refusal.
    if (answer._tag === "Right" && answer.right.status === 422) return
    const page = answer._tag === "Right" && answer.right.status === 200 ? pageOf(answer.right) : undefined
    // A connection that breaks under it brings it back soon: it is among the first that a new process answers.
    const isBroken = answer._tag === "Left" && answer.left._tag === "Reset"
    const isIdle = page === undefined ? !isBroken : page.next === after
    pauseMillis = isIdle ? Math.min(pauseMillis * 3, 2000) : plan.pauseMillis
    if (page !== undefined) {
      after = page.next
      if (page.more) {
        stage.world.counters.count("client: more to read")
        continue
      }
      if (last) return
    }
    yield* Effect.sleep(Duration.millis(pauseMillis))
  }
})

// ---------- observers ----------

/** How often a call is made again where nobody listened. */
const refusalsMax = 5

/** Makes its calls, each again while nobody listens, and once otherwise, whatever comes of it. */
export const observer = (
  stage: Stage,
  process: Process,
  plan: PlannedObserver,
  known: ReadonlyArray<PlannedEvent>
) => {
  const get = (url: string, operation: Operation, headers: Readonly<Record<string, string>> = {}) =>
    call(stage, process, { method: "GET", url, headers }, operation, plan.patienceMillis)
  const lookup = Effect.flatMap(Random.nextIntBetween(0, Math.max(1, known.length)), (index) => {
    const { topic, id } = known[index] ?? { topic: "none", id: "none" }
    return get(`/events/${topic}/${encodeURIComponent(id)}`, { type: "lookup", topic, event_id: id })
  })
  const asking = {
    stats: get("/stats", { type: "stats" }),
    metrics: get("/metrics", { type: "metrics" }),
    topics: get("/topics?limit=2", { type: "topics", limit: 2 }),
    conflicts: get("/conflicts?limit=2", { type: "conflicts", limit: 2 }),
    newest: get("/events?limit=3&order=desc", { type: "page", parameters: { limit: 3, order: "desc" } }),
    lines: get("/events", { type: "stream", parameters: {} }, { accept: "application/x-ndjson" }),
    lookup
  }
  const pause = Effect.sleep(Duration.millis(plan.pauseMillis))
  return Effect.forEach(
    plan.calls,
    (kind) =>
      Effect.gen(function* () {
        for (let refusals = 0; refusals <= refusalsMax; refusals++) {
          yield* pause
          const answer = yield* asking[kind]
          if (answer._tag === "Right")
            stage.world.counters.count(`observer: ${kind} told ${answer.right.status}`)
          if (answer._tag === "Right" || answer.left._tag !== "Refused") return
          yield* Effect.sleep("60 millis")
        }
      }),
    { discard: true }
  )
}

/** Reads the books once more, until they are answered. */
export const lastLook = Effect.fnUntraced(function* (stage: Stage, process: Process) {
  for (;;) {
    const answer = yield* call(stage, process, { method: "GET", url: "/stats" }, { type: "stats" })
    if (answer._tag === "Right" && answer.right.status === 200) return
    yield* Effect.sleep("100 millis")
  }
})
