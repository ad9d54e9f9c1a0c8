/**
 * The books of sequences counted again, from the numbers of the events: one series after the other, each in the order of
 * its numbers, a window at a time.
 */
import { Effect } from "effect"
import { type Count, examplesMax, type Recounted, windowRows } from "./Recount.ts"
import { sumMax } from "./Sequences.ts"

interface SourceRow {
  readonly id: number
  readonly topic_id: number
  readonly topic: string | null
  readonly name: string
  readonly first: number
  readonly contiguous: number
  readonly highest: number
  readonly behind: number
  readonly gaps: number
  readonly declared: number
  readonly late: number
  readonly reused: number
}

interface GapRow {
  readonly first: number
  readonly last: number
}

/** What the events of one series say. */
interface Tally {
  events: number
  opened: { offset: number; sequence: number } | undefined
  highest: number
  late: number
  reused: number
  /** Numbers that were passed over and are in no open gap. */
  missing: number
  /** Gaps that were met as they are. */
  readonly met: Set<GapRow>
  wrongLate: number | undefined
}

/** Compares the books of sequences, after the events were counted; a sentence for each wrong one. */
export const countSequences = Effect.fnUntraced(function* (recounted: Recounted, count: Count) {
  const { sql, books, progress } = recounted
  const faults: Array<string> = []
  const sums = { events: 0, sources: 0, gaps: 0, declared: 0, late: 0, reused: 0 }
  let after = Number.MIN_SAFE_INTEGER
  let more = 0
  while (true) {
    yield* progress({
      step: "sequences",
      done: sums.sources,
      total: Math.max(books.sources ?? 0, sums.sources)
    })
    const rows = yield* sql<SourceRow>`
      SELECT s.*, t.name AS topic FROM source AS s LEFT JOIN topic AS t ON t.id = s.topic_id
      WHERE s.id > ${after} ORDER BY s.id LIMIT ${windowRows}`
    const last = rows.at(-1)
    // A damaged tree may lead in a circle.
    if (last === undefined || last.id <= after) break
    after = last.id
    for (const row of rows) {
      const gaps = yield* sql<GapRow>`
        SELECT first, last FROM gap WHERE source_id = ${row.id} ORDER BY first`
      const tally = yield* tallyOf(recounted, row, gaps)
      sums.events += tally.events
      sums.sources++
      sums.gaps += gaps.length
      sums.declared = Math.min(sums.declared + row.declared, sumMax)
      sums.late += row.late
      sums.reused += row.reused
      const fault = faultOf(row, gaps, tally)
      if (fault === undefined) continue
      if (faults.length < examplesMax) {
        faults.push(`The sequence of ${row.name} in the topic ${row.topic} ${fault}.`)
      } else more++
    }
    yield* Effect.yieldNow()
  }
  if (more > 0) faults.push(`The same is so of ${more} more sequences.`)
  if (sums.events !== count.sequenced) {
    faults.push(
      `Events with a sequence: ${count.sequenced}, but the sequences of all sources have ${sums.events}.`
    )
  }
  for (const [what, said, is] of [
    ["sources", books.sources, sums.sources],
    ["open gaps", books.gaps_open, sums.gaps],
    ["numbers declared missing", books.declared_missing, sums.declared],
    ["late events", books.late, sums.late],
    ["late events", count.late, sums.late],
    ["reused numbers", books.sequence_reused, sums.reused]
  ] as const) {
    if (said !== is) faults.push(`The books are wrong: ${what} ${said}, but the sequences have ${is}.`)
  }
  return faults
})

/** Walks through the events of a series by their numbers. */
const tallyOf = Effect.fnUntraced(function* (
  { sql }: Recounted,
  row: SourceRow,
  gaps: ReadonlyArray<GapRow>
) {
  const tally: Tally = {
    events: 0,
    opened: undefined,
    highest: -1,
    late: 0,
    reused: 0,
    missing: 0,
    met: new Set(),
    wrongLate: undefined
  }
  const byFirst = new Map(gaps.map((gap) => [gap.first, gap]))
  const passOver = (first: number, last: number): void => {
    if (first > last || first <= row.first) return
    const gap = byFirst.get(first)
    if (gap?.last === last) tally.met.add(gap)
    else tally.missing += last - first + 1
  }
  let sequence = -1
  let offset = 0
  while (true) {
    const events = yield* sql<{ offset: number; sequence: number; late: number }>`
      SELECT offset, sequence, late FROM event
      WHERE topic_id = ${row.topic_id} AND source = ${row.name} AND sequence IS NOT NULL
        AND (sequence, offset) > (${sequence}, ${offset})
      ORDER BY sequence, offset LIMIT ${windowRows}`
    for (const event of events) {
      const isReused = tally.events > 0 && event.sequence === tally.highest
      if (tally.events > 0) passOver(tally.highest + 1, event.sequence - 1)
      tally.events++
      tally.highest = event.sequence
      if (tally.opened === undefined || event.offset < tally.opened.offset) tally.opened = event
      if (isReused) tally.reused++
      if (event.late !== 0) tally.late++
      if (event.late !== 0 && (isReused || event.sequence <= row.first)) tally.wrongLate ??= event.offset
    }
    const last = events.at(-1)
    if (last === undefined || (last.sequence <= sequence && last.offset <= offset)) return tally
    sequence = last.sequence
    offset = last.offset
    yield* Effect.yieldNow()
  }
})

const faultOf = (row: SourceRow, gaps: ReadonlyArray<GapRow>, tally: Tally): string | undefined => {
  if (tally.opened === undefined) return "has no events"
  const stray = gaps.find((gap) => !tally.met.has(gap))
  const lowest = gaps[0]
  const wrong = [
    ["first", row.first, tally.opened.sequence],
    ["contiguous", row.contiguous, lowest === undefined ? tally.highest : lowest.first - 1],
    ["highest", row.highest, tally.highest],
    ["behind", row.behind, lowest === undefined ? 0 : tally.highest - lowest.last],
    ["open gaps", row.gaps, gaps.length],
    ["declared missing", row.declared, tally.missing + tally.late],
    ["late", row.late, tally.late],
    ["reused", row.reused, tally.reused]
  ]
    .filter(([, said, is]) => said !== is)
    .map(([what, said, is]) => `${what} ${said}, which should be ${is}`)
  if (stray !== undefined) wrong.push(`a gap from ${stray.first} to ${stray.last}, where there is none`)
  if (tally.wrongLate !== undefined) wrong.push(`an event that cannot be late at offset ${tally.wrongLate}`)
  return wrong.length === 0 ? undefined : `has wrong books: ${wrong.join("; ")}`
}
