/**
 * Time. One monotonic virtual clock drives the whole simulation and only ever moves forward: a little with
 * every step that a fiber runs (so that requests sent at different instants do overlap), and by a leap to the
 * next timer when nothing can run. Timers fire in order of their due time, ties in the order they were set; a
 * timer fires late if a step took long, never early, and is never lost, except that the timers of a crashed
 * process vanish with it.
 *
 * Each machine has a wall clock beside it, which may jump either way at any moment by any amount, as clocks do
 * that are corrected, set by hand, or restored with a virtual machine. Nothing that sleeps or measures a
 * duration is moved by such a jump.
 */
import { Clock, Duration, Effect } from "effect"

interface Timer {
  readonly at: number
  readonly order: number
  readonly owner: object
  readonly fire: () => void
  done: boolean
}

/** The monotonic clock and its timers. Times are whole microseconds since the run began. */
export class VirtualTime {
  now = 0
  private readonly heap: Array<Timer> = []
  private order = 0

  /** Runs `fire` after so many microseconds, unless cancelled; cancelling says whether it came in time. */
  after(micros: number, owner: object, fire: () => void): () => boolean {
    if (!Number.isFinite(micros)) return () => true
    const at = this.now + Math.max(0, Math.ceil(micros))
    const timer: Timer = { at, order: this.order++, owner, fire, done: false }
    this.push(timer)
    return () => {
      const pending = !timer.done
      timer.done = true
      return pending
    }
  }

  /** When the next timer is due, if there is one. */
  next(): { readonly at: number; readonly owner: object } | undefined {
    for (;;) {
      const first = this.heap[0]
      if (first === undefined || !first.done) return first
      this.pop()
    }
  }

  /** Fires the next timer, moving time to it if it lies ahead. */
  fireNext(): void {
    if (this.next() === undefined) return
    const timer = this.pop()
    if (timer === undefined) return
    this.now = Math.max(this.now, timer.at)
    timer.done = true
    timer.fire()
  }

  /** Forgets the timers of a process that is no more. */
  forget(owner: object): void {
    for (const timer of this.heap) if (timer.owner === owner) timer.done = true
  }

  private push(timer: Timer): void {
    const heap = this.heap
    let index = heap.length
    heap.push(timer)
    while (index > 0) {
      const above = (index - 1) >> 1
      const parent = heap[above] as Timer
      if (isBefore(parent, timer)) break
      heap[index] = parent
      index = above
    }
    heap[index] = timer
  }

  private pop(): Timer | undefined {
    const heap = this.heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || first === last) return first
    let index = 0
    for (;;) {
      let below = index * 2 + 1
      if (below >= heap.length) break
      if (below + 1 < heap.length && isBefore(heap[below + 1] as Timer, heap[below] as Timer)) below++
      if (isBefore(last, heap[below] as Timer)) break
      heap[index] = heap[below] as Timer
      index = below
    }
    heap[index] = last
    return first
  }
}

/** What the wall of one machine shows: milliseconds since 1970. */
export class WallClock {
  private readonly time: VirtualTime
  private origin: number

  constructor(time: VirtualTime, origin = Date.UTC(2026, 0, 1)) {
    this.time = time
    this.origin = origin
  }

  millis(): number {
    return Math.floor(this.origin + this.time.now / 1000)
  }

  jump(millis: number): void {
    this.origin += millis
  }
}

/** Effect's clock for one process: nanoseconds are monotonic, milliseconds are the wall's. */
export const makeClock = (time: VirtualTime, wall: WallClock, owner: object): Clock.Clock => {
  const millis = () => wall.millis()
  const nanos = () => BigInt(time.now) * 1000n
  return {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeMillis: millis,
    unsafeCurrentTimeNanos: nanos,
    currentTimeMillis: Effect.sync(millis),
    currentTimeNanos: Effect.sync(nanos),
    sleep: (duration) =>
      Effect.async<void>((resume) => {
        const cancel = time.after(Duration.toMillis(duration) * 1000, owner, () => resume(Effect.void))
        return Effect.sync(cancel)
      })
  }
}

const isBefore = (a: Timer, b: Timer): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)
