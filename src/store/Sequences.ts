/**
 * Sequences: what the numbers of a source say about its events in one topic. The first number that is seen opens the
 * series; a number beyond the next one opens a gap of those between. A gap closes as its numbers come, or is given up:
 * its numbers are declared missing, and one that comes after that is late. Nothing is ever refused for its number.
 *
 * Gaps are ranges, so that a jump of any size costs one of them. They are given up as a whole.
 */
import { Clock, Effect } from "effect"

/** Numbers that were passed over and not given up, from `first` to `last`. */
export interface Gap {
  readonly first: number
  readonly last: number
  /** When it opened, in milliseconds since 1970 by the store's steady clock. */
  readonly openedAt: number
}

/** A stored event with a number. */
export interface Arrival {
  readonly offset: number
  readonly sequence: number
}

/** A series before a batch. */
export interface SeriesBefore {
  readonly first: number
  readonly highest: number
  /** The open gaps in ascending order; those that hold no number of the batch may be left out. */
  readonly gaps: ReadonlyArray<Gap>
  /** Whether an event with this number, which is in no gap and not above the highest, is stored. */
  readonly isTaken: (sequence: number) => boolean
}

/** What a batch makes of a series. */
export interface SeriesMove {
  readonly first: number
  readonly highest: number
  /** Gaps that were open before and are so no longer as they were. */
  readonly closed: ReadonlyArray<Gap>
  /** Gaps that are open now and were not as they are; what is left of a gap opened when that did. */
  readonly opened: ReadonlyArray<Gap>
  /** Offsets of events whose number had been declared missing. */
  readonly late: ReadonlyArray<number>
  /** How many events had a number that another stored event has. */
  readonly reused: number
}

/** What becomes of a series as new events with these numbers are stored, in the order of their offsets. */
export const advance = (
  before: SeriesBefore | undefined,
  arrivals: ReadonlyArray<Arrival>,
  openedAt: number
): SeriesMove => {
  const known = before?.highest ?? -1
  const gaps = [...(before?.gaps ?? [])]
  const taken = new Set<number>()
  const late: Array<number> = []
  let first = before?.first
  let highest = known
  let reused = 0
  for (const { offset, sequence } of arrivals) {
    if (first === undefined) {
      first = sequence
      highest = sequence
    } else if (sequence > highest) {
      if (sequence > highest + 1) gaps.push({ first: highest + 1, last: sequence - 1, openedAt })
      highest = sequence
    } else if (fill(gaps, sequence)) {
      taken.add(sequence)
    } else if (
      (sequence > known && sequence >= first) ||
      taken.has(sequence) ||
      before?.isTaken(sequence) === true
    ) {
      reused++
    } else {
      // Given up, or from before the series.
      taken.add(sequence)
      if (sequence > first) late.push(offset)
    }
  }
  const was = new Set(before?.gaps)
  const is = new Set(gaps)
  return {
    first: first ?? 0,
    highest,
    closed: [...was].filter((gap) => !is.has(gap)),
    opened: gaps.filter((gap) => !was.has(gap)),
    late,
    reused
  }
}

/** Takes a number out of the gap that holds it; tells whether one did. */
const fill = (gaps: Array<Gap>, sequence: number): boolean => {
  let low = 0
  let high = gaps.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((gaps[middle] as Gap).last < sequence) low = middle + 1
    else high = middle
  }
  const gap = gaps[low]
  if (gap === undefined || gap.first > sequence) return false
  const rest = [
    { ...gap, last: sequence - 1 },
    { ...gap, first: sequence + 1 }
  ].filter(({ first, last }) => first <= last)
  gaps.splice(low, 1, ...rest)
  return true
}

/** How many numbers are in a gap. */
export const numbersIn = ({ first, last }: Pick<Gap, "first" | "last">): number => last - first + 1

/** No sum of numbers is counted beyond this one, which is the last that JavaScript holds exactly. */
export const sumMax = Number.MAX_SAFE_INTEGER

/** Gaps of one series that were given up. */
export interface Declared {
  readonly topic: string
  readonly source: string
  readonly gaps: ReadonlyArray<Pick<Gap, "first" | "last">>
}

/** Says in the log which numbers were declared missing: a line for each series. */
export const warnOfMissing = (declared: ReadonlyArray<Declared>) =>
  Effect.forEach(
    declared,
    ({ topic, source, gaps }) =>
      Effect.logWarning("missing: a gap in a sequence was given up").pipe(
        Effect.annotateLogs({
          topic,
          source,
          first: gaps.reduce((least, { first }) => Math.min(least, first), sumMax),
          last: gaps.reduce((most, { last }) => Math.max(most, last), 0),
          gaps: gaps.length,
          numbers: gaps.reduce((sum, gap) => sum + numbersIn(gap), 0)
        })
      ),
    { discard: true }
  )

/**
 * A clock for the age of gaps: it starts at the wall clock's time and runs with the monotonic clock, so that a wall clock
 * that is set while the process lives makes no gap older or younger. Only across a restart the wall clock is believed.
 */
export const steadyClock: Effect.Effect<Effect.Effect<number>> = Effect.gen(function* () {
  const wall = yield* Clock.currentTimeMillis
  const started = yield* Clock.currentTimeNanos
  return Effect.map(Clock.currentTimeNanos, (now) => wall + Number((now - started) / 1_000_000n))
})
