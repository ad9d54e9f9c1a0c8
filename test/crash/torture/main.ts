/**
 * The command `npm run torture`: plays one scenario after the other with real processes until its time is up or
 * something is broken, and tells in a table what they went through.
 */
import { readFileSync } from "node:fs"
import { basename } from "node:path"
import { parseArgs } from "node:util"
import { crash } from "./crash.ts"
import { evt002, partition } from "./partition.ts"
import { type Counts, Interrupted, type Run } from "./run.ts"
import { type Extent, type GivenLog, type Played, play, type Scenario } from "./stage.ts"

const scenarios: Readonly<Record<string, Scenario>> = { crash, partition, "evt-002": evt002 }

const help = `npm run torture -- [options] [FILE…]: kills real services, publishers and mirrors over a bad network, and looks for
broken guarantees.

  --minutes N      how long runs are begun; the last one is played to its end (default: 1)
  --runs N         how many runs at most
  --seed S         the seed of the first run; those after it count on (default: drawn from the clock)
  --scenario NAME  only this one; else each in turn:
                     crash      one service, publishers that ship files to it; SIGKILL for either and for both
                     partition  two services, a mirror each way; cut off from each other, killed, healed
                     evt-002    one of the two misses an event, heals, converges
  --help           this page
  FILE…            logs that are shipped in the place of such as are made up (in crash and partition)

The seed decides what is shipped, what befalls the network, and what is killed after what. When exactly a kill strikes
is the machine's affair: a run that is played again is alike, and not the same.

Examples
  npm run torture                                        a minute of everything
  npm run torture -- --minutes 30 --seed 1               half an hour
  npm run torture -- --scenario crash --seed 7 --runs 1  one run
  npm run torture -- --scenario crash --runs 1 /var/log/syslog

It ends with code 0 if nothing was broken, 1 if something was, 2 if it was called wrongly, 130 after Ctrl-C.
`

const extent: Extent = { outages: 12, sources: 2, linesMax: 1200, withSilence: true }

class UsageError extends Error {}

const logBytesMax = 4 * 1024 * 1024

const readLog = (path: string): GivenLog => {
  try {
    const bytes = readFileSync(path)
    if (bytes.length <= logBytesMax) return { name: basename(path), bytes }
  } catch (error) {
    throw new UsageError(`${path} cannot be read: ${(error as Error).message}`)
  }
  throw new UsageError(`${path} is larger than ${logBytesMax} bytes; what is shipped is held in the history`)
}

const number = (name: string, text: string | undefined, shape: RegExp, allowed: string, most: number) => {
  if (text === undefined) return undefined
  const value = shape.test(text) ? Number(text) : Number.NaN
  if (value <= most) return value
  throw new UsageError(`--${name} is ${JSON.stringify(text)}, but must be ${allowed}`)
}

const readOptions = () => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      minutes: { type: "string" },
      runs: { type: "string" },
      seed: { type: "string" },
      scenario: { type: "string" },
      help: { type: "boolean", short: "h", default: false }
    }
  })
  const { scenario, help } = values
  if (scenario !== undefined && !Object.hasOwn(scenarios, scenario)) {
    const names = Object.keys(scenarios).join(", ")
    throw new UsageError(`--scenario is ${JSON.stringify(scenario)}, but must be one of ${names}`)
  }
  const whole = /^\d{1,10}$/
  const seedMax = 2 ** 31 - 1
  const logs = positionals.map(readLog)
  if (new Set(logs.map(({ name }) => name)).size < logs.length) {
    throw new UsageError("two of the files have the same name")
  }
  const minutes = number(
    "minutes",
    values.minutes,
    /^\d{1,5}(\.\d+)?$/,
    "a number of minutes up to 10000",
    10_000
  )
  return {
    help,
    names: scenario === undefined ? Object.keys(scenarios) : [scenario],
    minutes: minutes ?? 1,
    runs: number("runs", values.runs, /^[1-9]\d{0,6}$/, "a whole number from 1 on", seedMax) ?? seedMax,
    seed:
      number("seed", values.seed, whole, `a whole number from 0 to ${seedMax}`, seedMax) ??
      Math.floor(Date.now() / 1000) % 1_000_000_000,
    logs: logs.length === 0 ? undefined : logs
  }
}

// ---------- what is told ----------

/** What the table says, in its order, and the counts that each row sums up. */
const rows: ReadonlyArray<readonly [title: string, ...counts: ReadonlyArray<string>]> = [
  ["outages", "outages"],
  ["kills of a server", "kills of a server"],
  ["  of them while it started", "kills of a server that starts"],
  ["kills of a publisher", "kills of a publisher"],
  ["kills of a mirror", "kills of a mirror"],
  ["partitions", "partitions"],
  ["processes started", "server starts", "starts of a publisher", "starts of a mirror"],
  ["requests to publish", "requests to publish"],
  ["  of them sent again", "requests sent again"],
  ["requests without an answer", "requests without an answer"],
  ["connections refused, no server", "connections refused"],
  ["503, send it again", "503"],
  ["events received", "events received"],
  ["events stored", "events stored"],
  ["pages read", "pages read"]
]

const tableOf = (counts: Counts): string => {
  const struck = Object.keys(counts).filter((name) => name.startsWith("network: "))
  const lines = [...rows, ...struck.sort().map((name) => [name, name] as const)].map(
    ([title, ...names]) =>
      [title, names.reduce((sum, name) => sum + (counts[name] ?? 0), 0).toLocaleString("en-US")] as const
  )
  const [left, right] = [0, 1].map((column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)))
  return lines
    .map(([title, count]) => `  ${title.padEnd(left ?? 0)}  ${count.padStart(right ?? 0)}\n`)
    .join("")
}

