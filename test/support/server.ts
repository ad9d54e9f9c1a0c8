/**
 * The service for tests, in this process: the real App on its real edges, a socket on a free port and a SQLite file in
 * a folder of its own. The only thing added is a hand on the database, which can hold commits back and fill the disk;
 * what it holds and fills is the real one.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { Agent } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { HttpServer } from "@effect/platform"
import type { SqlClient } from "@effect/sql"
import { Cause, Deferred, Effect, type Exit, FiberId, Layer, Logger, LogLevel } from "effect"
import { run } from "../../src/App.ts"
import { defaults, faultsBetween, Settings, type SettingsShape } from "../../src/Config.ts"
import * as HttpListener from "../../src/node/HttpListener.ts"
import * as ProcessFigures from "../../src/node/ProcessFigures.ts"
import { oncePerTurn } from "../../src/node/Scheduling.ts"
import * as SqliteDatabase from "../../src/node/SqliteDatabase.ts"
import { Database } from "../../src/store/Database.ts"

/** A hand on the database of a running service. */
export class DatabaseHand {
  readonly #commits = Effect.unsafeMakeLatch(true)
  #pagesMax: number | undefined
  #client: SqlClient.SqlClient | undefined

  /** How many commits are held back right now. */
  held = 0

  /** From here on every COMMIT waits before it reaches the database. */
  hold(): void {
    this.#commits.unsafeClose()
  }

  /** Lets commits pass again, also those that wait. */
  release(): void {
    this.#commits.unsafeOpen()
  }

  /** From here on the database may not grow by a page: SQLite answers SQLITE_FULL. */
  async fillDisk(): Promise<void> {
    await this.#limitPages(1)
  }

  /** Lets the database grow again. */
  async freeDisk(): Promise<void> {
    await this.#limitPages(1_073_741_823)
  }

