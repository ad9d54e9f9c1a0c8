/**
 * The disk as one process has it: its open files, its locks, and its end. A process that dies leaves nothing
 * here that could still act: every later call through its mount fails, and its locks are gone at once, as the
 * system sees to it for a real one. The death itself may fall into the middle of any call that changes the
 * disk, so that the call is done, not done, or, if it is a write, done in part.
 */
import type { Disk } from "./Disk.ts"
import type { DiskFile } from "./DiskFile.ts"

/** The ways a call can fail, after SQLite's names for them. */
export type DiskError = "CANTOPEN" | "READ" | "WRITE" | "FSYNC" | "FULL" | "TRUNCATE" | "DELETE" | "DEAD"

export class DiskFailure extends Error {
  readonly reason: DiskError

  constructor(reason: DiskError, file: string) {
    super(`${reason} ${file}`)
    this.reason = reason
  }
}

/** A call that changes the disk, about to be done. */
export interface Operation {
  readonly kind: "write" | "sync" | "truncate" | "delete" | "create"
  readonly file: string
}

/** SQLite's lock levels, in order. */
const lockNone = 0
const lockShared = 1
const lockReserved = 2
const lockPending = 3

export class Mount {
  alive = true
  /** Asked before every call that changes the disk: the way the process dies in it, if it does. */
  deathIn: ((operation: Operation) => (() => void) | undefined) | undefined
  readonly locked = new Set<Handle>()

  readonly disk: Disk
  readonly owner: string

  constructor(disk: Disk, owner: string) {
    this.disk = disk
    this.owner = owner
  }

  /** The process is dead. */
  fence(): void {
    this.alive = false
    this.disk.unmount(this)
    for (const handle of this.locked) handle.unlock(lockNone)
  }

  /** Opens a file, or makes it. With `syncsEntry` its first sync also syncs the directory. */
  open(name: string, options: { readonly create: boolean; readonly syncsEntry: boolean }): Handle {
    this.check(name)
    if (this.disk.fails("openError", name)) throw new DiskFailure("CANTOPEN", name)
    const existing = this.disk.get(name)
    if (existing !== undefined) return new Handle(this, existing, options.syncsEntry)
    if (!options.create) throw new DiskFailure("CANTOPEN", name)
    return this.perform("create", name, () => new Handle(this, this.disk.create(name), options.syncsEntry))
  }

  exists(name: string): boolean {
    this.check(name)
    return this.disk.get(name) !== undefined
  }

  /** Deletes a file; says whether there was one. */
  delete(name: string, syncDirectory: boolean): boolean {
    this.check(name)
    if (this.disk.get(name) === undefined) return false
    this.perform("delete", name, () => this.disk.remove(name, syncDirectory))
    return true
  }

  check(file: string): void {
    if (!this.alive) throw new DiskFailure("DEAD", file)
  }

  /** Does a call that changes the disk, unless the process dies in it, before or after. */
  perform<A>(kind: Operation["kind"], file: string, act: () => A, actInPart?: () => void): A {
    const die = this.deathIn?.({ kind, file })
    if (die === undefined) return act()
    const point = this.disk.pick("death", file, actInPart === undefined ? 2 : 3)
    if (point === 1) act()
    if (point === 2) actInPart?.()
    die()
    throw new DiskFailure("DEAD", file)
  }
}

/** An open file. */
export class Handle {
  lock = lockNone

  readonly mount: Mount
  readonly file: DiskFile
  private syncsEntry: boolean

  constructor(mount: Mount, file: DiskFile, syncsEntry: boolean) {
    this.mount = mount
    this.file = file
    this.syncsEntry = syncsEntry
  }

  get size(): number {
    this.mount.check(this.file.name)
    return this.file.size
  }

  /** Fills `target`; false if the file ends before it does. */
  read(target: Uint8Array, offset: number): boolean {
    const { file, mount } = this
    mount.check(file.name)
    if (mount.disk.fails("readError", file.name)) throw new DiskFailure("READ", file.name)
    return file.read(target, offset)
  }

  write(source: Uint8Array, offset: number): void {
    const { file, mount } = this
    mount.check(file.name)
    const growth = offset + source.length - file.size
    if (growth > 0 && mount.disk.isFull(growth, file.name)) throw new DiskFailure("FULL", file.name)
    const writePart = () => file.write(source.subarray(0, Math.ceil(source.length / 2)), offset)
    if (mount.disk.fails("writeError", file.name)) {
      if (mount.disk.pick("partial", file.name, 2) === 1) writePart()
      throw new DiskFailure("WRITE", file.name)
    }
    mount.perform("write", file.name, () => file.write(source, offset), writePart)
  }

  sync(): void {
    const { file, mount } = this
    const { disk } = mount
    mount.check(file.name)
    if (disk.fails("syncError", file.name)) {
      const drops = disk.fails("syncDropsDirty", file.name)
      if (drops) file.dropDirty(disk.pick("evicted", file.name, 2) === 1)
      throw new DiskFailure("FSYNC", file.name)
    }
    mount.perform("sync", file.name, () => {
      file.sync()
      if (this.syncsEntry) disk.syncDirectory()
      this.syncsEntry = false
    })
  }

  truncate(size: number): void {
    const { file, mount } = this
    mount.check(file.name)
    mount.perform("truncate", file.name, () => file.truncate(size))
  }

  /** Raises the lock to a level, if nobody else's lock stands against it. */
  tryLock(level: number): boolean {
    this.mount.check(this.file.name)
    if (level <= this.lock) return true
    const highest = this.highestOther()
    if (level === lockShared && highest >= lockPending) return false
    if (level === lockReserved && highest >= lockReserved) return false
    if (level >= lockPending && highest > lockNone) {
      // Pending keeps new readers out while the old ones finish.
      if (highest < lockReserved) this.hold(lockPending)
      return false
    }
    this.hold(level)
    return true
  }

  unlock(level: number): void {
    if (level < this.lock) this.hold(level)
  }

  /** Whether anybody means to write. */
  isReserved(): boolean {
    this.mount.check(this.file.name)
    return this.lock >= lockReserved || this.highestOther() >= lockReserved
  }

  private hold(level: number): void {
    this.lock = level
    const all = holdersOf(this.file)
    if (level === lockNone) {
      all.delete(this)
      this.mount.locked.delete(this)
    } else {
      all.add(this)
      this.mount.locked.add(this)
    }
  }

  private highestOther(): number {
    let highest = lockNone
    for (const handle of holdersOf(this.file)) if (handle !== this) highest = Math.max(highest, handle.lock)
    return highest
  }
}

const holders = new WeakMap<DiskFile, Set<Handle>>()

const holdersOf = (file: DiskFile): Set<Handle> => {
  const known = holders.get(file)
  if (known !== undefined) return known
  const none = new Set<Handle>()
  holders.set(file, none)
  return none
}
