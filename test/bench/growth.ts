/**
 * `growth`: batches with random ids, the hardest for an index, until millions of keys are stored: events a second along
 * the way, memory, the longest waits, and then what it is like to start with such a database.
 */
import { join } from "node:path"
import { stats } from "../support/client.ts"
import { cleanUp, type Serving, temporaryFolder } from "../support/process.ts"
import { requests } from "./events.ts"
import { memoryOf, peakMemoryOf, spreadOf } from "./figures.ts"
import { databaseBytes, inTurn, workloads } from "./measure.ts"
import type { Benchmark, Progress } from "./options.ts"
import { writePlot } from "./plot.ts"
import { number, spread, table } from "./report.ts"
import { sendClosed } from "./sending.ts"
import { type ServerName, startServer } from "./servers.ts"

/** What happened between two numbers of stored keys. */
interface Interval {
  /** The number that ends it, and how many there were when it was noticed. */
  readonly upTo: number
  readonly keys: number
  readonly events: number
  readonly milliseconds: number
  readonly eventsPerSecond: number
  /** The longest that a request took. */
  readonly longestMilliseconds: number
  readonly mebibytes: number
}

/** A start with the grown database. */
interface Restart {
  /** From the start of the process until it is ready, by the clock on the wall. */
  readonly milliseconds: number
  readonly mebibytes: number
}

interface Growth {
  /** Resident after the start with no events. */
  readonly emptyMebibytes: number
  readonly intervals: ReadonlyArray<Interval>
  /** Events a second while there were few keys, which are 50,000 to 150,000 where there will be a million and more. */
  readonly early: number
  /** Events a second of the last interval. */
  readonly late: number
  readonly lateToEarly: number
  readonly longestMilliseconds: number
  readonly peakMebibytes: number
  readonly afterKill: Restart
  readonly afterStop: Restart
  /** The database after a stop, divided by the events. */
  readonly bytesPerEvent: number
  /** Of it what is not id, source, timestamp or payload of an event. */
  readonly bytesBeyondContent: number
}

const intervalsCount = 20

export const growth: Benchmark = async ({ keys = 5_000_000, rounds = 1, peers, plot }, progress) => {
  const names: ReadonlyArray<ServerName> = peers ? ["sekali", "floor"] : ["sekali"]
  const servers = names.map((name) => ({ name }))
  const grown = await inTurn(servers, rounds, ({ name }) => grow(name, keys, progress))
  if (plot !== undefined) {
    const lines = Object.entries(grown).map(([name, all]) => ({
      name,
      points: (all[0]?.intervals ?? []).map(({ keys, eventsPerSecond }) => [keys, eventsPerSecond] as const)
    }))
    writePlot(plot, { title: "events a second, random ids", x: "stored keys", lines })
  }
  return {
    json: { keys, rounds: grown },
    text: Object.entries(grown)
      .map(([name, all]) => shown(name, all))
      .join("\n\n")
  }
}

/** How many keys count as few: enough for a server to be warm. */
const fewKeys = (keys: number) => Math.min(100_000, keys / 10)

/** The numbers of keys at which an interval ends. */
const marksOf = (keys: number): ReadonlyArray<number> => {
  const every = Array.from({ length: intervalsCount }, (_, n) =>
    Math.round((keys * (n + 1)) / intervalsCount)
  )
  const few = fewKeys(keys)
  return [...new Set([few / 2, few * 1.5, ...every])].sort((left, right) => left - right)
}

