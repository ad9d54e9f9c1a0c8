/**
 * What the checker finds: each violation with the guarantee that is broken, a sentence that says how, and the place in
 * the history where it shows.
 */
import type { Entry } from "../History.ts"

/**
 * What can be broken: a guarantee, the database file itself, or the simulation, which the code under it has left.
 */
export type Guarantee =
  | "G1"
  | "G2"
  | "G3"
  | "G4"
  | "G5"
  | "G6"
  | "G7"
  | "G8"
  | "G9"
  | "integrity"
  | "simulation"

/** A guarantee that was broken. */
export interface Violation {
  readonly guarantee: Guarantee
  readonly detail: string
  /** The entry of the history in which it shows, where there is one: its index and its virtual time. */
  readonly at?: { readonly index: number; readonly time: number }
}

/** Gathers violations. */
export class Report {
  readonly violations: Array<Violation> = []
  private readonly history: ReadonlyArray<Entry>

  constructor(history: ReadonlyArray<Entry>) {
    this.history = history
  }

  /** Notes a violation, which shows in the entry with this index. */
  add(guarantee: Guarantee, detail: string, index?: number): void {
    const entry = index === undefined ? undefined : this.history[index]
    this.violations.push(
      index === undefined || entry === undefined
        ? { guarantee, detail }
        : { guarantee, detail, at: { index, time: entry.at } }
    )
  }
}

/** The key of an event, for people. */
export const nameOf = (key: string): string => key.replace("\n", "/")

/** A text for people: not too long. */
export const brief = (text: string): string => (text.length <= 80 ? text : `${text.slice(0, 77)}...`)
