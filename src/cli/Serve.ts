/**
 * `sekali serve`: puts the service together with Node's HTTP server and the database driver, and runs it until it is
 * asked to stop. Nothing else of the command line is loaded with it, so that it starts as fast as it can.
 */
import { HttpMiddleware, HttpServerError } from "@effect/platform"
import { Cause, Data, Effect, Exit, Fiber, Layer, Logger } from "effect"
import { run } from "../App.ts"
import {
  definitions,
  Settings,
  SettingsError,
  type SettingsShape,
  settingsFromEnvironment
} from "../Config.ts"
import { StoreRefused } from "../domain/Errors.ts"
import { longWayOnly, ShortWay } from "../http/DirectPublish.ts"
import { tune } from "../node/Engine.ts"
import * as HttpListener from "../node/HttpListener.ts"
import * as ProcessFigures from "../node/ProcessFigures.ts"
import { oncePerTurn } from "../node/Scheduling.ts"
import * as SqliteDatabase from "../node/SqliteDatabase.ts"
import { urlVariable } from "./Conventions.ts"
import { askedToStop } from "./Signals.ts"

const logging = ({ logLevel, logFormat }: SettingsShape): Layer.Layer<never> =>
  Layer.merge(
    logFormat === "pretty" || (logFormat === "auto" && process.stdout.isTTY) ? Logger.pretty : Logger.json,
    Logger.minimumLogLevel(logLevel)
  )

const unknownVariables = (): ReadonlyArray<string> => {
  const known = new Set([...Object.values(definitions).map(({ variable }) => variable), urlVariable])
  return Object.keys(process.env).filter((name) => name.startsWith("SEKALI_") && !known.has(name))
}

/** The variable that asks for traces: the base address of an OpenTelemetry collector. */
const collectorVariable = "OTEL_EXPORTER_OTLP_ENDPOINT"

/** The collector, if one is named. */
const collector: Effect.Effect<string | undefined, SettingsError> = Effect.suspend(() => {
  const endpoint = process.env[collectorVariable]?.trim() ?? ""
  if (endpoint === "") return Effect.succeed(undefined)
  if (/^https?:\/\/[^/]/.test(endpoint) && URL.canParse(endpoint)) return Effect.succeed(endpoint)
  const wanted = "must be an http or https address, such as http://localhost:4318"
  return new SettingsError({
    faults: [`${collectorVariable} is ${JSON.stringify(endpoint)}, but ${wanted}.`]
  })
})

type Around = <A, E, R>(service: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

// Without a collector no span is opened, not even at the door.
const untraced: Around = (service) =>
  Effect.withTracerEnabled(
    HttpMiddleware.withTracerDisabledWhenEffect(service, () => true),
    false
  )

class StoppedTooSlowly extends Data.TaggedError("StoppedTooSlowly")<{ readonly seconds: number }> {
  override get message(): string {
    return `The shutdown was not done after ${this.seconds} s (SEKALI_SHUTDOWN_SECONDS_MAX); it was cut short.`
  }
}

const serve = Effect.gen(function* () {
  const settings = yield* settingsFromEnvironment
  const endpoint = yield* collector
  const around: Around =
    endpoint === undefined
      ? untraced
      : (yield* Effect.promise(() => import("../node/Tracing.ts"))).traced(endpoint)
  const service = Effect.gen(function* () {
    yield* Effect.forEach(unknownVariables(), (name) =>
      Effect.logWarning(`${name} is set, but is no setting of Sekali`)
    )
    yield* endpoint === undefined ? run : Effect.provideService(run, ShortWay, longWayOnly)
  }).pipe(
    Effect.provide(Layer.mergeAll(HttpListener.layer, SqliteDatabase.layer, ProcessFigures.layer)),
    // The last line of the log: by now the listener has closed as well.
    Effect.onInterrupt(() => Effect.logInfo("stopped")),
    Effect.provide(logging(settings)),
    Effect.provideService(Settings, settings),
    around
  )
  // A daemon: a child that does not end would keep this fiber from ending when the limit has passed.
  const running = yield* Effect.forkDaemon(service)
  yield* Effect.raceFirst(Fiber.join(running), askedToStop)
  const seconds = settings.shutdownSecondsMax
  yield* Fiber.interrupt(running).pipe(
    Effect.timeoutFail({ duration: `${seconds} seconds`, onTimeout: () => new StoppedTooSlowly({ seconds }) })
  )
})

/** Why the service did not start or go on, for a person. */
const sentenceOf = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  if (error instanceof StoreRefused || error instanceof SettingsError || error instanceof StoppedTooSlowly)
    return error.message
  if (error instanceof HttpServerError.ServeError && error.cause instanceof Error) {
    return `The address cannot be listened on: ${error.cause.message}. Choose another with SEKALI_HOST and SEKALI_PORT.`
  }
  return Cause.pretty(cause)
}

/** Serves, and ends the process when that is over. */
export const start = (): void => {
  tune()
  // Whoever reads the log may go away; that is no reason to stop.
  process.stdout.on("error", () => {})
  process.stderr.on("error", () => {})
  Effect.runFork(serve, { scheduler: oncePerTurn }).addObserver((exit) => {
    if (Exit.isSuccess(exit)) process.exit(0)
    process.stderr.write(`sekali: ${sentenceOf(exit.cause)}\n`, () => process.exit(1))
  })
}
