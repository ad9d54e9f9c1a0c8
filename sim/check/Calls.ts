/**
 * A history sorted by calls: what each asked, which copies of it reached a server, and what came back. Places in the
 * history are indexes of entries; what returned before another was invoked happened before it, and nothing else is
 * concluded from times. A history that contradicts itself is a fault of whoever wrote it, not of the service, and throws.
 */
import type { Entry, Operation, PageParameters } from "../History.ts"
import {
  type ConflictedKey,
  type KnownAnswer,
  type Listing,
  type MetricsAnswer,
  Misshapen,
  type PageAnswer,
  type PublishAnswer,
  problemType,
  readConflicts,
  readKnown,
  readMetrics,
  readPage,
  readPublish,
  readStats,
  readStream,
  readTopics,
  type StatsAnswer,
  type TopicBook
} from "./Answers.ts"
import { foldTopic } from "./Filter.ts"
import { readJson } from "./Json.ts"
import type { Guarantee, Report } from "./Report.ts"
import { getOrMake } from "./Rising.ts"

/** An event as it was sent. */
export interface Sent {
  readonly key: string
  readonly topic: string
  readonly eventId: string
  readonly timestamp: string
  readonly source: string
  /** Canonical JSON. */
  readonly payload: string
  readonly sequence: number | null
  readonly origin: string | null
  /** Equal for events of the same content: those that do not conflict under one key. */
  readonly content: string
  /** Equal for events of which a store keeps the same. */
  readonly identity: string
}

/** A request, from its sender's side. */
export interface Call {
  readonly id: string
  readonly process: string
  readonly operation: Operation
  readonly invalid: boolean
  readonly invoked: number
  /** Where it returned or was given up; infinity if the history ends before. */
  settled: number
  /** What came back, if anything did. */
  returned:
    | { readonly status: number; readonly headers: Readonly<Record<string, string>>; readonly body: string }
    | undefined
  /** Where its copies reached a server. */
  readonly deliveries: Array<number>
}

/** A call that was answered as it wished: between `invoked` and `settled` this was so. */
export interface Answered<A, O extends Operation["type"] = Operation["type"]> {
  readonly call: Call
  readonly operation: Extract<Operation, { type: O }>
  readonly answer: A
}

/** A publish, answered or not. */
export interface Publish {
  readonly call: Call
  readonly submission: string
  readonly sent: ReadonlyArray<Sent>
  readonly minimal: boolean
  /** Those deliveries that may have been carried out. */
  readonly possible: ReadonlyArray<number>
  /** The answer, if it was a 2xx. */
  readonly answer: PublishAnswer | undefined
}

/** A page, or a stream, and what it was asked for. */
export interface Page extends Answered<PageAnswer, "page" | "stream"> {
  readonly parameters: PageParameters
}

/** The calls of a history. Lists of answers are in the order in which they returned. */
export interface Calls {
  readonly all: ReadonlyArray<Call>
  /** In the order in which they were invoked. */
  readonly publishes: ReadonlyArray<Publish>
  readonly pages: ReadonlyArray<Page>
  /** The answer is nothing where there was no such event. */
  readonly lookups: ReadonlyArray<Answered<KnownAnswer | undefined, "lookup">>
  readonly stats: ReadonlyArray<Answered<StatsAnswer, "stats">>
  readonly metrics: ReadonlyArray<Answered<MetricsAnswer, "metrics">>
  readonly topics: ReadonlyArray<Answered<Listing<TopicBook, string>, "topics">>
  readonly conflicts: ReadonlyArray<Answered<Listing<ConflictedKey, number>, "conflicts">>
}

/** Sorts a history; answers that the contract does not know are reported. */
export const callsOf = (history: ReadonlyArray<Entry>, report: Report): Calls => {
  const all = gather(history)
  const settled = all.filter(({ returned }) => returned !== undefined)
  settled.sort((left, right) => left.settled - right.settled)
  const sentOf = makeSentOf()

  const pages: Array<Page> = []
  const lookups: Array<Answered<KnownAnswer | undefined, "lookup">> = []
  const stats: Array<Answered<StatsAnswer, "stats">> = []
  const metrics: Array<Answered<MetricsAnswer, "metrics">> = []
  const topics: Array<Answered<Listing<TopicBook, string>, "topics">> = []
  const conflicts: Array<Answered<Listing<ConflictedKey, number>, "conflicts">> = []
  const published = new Map<Call, PublishAnswer>()

  const read = (call: Call, body: string): void => {
    const { operation } = call
    switch (operation.type) {
      case "publish":
        published.set(call, readPublish(body))
        break
      case "page":
        pages.push({ call, operation, parameters: operation.parameters, answer: readPage(body) })
        break
      case "stream": {
        const { parameters } = operation
        const answer = readStream(body, parameters.after, parameters.limit)
        pages.push({ call, operation, parameters, answer })
        break
      }
      case "lookup":
        lookups.push({ call, operation, answer: readKnown(body) })
        break
      case "stats":
        stats.push({ call, operation, answer: readStats(body) })
        break
      case "metrics":
        metrics.push({ call, operation, answer: readMetrics(body) })
        break
      case "topics":
        topics.push({ call, operation, answer: readTopics(body) })
        break
      case "conflicts":
        conflicts.push({ call, operation, answer: readConflicts(body) })
        break
    }
  }

  for (const call of settled) {
    const { operation, returned } = call
    if (returned === undefined || call.invalid) continue
    if (operation.type === "lookup" && returned.status === 404) {
      lookups.push({ call, operation, answer: undefined })
    } else if (returned.status === (operation.type === "publish" ? 202 : 200)) {
      try {
        read(call, returned.body)
      } catch (error) {
        if (!(error instanceof Misshapen)) throw error
        const detail = `the answer to ${describe(call)} is not what the contract says: ${error.message}`
        report.add(answerGuarantee[operation.type], detail, call.settled)
      }
    }
  }

  const publishes = all.flatMap((call): ReadonlyArray<Publish> => {
    const { operation } = call
    if (operation.type !== "publish" || call.invalid) return []
    return [
      {
        call,
        submission: operation.submission,
        sent: operation.events.map(sentOf),
        minimal: operation.minimal ?? false,
        possible: possibleDeliveries(call),
        answer: published.get(call)
      }
    ]
  })
  return { all, publishes, pages, lookups, stats, metrics, topics, conflicts }
}