const add = (left: Counts, right: Counts): Counts => {
  const sum: Record<string, number> = { ...left }
  for (const [name, count] of Object.entries(right)) sum[name] = (sum[name] ?? 0) + count
  return sum
}

/** Violations that are printed; all of them are kept. */
const violationsShownMax = 10

const storyOf = (name: string, seed: number, { violations, kept }: Played): string =>
  [
    `${name}, seed ${seed}: broken`,
    ...violations.slice(0, violationsShownMax).map(({ guarantee, detail }) => `  ${guarantee}: ${detail}`),
    ...(violations.length > violationsShownMax
      ? [`  and ${violations.length - violationsShownMax} more`]
      : []),
    `  histories, databases, files and the story are in ${kept}`,
    `  to play it again: npm run torture -- --scenario ${name} --seed ${seed} --runs 1`
  ].join("\n")

/** Tells how far it is: on a terminal in one line that changes, elsewhere in a line every so often. */
const makeProgress = () => {
  const { isTTY } = process.stderr
  let current: { readonly name: string; readonly seed: number; readonly number: number } | undefined
  let run: Run | undefined
  const tell = () => {
    if (current === undefined || run === undefined) return
    const { counts } = run
    const of = (...names: ReadonlyArray<string>) =>
      names.reduce((sum, name) => sum + (counts[name] ?? 0), 0).toLocaleString("en-US")
    const kills = of("kills of a server", "kills of a publisher", "kills of a mirror")
    const line =
      `run ${current.number}, ${current.name}, seed ${current.seed}${run.isCalm ? ", calm" : ""}: ` +
      `${of("outages")} outages, ${kills} kills, ${of("requests to publish")} requests, ${of("events received")} events`
    process.stderr.write(isTTY ? `\r\u001b[K${line}` : `${line}\n`)
  }
  const timer = setInterval(tell, isTTY ? 500 : 10_000)
  return {
    begin: (name: string, seed: number, number: number, begun: Run) => {
      current = { name, seed, number }
      run = begun
    },
    end: () => {
      clearInterval(timer)
      if (isTTY) process.stderr.write("\r\u001b[K")
    }
  }
}

// ---------- the runs ----------

// One press of Ctrl-C can arrive twice: from the terminal, and once more from npm, which passes it on.
const samePressMillis = 300

/** Plays runs until time is up, something is broken, or somebody interrupts; gives the exit code. */
const torture = async ({ names, minutes, runs, seed, logs }: ReturnType<typeof readOptions>) => {
  const startedAt = performance.now()
  const seconds = () => (performance.now() - startedAt) / 1000
  let counts: Counts = {}
  let current: Run | undefined
  let interruptedBy: number | undefined
  let interruptedAt = 0
  const progress = makeProgress()
  const conclude = (done: number): void => {
    progress.end()
    const runsText = `${done} ${done === 1 ? "run" : "runs"}`
    process.stdout.write(
      `${tableOf(counts)}${runsText} from seed ${seed} on, in ${(seconds() / 60).toFixed(1)} minutes\n`
    )
  }
  let done = 0
  const interrupt = (code: number) => () => {
    // A second one does not wait. What is left of processes is killed as this one ends.
    if (interruptedBy !== undefined && performance.now() - interruptedAt > samePressMillis) process.exit(code)
    if (interruptedBy === undefined) interruptedAt = performance.now()
    interruptedBy = code
    current?.fail(new Interrupted())
  }
  process.on("SIGINT", interrupt(130))
  process.on("SIGTERM", interrupt(143))
  process.on("SIGHUP", interrupt(129))

  while (done < runs && (done === 0 || seconds() < minutes * 60)) {
    const name = names[done % names.length] ?? "crash"
    const runSeed = (seed + done) % 2 ** 31
    const played = await play(scenarios[name] as Scenario, runSeed, { ...extent, logs }, (run) => {
      current = run
      progress.begin(name, runSeed, done + 1, run)
    })
    counts = add(counts, played.counts)
    if (played.violations.length > 0) {
      conclude(done + 1)
      process.stdout.write(`${storyOf(name, runSeed, played)}\n`)
      return 1
    }
    if (interruptedBy !== undefined) {
      conclude(done)
      process.stdout.write("interrupted; nothing was broken so far\n")
      return interruptedBy
    }
    done++
  }
  conclude(done)
  process.stdout.write("nothing was broken\n")
  return 0
}

/** Gives the exit code. */
const main = async (): Promise<number> => {
  try {
    const options = readOptions()
    if (!options.help) return await torture(options)
    process.stdout.write(help)
    return 0
  } catch (error) {
    const isUsage =
      error instanceof UsageError || (error as { code?: string }).code?.startsWith("ERR_PARSE_ARGS")
    const message = error instanceof Error ? error.message : String(error)
    process.stderr.write(
      isUsage
        ? `torture: ${message}\nTry: npm run torture -- --help\n`
        : `${String((error as Error).stack)}\n`
    )
    return isUsage ? 2 : 1
  }
}

const code = await main()
// Once all is written, and not by itself: at its end Node 20 waits for each request of a connection, also for one that
// was reset, which never comes.
process.stdout.write("", () => process.stderr.write("", () => process.exit(code)))
