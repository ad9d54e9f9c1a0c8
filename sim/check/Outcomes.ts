/**
 * G8, honest answers: counts and results agree with each other and with what stands. `stored` and `duplicate` are told
 * of the content that stands, `conflict` of another; something is a duplicate or a conflict only if another delivery of
 * its key could have come first: an earlier event of the same batch, another copy of it, or another publish.
 *
 * Statuses are checked here, too: what is valid is not refused, what is not valid is; 503 says when to try again (G6);
 * there is no 500 (G7).
 */
import type { PublishAnswer, Result } from "./Answers.ts"
import { type Calls, describe, type Publish } from "./Calls.ts"
import { arrival, type Evidence, type Occurrence } from "./Evidence.ts"
import type { Holdings, Row } from "./Holdings.ts"
import { brief, nameOf, type Report } from "./Report.ts"

/** Checks what publishers were told. */
export const checkOutcomes = (calls: Calls, holdings: Holdings, evidence: Evidence, report: Report): void => {
  for (const publish of calls.publishes) {
    const { call, sent, answer } = publish
    if (answer === undefined) continue
    const wrong = (detail: string): void => report.add("G8", `${describe(call)}: ${detail}`, call.settled)
    checkCounts(publish, answer, wrong)
    if (answer.results === undefined) {
      checkMinimal(publish, answer, holdings, wrong)
      continue
    }
    const keys = new Set<string>()
    for (const [position, result] of answer.results.entries()) {
      const event = sent[position]
      if (event === undefined) break
      const row = holdings.byKey.get(event.key)
      const isRepeated = keys.has(event.key)
      keys.add(event.key)
      if (row === undefined) continue
      if (isRepeated && result.outcome === "stored") {
        wrong(`${nameOf(row.key)} is told stored for its second place in the batch`)
      }
      checkResult({ publish, position, sent: event }, result, row, evidence, wrong)
    }
  }
}

const checkCounts = (
  { sent, minimal }: Publish,
  answer: PublishAnswer,
  wrong: (detail: string) => void
): void => {
  const { accepted, stored, duplicates, conflicts, results } = answer
  if (accepted !== sent.length) wrong(`${sent.length} events were sent, ${accepted} accepted`)
  if (stored + duplicates + conflicts !== accepted || Math.min(stored, duplicates, conflicts) < 0) {
    wrong(`stored ${stored}, duplicates ${duplicates} and conflicts ${conflicts} are not ${accepted}`)
  }
  if ((results === undefined) !== minimal) {
    wrong(minimal ? "results are given, and were not wanted" : "there are no results")
  }
  if (results === undefined) return
  if (results.length !== sent.length) wrong(`${results.length} results for ${sent.length} events`)
  const count = (outcome: Result["outcome"]): number =>
    results.filter((result) => result.outcome === outcome).length
  const counted = [count("stored"), count("duplicate"), count("conflict")]
  if (stored !== counted[0] || duplicates !== counted[1] || conflicts !== counted[2]) {
    wrong(`its counts ${[stored, duplicates, conflicts].join("/")} are not its results ${counted.join("/")}`)
  }
}

// Without results the counts must still be possible.
const checkMinimal = (
  { sent }: Publish,
  { stored, conflicts }: PublishAnswer,
  { byKey }: Holdings,
  wrong: (detail: string) => void
): void => {
  const keys = new Set(sent.map(({ key }) => key)).size
  if (stored > keys) wrong(`${stored} are told stored of ${keys} keys`)
  let differing = 0
  for (const { key, content } of sent) {
    const row = byKey.get(key)
    if (row === undefined) return
    if (row.content !== content) differing++
  }
  if (conflicts !== differing)
    wrong(`${conflicts} conflicts are told, and ${differing} differ from what stands`)
}

const checkResult = (
  occurrence: Occurrence,
  { outcome, offset }: Result,
  row: Row,
  evidence: Evidence,
  wrong: (detail: string) => void
): void => {
  const { sent, publish } = occurrence
  const name = nameOf(row.key)
  const isEqual = sent.content === row.content
  if (outcome === "conflict" ? isEqual : !isEqual) {
    const standing = `${isEqual ? "just that" : `${row.source}: ${brief(row.payload)}`} stands`
    wrong(`${name} is told ${outcome} for ${sent.source}: ${brief(sent.payload)}, and ${standing}`)
  }
  if (outcome === "stored") return
  if (offset !== row.offset) wrong(`${name} is told ${outcome} of ${offset}, and stands at ${row.offset}`)
  const { candidates, knownAt } = evidence.rows[row.rank] as Evidence["rows"][number]
  // What stands and cannot have been sent as it stands is found elsewhere.
  if (candidates[0] === undefined || arrival(candidates[0]) > knownAt) return
  if (!anotherCameFirst(occurrence, candidates, publish.call.settled)) {
    wrong(`${name} is told ${outcome}, and nothing else could have been stored before`)
  }
}

// Candidates come in the order of their arrival, so those of one other publish or the first of this one decide.
const anotherCameFirst = (
  { publish, position }: Occurrence,
  candidates: ReadonlyArray<Occurrence>,
  settled: number
): boolean => {
  for (const other of candidates) {
    const [first, second] = other.publish.possible
    if (first === undefined || first > settled) return false
    if (other.publish !== publish || other.position < position) return true
    if (second !== undefined && second < settled) return true
  }
  return false
}

/** Checks the status of every answer. */
export const checkStatuses = (calls: Calls, evidence: Evidence | undefined, report: Report): void => {
  for (const call of calls.all) {
    const { returned, operation, settled } = call
    if (returned === undefined) continue
    const { status, headers, body } = returned
    const said = `${describe(call)} was answered ${status}`
    if (status === 503) {
      const after = headers["retry-after"]
      if (after === undefined || !/^[1-9]\d*$/.test(after)) {
        report.add("G6", `${said} with "Retry-After: ${after}"`, settled)
      }
    } else if (status >= 500) {
      report.add("G7", `${said}: ${brief(body)}`, settled)
    } else if (call.invalid) {
      if (status < 400) report.add("G8", `${said}, although it is not valid`, settled)
    } else if (operation.type === "lookup" && status === 404) {
      // Whether there should have been such an event is checked elsewhere.
    } else if (operation.type === "subscribe") {
      // A subscriber asks from where it was told that it is.
      report.add("G5", `${said} from ${operation.after}: ${brief(body)}`, settled)
    } else if (status >= 400) {
      const after =
        operation.type === "page" || operation.type === "stream" ? operation.parameters.after : undefined
      // A cursor that was given out is good for ever; one that was not may be ahead of the store.
      if (after === undefined) report.add("G8", `${said}, although it is valid: ${brief(body)}`, settled)
      else if (after <= (evidence?.offset.before(call.invoked) ?? 0)) {
        report.add("G5", `${said}, although the cursor ${after} had been told of: ${brief(body)}`, settled)
      }
    } else if (status !== (operation.type === "publish" ? 202 : 200)) {
      report.add("G8", said, settled)
    }
  }
}
