/**
 * The history of one aggregator, as `sim/History.ts` has it, with real time: monotonic microseconds.
 */
import type { Entry } from "../../../sim/History.ts"
import type { Happening } from "./run.ts"

export class History {
  readonly entries: Array<Entry> = []

  add(happening: Happening): void {
    this.entries.push({ ...happening, at: Math.floor(performance.now() * 1000) })
  }
}
