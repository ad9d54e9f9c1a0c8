/**
 * The two ends of a run of `publish`: what is read is submitted to the publisher, and what was submitted is followed up,
 * in the order of the lines, until each event has its outcome or its error.
 */
import { Deferred, Effect, Either, Option, Queue } from "effect"
import type * as Publisher from "../client/Publisher.ts"
import { type Input, nextPiece, type UnreadableInput } from "./Inputs.ts"
import { type Format, type Made, makeLineEvents, notLines, type Origin } from "./LineEvents.ts"
import { makeLineReader } from "./Lines.ts"
import { type Place, placeText, type Report } from "./Report.ts"

/** Refusals that are about the event; any other one would meet every event. */
const eventStatuses = [400, 413, 422]

/** An event on its way. */
export interface Submitted {
  readonly place: Place
  /** How many bytes of all inputs are done with once this event is. */
  readonly bytesDone: number
  readonly outcome: Effect.Effect<Publisher.PublishOutcome, Publisher.PublishError>
}

/** What the parts of a run share. */
export interface Run {
  readonly report: Report
  readonly origin: Origin
  readonly format: Format
  readonly publisher: Publisher.Publisher
  readonly submitted: Queue.Queue<Submitted | "end">
  /** Why nothing more can be published, once that is so. */
  readonly fatal: Deferred.Deferred<string>
}

// ---------- reading ----------

/** Tells of an input that cannot be read. */
export const complainOf = (report: Report, { name, reason }: UnreadableInput) =>
  report.complain("failed", `${name} cannot be read: ${reason}`)

/** Reads one input after the other, and submits what is in them. */
export const readAll = (run: Run, inputs: ReadonlyArray<Input>): Effect.Effect<void> =>
  Effect.gen(function* () {
    let bytesBefore = 0
    for (const input of inputs) {
      yield* Effect.catchAll(readOne(run, input, bytesBefore), (error) =>
        Effect.sync(() => complainOf(run.report, error))
      )
      bytesBefore += input.size ?? 0
    }
  })

const readOne = (run: Run, input: Input, bytesBefore: number): Effect.Effect<void, UnreadableInput> =>
  Effect.gen(function* () {
    const stream = yield* input.open
    const lines = makeLineReader()
    const events = makeLineEvents(run.format, run.origin)
    let begun = false
    while (true) {
      const piece = yield* nextPiece(input.name, stream)
      const found = Option.isSome(piece) ? lines.push(piece.value) : lines.end()
      const [first] = found
      if (!begun && first !== undefined) {
        begun = true
        const why = notLines(first)
        if (why !== undefined) return run.report.complain("failed", `${input.name} ${why}`)
      }
      const readAt = new Date().toISOString()
      for (const line of found) {
        for (const made of events.take(line, readAt)) yield* submit(run, input.name, bytesBefore, made)
      }
      if (Option.isNone(piece)) return
    }
  }).pipe(Effect.scoped)

const submit = (run: Run, name: string, bytesBefore: number, made: Made): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { report, publisher, submitted } = run
    const { line } = made
    const place = { name, line: line.number, position: line.position }
    if (made._tag === "Fault") return report.complain("failed", `${placeText(place)}: ${made.detail}`)
    if (!made.isText) report.counts.notText++
    const outcome = yield* publisher.submit(made.event)
    yield* Queue.offer(submitted, {
      place,
      bytesDone: bytesBefore + line.position + line.bytes.length,
      outcome
    })
  }).pipe(
    Effect.catchTags({
      InvalidEvent: ({ message }) =>
        Effect.sync(() => run.report.complain("failed", `${name}:${made.line.number}: ${message}`)),
      PublisherClosed: (error) => Effect.die(error),
      // It numbers nothing.
      SequenceUnknown: (error) => Effect.die(error)
    })
  )

// ---------- following ----------

/** Follows up what was submitted, to the end; gives the last place up to which everything was answered. */
export const follow = (run: Run): Effect.Effect<Place | undefined> =>
  Effect.gen(function* () {
    let reached: Place | undefined
    while (true) {
      const next = yield* Queue.take(run.submitted)
      if (next === "end") return reached
      const outcome = yield* Effect.either(next.outcome)
      if (Either.isRight(outcome)) noteOutcome(run.report, next, outcome.right)
      else yield* noteError(run, next, outcome.left)
      if (run.report.counts.unanswered === 0) {
        reached = next.place
        run.report.advance(next.bytesDone)
      }
    }
  })

const noteOutcome = (
  report: Report,
  { place }: Submitted,
  { outcome, topic, event_id, offset }: Publisher.PublishOutcome
) => {
  report.answered()
  if (outcome === "stored") report.counts.stored++
  else if (outcome === "duplicate") report.counts.duplicates++
  else {
    const key = `${topic}/${event_id}`
    report.complain(
      "conflicts",
      `${placeText(place)}: conflict: ${key} is known with other content, at offset ${offset}, which stands`
    )
  }
}

const noteError = (
  { report, fatal }: Run,
  { place }: Submitted,
  error: Publisher.PublishError
): Effect.Effect<void> => {
  if (error._tag === "Refused" && eventStatuses.includes(error.status)) {
    return Effect.sync(() => {
      report.answered()
      report.complain("failed", `${placeText(place)}: ${error.message}`)
    })
  }
  report.counts.unanswered++
  return error._tag === "OutcomeUnknown" ? Effect.void : Effect.asVoid(Deferred.succeed(fatal, error.message))
}
