#!/usr/bin/env node
/**
 * The command line, and the place where the service is put together: with the files in `node/`, which only this one
 * imports, it is the only one that names Node's HTTP server and the database driver.
 */
import { readFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { HttpServerError } from "@effect/platform"
import { Cause, Data, Effect, Exit, Fiber, Layer, Logger } from "effect"
import { run } from "./App.ts"
import {
  definitions,
  Settings,
  SettingsError,
  type SettingsShape,
  settingsFromEnvironment
} from "./Config.ts"
import { StoreRefused } from "./domain/Errors.ts"
import * as HttpListener from "./node/HttpListener.ts"
import { oncePerTurn } from "./node/Scheduling.ts"
import * as SqliteDatabase from "./node/SqliteDatabase.ts"

const version = (
  JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string }
).version

const help = `sekali ${version}: publish events as often as you like, and each takes effect exactly once.

Usage
  sekali serve        serve the HTTP API until SIGTERM or Ctrl-C; a second Ctrl-C ends at once
  sekali --help       this page
  sekali --version    the version

Examples
  sekali serve
  SEKALI_PORT=9000 SEKALI_DATABASE=file:/var/lib/sekali/events.db sekali serve
  SEKALI_LOG_LEVEL=debug SEKALI_LOG_FORMAT=pretty sekali serve

Settings (environment variable, default, what it is for)
${Object.values(definitions)
  .map(
    ({ variable, initial, purpose }) =>
      `  ${variable.padEnd(28)} ${defaultText(initial).padEnd(24)} ${purpose}`
  )
  .join("\n")}
`

function defaultText(initial: unknown): string {
  return typeof initial === "object" ? "info" : String(initial)
}

const logging = ({ logLevel, logFormat }: SettingsShape): Layer.Layer<never> =>
  Layer.merge(
    logFormat === "pretty" || (logFormat === "auto" && process.stdout.isTTY) ? Logger.pretty : Logger.json,
    Logger.minimumLogLevel(logLevel)
  )

const unknownVariables = (): ReadonlyArray<string> => {
  const known = new Set(Object.values(definitions).map(({ variable }) => variable))
  return Object.keys(process.env).filter((name) => name.startsWith("SEKALI_") && !known.has(name))
}

class StoppedTooSlowly extends Data.TaggedError("StoppedTooSlowly")<{ readonly seconds: number }> {
  override get message(): string {
    return `The shutdown was not done after ${this.seconds} s (SEKALI_SHUTDOWN_SECONDS_MAX); it was cut short.`
  }
}

// One press of Ctrl-C can arrive twice: from the terminal, and once more from npm, which passes it on.
const samePressMilliseconds = 300

/** Waits for the first signal to stop. A second one ends the process at once. */
const askedToStop = Effect.async<void>((resume) => {
  let since: number | undefined
  const stop = (signal: "SIGINT" | "SIGTERM") => {
    const now = performance.now()
    if (since === undefined) {
      since = now
      resume(Effect.void)
    } else if (now - since > samePressMilliseconds) {
      process.exit(signal === "SIGINT" ? 130 : 143)
    }
  }
  process.on("SIGINT", stop)
  process.on("SIGTERM", stop)
})

const serve = Effect.gen(function* () {
  const settings = yield* settingsFromEnvironment
  const service = Effect.gen(function* () {
    yield* Effect.forEach(unknownVariables(), (name) =>
      Effect.logWarning(`${name} is set, but is no setting of Sekali`)
    )
    yield* run
  }).pipe(
    Effect.provide(Layer.mergeAll(HttpListener.layer, SqliteDatabase.layer)),
    // The last line of the log: by now the listener has closed as well.
    Effect.onInterrupt(() => Effect.logInfo("stopped")),
    Effect.provide(logging(settings)),
    Effect.provideService(Settings, settings),
    Effect.withTracerEnabled(false)
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

const start = () => {
  // Whoever reads the log may go away; that is no reason to stop.
  process.stdout.on("error", () => {})
  process.stderr.on("error", () => {})
  Effect.runFork(serve, { scheduler: oncePerTurn }).addObserver((exit) => {
    if (Exit.isSuccess(exit)) process.exit(0)
    process.stderr.write(`sekali: ${sentenceOf(exit.cause)}\n`, () => process.exit(1))
  })
}

const fail = (sentence: string) => {
  process.stderr.write(`sekali: ${sentence}\nTry: sekali --help\n`)
  process.exitCode = 2
}

const main = () => {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { help: { type: "boolean", short: "h" }, version: { type: "boolean", short: "v" } }
    })
    if (values.help === true) process.stdout.write(help)
    else if (values.version === true) process.stdout.write(`${version}\n`)
    else if (positionals.length === 1 && positionals[0] === "serve") start()
    else
      fail(
        positionals.length === 0 ? "no command was given" : `there is no command "${positionals.join(" ")}"`
      )
  } catch (error) {
    fail((error as Error).message)
  }
}

main()
