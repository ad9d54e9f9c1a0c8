/**
 * Who waits for what, for the report of a run that came to a standstill or did not come to an end.
 */
import { Effect, Fiber, FiberId, FiberStatus } from "effect"
import { fork } from "./Process.ts"
import type { SimProcess, SimScheduler } from "./Scheduler.ts"

/** A line for each fiber that is not done: its name, its state, what it works on and whom it waits for. */
export const waitingFibers = (
  scheduler: SimScheduler,
  processes: ReadonlyArray<SimProcess>
): ReadonlyArray<string> => {
  const lines: Array<string> = []
  for (const process of processes) {
    if (!process.alive) continue
    for (const fiber of [...process.fibers]) {
      if (lines.length === linesMax) return [...lines, "and others"]
      const status = ask(scheduler, process, fiber)
      lines.push(`${process.nameOf(fiber)} ${idOf(fiber)} ${describe(status)}${spanOf(fiber)}`)
    }
  }
  return lines
}

/** Nobody reads more. */
const linesMax = 40

type AnyFiber = Fiber.RuntimeFiber<unknown, unknown>

/** A fiber tells its state only while it runs, so the world takes a few more steps, which no longer matter. */
const ask = (
  scheduler: SimScheduler,
  process: SimProcess,
  fiber: AnyFiber
): FiberStatus.FiberStatus | undefined => {
  let status: FiberStatus.FiberStatus | undefined
  const question = Effect.map(Fiber.status(fiber), (answer) => {
    status = answer
  })
  scheduler.enter(process, () => {
    fork(question, process)
  })
  for (let steps = 0; status === undefined && steps < 2000 && !scheduler.idle(); steps++) scheduler.step()
  return status
}

const describe = (status: FiberStatus.FiberStatus | undefined): string => {
  if (status === undefined || FiberStatus.isRunning(status)) return "is running"
  if (FiberStatus.isDone(status)) return "is done"
  // Where an operation does not say what it waits for, Effect leaves nothing here, whatever the type says.
  const blockingOn = status.blockingOn as FiberId.FiberId | null
  const blocker = blockingOn === null ? "" : FiberId.threadName(blockingOn)
  return blocker === "" ? "waits" : `waits for what ${blocker} made`
}

const idOf = (fiber: AnyFiber): string => `#${fiber.id().id}`

const spanOf = (fiber: AnyFiber): string => {
  const span = fiber.currentSpan
  return span !== undefined && span._tag === "Span" ? ` in ${span.name}` : ""
}
