/**
 * How much is done with what has arrived before the event loop turns again. When a thousand requests arrive at once, to
 * read their bodies one after the other would take longer than those may wait that are only to be refused.
 */
import { Line } from "../domain/Line.ts"

/** After so long in one turn, what else there is waits for the next one. */
const turnMilliseconds = 20

/** Does things at once as long as the turn of the event loop is young, and else in the next turns, in their order. */
export class Pace {
  private readonly waiting = new Line<() => void>()
  /** When this turn is no longer young, if anything has been done in it. */
  private until: number | undefined

  do(task: () => void): void {
    if (this.until === undefined) this.begin()
    if (this.waiting.first === undefined && this.isYoung) task()
    else this.waiting.join(task)
  }

  private begin(): void {
    this.until = performance.now() + turnMilliseconds
    setImmediate(this.turn)
  }

  private get isYoung(): boolean {
    return this.until !== undefined && performance.now() < this.until
  }

  private readonly turn = (): void => {
    this.until = undefined
    if (this.waiting.first === undefined) return
    this.begin()
    for (let next = this.waiting.first; next !== undefined && this.isYoung; next = this.waiting.first) {
      this.waiting.leave(next)
      next.value()
    }
  }
}