  /** From here on whatever reads or moves the books fails: SQLite answers that there is no such table. */
  async hideBooks(): Promise<void> {
    if (this.#client === undefined) throw new Error("there is no connection yet")
    await Effect.runPromise(this.#client.unsafe("ALTER TABLE store RENAME TO hidden"))
  }

  async #limitPages(pages: number): Promise<void> {
    this.#pagesMax = pages
    if (this.#client !== undefined) await Effect.runPromise(limitPages(this.#client, pages))
  }

  /** Puts the hand on a connection. */
  readonly over = (client: SqlClient.SqlClient): Effect.Effect<SqlClient.SqlClient> => {
    this.#client = client
    const pass = Effect.acquireUseRelease(
      Effect.sync(() => this.held++),
      () => this.#commits.await,
      () => Effect.sync(() => this.held--)
    )
    const reserve = Effect.map(client.reserve, (connection) => ({
      ...connection,
      executeUnprepared: (...call: Parameters<typeof connection.executeUnprepared>) =>
        call[0] === "COMMIT"
          ? Effect.zipRight(pass, connection.executeUnprepared(...call))
          : connection.executeUnprepared(...call)
    }))
    const held = new Proxy(client, {
      get: (target, name, receiver) =>
        name === "reserve" ? reserve : (Reflect.get(target, name, receiver) as unknown)
    })
    const pages = this.#pagesMax
    const limited = pages === undefined ? Effect.void : Effect.asVoid(limitPages(client, pages))
    return Effect.as(Effect.orDie(limited), held)
  }
}

const limitPages = (client: SqlClient.SqlClient, pages: number) =>
  client.unsafe(`PRAGMA max_page_count = ${pages}`)

/** A service that runs. */
export interface RunningServer {
  readonly host: string
  readonly port: number
  /** `http://host:port`, without a slash at the end. */
  readonly url: string
  readonly settings: SettingsShape
  /** The path of the database file. */
  readonly file: string
  readonly database: DatabaseHand
  /** Connections to this service that are kept open between calls. */
  readonly agent: Agent
  /** What the service has logged, as lines of level and message. */
  readonly logs: ReadonlyArray<string>
  /** Stops the service as SIGTERM does, and tells how it ended. */
  readonly stop: () => Promise<Exit.Exit<unknown, unknown>>
}

/** What a test may choose about its service. */
export interface ServerOptions {
  readonly settings?: Partial<SettingsShape>
  /** A hand that is on the database from its first statement on. */
  readonly database?: DatabaseHand
  /** The folder of the database; without it a new one is made, and removed with the service. */
  readonly folder?: string
}

const wired = (hand: DatabaseHand): Layer.Layer<Database, never, Settings> =>
  Layer.effect(
    Database,
    Effect.map(Database, (database) => ({
      ...database,
      connect: Effect.flatMap(database.connect, hand.over)
    }))
  ).pipe(Layer.provide(SqliteDatabase.layer))

/** Starts the service; it listens when this returns, but may still be opening its database. */
export const listen = async (options: ServerOptions = {}): Promise<RunningServer> => {
  const folder = options.folder ?? mkdtempSync(join(tmpdir(), "sekali-http-"))
  const file = join(folder, "sekali.db")
  const settings = { ...defaults, port: 0, database: `file:${file}`, ...options.settings }
  const faults = faultsBetween(settings)
  if (faults.length > 0) throw new Error(faults.join("\n"))
  const database = options.database ?? new DatabaseHand()
  const logs: Array<string> = []
  const logger = Logger.make(({ logLevel, message, cause }) => {
    const trouble = Cause.isEmpty(cause) ? "" : ` ${Cause.pretty(cause)}`
    logs.push(`${logLevel.label} ${[message].flat().map(String).join(" ")}${trouble}`)
  })
  const listening = Deferred.unsafeMake<HttpServer.TcpAddress>(FiberId.none)
  const program = Effect.gen(function* () {
    const { address } = yield* HttpServer.HttpServer
    if (address._tag === "TcpAddress") yield* Deferred.succeed(listening, address)
    yield* run
  }).pipe(
    Effect.provide(Layer.mergeAll(HttpListener.layer, wired(database), ProcessFigures.layer)),
    Effect.provide(
      Layer.merge(Logger.replace(Logger.defaultLogger, logger), Logger.minimumLogLevel(LogLevel.Info))
    ),
    Effect.provideService(Settings, settings),
    Effect.withTracerEnabled(false)
  )
  const fiber = Effect.runFork(program, { scheduler: oncePerTurn })
  const ended = new Promise<Exit.Exit<unknown, unknown>>((resolve) => fiber.addObserver(resolve))
  const agent = new Agent({ keepAlive: true, maxSockets: 64 })
  const stop = async () => {
    fiber.unsafeInterruptAsFork(FiberId.none)
    const exit = await ended
    agent.destroy()
    if (options.folder === undefined) rmSync(folder, { recursive: true, force: true })
    return exit
  }
  const failed = ended.then((exit) => {
    throw new Error(`the service did not start: ${exit}`)
  })
  const { hostname, port } = await Promise.race([Effect.runPromise(Deferred.await(listening)), failed])
  failed.catch(() => {})
  return {
    host: hostname,
    port,
    url: `http://${hostname}:${port}`,
    settings,
    file,
    database,
    agent,
    logs,
    stop
  }
}

/** Starts the service, and returns once it is ready. */
export const startServer = async (options: ServerOptions = {}): Promise<RunningServer> => {
  const server = await listen(options)
  await until(async () => (await fetch(`${server.url}/health/ready`)).status === 200)
  return server
}

/** Runs a test against a service of its own, and stops it however the test ends. */
export const withServer = async <A>(
  options: ServerOptions,
  use: (server: RunningServer) => Promise<A>
): Promise<A> => {
  const server = await startServer(options)
  try {
    return await use(server)
  } finally {
    server.database.release()
    await server.stop()
  }
}

/** Runs a test with a folder that outlives the services in it. */
export const withFolder = async <A>(use: (folder: string) => Promise<A>): Promise<A> => {
  const folder = mkdtempSync(join(tmpdir(), "sekali-http-"))
  try {
    return await use(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Asks again and again, each time after whatever else is due, until the answer is yes; a test's own limit ends it. */
export const until = async (condition: () => boolean | Promise<boolean>): Promise<void> => {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve))
}
