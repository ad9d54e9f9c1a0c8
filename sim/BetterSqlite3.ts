/**
 * better-sqlite3, over the simulated disk: what `@effect/sql-sqlite-node` asks of it, so that this driver runs
 * in the simulation unmodified. It stands in for the real one's defects too. better-sqlite3 is built with
 * SQLITE_DEFAULT_WAL_SYNCHRONOUS=1, so that a WAL database falls to `synchronous=NORMAL` whenever a transaction
 * takes hold of it, unless the connection was told otherwise by a pragma; SQLite for WebAssembly is not, so
 * this file does it. The page size and foreign keys are
 * set as they are compiled into the real one. Numbers are bound as floating point and integers beyond 2^53 come
 * back rounded, as there. Two faults are its own. A COMMIT may be refused (SQLITE_BUSY) and leave the transaction
 * open, which SQLite's documentation says of it; and a ROLLBACK may fail and leave it open, which nothing rules
 * out. With a log that nobody else may use neither is known to happen, and a service should depend on neither.
 *
 * Differences that remain: SQLite itself is 3.53.4 here and 3.53.2 there, with a page cache of 16,384 KiB
 * against 16,000, and without UTF-16; user functions, backup, extensions,
 * named parameters and iterators are not there at all and fail loudly.
 */

import { Connection, type Integers, SqliteError, type SqlValue, type Statement } from "./Sqlite.ts"
import { currentMount, tellCalled } from "./SqliteVfs.ts"

export { SqliteError }

interface Options {
  readonly readonly?: boolean
  readonly timeout?: number
}

export interface RunResult {
  readonly changes: number
  readonly lastInsertRowid: number | bigint
}

/** Levels of `PRAGMA synchronous`. */
const normal = 1
const full = 2

export default class Database {
  static readonly SqliteError = SqliteError
  readonly name: string
  readonly memory: boolean
  readonly readonly: boolean
  private readonly connection: Connection
  private synchronous = full
  private synchronousWasSet = false
  private schemaWasRead = false

  constructor(filename: string, options: Options = {}) {
    this.name = filename
    this.memory = filename === "" || filename === ":memory:"
    this.readonly = options.readonly ?? false
    this.connection = new Connection(filename.trim(), { readonly: this.readonly })
    this.connection.busyTimeout(options.timeout ?? 5000)
    // Neither of these reads the file, which opening must not do: the caller's first statement finds it locked.
    for (const pragma of ["page_size=4096", "foreign_keys=ON"]) {
      this.connection.exec(`PRAGMA ${pragma}`)
    }
  }

  get open(): boolean {
    return this.connection.isOpen
  }

  get inTransaction(): boolean {
    return this.connection.inTransaction
  }

  prepare(sql: string): PreparedStatement {
    return new PreparedStatement(this, sql, this.compile(sql), false)
  }

  pragma(source: string, options: { readonly simple?: boolean } = {}): unknown {
    const sql = `PRAGMA ${source}`
    const rows = new PreparedStatement(this, sql, this.compile(sql), true).all()
    if (options.simple !== true) return rows
    const first = rows[0] as Record<string, unknown> | undefined
    return first === undefined ? undefined : Object.values(first)[0]
  }

  exec(sql: string): this {
    this.requireOpen()
    this.fallToDefault(sql)
    this.connection.exec(sql)
    this.noticePragma(sql)
    return this
  }

  serialize(): Buffer {
    this.requireOpen()
    return Buffer.from(this.connection.serialize())
  }

  close(): this {
    this.connection.close()
    return this
  }

  backup(): Promise<never> {
    throw new Error("backup is not simulated")
  }

  loadExtension(): never {
    throw new Error("loadExtension is not simulated")
  }

  /** @internal */
  requireOpen(): void {
    if (!this.connection.isOpen) throw new TypeError("The database connection is not open")
  }

  /** What `run` reports. @internal */
  measure(run: () => void, integers: Integers): RunResult {
    const { connection } = this
    const before = connection.totalChanges()
    run()
    const rowid = connection.lastInsertRowid()
    return {
      changes: connection.totalChanges() === before ? 0 : connection.changes(),
      lastInsertRowid: integers === "bigints" ? rowid : Number(rowid)
    }
  }

  /**
   * Sets the level that better-sqlite3's SQLite would set by itself as this statement's transaction begins. A
   * pragma that begins none does not count, except that the first of all reads the schema. @internal
   */
  fallToDefault(sql: string): void {
    if (this.synchronousWasSet || this.memory || this.connection.inTransaction) return
    if (this.schemaWasRead && pragmaWithoutTransaction.test(sql)) return
    if (openingPragma.test(sql)) return
    this.schemaWasRead = true
    const wanted = this.connection.hasWal ? normal : full
    if (wanted === this.synchronous) return
    this.connection.exec(`PRAGMA synchronous=${wanted}`)
    this.synchronous = wanted
  }

