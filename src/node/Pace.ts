/**
 * How much is done with what has arrived before the event loop turns again. When a thousand requests arrive at once, to
 * read their bodies one after the other would take longer than those may wait that are only to be refused.
 */

/** After so long in one turn, what else there is waits for the next one. */
const turnMilliseconds = 20

/** Does things at once as long as the turn of the event loop is young, and else in the next turns, in their order. */
export class Pace {
  private readonly waiting: Array<() => void> = []
  private next = 0
  private until: number | undefined

  do(task: () => void): void {
    if (this.until === undefined) {
      this.until = performance.now() + turnMilliseconds
      setImmediate(this.turn)
    }
    if (this.next === this.waiting.length && performance.now() < this.until) task()
    else this.waiting.push(task)
  }

  private readonly turn = (): void => {
    this.until = undefined
    if (this.next === this.waiting.length) return
    this.until = performance.now() + turnMilliseconds
    while (this.next < this.waiting.length && performance.now() < this.until) {
      const task = this.waiting[this.next] as () => void
      this.waiting[this.next++] = done
      task()
    }
    if (this.next === this.waiting.length) {
      this.waiting.length = 0
      this.next = 0
    }
    setImmediate(this.turn)
  }
}

const done = (): void => undefined
