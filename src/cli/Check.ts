/**
 * `sekali check`: whether a database, or a backup, is sound.
 */
import { SingleBar } from "cli-progress"
import { Effect } from "effect"
import { openForCheck } from "../node/AtRest.ts"
import { databasePath } from "../node/SqliteDatabase.ts"
import type { CheckProgress } from "../store/Recount.ts"
import { exitCodes, Failure } from "./Conventions.ts"
import { askedToStop } from "./Signals.ts"

/** Checks a file, prints what was found, and gives the exit code. */
export const check = (file: string): Effect.Effect<number, Failure> =>
  Effect.gen(function* () {
    const opened = yield* Effect.raceFirst(openForCheck(databasePath(file)), askedToStop)
    if (typeof opened === "string") return exitCodes[opened]
    // SQLite's own check hears nothing until it is done. From here on there is nothing to tidy up, nobody listens for
    // signals, and they end the process at once.
    const bar = yield* Effect.acquireRelease(Effect.sync(makeBar), (bar) => Effect.sync(() => bar.end()))
    const { sound, findings } = yield* opened(bar.advance)
    bar.end()
    const lines = findings.map(({ sound, sentence }) => `${sound ? "ok   " : "FAULT"}  ${sentence}\n`)
    const faults = findings.filter(({ sound }) => !sound).length
    const verdict = sound ? "is sound" : `has ${faults === 1 ? "a fault" : `${faults} faults`}`
    process.stdout.write(`${lines.join("")}${file} ${verdict}.\n`)
    return sound ? exitCodes.done : exitCodes.failed
  }).pipe(
    Effect.scoped,
    Effect.mapError(({ reason, sentence }) => {
      const way = reason === "in use" ? " Check a backup of it: sekali backup FILE, sekali check FILE." : ""
      return new Failure({ sentence: sentence + way })
    })
  )

// Only on a terminal: elsewhere a check says nothing before its end.
const makeBar = () => {
  const bar = process.stderr.isTTY
    ? new SingleBar({
        format: "{bar} {step}",
        stream: process.stderr,
        clearOnComplete: true,
        // Nothing is changed on the terminal that would have to be changed back.
        linewrap: true,
        gracefulExit: false
      })
    : undefined
  bar?.start(1, 0, { step: "" })
  return {
    advance: ({ step, done, total }: CheckProgress) =>
      Effect.sync(() => {
        bar?.setTotal(total)
        bar?.update(done, { step })
      }),
    end: () => bar?.stop()
  }
}
