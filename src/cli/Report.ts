/**
 * What `publish` tells while it runs, all of it on the standard error: a bar on a terminal, elsewhere a line every few
 * seconds; each conflict and each fault where it was found; and a summary at the end.
 */
import { SingleBar } from "cli-progress"
import type { Retry } from "../client/Publisher.ts"

/** A place in an input. */
export interface Place {
  readonly name: string
  /** From 1. */
  readonly line: number
  /** In bytes from the beginning. */
  readonly position: number
}

/** How many events came to what. */
export interface Counts {
  stored: number
  duplicates: number
  conflicts: number
  /** Lines that are no event, events that were refused, inputs that cannot be read. */
  failed: number
  /** Events that were taken, but have no answer. */
  unanswered: number
  /** Events of lines that are not UTF-8. */
  notText: number
}

/** Tells of one run. */
export interface Report {
  readonly counts: Counts
  /** So many bytes of the inputs are done with. */
  readonly advance: (bytes: number) => void
  readonly say: (sentence: string) => void
  /** Tells of a conflict or a fault; of many of a kind only the first ones. */
  readonly complain: (kind: "conflicts" | "failed", sentence: string) => void
  readonly retrying: (retry: Retry) => void
  /** Something was answered. */
  readonly answered: () => void
  /** Ends the bar or the lines; nothing is told before. */
  readonly end: () => void
  /** Since the beginning. */
  readonly seconds: () => number
}

const complaintsMax = 20
const progressSeconds = 5
const barSeconds = 0.2
/** A retry or two are nothing to speak of: the summary counts them. */
const troubleSecondsMin = 2

/** To the beginning of the line, and erase it. */
const clearLine = "\r\u001b[K"

/** How a place is written. */
export const placeText = ({ name, line, position }: Place): string => `${name}:${line} (byte ${position})`

/** A whole number for people. */
export const counted = (count: number, noun?: string): string =>
  `${count.toLocaleString("en-US")}${noun === undefined ? "" : ` ${noun}${count === 1 ? "" : "s"}`}`

/** The outcomes, for people. */
export const outcomesText = ({ stored, duplicates, conflicts, failed }: Counts): string =>
  [
    `${counted(stored)} stored`,
    counted(duplicates, "duplicate"),
    counted(conflicts, "conflict"),
    `${counted(failed)} failed`
  ].join(", ")

/** Begins to tell of a run over so many bytes, if that is known. */
export const makeReport = (totalBytes: number | undefined): Report => {
  const counts: Counts = { stored: 0, duplicates: 0, conflicts: 0, failed: 0, unanswered: 0, notText: 0 }
  const startedAt = performance.now()
  const seconds = () => (performance.now() - startedAt) / 1000
  let doneBytes = 0
  let troubledSince: number | undefined
  let troubleToldAt = Number.NEGATIVE_INFINITY

  const progress = () => {
    const events = counts.stored + counts.duplicates + counts.conflicts
    const rate = counted(Math.round(events / Math.max(seconds(), 0.001)))
    return { events: counted(events), rate, outcomes: outcomesText(counts) }
  }

  let bar = process.stderr.isTTY ? makeBar(totalBytes) : undefined
  // However the process ends, the terminal is left as it was.
  const stopBar = () => {
    bar?.stop()
    bar = undefined
  }
  process.once("exit", stopBar)
  bar?.start(totalBytes ?? 0, 0, progress())
  const say = (sentence: string) => {
    process.stderr.write(`${bar === undefined ? "" : clearLine}sekali: ${sentence}\n`)
    bar?.render()
  }
  const tell = () => {
    if (bar !== undefined) return bar.update(doneBytes, progress())
    const share = totalBytes === undefined ? "" : `${percentage(doneBytes, totalBytes)} %, `
    const { events, rate, outcomes } = progress()
    say(`${share}${events} events (${rate}/s): ${outcomes}`)
  }
  const timer = setInterval(tell, (bar === undefined ? progressSeconds : barSeconds) * 1000)

  return {
    counts,
    say,
    seconds,
    advance: (bytes) => {
      doneBytes = bytes
    },
    complain: (kind, sentence) => {
      const count = ++counts[kind]
      if (count <= complaintsMax) say(sentence)
      else if (count === complaintsMax + 1) say(`${kind}: there are more of them, which are only counted`)
    },
    retrying: ({ trouble, waitMillis, attempts }) => {
      const now = performance.now()
      troubledSince ??= now
      if (now - troubledSince < troubleSecondsMin * 1000 || now - troubleToldAt < progressSeconds * 1000)
        return
      troubleToldAt = now
      const wait = (waitMillis / 1000).toFixed(1)
      say(
        `no acknowledgement (${trouble.detail}); trying again in ${wait} s, after ${counted(attempts, "attempt")}`
      )
    },
    answered: () => {
      if (troubledSince !== undefined && troubleToldAt > troubledSince) {
        say(`the service answers again, after ${((performance.now() - troubledSince) / 1000).toFixed(1)} s`)
      }
      troubledSince = undefined
    },
    end: () => {
      clearInterval(timer)
      stopBar()
      process.off("exit", stopBar)
    }
  }
}

const percentage = (bytes: number, total: number): number =>
  total === 0 ? 100 : Math.min(100, Math.floor((bytes / total) * 100))

const makeBar = (totalBytes: number | undefined): SingleBar =>
  new SingleBar({
    format: `${totalBytes === undefined ? "" : "{bar} {percentage} % | "}{events} ({rate}/s) | {outcomes}`,
    stream: process.stderr,
    barsize: 16,
    clearOnComplete: true,
    // The bar has to come back after a sentence was said.
    forceRedraw: true,
    gracefulExit: false
  })
