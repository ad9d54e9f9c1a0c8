/**
 * What can be asked of the benchmark, and how: the words of its command line.
 */
import { parseArgs } from "node:util"

/** The benchmarks, in the order in which they run. */
export const benchmarkNames = [
  "single",
  "batch",
  "random",
  "growth",
  "latency",
  "overload",
  "features"
] as const

export type BenchmarkName = (typeof benchmarkNames)[number]

const usual: ReadonlyArray<BenchmarkName> = ["single", "batch", "random"]

/** What is set; undefined is left to each benchmark. */
export interface Options {
  readonly events: number | undefined
  readonly rounds: number | undefined
  readonly warmUpEvents: number | undefined
  readonly keys: number | undefined
  readonly seconds: number | undefined
  readonly peers: boolean
  readonly plot: string | undefined
}

/** Tells, where people see it, how far it is. */
export type Progress = (text: string) => void

/** What a benchmark found, for machines and for people. */
export interface Findings {
  readonly json: Readonly<Record<string, unknown>>
  readonly text: string
}

export type Benchmark = (options: Options, progress: Progress) => Promise<Findings>

export const help = `Measures a real service over HTTP on a fresh database: a fifth of the events are duplicates, over 10 topics.

Usage
  npm run bench                                 ${usual.join(", ")}
  npm run bench -- single random --rounds 5     some of them
  npm run bench -- single batch --events 5000   as many events as the course report published
  npm run bench -- growth --keys 1000000 --peers --plot growth.svg
  npm run bench -- latency overload --seconds 10
  npm run --silent bench -- batch --json        for machines: every round, medians and ratios

Benchmarks
  single      single events over 32 connections, beside two peers that do the same durable work: floor is plain
              node:http and SQLite with next to no checks, handwritten is fastify with one transaction a request
  batch       the same with batches of 100, ids in order, over 8 connections
  random      the same with batches of 100 and random ids
  growth      events a second while a database grows to millions of keys, and what it is like to start with it
  latency     at half of the highest load: requests by a schedule, timed from when they were due
  overload    twice the highest load: what is still committed, and how fast the rest is refused
  features    what sequences, subscribers, tracing and scrapes cost

Options
  --events N    how many events a round publishes (20000 single, 200000 in batches)
  --rounds N    how many rounds, each on fresh servers, which take turns (3; growth: 1)
  --warm-up N   how many events are published before, and do not count (a quarter of the events, at most 20000)
  --keys N      growth: up to how many stored keys (5000000)
  --peers       growth: also the floor; it takes its time
  --plot FILE   growth: draw the rate over the stored keys into this SVG file
  --seconds N   latency, overload: for how long the load is offered (latency 30, overload 60)
  --json        print JSON instead of tables
  --help        print this page

The table tells the median of the rounds, and the least and the most in brackets.
`

/** Reads the command line; a wrong word is an error that says what is right. */
export const readArguments = (
  words: ReadonlyArray<string>
): {
  readonly chosen: ReadonlyArray<BenchmarkName>
  readonly options: Options
  readonly json: boolean
  readonly help: boolean
} => {
  const { values, positionals } = parseArgs({
    args: [...words],
    allowPositionals: true,
    options: {
      events: { type: "string" },
      rounds: { type: "string" },
      "warm-up": { type: "string" },
      keys: { type: "string" },
      peers: { type: "boolean", default: false },
      plot: { type: "string" },
      seconds: { type: "string" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false }
    }
  })
  const named = positionals.map(benchmarkCalled)
  const chosen = benchmarkNames.filter((name) => (named.length === 0 ? usual : named).includes(name))
  for (const [option, names] of Object.entries(benchmarksOf)) {
    const given = values[option as keyof typeof benchmarksOf]
    if (given === undefined || given === false || names.some((name) => chosen.includes(name))) continue
    throw new Error(`--${option} means something only for ${names.join(", ")}`)
  }
  return {
    chosen,
    options: {
      events: whole("events", values.events, 10),
      rounds: whole("rounds", values.rounds, 1),
      warmUpEvents: whole("warm-up", values["warm-up"], 0),
      keys: whole("keys", values.keys, 1000),
      seconds: whole("seconds", values.seconds, 1),
      peers: values.peers,
      plot: values.plot
    },
    json: values.json,
    help: values.help
  }
}

/** What an option has a meaning for; given with nothing of it, it is a mistake. */
const benchmarksOf = {
  events: ["single", "batch", "random", "features"],
  rounds: ["single", "batch", "random", "growth", "features"],
  "warm-up": ["single", "batch", "random", "features"],
  keys: ["growth"],
  peers: ["growth"],
  plot: ["growth"],
  seconds: ["latency", "overload"]
} as const satisfies Readonly<Record<string, ReadonlyArray<BenchmarkName>>>

const benchmarkCalled = (name: string): BenchmarkName => {
  const found = benchmarkNames.find((known) => known === name)
  if (found !== undefined) return found
  throw new Error(`there is no benchmark "${name}"; there are ${benchmarkNames.join(", ")}`)
}

const whole = (name: string, text: string | undefined, least: number): number | undefined => {
  if (text === undefined) return undefined
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN
  if (value >= least) return value
  throw new Error(`--${name} is ${text}, but must be a whole number from ${least} on`)
}
