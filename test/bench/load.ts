/**
 * The load: what is sent, and the sending of it over keep-alive connections that have one request under way each.
 * Latency is measured here, at the client, from the moment a request is written until its whole answer is read.
 */
import { eventNumber, inBatches, keyOf, type PublishAnswer, type SentEvent } from "../support/client.ts"
import { type Connection, connect, publishBytes } from "../support/connection.ts"

/** How a load is sent. */
export interface Workload {
  readonly title: string
  /** Events in a request. */
  readonly batch: number
  readonly connections: number
}

/** Deliveries in the order in which they are sent, and how many different events they are. */
export interface Load {
  readonly deliveries: ReadonlyArray<SentEvent>
  readonly unique: number
}

/** What came of a load. */
export interface Sent {
  readonly milliseconds: number
  /** Of each request, in milliseconds. */
  readonly latencies: ReadonlyArray<number>
  /** The share of deliveries that took effect as they should: the first of an event once, all others not at all. */
  readonly accuracy: number
}

const duplicatesShare = 0.2

// A retry follows what it repeats within so many deliveries.
const retriedWithin = 200

/** So many deliveries over ten topics, of which a fifth are repetitions; the same ones each time. */
export const makeLoad = (events: number, source: string): Load => {
  const duplicates = Math.round(events * duplicatesShare)
  const unique = events - duplicates
  const deliveries: Array<SentEvent> = []
  let state = 42
  const chance = (bound: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * bound)
  }
  let made = 0
  while (deliveries.length < events) {
    const left = events - deliveries.length
    const duplicatesLeft = left - (unique - made)
    const repeats = made > 0 && chance(left) < duplicatesLeft
    const n = repeats ? made - 1 - chance(Math.min(made, retriedWithin)) : made++
    deliveries.push(eventNumber(n, source))
  }
  return { deliveries, unique }
}

const accuracyOf = (batches: ReadonlyArray<ReadonlyArray<SentEvent>>, answers: ReadonlyArray<string>) => {
  const stored = new Map<string, number>()
  let deliveries = 0
  let wrong = 0
  for (const [index, batch] of batches.entries()) {
    const { results } = JSON.parse(answers[index] ?? "") as PublishAnswer
    deliveries += batch.length
    for (const [place, event] of batch.entries()) {
      const outcome = results[place]?.outcome
      if (outcome !== "stored" && outcome !== "duplicate") wrong++
      stored.set(keyOf(event), (stored.get(keyOf(event)) ?? 0) + (outcome === "stored" ? 1 : 0))
    }
  }
  for (const times of stored.values()) wrong += Math.abs(times - 1)
  return 1 - wrong / deliveries
}

/** Sends a load, and fails at the first answer that is not 202. */
export const send = async (
  port: number,
  { deliveries }: Load,
  { batch, connections }: Workload,
  progress: (events: number) => void = () => {}
): Promise<Sent> => {
  const batches = inBatches(deliveries, batch)
  const requests = batches.map((events) => publishBytes(batch === 1 ? events[0] : events))
  const answers: Array<string> = []
  const latencies: Array<number> = []
  let next = 0
  let sent = 0

  const publisher = async (connection: Connection) => {
    while (true) {
      const index = next++
      const request = requests[index]
      if (request === undefined) return connection.close()
      const startedAt = performance.now()
      const { status, body } = await connection.request(request)
      latencies.push(performance.now() - startedAt)
      if (status !== 202) throw new Error(`answered ${status}: ${body}`)
      answers[index] = body
      sent += batches[index]?.length ?? 0
      progress(sent)
    }
  }
  const publishers = await Promise.all(Array.from({ length: connections }, () => connect(port)))
  const startedAt = performance.now()
  await Promise.all(publishers.map(publisher))
  const milliseconds = performance.now() - startedAt
  return { milliseconds, latencies, accuracy: accuracyOf(batches, answers) }
}
