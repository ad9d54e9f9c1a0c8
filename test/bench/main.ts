/**
 * The benchmark's command line: `npm run bench -- --help`.
 */
import { cleanUp } from "../support/process.ts"
import { against } from "./against.ts"
import { features } from "./features.ts"
import { machine } from "./figures.ts"
import { growth } from "./growth.ts"
import { latency } from "./latency.ts"
import { type Benchmark, type BenchmarkName, help, readArguments } from "./options.ts"
import { overload } from "./overload.ts"
import { courseReport } from "./report.ts"

const benchmarks: Readonly<Record<BenchmarkName, Benchmark>> = {
  single: against("single"),
  batch: against("batch"),
  random: against("random"),
  growth,
  latency,
  overload: overload(),
  features: features()
}

// On standard error: it is no part of the result.
const progress = (text: string) => void process.stderr.write(`${text}\n`)

// A run that is broken off leaves no process behind, and no database of some gigabytes.
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => void cleanUp().finally(() => process.exit(130)))
}

const bench = async ({ chosen, options, json }: ReturnType<typeof readArguments>) => {
  const results: Record<string, unknown> = {}
  for (const name of chosen) {
    const findings = await benchmarks[name](options, progress)
    results[name] = findings.json
    if (!json) process.stdout.write(`${findings.text}\n\n`)
  }
  const where = machine()
  if (json) process.stdout.write(`${JSON.stringify({ machine: where, ...results, courseReport })}\n`)
  else {
    process.stdout.write(
      `Medians of the rounds, and the least and the most in brackets. Node ${where.node}, ${where.cpus} CPUs ` +
        `(${where.model}) for the servers and the load.\nThe course report measured its own design, on one CPU.\n`
    )
  }
}

try {
  const given = readArguments(process.argv.slice(2))
  if (given.help) process.stdout.write(help)
  else await bench(given)
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
