/**
 * G4 for sequences, at the end: the table of sources is what the events say, counted number by number with SQL of the
 * checker's own. What was given up is not kept as such, and need not be: of the numbers between the first and the highest,
 * those that are neither stored nor in an open gap were given up; with those that came late they are all that was ever
 * declared missing.
 */
import type { Query } from "./Holdings.ts"
import type { Violation } from "./Report.ts"

/** When gaps are given up. */
export interface GapBounds {
  /** No gap may be open at the end: each was open for longer than it may be. */
  readonly noneOpen: boolean
  readonly gapsMax: number
}

interface Numbered {
  readonly offset: number
  readonly sequence: number
  readonly late: boolean
}

/** What is wrong with the sequences, and which things happened to them at all. */
export const checkSequences = (
  query: Query,
  { noneOpen, gapsMax }: GapBounds
): { readonly violations: ReadonlyArray<Violation>; readonly seen: ReadonlyArray<string> } => {
  const violations: Array<Violation> = []
  const wrong = (detail: string): void => void violations.push({ guarantee: "G4", detail })
  const seen = new Set<string>()

  const events = new Map<string, Array<Numbered>>()
  for (const row of query(
    "SELECT topic_id, source, sequence, offset, late FROM event WHERE sequence IS NOT NULL ORDER BY offset"
  )) {
    const key = `${row["topic_id"]} ${row["source"]}`
    const numbered = events.get(key) ?? []
    events.set(key, numbered)
    numbered.push({
      offset: Number(row["offset"]),
      sequence: Number(row["sequence"]),
      late: Number(row["late"]) !== 0
    })
  }
  for (const row of query("SELECT offset FROM event WHERE late <> 0 AND sequence IS NULL")) {
    wrong(`the event at ${row["offset"]} is late without a sequence`)
  }

  const sums = { sources: 0, gaps_open: 0, declared_missing: 0, late: 0, sequence_reused: 0 }
  for (const row of query("SELECT * FROM source ORDER BY id")) {
    const key = `${row["topic_id"]} ${row["name"]}`
    const numbered = events.get(key)
    events.delete(key)
    if (numbered === undefined) {
      wrong(`the source ${key} has no events`)
      continue
    }
    const open = query(
      `SELECT first, last FROM gap WHERE source_id = ${Number(row["id"])} ORDER BY first`
    ).map((gap) => [Number(gap["first"]), Number(gap["last"])] as const)
    const is = (what: string, should: number): void => {
      if (Number(row[what]) !== should) wrong(`${what} of the source ${key} is ${row[what]}, not ${should}`)
    }
    const series = tell(numbered, open, (detail) => wrong(`${detail}, of the source ${key}`))
    is("first", series.first)
    is("highest", series.highest)
    is("contiguous", series.contiguous)
    is("behind", series.behind)
    is("gaps", open.length)
    is("late", series.late)
    is("reused", series.reused)
    is("declared", series.missing + series.late)
    if (open.length > gapsMax)
      wrong(`${open.length} gaps of the source ${key} are open, of at most ${gapsMax}`)
    if (noneOpen && open.length > 0) {
      const [first, last] = open[0] ?? []
      violations.push({
        guarantee: "G7",
        detail: `the gap from ${first} to ${last} of the source ${key} is not given up`
      })
    }
    sums.sources++
    sums.gaps_open += open.length
    sums.declared_missing += series.missing + series.late
    sums.late += series.late
    sums.sequence_reused += series.reused
    if (series.overtaken) seen.add("sequence: gap opened")
    if (series.filled) seen.add("sequence: gap filled")
    if (series.missing + series.late > 0) seen.add("sequence: declared missing")
    if (series.late > 0) seen.add("sequence: late")
    if (series.reused > 0) seen.add("sequence: reused")
  }
  for (const key of events.keys()) wrong(`the source ${key} is not listed`)
  for (const books of query("SELECT * FROM store")) {
    for (const [what, should] of Object.entries(sums)) {
      if (Number(books[what]) !== should) wrong(`${what} in the books is ${books[what]}, not ${should}`)
    }
  }
  return { violations, seen: [...seen] }
}

/** What the events of a source, in the order of their offsets, and its open gaps say. */
const tell = (
  numbered: ReadonlyArray<Numbered>,
  open: ReadonlyArray<readonly [first: number, last: number]>,
  wrong: (detail: string) => void
) => {
  const first = numbered[0]?.sequence ?? 0
  const stored = new Set<number>()
  let highest = -1
  let late = 0
  let reused = 0
  let overtaken = false
  let filled = false
  for (const event of numbered) {
    const { sequence, offset } = event
    if (highest >= 0 && sequence > highest + 1) overtaken = true
    if (stored.has(sequence)) reused++
    else if (!event.late && sequence > first && sequence < highest) filled = true
    if (event.late) {
      late++
      // What was declared missing had been passed over, and had not come.
      if (stored.has(sequence) || sequence <= first || sequence >= highest) {
        wrong(`the event at ${offset} with the number ${sequence} cannot be late`)
      }
    }
    stored.add(sequence)
    highest = Math.max(highest, sequence)
  }
  const awaited = new Set<number>()
  let before = first
  for (const [from, to] of open) {
    if (from <= before || to < from || to >= highest) wrong(`there is no gap from ${from} to ${to}`)
    if (!stored.has(from - 1) || !stored.has(to + 1)) wrong(`the gap from ${from} to ${to} goes on`)
    for (let number = from; number <= Math.min(to, highest); number++) awaited.add(number)
    before = to
  }
  let missing = 0
  let contiguous = first
  for (let number = first; number <= highest; number++) {
    if (stored.has(number) && awaited.has(number)) wrong(`the number ${number} is stored and waited for`)
    if (!stored.has(number) && !awaited.has(number)) missing++
    if (contiguous === number - 1 && !awaited.has(number)) contiguous = number
  }
  const lowest = open[0]
  const behind = lowest === undefined ? 0 : highest - lowest[1]
  return { first, highest, contiguous, behind, late, reused, missing, overtaken, filled }
}
