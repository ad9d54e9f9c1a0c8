/**
 * Connections to SQLite over the simulated disk, synchronous and without the comforts of a driver: the façade
 * for the service's own driver and the checker's reading of the database both stand on this. Connections of a
 * process that died are ghosts: they hold memory and nothing else, and are closed when the run ends.
 */
import { currentMount, isWalFile } from "./SqliteVfs.ts"
import { capi, codeName, heap, type Pointer, putText, raw, scratchFor, textAt, wasm } from "./Wasm.ts"

export type SqlValue = null | number | bigint | string | Uint8Array

/** How integers come out: as better-sqlite3 gives them, or all as bigint. */
export type Integers = "numbers" | "bigints"

/** An error of SQLite, in the shape of better-sqlite3's. */
export class SqliteError extends Error {
  override readonly name = "SqliteError"
  readonly code: string

  constructor(message: string, code: string) {
    super(message)
    this.code = code
  }
}

const open = new Set<Connection>()
/** Closes what the run left open. To be called before the run's world is gone. */
export const closeGhosts = (): void => {
  for (const connection of [...open]) connection.close()
}

/** For tests that watch for leaks. */
export const openConnections = (): number => open.size

export class Connection {
  private readonly file: string
  private db: Pointer
  private readonly statements = new Set<Statement>()
  private readonly out = raw.malloc(16)

  constructor(file: string, options: { readonly readonly?: boolean } = {}) {
    if (currentMount() === undefined) throw new Error("SQLite was opened outside of a simulated process")
    const flags = options.readonly === true ? capi.SQLITE_OPEN_READONLY : readWrite
    // A name that begins with "file:" would be taken for a URI, which better-sqlite3 does not do.
    this.file = file.startsWith("file:") ? `./${file}` : file
    const name = putText(this.file)
    const code = raw.sqlite3_open_v2(name.pointer, this.out, flags, 0)
    this.db = wasm.peekPtr(this.out) as Pointer
    open.add(this)
    if (code !== capi.SQLITE_OK) {
      const error = this.error(code)
      this.close()
      throw error
    }
    capi.sqlite3_extended_result_codes(this.db, 1)
  }

  get isOpen(): boolean {
    return this.db !== 0
  }

  /** Whether the database has a write-ahead log. */
  get hasWal(): boolean {
    return isWalFile(this.file)
  }

  get inTransaction(): boolean {
    return raw.sqlite3_get_autocommit(this.db) === 0
  }

  /** Compiles the first statement of a text; the rest of the text comes with it. */
  prepare(sql: string): { readonly statement: Statement | undefined; readonly rest: string } {
    const text = putText(sql)
    // The text stays where it is until the call returns; nothing in between needs the scratch memory.
    const code = raw.sqlite3_prepare_v3(this.db, text.pointer, text.bytes + 1, 0, this.out, this.out + 8)
    if (code !== capi.SQLITE_OK) throw this.error(code)
    const pointer = wasm.peekPtr(this.out) as Pointer
    const tail = wasm.peekPtr(this.out + 8) as Pointer
    const rest = textAt(tail)
    if (pointer === 0) return { statement: undefined, rest }
    const statement = new Statement(this, pointer)
    this.statements.add(statement)
    return { statement, rest }
  }

  /** Runs one statement and gives its rows. */
  all(sql: string, parameters: ReadonlyArray<SqlValue> = []): ReadonlyArray<Record<string, SqlValue>> {
    const { statement } = this.prepare(sql)
    if (statement === undefined) return []
    try {
      statement.bind(parameters)
      return statement.objects("numbers")
    } finally {
      statement.finalize()
    }
  }

  /** Runs every statement of a text. */
  exec(sql: string): void {
    for (let rest = sql; rest.trim() !== ""; ) {
      const prepared = this.prepare(rest)
      rest = prepared.rest
      if (prepared.statement === undefined) continue
      try {
        prepared.statement.objects("numbers")
      } finally {
        prepared.statement.finalize()
      }
    }
  }

  totalChanges(): number {
    return raw.sqlite3_total_changes(this.db)
  }

  changes(): number {
    return raw.sqlite3_changes(this.db)
  }

  lastInsertRowid(): bigint {
    return raw.sqlite3_last_insert_rowid(this.db)
  }

  busyTimeout(millis: number): void {
    raw.sqlite3_busy_timeout(this.db, millis)
  }

  /** The database as one block of bytes. */
  serialize(): Uint8Array {
    const schema = putText("main")
    const data = raw.sqlite3_serialize(this.db, schema.pointer, this.out, 0)
    const bytes = Number(heap().readBigInt64LE(this.out))
    if (data === 0) return new Uint8Array(0)
    const copy = Uint8Array.prototype.slice.call(heap(), data, data + bytes)
    raw.sqlite3_free(data)
    return copy
  }

  close(): void {
    if (this.db === 0) return
    open.delete(this)
    for (const statement of this.statements) statement.finalize()
    raw.sqlite3_close_v2(this.db)
    raw.free(this.out)
    this.db = 0
  }

  /** The connection's last error. */
  error(code: number): SqliteError {
    if (this.db === 0) return new SqliteError("out of memory", codeName(code))
    return new SqliteError(
      textAt(raw.sqlite3_errmsg(this.db)),
      codeName(raw.sqlite3_extended_errcode(this.db))
    )
  }

