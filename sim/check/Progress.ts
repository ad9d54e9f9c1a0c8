/**
 * G7, progress: every publisher that keeps retrying got its answer; a server that goes on answers each publish in its
 * time, be it only to say that it must be sent again; once the faults had stopped, everything was finished within a
 * bound, and servers that were started got ready by themselves.
 */
import type { Delivered, Entry } from "../History.ts"
import { type Call, type Calls, describe, type Publish } from "./Calls.ts"
import type { Report } from "./Report.ts"
import { getOrMake } from "./Rising.ts"

export interface ProgressBounds {
  /** How long anything may take that was begun after the faults had stopped, or was still under way then. */
  readonly progressMicrosMax: number
  /** How long a server may take over a publish whose client still waits; unbounded by default. */
  readonly answerMicrosMax?: number | undefined
  /** Whether a start may fail that was begun while there were faults; true by default. */
  readonly startMayFail?: boolean | undefined
}

/** Checks that everything came to its end. */
export const checkProgress = (
  history: ReadonlyArray<Entry>,
  calls: Calls,
  bounds: ProgressBounds,
  report: Report
): void => {
  const end = history.at(-1)
  if (end?.kind !== "end") {
    report.add("G7", "the history has no end", history.length - 1)
  } else if (end.outcome !== "done") {
    const waiting = end.waiting ?? []
    const detail = `the run is ${end.outcome}${waiting.length === 0 ? "" : `: ${waiting.join("; ")}`}`
    report.add("G7", detail, history.length - 1)
  }
  const calm = history.find(({ kind }) => kind === "calm")?.at
  const timeOf = (index: number): number => history[index]?.at ?? Number.POSITIVE_INFINITY
  /** Whether what began then took too long. */
  const isLate = (began: number, finished: number): boolean =>
    calm !== undefined && finished > Math.max(calm, began) + bounds.progressMicrosMax

  for (const call of calls.all) checkCall(call, timeOf, isLate, report)
  checkSubmissions(history, calls, timeOf, isLate, report)
  checkServers(history, calm, isLate, bounds, report)
  checkAnswers(history, calls, bounds, report)
}

type IsLate = (began: number, finished: number) => boolean

const checkCall = (call: Call, timeOf: (index: number) => number, isLate: IsLate, report: Report): void => {
  if (call.settled === Number.POSITIVE_INFINITY) {
    report.add("G7", `${describe(call)} still waits at the end`, call.invoked)
  } else if (isLate(timeOf(call.invoked), timeOf(call.settled))) {
    report.add("G7", `${describe(call)} took until ${timeOf(call.settled)}`, call.settled)
  }
}

const checkSubmissions = (
  history: ReadonlyArray<Entry>,
  calls: Calls,
  timeOf: (index: number) => number,
  isLate: IsLate,
  report: Report
): void => {
  const givenUp = new Set(history.flatMap((entry) => (entry.kind === "gave up" ? [entry.submission] : [])))
  const submissions = new Map<string, Array<Publish>>()
  for (const publish of calls.publishes) {
    if (!givenUp.has(publish.submission)) getOrMake(submissions, publish.submission, () => []).push(publish)
  }
  for (const [submission, attempts] of submissions) {
    const [first] = attempts
    const answered = attempts.find(({ call }) => isFinal(call))
    if (first === undefined) continue
    if (answered === undefined) {
      const detail = `the submission ${submission} was never answered, in ${attempts.length} attempts`
      report.add("G7", detail, first.call.invoked)
    } else if (isLate(timeOf(first.call.invoked), timeOf(answered.call.settled))) {
      const at = timeOf(answered.call.settled)
      report.add("G7", `the submission ${submission} was not answered until ${at}`, answered.call.settled)
    }
  }
}

// After a 5xx a publisher tries again; anything else ends the matter.
const isFinal = ({ returned }: Call): boolean => returned !== undefined && returned.status < 500

const checkServers = (
  history: ReadonlyArray<Entry>,
  calm: number | undefined,
  isLate: IsLate,
  { startMayFail = true }: ProgressBounds,
  report: Report
): void => {
  const starting = new Map<string, { readonly at: number; readonly index: number }>()
  for (const [index, entry] of history.entries()) {
    if (entry.kind !== "server") continue
    const { server, change, at, detail } = entry
    if (change === "started") {
      starting.set(server, { at, index })
      continue
    }
    // It may be asked to stop while it starts; what comes of the start is told later.
    if (change === "stopping") continue
    const began = starting.get(server)
    starting.delete(server)
    if (change === "ready" && began !== undefined && isLate(began.at, at)) {
      report.add("G7", `${server} was not ready until ${at}`, index)
    } else if (change === "failed" && (!startMayFail || (calm !== undefined && (began?.at ?? at) > calm))) {
      report.add("G7", `${server} did not start: ${detail ?? "it does not say why"}`, index)
    }
  }
  for (const [server, { index }] of starting) report.add("G7", `${server} never got ready`, index)
}

// From its delivery on, a publish is answered in time, unless its server ends or its client goes away before.
const checkAnswers = (
  history: ReadonlyArray<Entry>,
  calls: Calls,
  { answerMicrosMax = Number.POSITIVE_INFINITY }: ProgressBounds,
  report: Report
): void => {
  const publishes = new Map(calls.publishes.map(({ call }) => [call.id, call]))
  const waiting = new Set<{ readonly entry: Delivered; readonly call: Call; readonly index: number }>()
  for (const [index, entry] of history.entries()) {
    for (const each of waiting) {
      if (entry.at <= each.entry.at + answerMicrosMax) break
      report.add("G7", `${describe(each.call)} was not answered by ${each.entry.server} in time`, each.index)
      waiting.delete(each)
    }
    if (entry.kind === "delivered") {
      const call = publishes.get(entry.call)
      if (call !== undefined && call.settled > index) waiting.add({ entry, call, index })
      continue
    }
    for (const each of waiting) {
      const isOver =
        entry.kind === "server"
          ? entry.server === each.entry.server && isItsEnd(entry.change)
          : "call" in entry &&
            entry.call === each.entry.call &&
            (entry.kind !== "answered" || entry.server === each.entry.server)
      if (!isOver) continue
      waiting.delete(each)
      // Of two copies the first one's answer says nothing of the second.
      if (entry.kind === "answered") break
    }
  }
}

const isItsEnd = (change: string): boolean => change !== "started" && change !== "ready"
