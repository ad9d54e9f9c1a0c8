/**
 * `sekali publish`: lines of files or of the standard input, as events. One fiber reads and submits to a publisher, which
 * sends in batches, and again until the service has answered; another follows with the outcomes. What was done is
 * remembered nowhere: every run begins at the beginning, and the service drops what it has.
 */
import { hostname } from "node:os"
import type { HttpClient } from "@effect/platform"
import { Deferred, Effect, Either, Fiber, Option, Queue, Schema, type Scope } from "effect"
import * as Publisher from "../client/Publisher.ts"
import { normaliseTopic, topicRule } from "../domain/Topic.ts"
import { Source } from "../http/Api.ts"
import { UsageError } from "./CommandLine.ts"
import { exitCodes, Failure } from "./Conventions.ts"
import { type Input, inputAt } from "./Inputs.ts"
import { type Format, ndjsonBytesMax, type Origin } from "./LineEvents.ts"
import { counted, makeReport, outcomesText, type Place, placeText, type Report } from "./Report.ts"
import { checkAddress, networkLayer } from "./Service.ts"
import { complainOf, follow, type Run, readAll, type Submitted } from "./Shipping.ts"
import { askedToStop, type StopSignal } from "./Signals.ts"

/** The options and arguments of the command. */
export interface PublishOptions {
  readonly url: string
  readonly topic: string
  /** The host's name where it is left out. */
  readonly source: string | undefined
  readonly format: Format
  readonly giveUpAfterSeconds: number | undefined
  /** Paths, `-` for the standard input; that alone if there are none. */
  readonly files: ReadonlyArray<string>
}

/** How long what was taken may be sent for once the command was asked to stop. */
const flushSecondsMax = 5

/** Events that are held until they are answered: enough to fill the next requests while one is under way. */
const bufferEventsMax = 4_000

/** The longest a service that has come back waits to be asked again. */
const backoffMillisMax = 5_000

/** Publishes, and gives the exit code. */
export const publish = (options: PublishOptions): Effect.Effect<number, UsageError | Failure> =>
  Effect.gen(function* () {
    const origin = yield* originOf(options)
    const signalled = yield* Deferred.make<StopSignal>()
    yield* Effect.forkScoped(Effect.flatMap(askedToStop, (signal) => Deferred.succeed(signalled, signal)))

    const paths = options.files.length === 0 ? ["-"] : options.files
    const [unreadable, inputs] = yield* Effect.partition(paths, inputAt)
    const report = yield* Effect.acquireRelease(
      Effect.sync(() => makeReport(totalOf(inputs))),
      ({ end }) => Effect.sync(end)
    )
    for (const input of unreadable) complainOf(report, input)
    if (inputs.length === 0) return exitCodes.failed
    if (paths.includes("-") && process.stdin.isTTY) {
      report.say("what is typed here is published; Ctrl-D ends it")
    }
    const asked = Deferred.await(signalled)
    const reason = yield* Effect.raceFirst(checkAddress(options.url), Effect.as(asked, Option.none()))
    if (Option.isSome(reason)) {
      report.say(`${options.url} does not answer yet (${reason.value}); it is tried again and again`)
    }

    const run: Run = {
      report,
      origin,
      format: options.format,
      publisher: yield* makePublisher(options, report),
      submitted: yield* Queue.bounded<Submitted | "end">(bufferEventsMax),
      fatal: yield* Deferred.make<string>()
    }
    const following = yield* Effect.forkScoped(follow(run))
    const over = Deferred.await(run.fatal)
    yield* Effect.raceFirst(readAll(run, inputs), Effect.raceFirst(asked, over))

    const signal = yield* Deferred.poll(signalled)
    if (Option.isSome(signal)) {
      report.say(
        `stopping: nothing more is read, and what was read is sent, for up to ${flushSecondsMax} s (again: at once)`
      )
    }
    const closing = yield* Effect.forkScoped(run.publisher.close)
    const patience = Effect.zipRight(asked, Effect.sleep(`${flushSecondsMax} seconds`))
    yield* Effect.raceFirst(Fiber.await(closing), Effect.raceFirst(over, patience))
    yield* Fiber.interrupt(closing)
    yield* Queue.offer(run.submitted, "end")
    const reached = yield* Fiber.join(following)
    report.end()
    return yield* conclude(run, reached, yield* endOf(signalled), yield* endOf(run.fatal))
  }).pipe(Effect.scoped, Effect.provide(networkLayer))

