/**
 * SQLite as WebAssembly: one module instance for all runs of a process, since making one costs more than a run.
 * What is global inside of it (its random numbers, its heap) is reset or released by the code that uses it.
 */
import init from "@sqlite.org/sqlite-wasm"

/** Something in the module's memory. */
export type Pointer = number

const sqlite3 = await init()

/** Constants and the C API with conversions. */
export const capi = sqlite3.capi
/** Memory and structures. */
export const wasm = sqlite3.wasm

/** The methods of a file system, called from within the module. Offsets and sizes of files are bigint. */
type Methods = Readonly<Record<string, (...args: Array<never>) => number | undefined>>

/** Installs a virtual file system as the default one. The package's own types do not allow for its error codes. */
export const installVfs = sqlite3.vfs.installVfs as unknown as (spec: {
  readonly io: { readonly struct: object; readonly methods: Methods }
  readonly vfs: {
    readonly struct: object
    readonly name: string
    readonly asDefault: boolean
    readonly methods: Methods
  }
}) => void

/**
 * The raw exports, without the conversions of `capi`, which cost more than many of the calls themselves. 64-bit
 * integers are bigint here.
 */
export const raw = sqlite3.wasm.exports as {
  readonly malloc: (bytes: number) => Pointer
  readonly free: (pointer: Pointer) => void
  readonly sqlite3_open_v2: (name: Pointer, out: Pointer, flags: number, vfs: Pointer) => number
  readonly sqlite3_close_v2: (db: Pointer) => number
  readonly sqlite3_extended_errcode: (db: Pointer) => number
  readonly sqlite3_errmsg: (db: Pointer) => Pointer
  readonly sqlite3_prepare_v3: (
    db: Pointer,
    sql: Pointer,
    bytes: number,
    flags: number,
    statement: Pointer,
    tail: Pointer
  ) => number
  readonly sqlite3_step: (statement: Pointer) => number
  readonly sqlite3_reset: (statement: Pointer) => number
  readonly sqlite3_finalize: (statement: Pointer) => number
  readonly sqlite3_clear_bindings: (statement: Pointer) => number
  readonly sqlite3_column_count: (statement: Pointer) => number
  readonly sqlite3_column_name: (statement: Pointer, column: number) => Pointer
  readonly sqlite3_column_type: (statement: Pointer, column: number) => number
  readonly sqlite3_column_int64: (statement: Pointer, column: number) => bigint
  readonly sqlite3_column_double: (statement: Pointer, column: number) => number
  readonly sqlite3_column_text: (statement: Pointer, column: number) => Pointer
  readonly sqlite3_column_blob: (statement: Pointer, column: number) => Pointer
  readonly sqlite3_column_bytes: (statement: Pointer, column: number) => number
  readonly sqlite3_bind_parameter_count: (statement: Pointer) => number
  readonly sqlite3_bind_double: (statement: Pointer, index: number, value: number) => number
  readonly sqlite3_bind_int64: (statement: Pointer, index: number, value: bigint) => number
  readonly sqlite3_bind_null: (statement: Pointer, index: number) => number
  readonly sqlite3_bind_text: (
    statement: Pointer,
    index: number,
    text: Pointer,
    bytes: number,
    free: number
  ) => number
  readonly sqlite3_bind_blob: (
    statement: Pointer,
    index: number,
    data: Pointer,
    bytes: number,
    free: number
  ) => number
  readonly sqlite3_changes: (db: Pointer) => number
  readonly sqlite3_total_changes: (db: Pointer) => number
  readonly sqlite3_last_insert_rowid: (db: Pointer) => bigint
  readonly sqlite3_get_autocommit: (db: Pointer) => number
  readonly sqlite3_busy_timeout: (db: Pointer, millis: number) => number
  readonly sqlite3_serialize: (db: Pointer, schema: Pointer, size: Pointer, flags: number) => Pointer
  readonly sqlite3_free: (pointer: Pointer) => void
}

let view: Buffer = Buffer.alloc(0)

/** The module's memory. To be asked for again after every call into the module: it moves when it grows. */
export const heap = (): Buffer => {
  const bytes = wasm.heap8u()
  if (view.buffer !== bytes.buffer) view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return view
}

/** The zero-terminated text at an address. */
export const textAt = (pointer: Pointer): string => {
  if (pointer === 0) return ""
  const memory = heap()
  return memory.toString("utf8", pointer, memory.indexOf(0, pointer))
}

/** The name of a result code, as better-sqlite3 spells it. */
export const codeName = (code: number): string =>
  capi.sqlite3_js_rc_str(code) ?? `UNKNOWN_SQLITE_ERROR_${code}`

const scratchBytesMin = 65_536
let scratch: Pointer = 0
let scratchBytes = 0

/** Room in the module's memory for a value on its way in. */
export const scratchFor = (bytes: number): Pointer => {
  if (bytes > scratchBytes) {
    if (scratch !== 0) raw.free(scratch)
    scratchBytes = Math.max(scratchBytesMin, bytes * 2)
    scratch = raw.malloc(scratchBytes)
  }
  return scratch
}

/** Puts a text there, zero-terminated. It stays until the next value is put. */
export const putText = (text: string): { readonly pointer: Pointer; readonly bytes: number } => {
  const encoded = loneSurrogate.test(text) ? encodeSurrogates(text) : text
  const bytes = Buffer.byteLength(encoded)
  const pointer = scratchFor(bytes + 1)
  const memory = heap()
  if (typeof encoded === "string") memory.write(encoded, pointer, bytes, "utf8")
  else memory.set(encoded, pointer)
  memory[pointer + bytes] = 0
  return { pointer, bytes }
}

/** In Unicode mode, a surrogate that is half of a pair is not matched. */
const loneSurrogate = /\p{Surrogate}/u

/** better-sqlite3 passes on half a pair as the three bytes it would have as a character, which is not UTF-8. */
const encodeSurrogates = (text: string): Buffer => {
  const bytes: Array<number> = []
  for (const character of text) {
    const code = character.charCodeAt(0)
    if (character.length === 2 || (code & 0xf800) !== 0xd800) bytes.push(...Buffer.from(character))
    else bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f))
  }
  return Buffer.from(bytes)
}
