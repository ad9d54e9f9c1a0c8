/**
 * What the history proves about each key and each row: who may have sent it, when it was first told of, how often it
 * was certainly delivered and how often it may have been. Every check draws on this, so that it is worked out once.
 */
import type { Result } from "./Answers.ts"
import { type Calls, keyOf, type Publish, type Sent } from "./Calls.ts"
import type { Holdings, Row } from "./Holdings.ts"
import { getOrMake, Rising } from "./Rising.ts"

/** One event of a publish, by its place in it. */
export interface Occurrence {
  readonly publish: Publish
  readonly position: number
  readonly sent: Sent
}

/** What a publisher was told of one occurrence. */
export interface Told extends Result {
  readonly occurrence: Occurrence
}

/** All that was sent and told of one key. */
export interface KeyEvidence {
  /** Every occurrence that may have been carried out. */
  readonly occurrences: Array<Occurrence>
  readonly told: Array<Told>
}

/** All that was sent and told of one row. */
export interface RowEvidence {
  /** Occurrences of which the store would keep just what it keeps; one of them was stored. In the order of arrival. */
  readonly candidates: ReadonlyArray<Occurrence>
  /** Deliveries with the row's content, and with other content: how often for certain, and how often at most. */
  readonly same: { readonly least: number; readonly most: number }
  readonly other: { readonly least: number; readonly most: number }
  /** Where a publisher was first told that this row is stored, infinity if none was. */
  readonly ackedAt: number
  /** Where anyone was first told of it. */
  readonly knownAt: number
}

export interface Evidence {
  readonly keys: ReadonlyMap<string, KeyEvidence>
  /** By rank. */
  readonly rows: ReadonlyArray<RowEvidence>
  /** For each rank, where the first of the rows from there to the end was told of. */
  readonly knownFrom: ReadonlyArray<number>
  /** The greatest offset that had been told of. */
  readonly offset: Rising
}

/** Where something is that never happened. */
const never = Number.POSITIVE_INFINITY

/** Works out what a history proves of what a database holds. */
export const evidenceOf = (calls: Calls, holdings: Holdings): Evidence => {
  const keys = new Map<string, KeyEvidence>()
  for (const publish of calls.publishes) {
    for (const [position, sent] of publish.sent.entries()) {
      const key = getOrMake(keys, sent.key, () => ({ occurrences: [], told: [] }))
      const occurrence = { publish, position, sent }
      if (publish.possible.length > 0) key.occurrences.push(occurrence)
      const result = publish.answer?.results?.[position]
      if (result !== undefined) key.told.push({ ...result, occurrence })
    }
  }

  const seenAt = firstSeen(calls, holdings)
  const rows = holdings.rows.map((row) => {
    const found = rowEvidence(row, keys.get(row.key), seenAt[row.rank] as number)
    // Of a second row with the same key nobody was told.
    return holdings.byKey.get(row.key) === row ? found : { ...found, ackedAt: never, knownAt: never }
  })
  return { keys, rows, knownFrom: knownFrom(rows), offset: toldOffsets(calls, holdings, rows) }
}

/** Where an occurrence first reached a server. */
export const arrival = ({ publish }: Occurrence): number => publish.possible[0] ?? never

const rowEvidence = (row: Row, key: KeyEvidence | undefined, seenAt: number): RowEvidence => {
  const candidates: Array<Occurrence> = []
  const same = { least: 0, most: 0 }
  const other = { least: 0, most: 0 }
  let ackedAt = never
  for (const occurrence of key?.occurrences ?? []) {
    const { publish, sent } = occurrence
    const tally = sent.content === row.content ? same : other
    tally.most += publish.possible.length
    if (publish.answer !== undefined) {
      tally.least++
      ackedAt = Math.min(ackedAt, publish.call.settled)
    }
    if (sent.identity === row.identity) candidates.push(occurrence)
  }
  candidates.sort((left, right) => arrival(left) - arrival(right))
  return { candidates, same, other, ackedAt, knownAt: Math.min(ackedAt, seenAt) }
}

/** Where each row was first seen by a reader. */
const firstSeen = (calls: Calls, holdings: Holdings): ReadonlyArray<number> => {
  const seenAt = holdings.rows.map(() => never)
  const see = (key: string, index: number): void => {
    const row = holdings.byKey.get(key)
    if (row !== undefined) seenAt[row.rank] = Math.min(seenAt[row.rank] as number, index)
  }
  for (const { call, answer } of calls.pages) {
    for (const { topic, eventId } of answer.events) see(keyOf(topic, eventId), call.settled)
  }
  for (const { call, answer } of calls.lookups) {
    if (answer !== undefined) see(keyOf(answer.event.topic, answer.event.eventId), call.settled)
  }
  return seenAt
}

const knownFrom = (rows: ReadonlyArray<RowEvidence>): ReadonlyArray<number> => {
  let least = never
  const from = rows.map(({ knownAt }) => knownAt)
  for (let rank = rows.length - 1; rank >= 0; rank--) {
    least = Math.min(least, from[rank] as number)
    from[rank] = least
  }
  return from
}

// An offset counts from where a row that has it to the end was told of: an answer that was wrong is found elsewhere, and
// should not cast doubt on every later one.
const toldOffsets = (calls: Calls, holdings: Holdings, rows: ReadonlyArray<RowEvidence>): Rising => {
  const told: Array<readonly [number, number]> = []
  for (const [rank, { knownAt }] of rows.entries()) {
    if (knownAt !== never) told.push([knownAt, holdings.offsets[rank] as number])
  }
  for (const { call, answer } of calls.stats) {
    if (answer.lastOffset <= holdings.books.lastOffset) told.push([call.settled, answer.lastOffset])
  }
  // A cursor is never ahead of what was given out.
  for (const { call, answer } of calls.pages) {
    if (answer.next <= holdings.books.lastOffset) told.push([call.settled, answer.next])
  }
  told.sort(([left], [right]) => left - right)
  const offset = new Rising()
  for (const [index, value] of told) offset.note(index, value)
  return offset
}