const endOf = <A>(deferred: Deferred.Deferred<A>): Effect.Effect<A | undefined> =>
  Effect.flatMap(
    Deferred.poll(deferred),
    Option.match({ onNone: () => Effect.succeed(undefined), onSome: (value) => value })
  )

const originOf = ({ topic, source }: PublishOptions): Either.Either<Origin, UsageError> =>
  Either.gen(function* () {
    const wrong = (option: string, value: string, rule: string) =>
      new UsageError({ sentence: `${option} is ${JSON.stringify(value)}, but must be ${rule}.` })
    const normalised = yield* Either.fromOption(normaliseTopic(topic), () =>
      wrong("--topic", topic, topicRule)
    )
    const named = source ?? hostname()
    if (!Schema.is(Source)(named)) {
      return yield* Either.left(wrong("--source", named, "1 to 255 characters without control characters"))
    }
    return { topic: normalised, source: named }
  })

const totalOf = (inputs: ReadonlyArray<Input>): number | undefined =>
  inputs.reduce<number | undefined>(
    (sum, { size }) => (sum === undefined || size === undefined ? undefined : sum + size),
    0
  )

const makePublisher = (
  { url, giveUpAfterSeconds }: PublishOptions,
  report: Report
): Effect.Effect<Publisher.Publisher, UsageError, HttpClient.HttpClient | Scope.Scope> =>
  Publisher.make({
    url,
    giveUp: { seconds: giveUpAfterSeconds },
    bufferEventsMax,
    backoffMillisMax,
    // A line of NDJSON may be as long as this.
    bufferBytesMax: 2 * ndjsonBytesMax,
    onRetry: (retry) => Effect.sync(() => report.retrying(retry)),
    // The end of the scope is the end of the process, and what was to be sent was sent before.
    closeSecondsMax: 0
  }).pipe(Effect.mapError(({ message }) => new UsageError({ sentence: message })))

const conclude = (
  { report, publisher }: Run,
  reached: Place | undefined,
  signal: StopSignal | undefined,
  fatal: string | undefined
): Effect.Effect<number, Failure> =>
  Effect.gen(function* () {
    const { counts } = report
    const { events, attempts, retries } = yield* publisher.stats
    const seconds = report.seconds()
    const rate = counted(Math.round(events / Math.max(seconds, 0.001)))
    const requests = `${counted(attempts, "request")}, ${counted(retries)} of them retries`
    const unanswered = counts.unanswered === 0 ? "" : `, ${counted(counts.unanswered)} without an answer`
    report.say(
      `${counted(events, "event")} in ${seconds.toFixed(1)} s (${rate}/s): ` +
        `${outcomesText(counts)}${unanswered}; ${requests}`
    )
    if (counts.notText > 0) {
      report.say(
        `${counted(counts.notText, "event")} of lines that are not UTF-8: their bytes are in payload.base64`
      )
    }
    if (signal !== undefined || fatal !== undefined) {
      const how =
        reached === undefined ? "nothing was answered" : `all is answered up to ${placeText(reached)}`
      report.say(`not finished: ${how}; publish it again from its beginning, and nothing is stored twice`)
    }
    if (signal !== undefined) return exitCodes[signal]
    if (fatal !== undefined) return yield* new Failure({ sentence: fatal })
    if (counts.failed > 0 || counts.unanswered > 0) return exitCodes.failed
    return counts.conflicts > 0 ? exitCodes.conflict : exitCodes.done
  })
