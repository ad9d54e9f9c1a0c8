/**
 * One aggregator of a run: the built service as one process after the other on one database, with the history of what
 * befalls it; and the checker's verdict at the end.
 */
import { join } from "node:path"
import Sqlite from "better-sqlite3"
import { check, type Query, type Violation } from "../../../sim/Checker.ts"
import { launch, type Service } from "../../support/process.ts"
import { History } from "./history.ts"
import { Broken, type Run, waitSecondsMax } from "./run.ts"

/** A process that answers. */
export interface Serving {
  /** Of this process: the aggregator's, and which of its processes it is. */
  readonly name: string
  readonly port: number
}

/** Bounds of its queue that publishers can run into. */
export interface Limits {
  readonly queueEventsMax: number
}

export class Aggregator {
  readonly name: string
  readonly history = new History()
  /** The path of its database. */
  readonly database: string
  readonly #run: Run
  readonly #limits: Limits
  #process: { readonly name: string; readonly service: Service; isEnding: boolean } | undefined
  #serving: Serving | undefined
  #starts = 0

  constructor(run: Run, name: string, limits: Limits) {
    this.#run = run
    this.name = name
    this.#limits = limits
    this.database = join(run.folder, `${name}.db`)
  }

  /** The process that answers now, if one does. */
  get serving(): Serving | undefined {
    return this.#serving
  }

  /** Where the process that answers now is reached, past all networks and records. */
  get url(): string {
    return `http://127.0.0.1:${this.#serving?.port}`
  }

  /** Starts a process, and waits until it answers, or is killed before. */
  async start(): Promise<void> {
    const run = this.#run
    run.goesOn()
    const name = `${this.name}#${++this.#starts}`
    const { queueEventsMax } = this.#limits
    const service = launch({
      database: this.database,
      environment: {
        SEKALI_QUEUE_EVENTS_MAX: String(queueEventsMax),
        SEKALI_COMMIT_EVENTS_MAX: "1000",
        SEKALI_REQUEST_EVENTS_MAX: "1000"
      }
    })
    const process = { name, service, isEnding: false }
    this.#process = process
    this.history.add({ kind: "server", server: name, change: "started" })
    run.count("server starts")
    run.tell(`${name} is started`)
    service.ended.then(({ code, signal, stdout, stderr }) => {
      if (process.isEnding) return
      this.#serving = undefined
      const detail = `${name} ended by itself with ${code ?? signal}: ${stderr}${stdout.split("\n").slice(-5).join("\n")}`
      run.fail(new Broken("G7", detail))
    }, run.fail.bind(run))
    try {
      const ready = service.logged(({ message }) => message === "serving")
      const { annotations } = await run.within(`${name}, to get ready,`, ready)
      if (process.isEnding) return
      this.history.add({ kind: "server", server: name, change: "ready" })
      run.tell(`${name} serves`)
      this.#serving = { name, port: Number(new URL(String(annotations["address"])).port) }
      run.happened()
    } catch (error) {
      if (!process.isEnding) throw error
    }
  }

  /** Kills the process, whatever it does. */
  async kill(): Promise<void> {
    const ended = this.#endOf("SIGKILL")
    if (ended === undefined) return
    const { name } = await ended
    // What is noted of it from here on, it has done before.
    this.history.add({ kind: "server", server: name, change: "killed" })
    this.#run.count("kills of a server")
    this.#run.tell(`${name} is killed`)
  }

  /** Asks the process to stop, and waits until it has. */
  async stop(): Promise<void> {
    const { name } = this.#process ?? {}
    if (name !== undefined) this.history.add({ kind: "server", server: name, change: "stopping" })
    const ended = await this.#endOf("SIGTERM")
    if (ended === undefined) return
    this.history.add({ kind: "server", server: ended.name, change: "stopped" })
    this.#run.tell(`${ended.name} has stopped`)
    if (ended.code !== 0) {
      throw new Broken("G7", `${ended.name} was asked to stop and ended with ${ended.code}: ${ended.stderr}`)
    }
  }

  #endOf(signal: NodeJS.Signals) {
    const process = this.#process
    if (process === undefined || process.isEnding) return undefined
    process.isEnding = true
    process.service.kill(signal)
    const ended = process.service.ended.then(({ code, stderr }) => {
      this.#serving = undefined
      this.#process = undefined
      return { name: process.name, code, stderr }
    })
    return this.#run.within(`the end of ${process.name}`, ended)
  }

  /** Says that the faults have stopped. */
  calm(): void {
    this.history.add({ kind: "calm" })
  }

  /** Asks its database, which no process may hold. */
  read<A>(ask: (query: Query) => A): A {
    const connection = new Sqlite(this.database)
    try {
      return ask((sql) => connection.prepare<[], Record<string, unknown>>(sql).all())
    } finally {
      connection.close()
    }
  }

  /** Whether it kept its guarantees, by its history and its database. */
  judge(): ReadonlyArray<Violation> {
    return this.read((query) =>
      check(this.history.entries, query, {
        progressMicrosMax: waitSecondsMax * 1_000_000,
        queueEventsMax: this.#limits.queueEventsMax
      })
    )
  }
}
