/**
 * The benchmark's command line: `npm run bench -- --help`.
 */
import { availableParallelism } from "node:os"
import { parseArgs } from "node:util"
import { SingleBar } from "cli-progress"
import type { Workload } from "./load.ts"
import { type Measurement, measure, medianRound } from "./measure.ts"
import { courseReport, table } from "./report.ts"

const workloads: Readonly<Record<string, Workload>> = {
  single: { title: "single", batch: 1, connections: 32 },
  batch: { title: "batches of 100", batch: 100, connections: 8 }
}

const help = `Publishes events over HTTP to a real service with a fresh database, a fifth of them duplicates, over 10 topics.

Usage
  npm run bench                         every workload
  npm run bench -- single               one of them: ${Object.keys(workloads).join(", ")}
  npm run bench -- --events 50000 --rounds 5
  npm run --silent bench -- --json      for machines: every round, and the median one of each workload

Options
  --events N    how many events a round publishes (5000)
  --rounds N    how many rounds, each on a fresh service; the median one by throughput is shown (3)
  --warm-up N   how many events are published before, and do not count (1000)
  --json        print JSON instead of a table
  --help        print this page
`

const whole = (name: string, text: string, least: number): number => {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN
  if (value >= least) return value
  throw new Error(`--${name} is ${text}, but must be a whole number from ${least} on`)
}

const readArguments = () => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      events: { type: "string", default: "5000" },
      rounds: { type: "string", default: "3" },
      "warm-up": { type: "string", default: "1000" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false }
    }
  })
  const names = positionals.length === 0 ? Object.keys(workloads) : positionals
  const chosen = names.map((name) => {
    const workload = Object.hasOwn(workloads, name) ? workloads[name] : undefined
    if (workload !== undefined) return [name, workload] as const
    throw new Error(`there is no workload "${name}"; there are ${Object.keys(workloads).join(", ")}`)
  })
  return {
    chosen,
    events: whole("events", values.events, 10),
    rounds: whole("rounds", values.rounds, 1),
    warmUpEvents: whole("warm-up", values["warm-up"], 0),
    json: values.json,
    help: values.help
  }
}

const bench = async ({ chosen, events, rounds, warmUpEvents, json }: ReturnType<typeof readArguments>) => {
  // On standard error, and only where that is a terminal: it is no part of the result.
  const bar = new SingleBar({
    format: "{bar} {percentage} % | {workload}, round {round} of {rounds}",
    hideCursor: true,
    clearOnComplete: true,
    noTTYOutput: false,
    stream: process.stderr
  })
  const measured: Array<readonly [name: string, workload: Workload, rounds: ReadonlyArray<Measurement>]> = []
  bar.start(events * rounds * chosen.length, 0, { workload: "", round: 1, rounds })
  try {
    for (const [index, [name, workload]] of chosen.entries()) {
      const done: Array<Measurement> = []
      while (done.length < rounds) {
        const before = (index * rounds + done.length) * events
        const shown = { workload: workload.title, round: done.length + 1 }
        done.push(await measure(workload, events, warmUpEvents, (sent) => bar.update(before + sent, shown)))
      }
      measured.push([name, workload, done])
    }
  } finally {
    bar.stop()
  }
  if (json) {
    const result = Object.fromEntries(
      measured.map(([name, workload, all]) => [name, { workload, median: medianRound(all), rounds: all }])
    )
    const machine = { node: process.version, cpus: availableParallelism() }
    process.stdout.write(`${JSON.stringify({ machine, events, warmUpEvents, ...result, courseReport })}\n`)
    return
  }
  const connections = chosen.map(([, { title, connections }]) => `${title}: ${connections} connections`)
  process.stdout.write(
    `${table(measured.map(([, { title }, all]) => [title, medianRound(all)]))}\n\n` +
      `${connections.join("; ")}. The median of ${rounds} rounds, each on a fresh service after ${warmUpEvents} events ` +
      `of warm-up;\nNode ${process.version}, ${availableParallelism()} CPUs for the service and the load. ` +
      "The course report measured its own design, on one CPU.\n"
  )
}

try {
  const options = readArguments()
  if (options.help) process.stdout.write(help)
  else await bench(options)
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
