/**
 * The scheduler edge on Node: fibers that are woken run once per turn of the event loop, after all sockets that had
 * something were read. Effect's own scheduler runs them at once, between one socket and the next; then each commit
 * would hold a single request, however many have arrived.
 *
 * Of connections that wait to be taken, libuv takes one a turn. While fibers make each turn last as long as a commit
 * does, a crowd of a thousand would wait many seconds. So fibers wait, for a moment, as long as connections come.
 */
import { Scheduler } from "effect"

/** How long fibers wait for connections at most. */
const crowdMilliseconds = 5

let isConnected = false

/** To be called for each connection that was taken. */
export const connectionTaken = (): void => {
  isConnected = true
}

/** Runs what was woken after the sockets of this turn were read. */
export const oncePerTurn: Scheduler.Scheduler = (() => {
  let waiting: Array<Scheduler.Task> = []
  let crowdUntil: number | undefined
  const runAll = () => {
    if (isConnected) {
      isConnected = false
      crowdUntil ??= performance.now() + crowdMilliseconds
      if (performance.now() < crowdUntil) return void setImmediate(runAll)
    }
    crowdUntil = undefined
    const tasks = waiting
    waiting = []
    for (const task of tasks) task()
  }
  return Scheduler.make((task) => {
    if (waiting.push(task) === 1) setImmediate(runAll)
  })
})()