/** A call, for people. */
export const describe = ({ id, process, operation }: Call): string => {
  const what =
    operation.type === "publish"
      ? `publish of ${operation.submission} (attempt ${operation.attempt})`
      : operation.type
  return `the ${what} ${id} of ${process}`
}

/** The guarantee that a misshapen answer breaks: the one that speaks of what it should have told. */
const answerGuarantee: Readonly<Record<Operation["type"], Guarantee>> = {
  publish: "G8",
  page: "G5",
  stream: "G5",
  subscribe: "G5",
  lookup: "G5",
  stats: "G4",
  metrics: "G4",
  topics: "G4",
  conflicts: "G4"
}

const gather = (history: ReadonlyArray<Entry>): ReadonlyArray<Call> => {
  const calls = new Map<string, Call>()
  const known = (id: string): Call => {
    const call = calls.get(id)
    if (call === undefined) throw new Error(`the history knows of ${id} before it was invoked`)
    return call
  }
  const settle = (id: string, index: number): Call => {
    const call = known(id)
    if (call.settled !== Number.POSITIVE_INFINITY) throw new Error(`${id} was settled twice`)
    call.settled = index
    return call
  }
  let now = 0
  for (const [index, entry] of history.entries()) {
    if (entry.at < now) throw new Error(`time falls at entry ${index} of the history`)
    now = entry.at
    switch (entry.kind) {
      case "invoked":
        if (calls.has(entry.call)) throw new Error(`${entry.call} was invoked twice`)
        calls.set(entry.call, {
          id: entry.call,
          process: entry.process,
          operation: entry.operation,
          invalid: entry.invalid ?? false,
          invoked: index,
          settled: Number.POSITIVE_INFINITY,
          returned: undefined,
          deliveries: []
        })
        break
      case "delivered":
        known(entry.call).deliveries.push(index)
        break
      case "returned": {
        const call = settle(entry.call, index)
        if (call.deliveries.length === 0) throw new Error(`${entry.call} was answered, but never delivered`)
        call.returned = entry
        break
      }
      case "unknown":
      case "refused":
        settle(entry.call, index)
        break
    }
  }
  return [...calls.values()]
}

/** Problems that say of themselves that nothing was stored. */
const nothingStored = new Set(["overloaded", "draining"])

// An answer speaks for one copy only: where it says that nothing was stored, the others may have been carried out. Which
// copy it was is not known; to leave out the last one leaves the most room at every moment.
const possibleDeliveries = ({ deliveries, returned }: Call): ReadonlyArray<number> => {
  if (returned === undefined) return deliveries
  const { status, body } = returned
  const nothing =
    (status >= 400 && status < 500) || (status === 503 && nothingStored.has(problemType(body) ?? ""))
  return nothing ? deliveries.slice(0, -1) : deliveries
}

/** Reads events as they were sent. Attempts repeat them, so each text is read once. */
const makeSentOf = (): ((text: string) => Sent) => {
  const known = new Map<string, Sent>()
  return (text) => getOrMake(known, text, () => readSent(text))
}

const readSent = (text: string): Sent => {
  const event = readJson(text)
  if (!(event instanceof Map)) throw new Error("an event that was sent is not an object")
  const member = (name: string): string => {
    const value = event.get(name)
    if (typeof value !== "string") throw new Error(`an event that was sent has no ${name}`)
    return value
  }
  const topic = foldTopic(member("topic"))
  const eventId = member("event_id")
  const sequence = event.get("sequence")
  const origin = event.get("origin")
  const rest = {
    timestamp: member("timestamp"),
    source: member("source"),
    payload: event.has("payload") ? member("payload") : "{}",
    sequence: typeof sequence === "number" ? sequence : null,
    origin: typeof origin === "string" ? origin : null
  }
  return {
    key: keyOf(topic, eventId),
    topic,
    eventId,
    ...rest,
    content: contentOf(rest),
    identity: identityOf(rest)
  }
}

/** The key of an event; neither half has a line's end in it. */
export const keyOf = (topic: string, eventId: string): string => `${topic}\n${eventId}`

/** What makes two deliveries under one key the same. */
export const contentOf = ({ source, payload }: Pick<Sent, "source" | "payload">): string =>
  `${source}\n${payload}`

/** All that a store keeps of an event besides its key. */
export const identityOf = (event: Omit<Sent, "key" | "topic" | "eventId" | "content" | "identity">): string =>
  `${event.timestamp}\n${event.sequence}\n${event.origin}\n${event.source}\n${event.payload}`
