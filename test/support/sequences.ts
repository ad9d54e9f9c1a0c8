/**
 * A naive model of sequences: for each series the numbers themselves, one by one, and what became of each. It shares no
 * code and no shape with the store, which keeps ranges.
 */
import type { Event } from "../../src/domain/Event.ts"
import type { SourceBook } from "../../src/store/EventStore.ts"
import { keyOf } from "./events.ts"

interface NaiveSeries {
  readonly topic: string
  readonly source: string
  readonly first: number
  highest: number
  readonly stored: Set<number>
  /** Numbers that are waited for, and since when. */
  readonly open: Map<number, number>
  readonly declared: Set<number>
  late: number
  reused: number
}

/** A series as the port tells it, without the times, which are the model's own affair. */
export const bookOf = ({ id, gaps, ...book }: SourceBook) => ({
  ...book,
  gaps: gaps.map(({ first, last }) => [first, last])
})

/** What a store must say of the sequences of the events that are appended to it. */
export class NaiveSequences {
  private readonly series = new Map<string, NaiveSeries>()
  private readonly keys = new Set<string>()
  /** The keys of the events that came late. */
  readonly late: Array<string> = []

  append(events: ReadonlyArray<Event>, now: number, gapsMax: number): void {
    for (const event of events) {
      const { topic, source, sequence } = event
      if (this.keys.has(keyOf(event))) continue
      this.keys.add(keyOf(event))
      if (sequence === null) continue
      const known = this.series.get(`${topic} ${source}`)
      if (known === undefined) {
        this.series.set(`${topic} ${source}`, {
          topic,
          source,
          first: sequence,
          highest: sequence,
          stored: new Set([sequence]),
          open: new Map(),
          declared: new Set(),
          late: 0,
          reused: 0
        })
        continue
      }
      if (known.stored.has(sequence)) known.reused++
      if (known.declared.has(sequence) && !known.stored.has(sequence)) {
        known.late++
        this.late.push(keyOf(event))
      }
      known.stored.add(sequence)
      known.open.delete(sequence)
      while (known.highest < sequence) {
        known.highest++
        if (known.highest < sequence) known.open.set(known.highest, now)
      }
    }
    for (const series of this.series.values()) {
      const runs = runsOf(series)
      const oldest = [...runs].sort(
        ([a = 0], [b = 0]) => (series.open.get(a) ?? 0) - (series.open.get(b) ?? 0) || a - b
      )
      for (const run of oldest.slice(0, Math.max(0, runs.length - gapsMax))) declare(series, run)
    }
  }

  declareMissing(now: number, secondsMax: number, eventsMax: number): number {
    let count = 0
    for (const series of this.series.values()) {
      for (const run of runsOf(series)) {
        const isOld = now - (series.open.get(run[0] ?? 0) ?? 0) >= secondsMax * 1000
        if (!isOld && series.highest - (run.at(-1) ?? 0) <= eventsMax) continue
        declare(series, run)
        count++
      }
    }
    return count
  }

  /** The books of all series, in the order in which they were opened. */
  books(): ReadonlyArray<ReturnType<typeof bookOf>> {
    return [...this.series.values()].map((series) => {
      const runs = runsOf(series)
      const { topic, source, first, highest, late, reused } = series
      let contiguous = first
      while (contiguous < highest && !series.open.has(contiguous + 1)) contiguous++
      return {
        topic,
        source,
        first,
        contiguous,
        highest,
        gapsOpen: runs.length,
        declared: series.declared.size,
        late,
        reused,
        gaps: runs.slice(0, 10).map((run) => [run[0] ?? 0, run.at(-1) ?? 0])
      }
    })
  }

  /** How many numbers of all series were given up and never came. */
  missing(): number {
    return [...this.series.values()].reduce(
      (sum, { declared, stored }) => sum + [...declared].filter((number) => !stored.has(number)).length,
      0
    )
  }
}

const runsOf = ({ open }: NaiveSeries): ReadonlyArray<ReadonlyArray<number>> => {
  const runs: Array<Array<number>> = []
  for (const number of [...open.keys()].sort((left, right) => left - right)) {
    const run = runs.at(-1)
    if (run?.at(-1) === number - 1) run.push(number)
    else runs.push([number])
  }
  return runs
}

const declare = ({ open, declared }: NaiveSeries, run: ReadonlyArray<number>): void => {
  for (const number of run) {
    open.delete(number)
    declared.add(number)
  }
}
