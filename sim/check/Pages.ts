/**
 * G5 in what readers see: each event once, in order, unchanged, none missed, none that a crash takes back. What lies
 * between a page's cursor and its `next` is final: no smaller offset may become visible later. So every row that is
 * there at the end, was asked for and lies between them must have been on the page. Where a page says that there is
 * no more, nothing may lie behind it that had been told of before.
 */
import type { Entry } from "../History.ts"
import type { SeenEvent } from "./Answers.ts"
import { type Calls, contentOf, describe, keyOf, type Page } from "./Calls.ts"
import type { Evidence } from "./Evidence.ts"
import { filterOf, foldTopic } from "./Filter.ts"
import type { Holdings, Row } from "./Holdings.ts"
import { nameOf, type Report } from "./Report.ts"
import { countBelow } from "./Rising.ts"

/** How long a page is where the call does not say. */
const limitDefault = 100

type Wrong = (detail: string) => void

/** Checks every page, every stream and every looked-up event. */
export const checkPages = (
  history: ReadonlyArray<Entry>,
  calls: Calls,
  holdings: Holdings,
  evidence: Evidence,
  report: Report
): void => {
  checkCursors(history, calls)
  for (const page of calls.pages) {
    const { call, answer } = page
    const wrong = (detail: string): void => report.add("G5", `${describe(call)}: ${detail}`, call.settled)
    const matches = filterOf(page.parameters)
    for (const event of answer.events) {
      checkSeen(event, holdings, wrong)
      if (!matches(event)) wrong(`${event.topic}/${event.eventId} was not asked for`)
    }
    checkShape(page, wrong)
    checkCursor(page, holdings, wrong)
    checkComplete(page, matches, holdings, evidence, report)
  }
  for (const { call, operation, answer } of calls.lookups) {
    if (answer === undefined) continue
    const wrong = (detail: string): void => report.add("G5", `${describe(call)}: ${detail}`, call.settled)
    const { topic, eventId } = answer.event
    if (topic !== foldTopic(operation.topic) || eventId !== operation.event_id) {
      wrong(`it found ${topic}/${eventId} for ${operation.topic}/${operation.event_id}`)
    }
    checkSeen(answer.event, holdings, wrong)
  }
}

/** Whether readers follow their cursors: if one does not, nothing can be said of what it missed. */
const checkCursors = (history: ReadonlyArray<Entry>, calls: Calls): void => {
  const answers = new Map(calls.pages.map(({ call, answer }) => [call.settled, answer]))
  const cursors = new Map<string, number>()
  const readers = new Map<string, string>()
  for (const [index, entry] of history.entries()) {
    if (entry.kind === "invoked" && entry.operation.type === "page" && entry.operation.reader !== undefined) {
      const { reader, parameters } = entry.operation
      const cursor = cursors.get(reader)
      if (cursor !== undefined && cursor !== parameters.after) {
        throw new Error(`the reader ${reader} asks from ${parameters.after}, and was told ${cursor}`)
      }
      readers.set(entry.call, reader)
    } else if (entry.kind === "returned") {
      const reader = readers.get(entry.call)
      const answer = answers.get(index)
      if (reader !== undefined && answer !== undefined) cursors.set(reader, answer.next)
    }
  }
}

/** Checks that an event that was seen is there at the end, as it was seen. */
export const checkSeen = (event: SeenEvent, { byKey }: Holdings, wrong: Wrong): void => {
  const key = keyOf(event.topic, event.eventId)
  const row = byKey.get(key)
  const name = nameOf(key)
  if (row === undefined) {
    wrong(`${name} was seen at ${event.offset}, and is not there at the end`)
    return
  }
  if (row.offset !== event.offset) wrong(`${name} was seen at ${event.offset}, and ends at ${row.offset}`)
  const changed = changedMember(event, row)
  if (changed !== undefined) wrong(`the ${changed} of ${name} was seen otherwise than it ends`)
}

