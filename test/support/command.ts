/**
 * The built command line as processes of their own: what is typed, what they say, and how they end.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { type Ended, mainPath } from "./process.ts"

/** A command that was started. */
export interface Running {
  readonly pid: number
  readonly stderr: () => string
  /** Is given what it prints on its standard output from here on. */
  readonly onOutput: (take: (text: string) => void) => void
  /** Waits until the standard error has what fits; fails if the process ends before. */
  readonly said: (fits: RegExp) => Promise<void>
  /** Writes to its standard input. */
  readonly write: (text: string | Buffer) => void
  /** Ends its standard input. */
  readonly endInput: () => void
  readonly kill: (signal: NodeJS.Signals) => void
  readonly ended: Promise<Ended>
}

export interface CommandOptions {
  /** The service that is meant where no `--url` is given. */
  readonly url?: string
  readonly environment?: Readonly<Record<string, string>>
  /** The program and words before those of the command; Node and the built program. */
  readonly command?: readonly [string, ...ReadonlyArray<string>]
}

const running = new Set<ChildProcess>()

// Whatever happens here, no process is left behind.
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL")
})

/** Starts a command, and leaves its standard input open. */
export const start = (
  words: ReadonlyArray<string>,
  { url, environment = {}, command = [process.execPath, mainPath] }: CommandOptions = {}
): Running => {
  const [file, ...before] = command
  const inherited = Object.entries(process.env).filter(
    ([name]) => !name.startsWith("SEKALI_") && name !== "NODE_OPTIONS" && name !== "NO_COLOR"
  )
  const child = spawn(file, [...before, ...words], {
    env: {
      ...Object.fromEntries(inherited),
      ...(url === undefined ? {} : { SEKALI_URL: url }),
      ...environment
    },
    stdio: "pipe"
  })
  running.add(child)
  let stdout = ""
  let stderr = ""
  const watchers = new Set<() => void>()
  const tell = () => {
    for (const watcher of watchers) watcher()
  }
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text
    tell()
  })
  // It may end, or be killed, before it has read what is written to it.
  child.stdin.on("error", () => {})
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on("error", reject)
    child.on("close", (code, signal) => {
      running.delete(child)
      resolve({ code, signal, stdout, stderr })
      tell()
    })
  })
  return {
    pid: child.pid ?? 0,
    stderr: () => stderr,
    onOutput: (take) => void child.stdout.on("data", take),
    said: (fits) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const found = fits.test(stderr)
          if (!found && running.has(child)) return
          watchers.delete(look)
          if (found) resolve()
          else reject(new Error(`the process ended before it said ${fits}\n${stderr}`))
        }
        watchers.add(look)
        look()
      }),
    write: (text) => void child.stdin.write(text),
    endInput: () => void child.stdin.end(),
    kill: (signal) => void child.kill(signal),
    ended
  }
}

/** Runs a command to its end, with this on its standard input. */
export const run = (
  words: ReadonlyArray<string>,
  { input = "", ...options }: CommandOptions & { readonly input?: string | Buffer } = {}
): Promise<Ended> => {
  const command = start(words, options)
  command.write(input)
  command.endInput()
  return command.ended
}

/** Ends every command that was started here and has not ended. */
export const endCommands = async (): Promise<void> => {
  await Promise.all(
    [...running].map(
      (child) =>
        new Promise<void>((resolve) => {
          child.on("close", () => resolve())
          child.kill("SIGKILL")
        })
    )
  )
}