  /** @internal */
  forget(statement: Statement): void {
    this.statements.delete(statement)
  }
}

const readWrite = capi.SQLITE_OPEN_READWRITE | capi.SQLITE_OPEN_CREATE

export class Statement {
  readonly connection: Connection
  readonly columns: number
  readonly parameters: number
  private pointer: Pointer
  private names: ReadonlyArray<string> | undefined

  constructor(connection: Connection, pointer: Pointer) {
    this.connection = connection
    this.pointer = pointer
    this.columns = raw.sqlite3_column_count(pointer)
    this.parameters = raw.sqlite3_bind_parameter_count(pointer)
  }

  bind(values: ReadonlyArray<SqlValue>): void {
    for (let i = 0; i < values.length; i++) {
      const code = this.bindOne(i + 1, values[i] ?? null)
      if (code !== capi.SQLITE_OK) throw this.connection.error(code)
    }
  }

  /** Runs to the end; rows as objects. */
  objects(integers: Integers): Array<Record<string, SqlValue>> {
    const rows: Array<Record<string, SqlValue>> = []
    this.run(() => {
      // Columns may change when a statement is compiled again under it, which happens at its first step.
      const names = rows.length === 0 ? this.columnNames() : (this.names ?? [])
      const row: Record<string, SqlValue> = {}
      for (let i = 0; i < names.length; i++) row[names[i] as string] = this.value(i, integers)
      rows.push(row)
    })
    return rows
  }

  /** Runs to the end; rows as arrays. */
  arrays(integers: Integers): Array<Array<SqlValue>> {
    const rows: Array<Array<SqlValue>> = []
    this.run(() => {
      const count = raw.sqlite3_column_count(this.pointer)
      rows.push(Array.from({ length: count }, (_, i) => this.value(i, integers)))
    })
    return rows
  }

  /** Runs one step, as better-sqlite3's `run` and `get` do; says whether there is a row. */
  stepOnce(onRow: () => void = () => undefined): void {
    const code = raw.sqlite3_step(this.pointer)
    if (code === capi.SQLITE_ROW) onRow()
    this.finish(code)
  }

  row(integers: Integers): Record<string, SqlValue> {
    const row: Record<string, SqlValue> = {}
    const names = this.columnNames()
    for (let i = 0; i < names.length; i++) row[names[i] as string] = this.value(i, integers)
    return row
  }

  finalize(): void {
    if (this.pointer === 0) return
    raw.sqlite3_finalize(this.pointer)
    this.pointer = 0
    this.connection.forget(this)
  }

  private run(onRow: () => void): void {
    let code = raw.sqlite3_step(this.pointer)
    while (code === capi.SQLITE_ROW) {
      onRow()
      code = raw.sqlite3_step(this.pointer)
    }
    this.finish(code)
  }

  private finish(code: number): void {
    if (code === capi.SQLITE_DONE || code === capi.SQLITE_ROW) {
      // A statement that is reset before its end can still fail here, for instance by a constraint.
      const reset = raw.sqlite3_reset(this.pointer)
      const error = reset === capi.SQLITE_OK ? undefined : this.connection.error(reset)
      raw.sqlite3_clear_bindings(this.pointer)
      if (error !== undefined) throw error
      return
    }
    const error = this.connection.error(code)
    raw.sqlite3_reset(this.pointer)
    raw.sqlite3_clear_bindings(this.pointer)
    throw error
  }

  private columnNames(): ReadonlyArray<string> {
    const count = raw.sqlite3_column_count(this.pointer)
    if (this.names === undefined || this.names.length !== count) {
      this.names = Array.from({ length: count }, (_, i) => textAt(raw.sqlite3_column_name(this.pointer, i)))
    }
    return this.names
  }

  /** better-sqlite3 binds every number as a floating-point one and leaves the rest to column affinity. */
  private bindOne(index: number, value: SqlValue): number {
    if (value === null) return raw.sqlite3_bind_null(this.pointer, index)
    if (typeof value === "number") return raw.sqlite3_bind_double(this.pointer, index, value)
    if (typeof value === "bigint") return raw.sqlite3_bind_int64(this.pointer, index, value)
    if (typeof value === "string") {
      const text = putText(value)
      return raw.sqlite3_bind_text(this.pointer, index, text.pointer, text.bytes, transient)
    }
    const address = scratchFor(value.length + 1)
    heap().set(value, address)
    return raw.sqlite3_bind_blob(this.pointer, index, address, value.length, transient)
  }

  private value(column: number, integers: Integers): SqlValue {
    switch (raw.sqlite3_column_type(this.pointer, column)) {
      case capi.SQLITE_INTEGER:
        if (integers === "bigints") return raw.sqlite3_column_int64(this.pointer, column)
        return raw.sqlite3_column_double(this.pointer, column)
      case capi.SQLITE_FLOAT:
        return raw.sqlite3_column_double(this.pointer, column)
      case capi.SQLITE_TEXT: {
        const start = raw.sqlite3_column_text(this.pointer, column)
        return heap().toString("utf8", start, start + raw.sqlite3_column_bytes(this.pointer, column))
      }
      case capi.SQLITE_BLOB: {
        const start = raw.sqlite3_column_blob(this.pointer, column)
        return Buffer.from(heap().subarray(start, start + raw.sqlite3_column_bytes(this.pointer, column)))
      }
      default:
        return null
    }
  }
}

/** SQLite copies what it is given. */
const transient = -1
