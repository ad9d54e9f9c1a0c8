/**
 * The built service as a process of its own: started on a free port, watched through its log, and ended by signals.
 * The crash tests and the benchmark stand on it; nothing here knows the code under test except through its outside.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

/** The program, as `npm run build` makes it. */
export const mainPath: string = fileURLToPath(new URL("../../dist/main.js", import.meta.url))

/** One line of the service's log. */
export interface LogLine {
  readonly message: string
  readonly logLevel: string
  readonly timestamp: string
  readonly annotations: Readonly<Record<string, unknown>>
}

/** How a process ended, and what it left on its two streams. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** A process that was started here. */
export interface Service {
  readonly pid: number
  /** The whole lines of the log so far; one that is no JSON is an error. */
  readonly log: () => ReadonlyArray<LogLine>
  readonly stdout: () => string
  /** Waits for the first line of the log that fits; fails if the process ends before. */
  readonly logged: (fits: (line: LogLine) => boolean) => Promise<LogLine>
  readonly kill: (signal: NodeJS.Signals) => void
  /** Types on the process's standard input. */
  readonly type: (text: string) => void
  readonly ended: Promise<Ended>
}

/** A service that answers. */
export interface Serving extends Service {
  readonly port: number
  readonly url: string
  /**
   * From the start of the process to the answer that it is ready; without the time, where the system tells it, in which
   * it could have gone on and others had the processor, so that a busy machine is not taken for a slow start.
   */
  readonly startMilliseconds: number
}

export interface StartOptions {
  /** The path of the database file. */
  readonly database: string
  readonly environment?: Readonly<Record<string, string>>
  /** The command to run instead of the program itself, which then stands behind it. */
  readonly command?: readonly [string, ...ReadonlyArray<string>]
}

const running = new Set<ChildProcess>()

// Whatever happens here, no process is left behind.
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL")
})

/** Starts the program, and does not wait for anything. */
export const launch = ({ database, environment = {}, command }: StartOptions): Service => {
  const [file, ...args] = command ?? [process.execPath, mainPath, "serve"]
  const inherited = Object.entries(process.env).filter(
    ([name]) => !name.startsWith("SEKALI_") && name !== "NODE_OPTIONS"
  )
  const child = spawn(file, args, {
    env: {
      ...Object.fromEntries(inherited),
      SEKALI_PORT: "0",
      SEKALI_DATABASE: `file:${database}`,
      ...environment
    },
    stdio: "pipe"
  })
  running.add(child)
  const lines: Array<LogLine> = []
  let stdout = ""
  let stderr = ""
  let read = 0
  const watchers = new Set<() => void>()
  const tell = () => {
    for (const watcher of watchers) watcher()
  }
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text
    tell()
  })
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text
  })
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on("error", reject)
    child.on("close", (code, signal) => {
      running.delete(child)
      resolve({ code, signal, stdout, stderr })
      tell()
    })
  })
  const log = () => {
    const whole = stdout.lastIndexOf("\n") + 1
    for (const line of stdout.slice(read, whole).split("\n")) {
      if (line !== "") lines.push(JSON.parse(line) as LogLine)
    }
    read = whole
    return lines
  }
  const logged: Service["logged"] = (fits) =>
    new Promise((resolve, reject) => {
      let seen = 0
      const look = () => {
        const line = log().slice(seen).find(fits)
        seen = lines.length
        if (line === undefined && running.has(child)) return
        watchers.delete(look)
        if (line !== undefined) resolve(line)
        else reject(new Error(`the process ended before it logged what was waited for\n${stdout}${stderr}`))
      }
      watchers.add(look)
      look()
    })
  return {
    pid: child.pid ?? 0,
    log,
    stdout: () => stdout,
    logged,
    kill: (signal) => void child.kill(signal),
    type: (text) => void child.stdin.write(text),
    ended
  }
}

/** Starts the program and waits until it says that it is ready. */
export const serve = async (options: StartOptions): Promise<Serving> => {
  const startedAt = performance.now()
  const service = launch(options)
  const { annotations } = await service.logged(({ message }) => message === "serving")
  const url = String(annotations["address"])
  const ready = await fetch(`${url}/health/ready`)
  await ready.arrayBuffer()
  const startMilliseconds = performance.now() - startedAt - waitedMilliseconds(service.pid)
  if (ready.status !== 200)
    throw new Error(`the service started, but is not ready: ${ready.status}\n${service.stdout()}`)
  return { ...service, port: Number(new URL(url).port), url, startMilliseconds }
}

/** For how long the main thread of a process has waited for a processor, on Linux. */
const waitedMilliseconds = (pid: number): number => {
  const path = `/proc/${pid}/schedstat`
  const [, waitedNanos = "0"] = existsSync(path) ? readFileSync(path, "utf8").split(" ") : []
  return Number(waitedNanos) / 1e6
}

const folders: Array<string> = []

/** Makes a fresh folder, which lasts until `cleanUp`. */
export const temporaryFolder = (): string => {
  const folder = mkdtempSync(join(tmpdir(), "sekali-"))
  folders.push(folder)
  return folder
}

/** Ends every process that was started here and has not ended, waits until it has, and removes the folders. */
export const cleanUp = async (): Promise<void> => {
  await Promise.all(
    [...running].map(
      (child) =>
        new Promise<void>((resolve) => {
          child.on("close", () => resolve())
          child.kill("SIGKILL")
        })
    )
  )
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
}
