/**
 * G4 in what is told of single topics and keys: lookups, /topics and /conflicts. Each count lies between what had been
 * told before and what the database says at the end, and does not fall from one answer to a later one.
 */
import type { ConflictedKey, KnownAnswer, Listing, TopicBook } from "./Answers.ts"
import { type Answered, type Calls, describe, keyOf } from "./Calls.ts"
import type { Evidence, KeyEvidence } from "./Evidence.ts"
import { foldTopic, instantOf } from "./Filter.ts"
import type { Holdings, Row } from "./Holdings.ts"
import { nameOf, type Report } from "./Report.ts"
import { countBelow, getOrMake, Rising } from "./Rising.ts"

/** How long a page is where the call does not say. */
const limitDefault = 100

interface ListingCall<A, Cursor> {
  readonly answer: Listing<A, Cursor>
  readonly operation: { readonly limit?: number | undefined }
}

/** Counts that never fall, by name. */
type Counts = Map<string, Rising>

/** Checks what is told of single topics and keys. */
export const checkListings = (calls: Calls, holdings: Holdings, evidence: Evidence, report: Report): void => {
  const counts: Counts = new Map()
  const wrongOf =
    ({ call }: Pick<Answered<unknown>, "call">) =>
    (detail: string) =>
      report.add("G4", `${describe(call)}: ${detail}`, call.settled)

  for (const lookup of calls.lookups) {
    const { answer } = lookup
    if (answer === undefined) continue
    const row = holdings.byKey.get(keyOf(answer.event.topic, answer.event.eventId))
    if (row !== undefined) checkKnown({ ...lookup, answer }, row, counts, evidence, wrongOf(lookup))
  }

  const knownByTopic = new Map<string, Array<number>>()
  for (const [rank, { knownAt }] of evidence.rows.entries()) {
    const row = holdings.rows[rank]
    if (row !== undefined) getOrMake(knownByTopic, row.topic, () => []).push(knownAt)
  }
  for (const known of knownByTopic.values()) known.sort((left, right) => left - right)
  for (const page of calls.topics) {
    const { answer, operation, call } = page
    const wrong = wrongOf(page)
    const after = foldTopic(operation.after ?? "")
    checkPage(page, after, (book) => book.topic, wrong)
    for (const book of answer.items) checkTopicBook(book, page, knownByTopic, counts, holdings, wrong)
    const listed = new Set(answer.items.map(({ topic }) => topic))
    for (const [topic, known] of knownByTopic) {
      if (topic <= after || listed.has(topic) || (answer.more && topic > answer.next)) continue
      if ((known[0] as number) < call.invoked) wrong(`the topic ${topic} is not listed`)
    }
  }

  for (const page of calls.conflicts) {
    const { answer, operation, call } = page
    const wrong = wrongOf(page)
    const after = operation.after ?? 0
    checkPage(page, after, (key) => key.offset, wrong)
    for (const key of answer.items) checkConflictedKey(key, page, counts, holdings, evidence, wrong)
    const listed = new Set(answer.items.map(({ offset }) => offset))
    for (const { offset } of holdings.redeliveries) {
      const row = holdings.rows[countBelow(holdings.offsets, offset)]
      if (row === undefined || offset <= after) continue
      if (listed.has(offset) || (answer.more && offset > answer.next)) continue
      if (toldBefore(evidence.keys.get(row.key), row, call.invoked).other > 0) {
        wrong(`${nameOf(row.key)} is not listed, whose conflict had been told`)
      }
    }
  }
}

/** How many deliveries with the row's content and with other content had been answered before. */
const toldBefore = (key: KeyEvidence | undefined, row: Row, index: number) => {
  let same = 0
  let other = 0
  for (const { publish, sent } of key?.occurrences ?? []) {
    if (publish.answer === undefined || publish.call.settled >= index) continue
    if (sent.content === row.content) same++
    else other++
  }
  return { same, other }
}

const between = (
  what: string,
  counted: number,
  bounds: { readonly least: number; readonly most: number },
  wrong: (detail: string) => void
): void => {
  if (counted < bounds.least) wrong(`${what} is ${counted}, when ${bounds.least} had been told of`)
  if (counted > bounds.most) wrong(`${what} was ${counted} and ends at ${bounds.most}`)
}

const neverFalls = (
  counts: Counts,
  name: string,
  counted: number,
  { call }: Pick<Answered<unknown>, "call">,
  wrong: (detail: string) => void
): void => {
  const rising = getOrMake(counts, name, () => new Rising())
  const before = rising.before(call.invoked)
  if (counted < before) wrong(`${name} fell from ${before} to ${counted}`)
  rising.note(call.settled, counted)
}

