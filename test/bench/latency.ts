/**
 * `latency`: the highest rate of single events that the service sustains, and then half of it, offered by a schedule
 * that does not wait for the service. So a pause shows in all requests that fell due in it.
 */

import { join } from "node:path"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { cleanUp, temporaryFolder } from "../support/process.ts"
import { forSeconds, type Look, requests } from "./events.ts"
import { latencyOf } from "./figures.ts"
import { processed } from "./measure.ts"
import type { Benchmark } from "./options.ts"
import { number, table } from "./report.ts"
import { sendClosed, sendOpen } from "./sending.ts"
import { startServer } from "./servers.ts"

/** No pause may be longer. */
const pauseMillisecondsMax = 250

/** How many connections are tried; the best of them counts. */
const connectionsTried = [32, 64, 128]

/** Enough of them that none is missing in a pause of an ordinary length. */
const connections = 256

const look: Look = { ids: "ordered" }

export const latency: Benchmark = async ({ seconds = 30 }, progress) => {
  try {
    const serving = await startServer("sekali", join(temporaryFolder(), "events.db"))
    const next = requests(1, 1, look)
    let sent = 0
    let highest = 0
    // The first time does not count: a process that has just started is slower.
    for (const [turn, connections] of [32, ...connectionsTried].entries()) {
      const before = sent
      const take = forSeconds(seconds / 6, next)
      const milliseconds = await sendClosed(serving.port, connections, take, () => sent++)
      const rate = ((sent - before) / milliseconds) * 1000
      if (turn === 0) continue
      progress(`latency, closed loop over ${connections} connections: ${number(rate)} events/s`)
      highest = Math.max(highest, rate)
    }
    const offeredPerSecond = highest / 2
    const milliseconds: Array<number> = []
    const pauses = monitorEventLoopDelay({ resolution: 1 })
    pauses.enable()
    const offer = { port: serving.port, connections, requestsPerSecond: offeredPerSecond, seconds }
    const offered = await sendOpen({ ...offer, whenBusy: "wait" }, next, (_prepared, { status }, took) => {
      if (status !== 202) throw new Error(`answered ${status} at half of the highest load`)
      milliseconds.push(took)
    })
    pauses.disable()
    if (offered.lost > 0) throw new Error(`${offered.lost} connections ended before an answer`)
    await processed(serving.url, sent + milliseconds.length)
    const measured = latencyOf(milliseconds)
    const json = {
      seconds,
      highestPerSecond: highest,
      offeredPerSecond,
      answered: milliseconds.length,
      latency: measured,
      over250Milliseconds: milliseconds.filter((took) => took > pauseMillisecondsMax).length,
      // What of the times may be the load's own doing.
      loadPauseMilliseconds: pauses.max / 1e6
    }
    return { json, text: shown(json) }
  } finally {
    await cleanUp()
  }
}

const shown = (found: {
  readonly seconds: number
  readonly highestPerSecond: number
  readonly offeredPerSecond: number
  readonly answered: number
  readonly latency: ReturnType<typeof latencyOf>
  readonly over250Milliseconds: number
  readonly loadPauseMilliseconds: number
}): string =>
  [
    `latency at half of the highest load: single events by a schedule for ${number(found.seconds)} s, ${connections} connections`,
    table([
      ["highest rate in a closed loop, events/s", number(found.highestPerSecond)],
      ["offered, events/s", number(found.offeredPerSecond)],
      ["answered", number(found.answered)],
      ["mean, ms", number(found.latency.mean, 1)],
      ["p50, ms", number(found.latency.median, 1)],
      ["p99, ms", number(found.latency.p99, 1)],
      ["longest, ms", number(found.latency.max, 1)],
      [`longer than ${pauseMillisecondsMax} ms`, number(found.over250Milliseconds)],
      ["longest pause of the load itself, ms", number(found.loadPauseMilliseconds, 1)]
    ]),
    "Times count from when a request was due by the schedule."
  ].join("\n")
