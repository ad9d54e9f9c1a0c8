/**
 * What is shipped in a run.
 */
import type { Chance } from "./chance.ts"
import { drawEvents, drawLog, type LogFile, makeLogFile } from "./logs.ts"
import type { Run } from "./run.ts"
import type { Cargo } from "./shipper.ts"
import type { Extent } from "./stage.ts"

/** So many logs, of a source of their own. */
export const drawLogs = (run: Run, { linesMax, logs }: Extent, source: string, files: number): Cargo => {
  const chance = run.chance.of(`logs of ${source}`)
  const made = Array.from({ length: files }, (_, index) => {
    const name = `${source}-${index}.log`
    return { name, bytes: drawLog(chance, name, linesOf(chance, linesMax)) }
  })
  const file = ({ name, bytes }: (typeof made)[number]): LogFile =>
    makeLogFile(run.folder, name, "lines", bytes, chance)
  return { topic: `logs.${source}`, source, files: (logs ?? made).map(file) }
}

/** A file of events. */
export const drawOrders = (run: Run, { linesMax }: Extent, source: string): Cargo => {
  const chance = run.chance.of(`orders of ${source}`)
  const name = `${source}.ndjson`
  const bytes = drawEvents(chance, name, linesOf(chance, linesMax))
  return { topic: "orders", source, files: [makeLogFile(run.folder, name, "ndjson", bytes, chance)] }
}

const linesOf = (chance: Chance, linesMax: number): number =>
  chance.between(Math.ceil(linesMax / 4), linesMax)

/** Lets the logs grow while they are shipped, a little with each answer, until the faults stop. */
export const growWhileRough = async (run: Run, cargos: ReadonlyArray<Cargo>): Promise<void> => {
  const chance = run.chance.of("growth")
  const logs = cargos.flatMap(({ files }) => files).filter(({ format }) => format === "lines")
  const answers = () => run.counted("answers to publish")
  while (!run.isCalm) {
    const before = answers()
    await run.until("an answer to publish", () => run.isCalm || answers() > before)
    for (const log of logs) log.grow(chance.between(1, 20))
  }
}
