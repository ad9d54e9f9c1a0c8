/**
 * G6 in each answer that tells how full the queue is: it keeps its bounds, which are those that were set, and holds no
 * more than what is still under way.
 */
import type { Entry } from "../History.ts"
import type { QueueLevel } from "./Answers.ts"
import { type Call, describe, type Publish } from "./Calls.ts"
import type { Report } from "./Report.ts"
import { countBelow } from "./Rising.ts"

/** The bounds that the queue was configured with, where they are to be checked. */
export interface QueueBounds {
  readonly queueEventsMax?: number | undefined
  readonly queueBytesMax?: number | undefined
}

/** Checks levels of the queue against what was under way in a history. */
export class QueueCheck {
  private readonly publishes: ReadonlyArray<Publish>
  private readonly crashes: ReadonlyArray<number>
  private readonly bounds: QueueBounds
  private readonly report: Report

  constructor(
    history: ReadonlyArray<Entry>,
    publishes: ReadonlyArray<Publish>,
    bounds: QueueBounds,
    report: Report
  ) {
    this.publishes = publishes
    this.crashes = history.flatMap((entry, index) => (isCrash(entry) ? [index] : []))
    this.bounds = bounds
    this.report = report
  }

  /** The level that this call was answered with. */
  check(call: Call, { events, eventsMax, bytes, bytesMax }: QueueLevel): void {
    const wrong = (detail: string): void =>
      this.report.add("G6", `${describe(call)}: ${detail}`, call.settled)
    const { queueEventsMax, queueBytesMax } = this.bounds
    if (events < 0 || events > eventsMax) wrong(`the queue holds ${events} events of at most ${eventsMax}`)
    if (bytes < 0 || bytes > bytesMax) wrong(`the queue holds ${bytes} bytes of at most ${bytesMax}`)
    if (queueEventsMax !== undefined && eventsMax !== queueEventsMax) {
      wrong(`the queue is bounded by ${eventsMax} events, not by ${queueEventsMax}`)
    }
    if (queueBytesMax !== undefined && bytesMax !== queueBytesMax) {
      wrong(`the queue is bounded by ${bytesMax} bytes, not by ${queueBytesMax}`)
    }

    const since = this.crashes[countBelow(this.crashes, call.invoked) - 1] ?? -1
    const underWay = countUnderWay(this.publishes, since, call.invoked, call.settled)
    if (events > underWay) wrong(`the queue holds ${events} events, ${underWay} can be under way`)
  }
}

const isCrash = (entry: Entry): boolean =>
  entry.kind === "server" && (entry.change === "killed" || entry.change === "power cut")

// A submission has left the queue when it was answered for good and no other copy of it came; one that was given up, or
// told to be sent again, may still wait. What a crash abandoned waits no more.
const countUnderWay = (
  publishes: ReadonlyArray<Publish>,
  since: number,
  invoked: number,
  settled: number
): number => {
  let events = 0
  for (const { call, sent, answer, possible } of publishes) {
    if (answer !== undefined && call.settled < invoked && possible.length === 1) continue
    for (const at of possible) if (at > since && at < settled) events += sent.length
  }
  return events
}
