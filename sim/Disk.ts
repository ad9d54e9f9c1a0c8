/**
 * The simulated disk of one machine, with its page cache and its directory.
 *
 * What may happen. *Killing a process* loses nothing that it wrote: the page cache survives, unsynced as it
 * was, so that a later power cut can still take it; a write under way may have been done in part. *A power cut*
 * decides for every change since the last sync of its file alone: kept, lost, or torn into 512-byte sectors of
 * which some arrive, in no order; a truncation is kept or lost. A file whose directory entry was not synced may
 * vanish, and one whose deletion was not synced may come back. *Calls fail*: an open, a read, a write (of which
 * a part may have been done), a sync. *A failed sync drops the dirty pages*: readers may go on seeing them, or
 * see the old bytes again, but no later sync writes them. *The disk is full* for a while (tests
 * may also set a limit), to all that would make a file longer; then there is room again.
 *
 * What never happens. A synced byte is not lost, nor altered, nor moved to another file, and does not rot. A
 * sync that succeeded did write what was dirty. A write outside of its range changes nothing (SQLite's
 * "power-safe overwrite"). A process that is dead can do nothing more: its handles fail, its locks are gone.
 */
import type { ChoiceStream, Choices } from "./Choices.ts"
import type { Counters } from "./Counters.ts"
import { getOrMake } from "./check/Rising.ts"
import { type Change, DiskFile, type Fate, sectorBytes } from "./DiskFile.ts"
import { Mount } from "./Mount.ts"

/** How often each fault happens: a probability per call, or per unsynced change at a power cut. */
export interface DiskFaults {
  readonly openError: number
  readonly readError: number
  readonly writeError: number
  readonly syncError: number
  /** Of the syncs that fail, how many drop the dirty pages. */
  readonly syncDropsDirty: number
  /** Per write that would make a file longer: the disk is full from here on, for a while. */
  readonly full: number
  /** Per ROLLBACK that fails and leaves its transaction open; the driver's own fault, see `BetterSqlite3`. */
  readonly rollbackError: number
  /** Per COMMIT that is refused and leaves its transaction open; the driver's own fault, see `BetterSqlite3`. */
  readonly commitRefused: number
  readonly lostWrite: number
  readonly tornWrite: number
  readonly lostTruncate: number
  readonly lostEntry: number
  readonly undoneDelete: number
}

/** A disk on which nothing fails and a power cut happens to lose nothing. */
export const noDiskFaults: DiskFaults = {
  openError: 0,
  readError: 0,
  writeError: 0,
  syncError: 0,
  syncDropsDirty: 0,
  full: 0,
  rollbackError: 0,
  commitRefused: 0,
  lostWrite: 0,
  tornWrite: 0,
  lostTruncate: 0,
  lostEntry: 0,
  undoneDelete: 0
}

/** An entry of the directory that differs from the directory on the platter. */
interface EntryChange {
  readonly name: string
  readonly before: DiskFile | undefined
}

export class Disk {
  faults: DiskFaults
  /** Bytes that all files together may take. */
  spaceBytesMax = Number.POSITIVE_INFINITY
  private readonly entries = new Map<string, DiskFile>()
  private entryChanges: Array<EntryChange> = []
  private readonly mounts = new Set<Mount>()
  private fullUntil = -1
  private readonly streams = new Map<string, Map<string, ChoiceStream>>()

  readonly name: string
  private readonly choices: Choices
  private readonly counters: Counters
  private readonly now: () => number

  constructor(
    name: string,
    choices: Choices,
    counters: Counters,
    now: () => number,
    faults: DiskFaults = noDiskFaults
  ) {
    this.name = name
    this.choices = choices
    this.counters = counters
    this.now = now
    this.faults = faults
  }

  /** The disk as one process sees it, until that process dies. */
  mount(owner: string): Mount {
    const mount = new Mount(this, owner)
    this.mounts.add(mount)
    return mount
  }

  /** Files and their sizes, as a living process would see them. */
  files(): ReadonlyMap<string, number> {
    return new Map([...this.entries].map(([name, file]) => [name, file.size]))
  }

  /** Lays a file on the platter that has been there before. */
  put(name: string, content: Uint8Array): void {
    const file = new DiskFile(name)
    file.write(content, 0)
    file.sync()
    this.entries.set(name, file)
  }

  /** What a living process would read in a file. */
  content(name: string): Uint8Array {
    const file = this.entries.get(name)
    const bytes = new Uint8Array(file?.size ?? 0)
    file?.read(bytes, 0)
    return bytes
  }

  /** Whether anything has been written and not yet synced. */
  get unsynced(): boolean {
    return this.entryChanges.length > 0 || [...this.entries.values()].some((file) => file.unsynced > 0)
  }