const grow = async (name: ServerName, keys: number, progress: Progress): Promise<Growth> => {
  const { batch, connections, look } = workloads.random
  const database = join(temporaryFolder(), "events.db")
  try {
    const serving = await startServer(name, database)
    const emptyMebibytes = memoryOf(serving.pid)
    const next = requests(1, batch, look)
    const marks = [...marksOf(keys)]
    const intervals: Array<Interval> = []
    let made = 0
    let stored = 0
    let content = 0
    let events = 0
    let longestMilliseconds = 0
    let begunAt = performance.now()
    const take = () => {
      if (made >= keys) return undefined
      const prepared = next()
      made += prepared.unique
      return prepared
    }
    await sendClosed(serving.port, connections, take, (prepared, _answer, took) => {
      stored += prepared.unique
      content += prepared.content
      events += prepared.numbers.length
      longestMilliseconds = Math.max(longestMilliseconds, took)
      const passed = marks.filter((mark) => mark <= stored)
      const upTo = passed.at(-1)
      if (upTo === undefined) return
      marks.splice(0, passed.length)
      const milliseconds = performance.now() - begunAt
      const eventsPerSecond = (events / milliseconds) * 1000
      const mebibytes = memoryOf(serving.pid)
      const happened = { events, milliseconds, eventsPerSecond, longestMilliseconds, mebibytes }
      intervals.push({ upTo, keys: stored, ...happened })
      progress(`growth, ${name}: ${number(stored)} keys, ${number(eventsPerSecond)} events/s`)
      events = 0
      longestMilliseconds = 0
      begunAt = performance.now()
    })
    const { unique_processed } = await stats(serving.url)
    if (unique_processed !== stored) throw new Error(`${name} stored ${unique_processed}, not ${stored}`)
    const peakMebibytes = peakMemoryOf(serving.pid)
    await end(serving, "SIGKILL")
    const afterKill = await restart(name, database)
    const afterStop = await restart(name, database)
    const bytes = databaseBytes(database)
    const few = fewKeys(keys)
    const early = rateOf(intervals.filter(({ upTo }) => few / 2 < upTo && upTo <= few * 1.5))
    const late = rateOf(intervals.slice(-1))
    return {
      emptyMebibytes,
      intervals,
      early,
      late,
      lateToEarly: late / early,
      longestMilliseconds: Math.max(...intervals.map((interval) => interval.longestMilliseconds)),
      peakMebibytes,
      afterKill,
      afterStop,
      bytesPerEvent: bytes / stored,
      bytesBeyondContent: (bytes - content) / stored
    }
  } finally {
    await cleanUp()
  }
}

const end = async (serving: Serving, signal: NodeJS.Signals) => {
  serving.kill(signal)
  await serving.ended
}

/** Starts with a database, and stops as asked. */
const restart = async (name: ServerName, database: string): Promise<Restart> => {
  const startedAt = performance.now()
  const serving = await startServer(name, database)
  const milliseconds = performance.now() - startedAt
  const mebibytes = memoryOf(serving.pid)
  await end(serving, "SIGTERM")
  return { milliseconds, mebibytes }
}

const rateOf = (intervals: ReadonlyArray<Interval>): number =>
  (sum(intervals.map(({ events }) => events)) / sum(intervals.map(({ milliseconds }) => milliseconds))) * 1000

const sum = (values: ReadonlyArray<number>): number => values.reduce((total, value) => total + value, 0)

const summary: ReadonlyArray<readonly [title: string, of: (growth: Growth) => number, digits: number]> = [
  ["events/s around few keys", ({ early }) => early, 0],
  ["events/s at the end", ({ late }) => late, 0],
  ["the end to few keys", ({ lateToEarly }) => lateToEarly, 2],
  ["longest request, ms", ({ longestMilliseconds }) => longestMilliseconds, 0],
  ["memory while empty, MiB", ({ emptyMebibytes }) => emptyMebibytes, 0],
  ["peak memory, MiB", ({ peakMebibytes }) => peakMebibytes, 0],
  ["start after a kill, ms", ({ afterKill }) => afterKill.milliseconds, 0],
  ["start after a stop, ms", ({ afterStop }) => afterStop.milliseconds, 0],
  ["memory after the start, MiB", ({ afterStop }) => afterStop.mebibytes, 0],
  ["stored bytes an event", ({ bytesPerEvent }) => bytesPerEvent, 0],
  ["of them beyond its content", ({ bytesBeyondContent }) => bytesBeyondContent, 0]
]

// The intervals of the first round, and of all rounds what sums them up.
const shown = (name: string, all: ReadonlyArray<Growth>): string =>
  [
    `growth of ${name}, batches of 100, random ids`,
    table([
      ["stored keys", "events/s", "longest request, ms", "memory, MiB"],
      ...(all[0]?.intervals ?? []).map((interval) => [
        number(interval.keys),
        number(interval.eventsPerSecond),
        number(interval.longestMilliseconds),
        number(interval.mebibytes)
      ])
    ]),
    "",
    table(summary.map(([title, of, digits]) => [title, spread(spreadOf(all.map(of)), digits)])),
    "Content is what the publisher gave: id, source, timestamp and payload as JSON."
  ].join("\n")
