/**
 * One measurement: a fresh server with a fresh database, a load in a closed loop, and what the server and the system
 * then tell of it.
 */
import { existsSync, statSync } from "node:fs"
import { join } from "node:path"
import { type PublishAnswer, type Stats, stats } from "../support/client.ts"
import { cleanUp, type Serving, temporaryFolder } from "../support/process.ts"
import { type Look, type Prepared, prebuilt, requests, upToEvents } from "./events.ts"
import { cpuOf, latencyOf, peakMemoryOf } from "./figures.ts"
import { sendClosed } from "./sending.ts"
import { type ServerName, startServer } from "./servers.ts"

/** How a load is sent. */
export interface Workload {
  readonly title: string
  /** Events in a round, unless told otherwise. */
  readonly events: number
  /** Events in a request. */
  readonly batch: number
  readonly connections: number
  readonly look: Look
}

/** The loads that are sent in a closed loop. */
export const workloads = {
  single: {
    title: "single events",
    events: 20_000,
    batch: 1,
    connections: 32,
    look: { ids: "ordered" }
  },
  batch: {
    title: "batches of 100, ids in order",
    events: 200_000,
    batch: 100,
    connections: 8,
    look: { ids: "ordered" }
  },
  random: {
    title: "batches of 100, random ids",
    events: 200_000,
    batch: 100,
    connections: 8,
    look: { ids: "random" }
  }
} as const satisfies Readonly<Record<string, Workload>>

/** What takes part beside the load. */
export interface Attached {
  /** Called when the load is processed; resolves when what is attached has done its part, too. */
  readonly done: () => Promise<void>
}

/** What is measured against others under the same load. */
export interface Contender {
  readonly name: string
  readonly server: ServerName
  readonly environment?: Readonly<Record<string, string>>
  readonly sequences?: boolean
  readonly attach?: (serving: Serving) => Promise<Attached>
}

/** What was measured; times in milliseconds. */
export interface Measurement {
  readonly received: number
  readonly unique: number
  readonly dropped: number
  readonly duplicateRate: number
  /** The share of deliveries that took effect as they should: the first of an event once, all others not at all. */
  readonly accuracy: number
  /** Until the server says that all is processed. */
  readonly milliseconds: number
  readonly eventsPerSecond: number
  readonly latencyMean: number
  readonly latencyMedian: number
  readonly latencyP99: number
  /** CPU time of all threads of the server, for each event. */
  readonly cpuMicrosPerEvent: number
  readonly peakMebibytes: number
  /** The database after the server has stopped, divided by the events in it. */
  readonly bytesPerEvent: number
  /** From the start of the process until it is ready. */
  readonly startMilliseconds: number
  /** How much later than the load what was attached had done its part. */
  readonly attachedMilliseconds: number
}

/** Measures a load of so many events, after some that do not count. */
export const measure = async (
  { server, environment = {}, sequences = false, attach }: Contender,
  { batch, connections, look }: Workload,
  events: number,
  warmUpEvents: number
): Promise<Measurement> => {
  const database = join(temporaryFolder(), "events.db")
  const source = (n: number) => requests(n, batch, { ...look, sequences })
  try {
    const serving = await startServer(server, database, environment)
    const { port, pid, url } = serving
    await sendClosed(port, connections, upToEvents(warmUpEvents, source(0)), () => {})
    const attached = await attach?.(serving)
    const load = prebuilt(upToEvents(events, source(1)))
    const sent = load.all.reduce((sum, { numbers }) => sum + numbers.length, 0)
    const unique = load.all.reduce((sum, prepared) => sum + prepared.unique, 0)
    const latencies: Array<number> = []
    const answers: Array<readonly [Prepared, Buffer]> = []
    const before = await stats(url)
    const cpuBefore = cpuOf(pid)
    const startedAt = performance.now()
    await sendClosed(port, connections, load.take, (prepared, { body }, milliseconds) => {
      latencies.push(milliseconds)
      answers.push([prepared, Buffer.from(body)])
    })
    const after = await processed(url, before.received + sent)
    const milliseconds = performance.now() - startedAt
    await attached?.done()
    const attachedMilliseconds = performance.now() - startedAt - milliseconds
    const cpuMicros = (cpuOf(pid) - cpuBefore) * 1e6
    const peakMebibytes = peakMemoryOf(pid)
    const stored = after.unique_processed - before.unique_processed
    const received = after.received - before.received
    if (received !== sent || stored !== unique) {
      throw new Error(
        `of ${sent} events, ${unique} of them unique, ${server} received ${received} and stored ${stored}`
      )
    }
    serving.kill("SIGTERM")
    await serving.ended
    return {
      received,
      unique: stored,
      dropped: after.duplicate_dropped - before.duplicate_dropped,
      duplicateRate: (received - stored) / received,
      accuracy: server === "sekali" ? accuracyOf(answers) : 1,
      milliseconds,
      eventsPerSecond: (sent / milliseconds) * 1000,
      latencyMean: latencyOf(latencies).mean,
      latencyMedian: latencyOf(latencies).median,
      latencyP99: latencyOf(latencies).p99,
      cpuMicrosPerEvent: cpuMicros / sent,
      peakMebibytes,
      bytesPerEvent: databaseBytes(database) / after.unique_processed,
      startMilliseconds: serving.startMilliseconds,
      attachedMilliseconds
    }
  } finally {
    await cleanUp()
  }
}

/** Measures each in turn, so that what disturbs the machine for a while disturbs all of them. */
export const inTurn = async <A, Each extends { readonly name: string }>(
  all: ReadonlyArray<Each>,
  rounds: number,
  measureOne: (each: Each, round: number) => Promise<A>
): Promise<Readonly<Record<string, ReadonlyArray<A>>>> => {
  const measured = all.map((each) => ({ each, rounds: [] as Array<A> }))
  for (let round = 1; round <= rounds; round++) {
    for (const { each, rounds } of measured) rounds.push(await measureOne(each, round))
  }
  return Object.fromEntries(measured.map(({ each, rounds }) => [each.name, rounds]))
}

/** Asks until so many events are counted. */
export const processed = async (url: string, received: number): Promise<Stats> => {
  while (true) {
    const now = await stats(url)
    if (now.received >= received) return now
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** The bytes of a database with what lies beside it. */
export const databaseBytes = (database: string): number =>
  ["", "-wal", "-shm"]
    .map((ending) => database + ending)
    .filter((path) => existsSync(path))
    .reduce((sum, path) => sum + statSync(path).size, 0)

// Of the outcomes of single events, which only the service tells; of a peer nothing is known but its counts.
const accuracyOf = (answers: ReadonlyArray<readonly [Prepared, Buffer]>): number => {
  const stored = new Map<number, number>()
  let deliveries = 0
  let wrong = 0
  for (const [{ numbers }, body] of answers) {
    const { results } = JSON.parse(body.toString()) as PublishAnswer
    deliveries += numbers.length
    for (const [place, n] of numbers.entries()) {
      const outcome = results[place]?.outcome
      if (outcome !== "stored" && outcome !== "duplicate") wrong++
      stored.set(n, (stored.get(n) ?? 0) + (outcome === "stored" ? 1 : 0))
    }
  }
  for (const times of stored.values()) wrong += Math.abs(times - 1)
  return 1 - wrong / deliveries
}
