/**
 * SQLite's view of the simulated world: a virtual file system whose files lie on the simulated disk of whichever
 * process runs at the moment, whose clock is that machine's wall clock, and whose random numbers are the run's.
 * The faults are the disk's (see `Disk`); this file only tells them to SQLite in its own codes, and does what
 * SQLite's Unix file system does around them: the entry of a new journal is synced with its first sync, locks
 * belong to the open file, shared memory lives as long as a process has it open and starts empty after that.
 *
 * A statement of a process that died is still on the JavaScript stack at that moment. Everything it asks for
 * from then on is an I/O error, so that it can end, and changes nothing.
 */
import { type DiskError, DiskFailure, type Handle, type Mount } from "./Mount.ts"
import { capi, heap, installVfs, type Pointer, raw, textAt, wasm } from "./Wasm.ts"

/** What a run provides for SQLite to run in. */
export interface SqliteHost {
  /** The disk as the running process has it; `undefined` when none runs. */
  readonly mount: () => Mount | undefined
  readonly wallMillis: () => number
  readonly randomByte: () => number
  /** The process waits for a lock, and everything waits with it. */
  readonly sleep: (micros: number) => void
  /** A statement has been carried out. */
  readonly called: () => void
}

let host: SqliteHost | undefined
let temporaryFiles = 0

/** From here on SQLite runs in this world. Its random numbers, global to the module, start afresh. */
export const enterHost = (next: SqliteHost): void => {
  host = next
  temporaryFiles = 0
  capi.sqlite3_randomness(0, 0)
}

/** Ends that; connections that are still open can do no more, and are to be closed before. */
export const leaveHost = (): void => {
  host = undefined
  for (const memory of memories) for (const region of memory.regions) raw.free(region)
  memories.clear()
  files.clear()
}

/** Whether a database file says of itself that it has a write-ahead log. */
export const isWalFile = (name: string): boolean => {
  const file = currentMount()?.disk.get(name)
  const header = new Uint8Array(2)
  return file?.read(header, 18) === true && header[1] === 2
}

/** Tells the world that a statement has been carried out. */
export const tellCalled = (): void => host?.called()

/** The process that would open a database now. */
export const currentMount = (): Mount | undefined => host?.mount()

interface OpenFile {
  readonly handle: Handle
  readonly deleteOnClose: boolean
  memory: SharedMemory | undefined
}

/** The index of a write-ahead log, as the processes that have the database open share it. */
interface SharedMemory {
  readonly file: object
  readonly regions: Array<Pointer>
  readonly users: Set<OpenFile>
  /** For each lock slot, who holds it and whether alone. */
  readonly slots: Array<Map<OpenFile, "shared" | "exclusive">>
}

const files = new Map<Pointer, OpenFile>()
const memories = new Set<SharedMemory>()

const codes: Record<DiskError, number> = {
  CANTOPEN: capi.SQLITE_CANTOPEN,
  READ: capi.SQLITE_IOERR_READ,
  WRITE: capi.SQLITE_IOERR_WRITE,
  FSYNC: capi.SQLITE_IOERR_FSYNC,
  FULL: capi.SQLITE_FULL,
  TRUNCATE: capi.SQLITE_IOERR_TRUNCATE,
  DELETE: capi.SQLITE_IOERR_DELETE,
  DEAD: capi.SQLITE_IOERR
}

const ok = capi.SQLITE_OK

/** Runs a call on an open file, and tells its failure as SQLite's code. */
const onFile = (pointer: Pointer, call: (file: OpenFile) => number): number => {
  const file = files.get(Number(pointer))
  if (file === undefined) return capi.SQLITE_IOERR
  try {
    return call(file)
  } catch (error) {
    if (error instanceof DiskFailure) return codes[error.reason]
    throw error
  }
}

const onMount = (call: (mount: Mount) => number): number => {
  const mount = currentMount()
  if (mount === undefined) return capi.SQLITE_IOERR
  try {
    return call(mount)
  } catch (error) {
    if (error instanceof DiskFailure) return codes[error.reason]
    throw error
  }
}

const bytesAt = (pointer: Pointer, length: number): Uint8Array =>
  wasm.heap8u().subarray(Number(pointer), Number(pointer) + length)

