/**
 * What the parts of a run have in common: its chance, its folder, its counts, the story of what befell, and a way to
 * wait for something. Nobody waits by sleeping: a condition is looked at again whenever something has happened. Time
 * decides over a run in one place only: nothing at all that is waited for may take longer than `waitSecondsMax`.
 */
import type { Violation } from "../../../sim/Checker.ts"
import type { Entry } from "../../../sim/History.ts"
import type { Chance } from "./chance.ts"

/** How long anything that must come may take (G7): many times what it takes on a machine that is busy elsewhere. */
export const waitSecondsMax = 180

/** How often each thing happened. */
export type Counts = Readonly<Record<string, number>>

type WithoutTime<E> = E extends unknown ? Omit<E, "at"> : never

/** An entry of a history whose time is still to be noted. */
export type Happening = WithoutTime<Entry>

/** Something that is waited for does not come. */
export class Stuck extends Error {
  override readonly name = "Stuck"
}

/** Somebody does not want to wait for the end of a run. */
export class Interrupted extends Error {
  override readonly name = "Interrupted"
}

/** Something is wrong that ends the run; the violation says what. */
export class Broken extends Error {
  override readonly name = "Broken"
  readonly violation: Violation

  constructor(guarantee: Violation["guarantee"], detail: string) {
    super(detail)
    this.violation = { guarantee, detail }
  }
}

/** One run. */
export class Run {
  readonly chance: Chance
  /** Where its files are. */
  readonly folder: string
  /** What befell, a line for each thing. */
  readonly story: Array<string> = []
  readonly #counts = new Map<string, number>()
  readonly #lookers = new Set<() => void>()
  readonly #startedAt = performance.now()
  #failure: Error | undefined
  #isCalm = false

  constructor(chance: Chance, folder: string) {
    this.chance = chance
    this.folder = folder
  }

  get counts(): Counts {
    return Object.fromEntries(this.#counts)
  }

  count(name: string, more = 1): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + more)
  }

  counted(name: string): number {
    return this.#counts.get(name) ?? 0
  }

  tell(sentence: string): void {
    const seconds = (performance.now() - this.#startedAt) / 1000
    this.story.push(`${seconds.toFixed(3).padStart(8)} ${sentence}`)
  }

  /** Whether the faults have stopped. */
  get isCalm(): boolean {
    return this.#isCalm
  }

  calm(): void {
    this.tell("calm: no more faults")
    this.#isCalm = true
    this.happened()
  }

  /** Whether it has ended, and nothing more is to be begun. */
  get isOver(): boolean {
    return this.#failure !== undefined
  }

  /** Why it has ended, if something ended it. */
  get failure(): Error | undefined {
    return this.#failure
  }

  /** Ends the run for a reason: whoever waits, or would begin something, fails with the first one. */
  fail(error: unknown): void {
    this.#failure ??= error instanceof Error ? error : new Error(String(error))
    this.happened()
  }

  /** To be asked before something is begun that would outlive the run: fails if it has ended. */
  goesOn(): void {
    if (this.#failure !== undefined) throw this.#failure
  }

  /** Something has happened: whoever waits looks again. */
  happened(): void {
    for (const look of [...this.#lookers]) look()
  }

  /** Waits until something is so; what does not come is a failure (G7). */
  until(what: string, isSo: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void) => {
        this.#lookers.delete(look)
        clearTimeout(timer)
        settle()
      }
      const look = () => {
        const failure = this.#failure
        if (failure !== undefined) finish(() => reject(failure))
        else if (isSo()) finish(resolve)
      }
      const timer = setTimeout(() => {
        finish(() => reject(new Stuck(`${what} did not come within ${waitSecondsMax} s`)))
      }, waitSecondsMax * 1000)
      this.#lookers.add(look)
      look()
    })
  }

  /** Waits for a promise as for anything else. */
  async within<A>(what: string, promise: Promise<A>): Promise<A> {
    let isSettled = false
    const settled = () => {
      isSettled = true
      this.happened()
    }
    promise.then(settled, settled)
    await this.until(what, () => isSettled)
    return promise
  }

  /** A pause that is part of the plan. It ends early when `isOver` says so. */
  async pause(millis: number, isOver: () => boolean = () => false): Promise<void> {
    let hasPassed = false
    const timer = setTimeout(() => {
      hasPassed = true
      this.happened()
    }, millis)
    await this.until("the end of a pause", () => hasPassed || isOver()).finally(() => clearTimeout(timer))
  }
}
