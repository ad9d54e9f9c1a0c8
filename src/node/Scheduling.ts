/**
 * The scheduler edge on Node: fibers that are woken run once per turn of the event loop, after all sockets that had
 * something were read. Effect's own scheduler runs them at once, between one socket and the next; then each commit
 * would hold a single request, however many have arrived.
 */
import { Scheduler } from "effect"

/** Runs what was woken after the sockets of this turn were read. */
export const oncePerTurn: Scheduler.Scheduler = (() => {
  let waiting: Array<Scheduler.Task> = []
  const runAll = () => {
    const tasks = waiting
    waiting = []
    for (const task of tasks) task()
  }
  return Scheduler.make((task) => {
    if (waiting.push(task) === 1) setImmediate(runAll)
  })
})()