const pokeInt = (pointer: Pointer, value: number): void => {
  heap().writeInt32LE(value, Number(pointer))
}

/** The size of SQLite's own part of an open file, which holds nothing but the address of its methods. */
const fileBytes = 4
const ioMethods = new capi.sqlite3_io_methods()
const system = new capi.sqlite3_vfs()
Object.assign(ioMethods, { $iVersion: 2 })
Object.assign(system, { $iVersion: 2, $szOsFile: fileBytes, $mxPathname: 256 })

/** Flags of xShmLock, which the package does not name. */
const shmUnlock = 1
const shmExclusive = 8

const memoryOf = (file: OpenFile): SharedMemory => {
  if (file.memory !== undefined) return file.memory
  let memory: SharedMemory | undefined
  for (const each of memories) if (each.file === file.handle.file) memory = each
  // What dead processes left behind is not trusted: the first to come starts with empty memory.
  if (memory === undefined || ![...memory.users].some((user) => user.handle.mount.alive)) {
    const slots = Array.from({ length: 8 }, () => new Map<OpenFile, "shared" | "exclusive">())
    memory = { file: file.handle.file, regions: [], users: new Set(), slots }
    for (const each of memories) {
      // Regions stay allocated until the run ends: a dead process's statement may yet read them.
      if (each.file === file.handle.file) Object.assign(each, { file: {} })
    }
    memories.add(memory)
  }
  memory.users.add(file)
  file.memory = memory
  return memory
}

const shmLock = (file: OpenFile, offset: number, count: number, flags: number): number => {
  const memory = memoryOf(file)
  const slots = memory.slots.slice(offset, offset + count)
  if ((flags & shmUnlock) !== 0) {
    for (const slot of slots) slot.delete(file)
    return ok
  }
  const exclusive = (flags & shmExclusive) !== 0
  for (const slot of slots) {
    for (const [holder, held] of slot) {
      if (holder !== file && holder.handle.mount.alive && (exclusive || held === "exclusive"))
        return capi.SQLITE_BUSY
    }
  }
  for (const slot of slots) slot.set(file, exclusive ? "exclusive" : "shared")
  return ok
}

const shmUnmap = (file: OpenFile): void => {
  const { memory } = file
  if (memory === undefined) return
  for (const slot of memory.slots) slot.delete(file)
  memory.users.delete(file)
  file.memory = undefined
}

