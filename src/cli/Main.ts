/**
 * The command line `sekali`: finds the command, shows help, and turns what comes of it into an exit code. Data goes to
 * the standard output, and everything that is said about it to the standard error.
 */
import { readFileSync } from "node:fs"
import { Cause, Effect, Exit, Option } from "effect"
import { rows, UsageError } from "./CommandLine.ts"
import { commands } from "./Commands.ts"
import { exitCodes, Failure } from "./Conventions.ts"

const version = (): string =>
  (JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string })
    .version

const page =
  (): string => `sekali ${version()}: publish events as often as you like, and each takes effect exactly once.

Usage
${rows([
  ...commands.map(({ name, summary }) => [`sekali ${name}`, summary] as const),
  ["sekali COMMAND --help", "the page of a command, with its options and examples"],
  ["sekali --help", "this page"],
  ["sekali --version", "the version"]
])}

Examples
  sekali serve
  sekali publish --topic shop.web /var/log/nginx/access.log
  sekali tail "shop.>" --since 10m
  sekali stats

Exit codes
${rows([
  ["0", "done"],
  ["1", "failed; a sentence on the standard error says why"],
  ["2", "the command line is wrong"],
  ["3", "publish: an event's id is known with other content"],
  ["130, 143", "ended by Ctrl-C (SIGINT), by SIGTERM"]
])}
`

const run = (words: ReadonlyArray<string>): Effect.Effect<number, UsageError | Failure> => {
  const [name, ...others] = words
  const command = commands.find((command) => command.name === name)
  // What stands behind -- is an argument, whatever it looks like.
  const options = words.includes("--") ? words.slice(0, words.indexOf("--")) : words
  if (options.some((word) => word === "--help" || word === "-h")) {
    return print(command === undefined ? page() : command.page)
  }
  if (command !== undefined) return command.run(others)
  if (name === "--version" || name === "-v") return print(`${version()}\n`)
  const sentence =
    name === undefined
      ? "No command was given."
      : `There is no ${name.startsWith("-") ? "option" : "command"} "${name}".`
  return Effect.fail(new UsageError({ sentence }))
}

const print = (text: string): Effect.Effect<number> =>
  Effect.sync(() => {
    process.stdout.write(text)
    return exitCodes.done
  })

/** What is said of a failed command, and its exit code. */
const failed = (
  cause: Cause.Cause<UsageError | Failure>,
  [name]: ReadonlyArray<string>
): readonly [sentence: string, code: number] => {
  const error = Option.getOrUndefined(Cause.failureOption(cause))
  if (error instanceof Failure) return [error.sentence, exitCodes.failed]
  if (error instanceof UsageError) {
    const known = commands.some((command) => command.name === name)
    return [`${error.sentence}\nTry: sekali ${known ? `${name} ` : ""}--help`, exitCodes.usage]
  }
  return [Cause.pretty(cause), exitCodes.failed]
}

/** Runs the command line, says why if it fails, and gives its exit code. */
export const commandLine = (words: ReadonlyArray<string>): Effect.Effect<number> =>
  Effect.map(Effect.exit(run(words)), (exit) => {
    if (Exit.isSuccess(exit)) return exit.value
    const [sentence, code] = failed(exit.cause, words)
    process.stderr.write(`sekali: ${sentence}\n`)
    return code
  })

/** Runs the command line, and ends the process with its exit code. */
export const main = (words: ReadonlyArray<string>): void => {
  // Whoever reads what is printed may go away; that is no reason to fail.
  process.stdout.on("error", () => {})
  process.stderr.on("error", () => {})
  Effect.runPromise(commandLine(words)).then((code) => {
    // Not before all is written.
    process.stdout.write("", () => process.stderr.write("", () => process.exit(code)))
  })
}
