/**
 * `overload`: twice of what the service can take, offered by a schedule over so many connections that its queue is full:
 * how much it goes on committing, and how it refuses the rest. Those that are refused do not wait as they are told to,
 * so that the overload lasts; what was refused is sent again before anything new is.
 *
 * The overload comes in parts, with a closed loop before and after each: machines change their speed within a minute by
 * more than what is to be shown.
 */
import { join } from "node:path"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { cleanUp, temporaryFolder } from "../support/process.ts"
import { forSeconds, type Look, type Prepared, requests } from "./events.ts"
import { type Latency, latencyOf, memoryOf, peakMemoryOf, ratioOf, type Spread, spreadOf } from "./figures.ts"
import type { Benchmark, Progress } from "./options.ts"
import { number, percent, spread, table } from "./report.ts"
import { type Offered, sendClosed, sendOpen } from "./sending.ts"
import { startServer } from "./servers.ts"

/**
 * A way to overload the service. Where the connections hold no more events than the queue it never refuses anything, and
 * who publishes waits.
 */
interface Overload {
  readonly title: string
  readonly batch: number
  /** Connections that reach the highest rate in a closed loop. */
  readonly closed: number
  readonly connections: number
  readonly environment: Readonly<Record<string, string>>
}

/** A queue of so few events that a small number of connections fills it. */
const smallQueue = (events: number) => ({
  SEKALI_QUEUE_EVENTS_MAX: String(events),
  SEKALI_REQUEST_EVENTS_MAX: String(Math.min(events, 1000))
})

const overloads = {
  batches: {
    title: "batches of 100, the queue as it is",
    batch: 100,
    closed: 32,
    connections: 1000,
    environment: {}
  },
  batchesSmallQueue: {
    title: "batches of 100, a queue of 5,000",
    batch: 100,
    closed: 32,
    connections: 200,
    environment: smallQueue(5000)
  },
  single: {
    title: "single events, the queue as it is",
    batch: 1,
    closed: 128,
    connections: 1000,
    environment: {}
  },
  singleSmallQueue: {
    title: "single events, a queue of 200",
    batch: 1,
    closed: 128,
    connections: 1000,
    environment: smallQueue(200)
  }
} as const satisfies Readonly<Record<string, Overload>>

type OverloadName = keyof typeof overloads

/** A part of the overload. */
interface Part {
  /** In the closed loops before it and after it, the higher one. */
  readonly bestPerSecond: number
  readonly offeredPerSecond: number
  readonly committedPerSecond: number
  readonly offered: Offered
}

interface Found {
  readonly bestPerSecond: Spread
  readonly offeredPerSecond: Spread
  readonly offeredToBest: Spread
  /** The share of what was due that found a connection to be sent on. */
  readonly sentShare: number
  readonly committedPerSecond: Spread
  readonly committedToBest: Spread
  readonly refusedShare: number
  readonly lost: number
  readonly refused: Latency
  readonly accepted: Latency
  /** Answers of 503 without Retry-After, which should not be. */
  readonly withoutRetryAfter: number
  /** Answers that are neither 202 nor 503, by their status. */
  readonly otherwise: Readonly<Record<string, number>>
  readonly mebibytesBefore: number
  readonly mebibytesPeak: number
  readonly mebibytesAfter: number
  readonly loadPauseMilliseconds: number
}

const look: Look = { ids: "ordered" }

/** Overloads the service in these ways, one after the other. */
export const overload =
  (
    names: ReadonlyArray<OverloadName> = ["batches", "batchesSmallQueue", "single", "singleSmallQueue"]
  ): Benchmark =>
  async ({ seconds = 60 }, progress) => {
    const found: Array<readonly [name: OverloadName, found: Found]> = []
    for (const name of names) found.push([name, await measure(overloads[name], seconds, progress)])
    return { json: { seconds, ...Object.fromEntries(found) }, text: shown(found, seconds) }
  }

const parts = 5

