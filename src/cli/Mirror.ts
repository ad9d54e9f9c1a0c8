/**
 * `sekali mirror`: copies what one service has to another, and goes on with what comes, until it is asked to stop. What it
 * has to say it says line by line on the standard error, with the time, because it may run for long.
 */
import { createHash } from "node:crypto"
import { homedir } from "node:os"
import { join } from "node:path"
import { Effect, Logger } from "effect"
import * as Mirror from "../mirror/Mirror.ts"
import * as CursorFile from "../node/CursorFile.ts"
import { exitCodes, Failure } from "./Conventions.ts"
import { checkAddress, networkLayer } from "./Service.ts"
import { askedToStop } from "./Signals.ts"

/** The options of the command. */
export interface MirrorOptions {
  readonly from: string
  readonly to: string
  readonly once: boolean
  /** Where the cursor is kept; a file that follows from the two addresses where it is left out. */
  readonly state: string | undefined
  readonly pauseSeconds: number
}

/** Mirrors, and gives the exit code. */
export const mirror = (options: MirrorOptions): Effect.Effect<number, Failure> => {
  const { from, to, once, state = stateFile(from, to), pauseSeconds } = options
  const mirroring = Effect.gen(function* () {
    yield* checkAddress(from)
    yield* checkAddress(to)
    yield* Effect.logInfo("starting").pipe(Effect.annotateLogs({ from, to, state }))
    yield* Mirror.run({ from, to, once, pollMillisMax: pauseSeconds * 1000 }).pipe(
      Effect.provide(CursorFile.layer(state)),
      Effect.mapError(({ _tag, message }) => {
        const where = _tag === "CursorTrouble" ? ` (--state ${state})` : ""
        return new Failure({ sentence: `${message}${where}` })
      })
    )
    return exitCodes.done
  })
  const stopped = Effect.map(askedToStop, (signal) => (once ? exitCodes[signal] : exitCodes.done))
  return Effect.raceFirst(mirroring, stopped).pipe(
    Effect.provide(networkLayer),
    Effect.provide(Logger.replace(Logger.defaultLogger, lines))
  )
}

/** Below the folder in which programs of this user keep how far they have come. */
const stateFile = (from: string, to: string): string => {
  const { XDG_STATE_HOME: given = "" } = process.env
  const hash = createHash("sha256").update(`${from}\n${to}`).digest("hex").slice(0, 16)
  return join(given === "" ? join(homedir(), ".local", "state") : given, "sekali", `mirror-${hash}.json`)
}

const lines = Logger.make(({ date, message, annotations }) => {
  const about = [...annotations].map(([name, value]) => `${name}=${valueText(value)}`).sort()
  process.stderr.write(`sekali: ${[date.toISOString(), [message].flat().join(" "), ...about].join(" ")}\n`)
})

const valueText = (value: unknown): string => {
  const text = String(value)
  return /^[^\s"=]+$/.test(text) ? text : JSON.stringify(text)
}