const journals = capi.SQLITE_OPEN_MAIN_JOURNAL | capi.SQLITE_OPEN_SUPER_JOURNAL | capi.SQLITE_OPEN_WAL
installVfs({
  io: {
    struct: ioMethods,
    methods: {
      xClose: (pointer: Pointer) => {
        const file = files.get(Number(pointer))
        files.delete(Number(pointer))
        if (file === undefined) return ok
        shmUnmap(file)
        file.handle.unlock(0)
        if (file.deleteOnClose && file.handle.mount.alive)
          file.handle.mount.delete(file.handle.file.name, false)
        return ok
      },
      xRead: (pointer: Pointer, target: Pointer, length: number, offset: bigint) =>
        onFile(pointer, ({ handle }) =>
          handle.read(bytesAt(target, length), Number(offset)) ? ok : capi.SQLITE_IOERR_SHORT_READ
        ),
      xWrite: (pointer: Pointer, source: Pointer, length: number, offset: bigint) =>
        onFile(pointer, ({ handle }) => {
          handle.write(bytesAt(source, length), Number(offset))
          return ok
        }),
      xTruncate: (pointer: Pointer, size: bigint) =>
        onFile(pointer, ({ handle }) => {
          handle.truncate(Number(size))
          return ok
        }),
      xSync: (pointer: Pointer) =>
        onFile(pointer, ({ handle }) => {
          handle.sync()
          return ok
        }),
      xFileSize: (pointer: Pointer, out: Pointer) =>
        onFile(pointer, ({ handle }) => {
          heap().writeBigInt64LE(BigInt(handle.size), Number(out))
          return ok
        }),
      xLock: (pointer: Pointer, level: number) =>
        onFile(pointer, ({ handle }) => (handle.tryLock(level) ? ok : capi.SQLITE_BUSY)),
      xUnlock: (pointer: Pointer, level: number) =>
        onFile(pointer, ({ handle }) => {
          handle.unlock(level)
          return ok
        }),
      xCheckReservedLock: (pointer: Pointer, out: Pointer) =>
        onFile(pointer, ({ handle }) => {
          pokeInt(out, handle.isReserved() ? 1 : 0)
          return ok
        }),
      xFileControl: (_file: Pointer, _op: number, _arg: Pointer) => capi.SQLITE_NOTFOUND,
      xSectorSize: (_file: Pointer) => 4096,
      xDeviceCharacteristics: (_file: Pointer) => capi.SQLITE_IOCAP_POWERSAFE_OVERWRITE,
      xShmMap: (pointer: Pointer, region: number, bytes: number, extend: number, out: Pointer) =>
        onFile(pointer, (file) => {
          file.handle.mount.check(file.handle.file.name)
          const { regions } = memoryOf(file)
          while (extend !== 0 && regions.length <= region) {
            const address = raw.malloc(bytes)
            heap().fill(0, address, address + bytes)
            regions.push(address)
          }
          pokeInt(out, regions[region] ?? 0)
          return ok
        }),
      xShmLock: (pointer: Pointer, offset: number, count: number, flags: number) =>
        onFile(pointer, (file) => {
          file.handle.mount.check(file.handle.file.name)
          return shmLock(file, offset, count, flags)
        }),
      xShmBarrier: (_file: Pointer) => undefined,
      xShmUnmap: (pointer: Pointer) =>
        onFile(pointer, (file) => {
          shmUnmap(file)
          return ok
        })
    }
  },
  vfs: {
    struct: system,
    name: "simulated",
    asDefault: true,
    methods: {
      xOpen: (_vfs: Pointer, zName: Pointer, pointer: Pointer, flags: number, outFlags: Pointer) =>
        onMount((mount) => {
          const name = Number(zName) === 0 ? `temporary-${++temporaryFiles}` : textAt(Number(zName))
          const handle = mount.open(name, {
            create: (flags & capi.SQLITE_OPEN_CREATE) !== 0,
            syncsEntry: (flags & journals) !== 0
          })
          const deleteOnClose = (flags & capi.SQLITE_OPEN_DELETEONCLOSE) !== 0
          files.set(Number(pointer), { handle, deleteOnClose, memory: undefined })
          const file = new capi.sqlite3_file(pointer)
          file.$pMethods = ioMethods.pointer
          file.dispose()
          if (Number(outFlags) !== 0) pokeInt(outFlags, flags)
          return ok
        }),
      xDelete: (_vfs: Pointer, zName: Pointer, syncDirectory: number) =>
        onMount((mount) =>
          mount.delete(textAt(Number(zName)), syncDirectory !== 0) ? ok : capi.SQLITE_IOERR_DELETE_NOENT
        ),
      xAccess: (_vfs: Pointer, zName: Pointer, _flags: number, out: Pointer) =>
        onMount((mount) => {
          pokeInt(out, mount.exists(textAt(Number(zName))) ? 1 : 0)
          return ok
        }),
      xFullPathname: (_vfs: Pointer, zName: Pointer, length: number, out: Pointer) =>
        wasm.cstrncpy(out, zName, length) < length ? ok : capi.SQLITE_CANTOPEN,
      xRandomness: (_vfs: Pointer, length: number, out: Pointer) => {
        const bytes = bytesAt(out, length)
        for (let i = 0; i < length; i++) bytes[i] = host?.randomByte() ?? 0
        return length
      },
      xSleep: (_vfs: Pointer, micros: number) => {
        host?.sleep(micros)
        return micros
      },
      xGetLastError: (_vfs: Pointer, _bytes: number, _out: Pointer) => 0,
      xCurrentTime: (_vfs: Pointer, out: Pointer) => {
        heap().writeDoubleLE(2440587.5 + (host?.wallMillis() ?? 0) / 86_400_000, Number(out))
        return ok
      },
      xCurrentTimeInt64: (_vfs: Pointer, out: Pointer) => {
        heap().writeBigInt64LE(210866760000000n + BigInt(host?.wallMillis() ?? 0), Number(out))
        return ok
      }
    }
  }
})