const changedMember = (event: SeenEvent, row: Row): string | undefined => {
  if (event.topic !== row.topicText) return "topic"
  if (contentOf(event) !== row.content) return event.source === row.source ? "payload" : "source"
  if (event.timestamp !== row.timestamp) return "timestamp"
  if (event.sequence !== row.sequence) return "sequence"
  if (event.origin !== row.origin) return "origin"
  return event.processedAt === row.processedAt ? undefined : "processed_at"
}

const checkShape = ({ operation, parameters, answer }: Page, wrong: Wrong): void => {
  const { count, events } = answer
  const limit = parameters.limit ?? (operation.type === "page" ? limitDefault : Number.POSITIVE_INFINITY)
  if (count !== events.length) wrong(`it counts ${count} and shows ${events.length}`)
  if (events.length > limit) wrong(`${events.length} events are more than ${limit}`)
  const isBehind =
    parameters.order === "desc"
      ? (offset: number, before: number) => offset < before
      : (offset: number, before: number) => offset > before
  let before = parameters.after ?? (parameters.order === "desc" ? Number.POSITIVE_INFINITY : 0)
  for (const { offset } of events) {
    if (!isBehind(offset, before)) wrong(`${offset} is shown behind ${before}`)
    before = offset
  }
}

const checkCursor = (
  { operation, parameters, answer }: Page,
  { offsets, books }: Holdings,
  wrong: Wrong
): void => {
  const { events, next, more } = answer
  // A stream does not say whether there is more: one that ends at its limit may end there by itself.
  const isMoreSaid = more && operation.type === "page"
  const last = events.at(-1)?.offset
  if (parameters.order === "desc") {
    const from = parameters.after ?? Number.POSITIVE_INFINITY
    if (last !== undefined && next > last) wrong(`its next is ${next}, and it shows ${last}`)
    if (more && next >= from) wrong(`there is more, and its next is ${next} as before`)
    else if (isMoreSaid && countBelow(offsets, next) === 0)
      wrong(`there should be more than ${next}, and there is none`)
    return
  }
  const from = parameters.after ?? 0
  if (next < (last ?? from)) wrong(`its next is ${next}, and it shows ${last ?? from}`)
  if (next > from && next > books.lastOffset)
    wrong(`its next is ${next}, and ${books.lastOffset} is the last at the end`)
  if (more && next <= from) wrong(`there is more, and its next is ${next} as before`)
  else if (isMoreSaid && countBelow(offsets, next + 1) === offsets.length) {
    wrong(`there should be more than ${next}, and there is none`)
  }
}

const checkComplete = (
  { call, parameters, answer }: Page,
  matches: (row: Row) => boolean,
  { rows, offsets }: Holdings,
  { rows: evidence, knownFrom }: Evidence,
  report: Report
): void => {
  const { events, next, more } = answer
  const { after } = parameters
  const isAscending = parameters.order !== "desc"
  // Without a cursor a descending page begins at the newest event of its time, and what is newer is not missed.
  const top = isAscending ? next : after === undefined ? (events[0]?.offset ?? -1) : after - 1
  const bottom = isAscending ? (after ?? 0) + 1 : more ? next : 0
  const shown = new Set(events.map(({ offset }) => offset))

  for (let rank = countBelow(offsets, bottom); rank < rows.length; rank++) {
    const row = rows[rank] as Row
    if (row.offset > top) break
    if (shown.has(row.offset) || !matches(row)) continue
    report.add("G5", `${describe(call)} missed ${nameOf(row.key)} at ${row.offset}`, call.settled)
  }

  if (isAscending ? more : after !== undefined) return
  for (let rank = countBelow(offsets, Math.max(top + 1, bottom)); rank < rows.length; rank++) {
    if ((knownFrom[rank] as number) >= call.invoked) break
    const row = rows[rank] as Row
    const { ackedAt, knownAt } = evidence[rank] as Evidence["rows"][number]
    if (knownAt >= call.invoked || shown.has(row.offset) || !matches(row)) continue
    const isAcked = ackedAt < call.invoked
    const detail = `${describe(call)} does not show ${nameOf(row.key)} at ${row.offset}, which had been ${isAcked ? "answered" : "seen"} before`
    report.add(isAcked ? "G1" : "G5", detail, call.settled)
  }
}