const measure = async (overload: Overload, seconds: number, progress: Progress): Promise<Found> => {
  const { title, batch, closed, connections, environment } = overload
  try {
    const serving = await startServer("sekali", join(temporaryFolder(), "events.db"), environment)
    const { port, pid } = serving
    const next = requests(1, batch, look)
    const closedRate = async (): Promise<number> => {
      let answers = 0
      const took = await sendClosed(port, closed, forSeconds(seconds / 20, next), () => answers++)
      return (answers / took) * 1000 * batch
    }
    // Not counted: a process that has just started is slower.
    for (let time = 0; time < 4; time++) await closedRate()

    const refused: Array<number> = []
    const accepted: Array<number> = []
    const otherwise: Record<string, number> = {}
    let withoutRetryAfter = 0
    let loadPauseMilliseconds = 0
    const toSendAgain: Array<Prepared> = []
    // What was committed until the schedule ended: an answer leaves after its commit.
    const answeredAt: Array<number> = []
    const offer = (requestsPerSecond: number): Promise<Offered> =>
      sendOpen(
        { port, connections, requestsPerSecond, seconds: seconds / parts, whenBusy: "leave out" },
        () => toSendAgain.pop() ?? next(),
        (prepared, { status, head }, took) => {
          if (status === 202) {
            accepted.push(took)
            answeredAt.push(performance.now())
          } else if (status === 503) {
            refused.push(took)
            toSendAgain.push(prepared)
            if (!/\r\nretry-after: *\d+/i.test(head)) withoutRetryAfter++
          } else otherwise[status] = (otherwise[status] ?? 0) + 1
        }
      )
    const mebibytesBefore = memoryOf(pid)
    let mebibytesAfter = mebibytesBefore
    const found: Array<Part> = []
    let closedBefore = await closedRate()
    while (found.length < parts) {
      const offeredPerSecond = closedBefore * 2
      answeredAt.length = 0
      const pauses = monitorEventLoopDelay({ resolution: 1 })
      pauses.enable()
      const offered = await offer(offeredPerSecond / batch)
      pauses.disable()
      loadPauseMilliseconds = Math.max(loadPauseMilliseconds, pauses.max / 1e6)
      mebibytesAfter = memoryOf(pid)
      const inTime = answeredAt.filter((at) => at <= offered.endedAt).length
      const committedPerSecond = (inTime * batch * parts) / seconds
      const closedAfter = await closedRate()
      const bestPerSecond = Math.max(closedBefore, closedAfter)
      found.push({ bestPerSecond, offeredPerSecond, committedPerSecond, offered })
      progress(
        `overload, ${title}, part ${found.length} of ${parts}: ${number(committedPerSecond)} events/s of ${number(offeredPerSecond)} offered, ${number(bestPerSecond)} in a closed loop`
      )
      closedBefore = closedAfter
    }
    const sum = (of: (offered: Offered) => number) =>
      found.reduce((sofar, part) => sofar + of(part.offered), 0)
    const best = found.map(({ bestPerSecond }) => bestPerSecond)
    const offeredRates = found.map(({ offeredPerSecond }) => offeredPerSecond)
    const committed = found.map(({ committedPerSecond }) => committedPerSecond)
    return {
      bestPerSecond: spreadOf(best),
      offeredPerSecond: spreadOf(offeredRates),
      offeredToBest: ratioOf(offeredRates, best),
      sentShare: 1 - sum(({ leftOut }) => leftOut) / sum(({ due }) => due),
      committedPerSecond: spreadOf(committed),
      committedToBest: ratioOf(committed, best),
      refusedShare: refused.length / (accepted.length + refused.length),
      lost: sum(({ lost }) => lost),
      refused: latencyOf(refused),
      accepted: latencyOf(accepted),
      withoutRetryAfter,
      otherwise,
      mebibytesBefore,
      mebibytesPeak: peakMemoryOf(pid),
      mebibytesAfter,
      loadPauseMilliseconds
    }
  } finally {
    await cleanUp()
  }
}

const rows: ReadonlyArray<readonly [title: string, show: (found: Found) => string]> = [
  ["closed loops, the better one of two, events/s", ({ bestPerSecond }) => spread(bestPerSecond)],
  ["offered, events/s", ({ offeredPerSecond }) => spread(offeredPerSecond)],
  ["offered to the better closed loop", ({ offeredToBest }) => spread(offeredToBest, 2)],
  ["of it sent", ({ sentShare }) => percent(sentShare)],
  ["committed, events/s", ({ committedPerSecond }) => spread(committedPerSecond)],
  ["committed to the better closed loop", ({ committedToBest }) => spread(committedToBest, 2)],
  ["answered 503", ({ refusedShare }) => percent(refusedShare)],
  ["503 without Retry-After", ({ withoutRetryAfter }) => number(withoutRetryAfter)],
  ["503, p99, ms", ({ refused }) => number(refused.p99, 1)],
  ["503, longest, ms", ({ refused }) => number(refused.max, 1)],
  ["202, p99, ms", ({ accepted }) => number(accepted.p99, 1)],
  ["202, longest, ms", ({ accepted }) => number(accepted.max, 1)],
  ["other answers", ({ otherwise }) => JSON.stringify(otherwise)],
  ["connections lost", ({ lost }) => number(lost)],
  ["memory before, MiB", ({ mebibytesBefore }) => number(mebibytesBefore)],
  ["memory at most, MiB", ({ mebibytesPeak }) => number(mebibytesPeak)],
  ["memory after, MiB", ({ mebibytesAfter }) => number(mebibytesAfter)],
  ["longest pause of the load itself, ms", ({ loadPauseMilliseconds }) => number(loadPauseMilliseconds, 1)]
]

const shown = (all: ReadonlyArray<readonly [name: OverloadName, found: Found]>, seconds: number): string =>
  [
    `overload: twice the rate of a closed loop for ${number(seconds)} s, in ${parts} parts; median (least..most) of them`,
    table([
      ["", ...all.map(([name]) => overloads[name].title)],
      ...rows.map(([title, show]) => [title, ...all.map(([, found]) => show(found))])
    ])
  ].join("\n")
