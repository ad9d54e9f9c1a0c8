/**
 * What is logged of refusals for trouble (not for bad input): the first of each kind at once, and then no more than a
 * line in ten seconds that says how many there have been, so that trouble does not drown its own cause.
 */
import { Context, Effect } from "effect"
import type { Problem } from "../domain/Errors.ts"

const quietNanos = 10_000_000_000n

interface Kind {
  loggedAt: bigint
  since: number
}

/** Takes note of refusals, and says when a line is due. */
export class Refusals extends Context.Tag("sekali/Refusals")<
  Refusals,
  {
    /** Counts a refusal, and gives back the line to log, where one is due: refusing must cost next to nothing. */
    readonly note: (problem: Problem) => Effect.Effect<void> | undefined
  }
>() {}

/** Counts refusals by the type of their problem. */
export const make: Effect.Effect<Context.Tag.Service<Refusals>> = Effect.map(Effect.clock, (clock) => {
  const kinds = new Map<string, Kind>()
  return {
    note: ({ type, title, status }) => {
      const now = clock.unsafeCurrentTimeNanos()
      const kind = kinds.get(type)
      if (kind !== undefined && now - kind.loggedAt < quietNanos) {
        kind.since++
        return undefined
      }
      kinds.set(type, { loggedAt: now, since: 0 })
      const unlogged = kind?.since ?? 0
      return Effect.logWarning(`refused: ${title.toLowerCase()}`).pipe(
        Effect.annotateLogs({
          problem: type,
          status,
          ...(unlogged > 0 ? { refused_since_last_line: unlogged } : {})
        })
      )
    }
  }
})
