/**
 * The command `npm run sim:mutants`: plants each bug in a process of its own and has the simulator look for it.
 */
import { spawn } from "node:child_process"
import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import type { Finding } from "./mutant.ts"
import { type PlantedBug, plantedBugs } from "./PlantedBugs.ts"

const help = `npm run sim:mutants -- [options]: plants bugs in the service and has the simulator find them.

  --only TEXT     only the bugs whose name has this text in it; may be repeated
  --seeds N       how many seeds to try for each (default: 1000)
  --shrink N      seconds to spend on the smallest story of each (default: 20; 0: none)
  --jobs N        how many at a time (default: one for each core)
  --list          the bugs and the guarantees by which they have to fall
  --help          this page

It ends with code 0 if every bug was found by its guarantee, 1 if one was not, 2 if it was called wrongly.
`

const print = (line: string): void => void process.stdout.write(`${line}\n`)

const register = new URL("./loader/register.mjs", import.meta.url).href
const searcher = fileURLToPath(new URL("./mutant.ts", import.meta.url))

/** Looks for one bug in a process of its own. */
export const find = (bug: PlantedBug, seeds: string, shrink: string): Promise<Finding> =>
  new Promise((resolve) => {
    const args = [
      "--min-semi-space-size=64",
      "--max-semi-space-size=64",
      "--import",
      register,
      searcher,
      bug.name,
      seeds,
      shrink
    ]
    const child = spawn(process.execPath, args, {
      env: { ...process.env, SEKALI_SIM_MUTANTS: JSON.stringify(bug.changes) },
      stdio: ["ignore", "pipe", "pipe"]
    })
    let output = ""
    let errors = ""
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString()
    })
    child.stderr.on("data", (chunk: Buffer) => {
      errors += chunk.toString()
    })
    child.on("close", (code) => {
      const line = output.split("\n").find((text) => text.startsWith("{"))
      const failed = { name: bug.name, found: false, guarantees: [], cleanRuns: 0, seconds: 0, size: "" }
      const reason = errors.split("\n").find((text) => /error/i.test(text)) ?? errors.slice(0, 200)
      resolve(
        line === undefined
          ? { ...failed, problem: `does not load or run (code ${code}): ${reason}` }
          : (JSON.parse(line) as Finding)
      )
    })
  })

const rowOf = ({ name, found, guarantees, cleanRuns, seconds, size, problem }: Finding): string => {
  const verdict = found ? `found by ${guarantees.join(", ")}` : "NOT FOUND"
  const rest = found ? `${cleanRuns} clean runs before, ${seconds.toFixed(1)} s; ${size}` : (problem ?? "")
  return `${name.padEnd(52)} ${verdict.padEnd(28)} ${rest}`
}

/** Looks for bugs, so many at a time, and tells each finding as it comes. */
export const findAll = async (
  bugs: ReadonlyArray<PlantedBug>,
  options: { readonly seeds: string; readonly shrink: string; readonly jobs: number },
  tell: (finding: Finding) => void
): Promise<ReadonlyArray<Finding>> => {
  const waiting = [...bugs]
  const findings: Array<Finding> = []
  const worker = async () => {
    for (let bug = waiting.shift(); bug !== undefined; bug = waiting.shift()) {
      const finding = await find(bug, options.seeds, options.shrink)
      findings.push(finding)
      tell(finding)
    }
  }
  await Promise.all(Array.from({ length: options.jobs }, worker))
  return findings
}

const main = async (): Promise<number> => {
  const { values } = parseArgs({
    options: {
      only: { type: "string", multiple: true, default: [] },
      seeds: { type: "string", default: "1000" },
      shrink: { type: "string", default: "20" },
      jobs: { type: "string", default: String(availableParallelism()) },
      list: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false }
    }
  })
  if (values.help) {
    print(help)
    return 0
  }
  for (const name of ["seeds", "shrink", "jobs"] as const) {
    if (!/^\d+$/.test(values[name]) || (name !== "shrink" && Number(values[name]) === 0)) {
      throw new Error(`--${name} is ${JSON.stringify(values[name])}, but must be a whole number`)
    }
  }
  const wanted = (bug: PlantedBug) =>
    values.only.length === 0 || values.only.some((text) => bug.name.includes(text))
  const bugs = plantedBugs.filter(wanted)
  if (values.list) {
    for (const { name, guarantee, mistake } of bugs)
      print(`${name.padEnd(52)} ${guarantee.padEnd(9)} ${mistake}`)
    return 0
  }
  const findings = await findAll(bugs, { ...values, jobs: Number(values.jobs) }, (finding) =>
    print(rowOf(finding))
  )
  const missed = findings.filter(({ found }) => !found)
  print("")
  print(`${findings.length - missed.length} of ${findings.length} bugs found`)
  return missed.length === 0 && findings.length > 0 ? 0 : 1
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.exit(await main())
  } catch (error) {
    process.stderr.write(`sim:mutants: ${(error as Error).message}\nTry: npm run sim:mutants -- --help\n`)
    process.exit(2)
  }
}
