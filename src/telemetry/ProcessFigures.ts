/**
 * The figures of the operating system's process, which is an edge: only where the service runs as one are there any.
 */
import { Context, Effect } from "effect"
import type { Figure } from "./Figures.ts"

/** Tells the figures of the process. By default there are none. */
export class ProcessFigures extends Context.Reference<ProcessFigures>()("sekali/ProcessFigures", {
  defaultValue: (): {
    readonly figures: Effect.Effect<ReadonlyArray<Figure>>
    /** Seconds since the process was started, where that is known. */
    readonly age: Effect.Effect<number | undefined>
  } => ({ figures: Effect.succeed([]), age: Effect.succeed(undefined) })
}) {}
