/**
 * The service against its peers: `single`, `batch` and `random`.
 */
import { spreadOf } from "./figures.ts"
import { type Contender, inTurn, measure, type Workload, workloads } from "./measure.ts"
import type { Benchmark, Options, Progress } from "./options.ts"
import { booksOf, measurementTable, number, type Rounds, ratesOf, ratiosTo, spread, table } from "./report.ts"
import { serverNames } from "./servers.ts"

/** Measures a load on each server in turn. */
export const against =
  (name: keyof typeof workloads): Benchmark =>
  async (options, progress) => {
    const workload: Workload = workloads[name]
    const contenders = serverNames.map((server): Contender => ({ name: server, server }))
    const rounds = await measureAll(contenders, workload, options, progress)
    const ratios = ratiosTo(rounds, "sekali")
    const { sekali = [] } = rounds
    return {
      json: { workload, rounds, eventsPerSecond: ratesJson(rounds), ratios },
      text: [
        headingOf(workload, sekali.length, options),
        measurementTable(rounds, name !== "random"),
        "",
        table(
          Object.entries(ratios).map(([peer, ratio]) => [`events/s, sekali to ${peer}`, spread(ratio, 2)])
        ),
        booksOf(sekali)
      ].join("\n")
    }
  }

/** The rounds of all contenders under a load. */
export const measureAll = async (
  contenders: ReadonlyArray<Contender>,
  workload: Workload,
  options: Options,
  progress: Progress
): Promise<Rounds> => {
  const { rounds = 3, events = workload.events } = options
  const { warmUpEvents = Math.min(Math.floor(events / 4), 20_000) } = options
  return inTurn(contenders, rounds, async (contender, round) => {
    const measured = await measure(contender, workload, events, warmUpEvents)
    const rate = number(measured.eventsPerSecond)
    progress(`${workload.title}, round ${round} of ${rounds}, ${contender.name}: ${rate} events/s`)
    return measured
  })
}

/** A line that says what was sent. */
export const headingOf = (workload: Workload, rounds: number, { events }: Options): string =>
  `${workload.title}: ${number(events ?? workload.events)} events over ${workload.connections} connections, ` +
  `${rounds} ${rounds === 1 ? "round" : "rounds"}`

/** The events a second of each contender. */
export const ratesJson = (rounds: Rounds) =>
  Object.fromEntries(Object.entries(rounds).map(([name, all]) => [name, spreadOf(ratesOf(all))]))