  /**
   * The power goes. All mounts die with it; what was not synced meets its fate, and the answer lists what did
   * not survive whole, in order: `sekali.db-wal@20656+4096 torn`.
   */
  powerCut(): ReadonlyArray<string> {
    const losses: Array<string> = []
    for (const mount of this.mounts) mount.fence()
    this.revertEntries(losses)
    for (const [name, file] of this.entries) file.powerCut((change) => this.fateOf(name, change, losses))
    this.counters.count("disk: power cut")
    if (losses.length > 0) this.counters.count("disk: power cut lost something")
    return losses
  }

  /** No more faults, room for everything: what lies on the disk stays as it is. */
  heal(): void {
    this.faults = noDiskFaults
    this.spaceBytesMax = Number.POSITIVE_INFINITY
    this.fullUntil = -1
  }

  /** Used by mounts. @internal */
  get(name: string): DiskFile | undefined {
    return this.entries.get(name)
  }

  /** @internal */
  create(name: string): DiskFile {
    const file = new DiskFile(name)
    this.entryChanges.push({ name, before: this.entries.get(name) })
    this.entries.set(name, file)
    return file
  }

  /** @internal */
  remove(name: string, sync: boolean): void {
    this.entryChanges.push({ name, before: this.entries.get(name) })
    this.entries.delete(name)
    if (sync) this.syncDirectory()
  }

  /** @internal */
  syncDirectory(): void {
    this.entryChanges = []
  }

  /** @internal */
  unmount(mount: Mount): void {
    this.mounts.delete(mount)
  }

  /** Asks whether this call fails, and counts it. @internal */
  fails(
    kind: Exclude<keyof DiskFaults, "full" | `lost${string}` | `torn${string}` | `undone${string}`>,
    file: string
  ): boolean {
    const failed = this.stream(kind, file).chance(this.faults[kind])
    if (failed) {
      this.counters.count(`disk: ${kind}`)
      this.choices.trace?.note(`the disk of ${this.name} strikes ${file}: ${kind}`)
    }
    return failed
  }

  /** Whether there is no room for these bytes. @internal */
  isFull(more: number, file: string): boolean {
    if (this.stream("full", file).chance(this.faults.full)) {
      const millis = this.choices.int("disk-full-millis", 1, 3000)
      this.fullUntil = this.now() + millis * 1000
      this.choices.trace?.note(`the disk of ${this.name} is full for ${millis} ms`)
    }
    let used = more
    for (const each of this.entries.values()) used += each.size
    const full = used > this.spaceBytesMax || this.now() < this.fullUntil
    if (full) this.counters.count("disk: full")
    return full
  }

  /** A choice about one file that is not a fault rate. @internal */
  pick(kind: string, file: string, n: number): number {
    return this.stream(kind, file).pick(n)
  }

  /** Asked for with every call: to put its name together takes longer than the rest. */
  private stream(kind: string, file: string): ChoiceStream {
    const ofKind = getOrMake(this.streams, kind, () => new Map<string, ChoiceStream>())
    return getOrMake(ofKind, file, () => this.choices.of(`disk-${kind}/${file}`))
  }

  /** Undoes, for each name, some number of its last unsynced changes; none is the harmless number. */
  private revertEntries(losses: Array<string>): void {
    const names = new Set(this.entryChanges.map((change) => change.name))
    for (const name of names) {
      const changes = this.entryChanges.filter((change) => change.name === name)
      for (const change of changes.reverse()) {
        const created = this.entries.get(name) !== undefined
        const kind = created ? "lostEntry" : "undoneDelete"
        if (!this.stream(kind, name).chance(this.faults[kind])) break
        losses.push(created ? `${name} entry lost` : `${name} deletion undone`)
        this.counters.count(`disk: ${kind}`)
        if (change.before === undefined) this.entries.delete(name)
        else this.entries.set(name, change.before)
      }
    }
    this.entryChanges = []
  }

  private fateOf(name: string, change: Change, losses: Array<string>): Fate {
    const { lostTruncate, lostWrite, tornWrite } = this.faults
    if (change._tag === "Truncate") {
      if (!this.stream("lostTruncate", name).chance(lostTruncate)) return "kept"
      this.counters.count("disk: lostTruncate")
      losses.push(`${name} truncation to ${change.size} lost`)
      return "lost"
    }
    const fate = this.stream("power", name).weighted([
      Math.max(0, 1 - lostWrite - tornWrite),
      lostWrite,
      tornWrite
    ])
    if (fate === 0) return "kept"
    const what = `${name}@${change.offset}+${change.data.length}`
    if (fate === 1) {
      this.counters.count("disk: lostWrite")
      losses.push(`${what} lost`)
      return "lost"
    }
    // A single sector cannot tear: it arrives or it does not, and a tear here means that it did not.
    this.counters.count("disk: tornWrite")
    losses.push(`${what} torn`)
    if (change.data.length <= sectorBytes) return "lost"
    const sectors = this.stream("sector", name)
    return () => sectors.pick(2) === 0
  }
}