const checkKnown = (
  lookup: Answered<KnownAnswer>,
  row: Row,
  counts: Counts,
  evidence: Evidence,
  wrong: (detail: string) => void
): void => {
  const { duplicates, conflicts, lastDuplicateAt } = lookup.answer
  const told = toldBefore(evidence.keys.get(row.key), row, lookup.call.invoked)
  const name = nameOf(row.key)
  const least = Math.max(0, told.same + told.other - 1)
  between(`the duplicates of ${name}`, duplicates, { least, most: row.redelivery?.duplicates ?? 0 }, wrong)
  const most = row.redelivery?.conflicts ?? 0
  between(`the conflicts of ${name}`, conflicts, { least: told.other, most }, wrong)
  neverFalls(counts, `duplicates of ${name}`, duplicates, lookup, wrong)
  neverFalls(counts, `conflicts of ${name}`, conflicts, lookup, wrong)
  if ((lastDuplicateAt === null) !== (duplicates === 0)) {
    wrong(`${name} has ${duplicates} duplicates, the last at ${lastDuplicateAt}`)
  } else if (lastDuplicateAt !== null && lastDuplicateAt > (row.redelivery?.lastDuplicateAt ?? 0)) {
    wrong(
      `the last duplicate of ${name} was at ${lastDuplicateAt} and ends at ${row.redelivery?.lastDuplicateAt}`
    )
  }
}

/** A page of a listing: its count, its order, its cursor. */
const checkPage = <A, Cursor extends string | number>(
  { answer, operation }: ListingCall<A, Cursor>,
  after: Cursor,
  cursorOf: (item: A) => Cursor,
  wrong: (detail: string) => void
): void => {
  const { count, items, next } = answer
  const limit = operation.limit ?? limitDefault
  if (count !== items.length) wrong(`it counts ${count} and lists ${items.length}`)
  if (items.length > limit) wrong(`${items.length} are more than ${limit}`)
  let before = after
  for (const item of items) {
    const cursor = cursorOf(item)
    if (cursor <= before) wrong(`${cursor} is listed behind ${before}`)
    before = cursor
  }
  if (next !== before) wrong(`its next is ${next}, not ${before}`)
  if (answer.more && items.length === 0) wrong("there is more, and nothing to go on from")
}

const checkTopicBook = (
  book: TopicBook,
  page: Calls["topics"][number],
  knownByTopic: ReadonlyMap<string, ReadonlyArray<number>>,
  counts: Counts,
  holdings: Holdings,
  wrong: (detail: string) => void
): void => {
  const final = holdings.topics.get(book.topic)
  if (final === undefined) {
    wrong(`there is no topic ${book.topic} at the end`)
    return
  }
  const least = countBelow(knownByTopic.get(book.topic) ?? [], page.call.invoked)
  between(`the events of ${book.topic}`, book.events, { least, most: final.events }, wrong)
  between(`the duplicates of ${book.topic}`, book.duplicates, { least: 0, most: final.duplicates }, wrong)
  between(`the conflicts of ${book.topic}`, book.conflicts, { least: 0, most: final.conflicts }, wrong)
  between(`the last offset of ${book.topic}`, book.lastOffset, { least: 0, most: final.lastOffset }, wrong)
  for (const name of ["events", "duplicates", "conflicts", "lastOffset"] as const) {
    neverFalls(counts, `${name} of the topic ${book.topic}`, book[name], page, wrong)
  }
  if (book.firstOffset !== final.firstOffset) {
    wrong(`the first offset of ${book.topic} was ${book.firstOffset} and ends at ${final.firstOffset}`)
  }
  const latest = instantOf(book.lastEventTime)
  const end = instantOf(final.lastEventTime)
  if (latest === undefined || end === undefined || latest > end) {
    wrong(`the last event time of ${book.topic} was ${book.lastEventTime} and ends at ${final.lastEventTime}`)
  }
}

const checkConflictedKey = (
  key: ConflictedKey,
  page: Calls["conflicts"][number],
  counts: Counts,
  holdings: Holdings,
  evidence: Evidence,
  wrong: (detail: string) => void
): void => {
  const row = holdings.byKey.get(keyOf(key.topic, key.eventId))
  if (row === undefined || row.offset !== key.offset) {
    wrong(`${key.topic}/${key.eventId} is listed at ${key.offset}, and ends at ${row?.offset}`)
    return
  }
  const name = nameOf(row.key)
  const told = toldBefore(evidence.keys.get(row.key), row, page.call.invoked)
  const bounds = { least: Math.max(1, told.other), most: row.redelivery?.conflicts ?? 0 }
  between(`the conflicts of ${name}`, key.conflicts, bounds, wrong)
  neverFalls(counts, `conflicts of ${name}`, key.conflicts, page, wrong)
  if (key.lastConflictAt > (row.redelivery?.lastConflictAt ?? 0)) {
    wrong(`the last conflict of ${name} was at ${key.lastConflictAt}, which is after the last one of all`)
  }
  const conflicting = evidence.keys
    .get(row.key)
    ?.occurrences.some(({ sent }) => sent.content !== row.content && sent.source === key.lastConflictSource)
  if (conflicting !== true) wrong(`no conflicting delivery of ${name} came from ${key.lastConflictSource}`)
}
