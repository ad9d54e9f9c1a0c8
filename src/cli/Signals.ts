/**
 * SIGINT (Ctrl-C) and SIGTERM: the first one asks for an orderly end, a second one ends the process at once.
 */
import { Effect } from "effect"
import { exitCodes } from "./Conventions.ts"

/** The signals that ask for an end. */
export type StopSignal = "SIGINT" | "SIGTERM"

// One press of Ctrl-C can arrive twice: from the terminal, and once more from npm, which passes it on.
const samePressMilliseconds = 300

/**
 * Waits for the first signal to stop. A second one ends the process at once, also when nobody waits any more. Where the
 * wait is given up before there was one, signals are as they were: they end the process.
 */
export const askedToStop: Effect.Effect<StopSignal> = Effect.async((resume) => {
  let since: number | undefined
  const stop = (signal: StopSignal) => {
    const now = performance.now()
    if (since === undefined) {
      since = now
      resume(Effect.succeed(signal))
    } else if (now - since > samePressMilliseconds) {
      process.exit(exitCodes[signal])
    }
  }
  process.on("SIGINT", stop)
  process.on("SIGTERM", stop)
  return Effect.sync(() => {
    if (since !== undefined) return
    process.off("SIGINT", stop)
    process.off("SIGTERM", stop)
  })
})

/** Runs a command until it ends, or is asked to stop: then it is interrupted, and leaves nothing half done. */
export const untilAsked = <E, R>(command: Effect.Effect<number, E, R>): Effect.Effect<number, E, R> =>
  Effect.raceFirst(
    command,
    Effect.map(askedToStop, (signal) => exitCodes[signal])
  )