  private compile(sql: string): Statement {
    this.requireOpen()
    if (typeof sql !== "string") throw new TypeError("Expected first argument to be a string")
    if (!this.schemaWasRead) this.fallToDefault(sql)
    const { rest, statement } = this.connection.prepare(sql)
    if (statement === undefined) throw new RangeError("The supplied SQL string contains no statements")
    if (rest.replace(blank, "") !== "") {
      statement.finalize()
      throw new RangeError("The supplied SQL string contains more than one statement")
    }
    this.noticePragma(sql)
    return statement
  }

  /** SQLite obeys this pragma as it compiles it, so it is enough to see that it did compile. */
  private noticePragma(sql: string): void {
    if (setsSynchronous.test(sql)) this.synchronousWasSet = true
  }
}

const setsSynchronous = /^\s*PRAGMA\s+(\w+\s*\.\s*)?synchronous\s*[=(]/i
const pragmaWithoutTransaction =
  /^\s*PRAGMA\s+(\w+\s*\.\s*)?(synchronous|locking_mode|busy_timeout|cache_size|foreign_keys|temp_store)\b/i
const openingPragma =
  /^\s*PRAGMA\s+(\w+\s*\.\s*)?(locking_mode|busy_timeout|cache_size|foreign_keys|temp_store)\b/i
const rollback = /^\s*ROLLBACK\s*;?\s*$/i
const commit = /^\s*COMMIT\s*;?\s*$/i
const blank = /\/\*[\s\S]*?(\*\/|$)|--[^\n]*(\n|$)|[\s;]/g

class PreparedStatement {
  readonly database: Database
  readonly source: string
  readonly reader: boolean
  private readonly statement: Statement
  private integers: Integers = "numbers"
  private asArrays = false

  constructor(database: Database, source: string, statement: Statement, pragma: boolean) {
    this.database = database
    this.source = source
    this.statement = statement
    this.reader = pragma || statement.columns > 0
  }

  safeIntegers(on = true): this {
    this.integers = on ? "bigints" : "numbers"
    return this
  }

  raw(on = true): this {
    if (!this.reader) throw new TypeError("The raw() method is only for statements that return data")
    this.asArrays = on
    return this
  }

  all(...parameters: ReadonlyArray<unknown>): Array<unknown> {
    if (!this.reader) throw new TypeError(`${notReader} Use run() instead`)
    this.begin(parameters)
    try {
      return this.asArrays ? this.statement.arrays(this.integers) : this.statement.objects(this.integers)
    } finally {
      tellCalled()
    }
  }

  get(...parameters: ReadonlyArray<unknown>): unknown {
    if (!this.reader) throw new TypeError(`${notReader} Use run() instead`)
    this.begin(parameters)
    let row: unknown
    this.statement.stepOnce(() => {
      row = this.statement.row(this.integers)
    })
    return row
  }

  run(...parameters: ReadonlyArray<unknown>): RunResult {
    this.begin(parameters)
    const strikes = (fault: "rollbackError" | "commitRefused") =>
      currentMount()?.disk.fails(fault, this.database.name) === true
    if (rollback.test(this.source) && strikes("rollbackError")) {
      throw new SqliteError("disk I/O error", "SQLITE_IOERR")
    }
    if (commit.test(this.source) && strikes("commitRefused")) {
      throw new SqliteError("database is locked", "SQLITE_BUSY")
    }
    try {
      return this.database.measure(() => this.statement.stepOnce(), this.integers)
    } finally {
      tellCalled()
    }
  }

  private begin(parameters: ReadonlyArray<unknown>): void {
    this.database.requireOpen()
    this.database.fallToDefault(this.source)
    const values = parameters.flat(1).map(checkValue)
    if (values.length < this.statement.parameters)
      throw new RangeError("Too few parameter values were provided")
    if (values.length > this.statement.parameters)
      throw new RangeError("Too many parameter values were provided")
    this.statement.bind(values)
  }
}

const notReader = "This statement does not return data."

const checkValue = (value: unknown): SqlValue => {
  if (value === null || value === undefined) return null
  if (typeof value === "number" || typeof value === "string" || value instanceof Uint8Array) return value
  if (typeof value !== "bigint") {
    throw new TypeError("SQLite3 can only bind numbers, strings, bigints, buffers, and null")
  }
  if (BigInt.asIntN(64, value) !== value) {
    throw new RangeError("The bound string, buffer, or bigint is too big")
  }
  return value
}
