/**
 * A service as its publishers and readers see it: events as they are sent, calls, and the whole store read back by
 * following offsets.
 */

/** An event as it is sent. */
export interface SentEvent {
  readonly topic: string
  readonly event_id: string
  readonly timestamp: string
  readonly source: string
  readonly payload: unknown
}

/** An event as it is read. */
export interface ReadEvent extends SentEvent {
  readonly offset: number
}

/** The answer to a publish. */
export interface PublishAnswer {
  readonly accepted: number
  readonly stored: number
  readonly duplicates: number
  readonly conflicts: number
  readonly results: ReadonlyArray<{ readonly outcome: string; readonly offset: number }>
}

/** The books of the service. */
export interface Stats {
  readonly received: number
  readonly unique_processed: number
  readonly duplicate_dropped: number
  readonly conflicts: number
  readonly queue: { readonly events: number; readonly bytes: number }
  readonly availability: {
    readonly last_24_hours: AvailabilityWindow
    readonly last_30_days: AvailabilityWindow
    readonly recovery_seconds: number
  }
}

/** For how much of a time the service could store events. */
export interface AvailabilityWindow {
  readonly share: number
  readonly downtime_seconds: number
}

/** An error's answer. */
export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
}

/** The n-th event of a source: its key, topic and payload follow from n. */
export const eventNumber = (n: number, source = "service-a", padding = ""): SentEvent => ({
  topic: `topic-${n % 10}`,
  event_id: `${source}-${n}`,
  timestamp: "2026-11-22T10:00:00.000Z",
  source,
  payload: { level: "info", message: `line ${n}`, ...(padding === "" ? {} : { padding }) }
})

/** So many events of a source, from its first one on. */
export const eventNumbers = (count: number, source?: string): ReadonlyArray<SentEvent> =>
  Array.from({ length: count }, (_, n) => eventNumber(n, source))

/** What makes an event the one it is. */
export const keyOf = ({ topic, event_id }: Pick<SentEvent, "topic" | "event_id">): string =>
  `${topic}/${event_id}`

/** Lists cut into pieces of so many. */
export const inBatches = <A>(all: ReadonlyArray<A>, size: number): ReadonlyArray<ReadonlyArray<A>> =>
  Array.from({ length: Math.ceil(all.length / size) }, (_, index) =>
    all.slice(index * size, (index + 1) * size)
  )

/** Publishes events in one request; anything but their acceptance is an error. */
export const publish = async (url: string, events: ReadonlyArray<SentEvent>): Promise<PublishAnswer> => {
  const response = await publishRequest(url, events)
  if (response.status !== 202) throw new Error(`${response.status}: ${await response.text()}`)
  return (await response.json()) as PublishAnswer
}

/** Publishes events in one request, however it is answered. */
export const publishRequest = (url: string, events: ReadonlyArray<SentEvent>): Promise<Response> =>
  fetch(`${url}/publish`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(events)
  })

const read = async <A>(url: string): Promise<A> => {
  const response = await fetch(url)
  if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`)
  return (await response.json()) as A
}

/** The books. */
export const stats = (url: string): Promise<Stats> => read(`${url}/stats`)

/** What the topics' books add up to. */
export const topicTotals = async (url: string): Promise<{ events: number; duplicates: number }> => {
  const { topics } = await read<{ topics: ReadonlyArray<{ events: number; duplicates: number }> }>(
    `${url}/topics?limit=1000`
  )
  return {
    events: topics.reduce((sum, { events }) => sum + events, 0),
    duplicates: topics.reduce((sum, { duplicates }) => sum + duplicates, 0)
  }
}

/** One page behind an offset. */
export const eventsAfter = (
  url: string,
  after: number,
  limit = 1000
): Promise<{ readonly events: ReadonlyArray<ReadEvent>; readonly next: number; readonly more: boolean }> =>
  read(`${url}/events?after=${after}&limit=${limit}`)

/** The whole store in its order. */
export const allEvents = async (url: string): Promise<ReadonlyArray<ReadEvent>> => {
  const all: Array<ReadEvent> = []
  let after = 0
  while (true) {
    const { events, next, more } = await eventsAfter(url, after)
    all.push(...events)
    if (!more) return all
    after = next
  }
}

/** Asks again and again, without a pause of its own, until the answer satisfies. */
export const until = async <A>(ask: () => Promise<A>, satisfies: (answer: A) => boolean): Promise<A> => {
  while (true) {
    const answer = await ask()
    if (satisfies(answer)) return answer
  }
}
