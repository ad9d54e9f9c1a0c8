/**
 * The bytes of one file on the simulated disk, twice: as the page cache shows them to every reader, and as the
 * platter holds them. Between the two lie the changes since the last sync, in order. A sync moves them all to
 * the platter; a power cut decides for each of them alone.
 */

/** A change since the last sync: bytes written, or the file cut to a length. */
export type Change =
  | { readonly _tag: "Write"; readonly offset: number; readonly data: Uint8Array }
  | { readonly _tag: "Truncate"; readonly size: number }

/** What a power cut does to one change; for a torn write, which of its sectors reach the platter. */
export type Fate = "kept" | "lost" | ((sector: number) => boolean)

/** The unit that the platter writes whole or not at all. */
export const sectorBytes = 512

export class DiskFile {
  readonly name: string
  size = 0
  private cache = new Uint8Array(32_768)
  private platter = new Uint8Array(32_768)
  private platterSize = 0
  private changes: Array<Change> = []

  constructor(name: string) {
    this.name = name
  }

  /** Fills `target` from the page cache, with zeros beyond the end; says whether all of it was there. */
  read(target: Uint8Array, offset: number): boolean {
    const length = Math.max(0, Math.min(target.length, this.size - offset))
    target.set(this.cache.subarray(offset, offset + length))
    if (length === target.length) return true
    target.fill(0, length)
    return false
  }

  write(source: Uint8Array, offset: number): void {
    const data = source.slice()
    this.cache = put(this.cache, this.size, data, offset)
    this.size = Math.max(this.size, offset + data.length)
    this.changes.push({ _tag: "Write", offset, data })
  }

  truncate(size: number): void {
    this.size = Math.min(this.size, size)
    this.changes.push({ _tag: "Truncate", size })
  }

  /** Everything since the last sync reaches the platter. */
  sync(): void {
    for (const change of this.changes) this.land(change)
    this.changes = []
  }

  /**
   * A sync that failed: the system marks the dirty pages clean without having written them. Readers still see
   * them until they are evicted, and a later sync will not write them, for it finds nothing to do.
   */
  dropDirty(evict: boolean): void {
    this.changes = []
    if (evict) this.reload()
  }

  /** The power goes: each change since the last sync has its fate, and only the platter remains. */
  powerCut(decide: (change: Change) => Fate): void {
    for (const change of this.changes) {
      const fate = decide(change)
      if (fate === "lost") continue
      if (fate === "kept" || change._tag === "Truncate") this.land(change)
      else this.landTorn(change.offset, change.data, fate)
    }
    this.changes = []
    this.reload()
  }

  get unsynced(): number {
    return this.changes.length
  }

  private land(change: Change): void {
    if (change._tag === "Truncate") this.platterSize = Math.min(this.platterSize, change.size)
    else this.landBytes(change.data, change.offset)
  }

  private landTorn(offset: number, data: Uint8Array, reaches: (sector: number) => boolean): void {
    for (let sector = 0; sector * sectorBytes < data.length; sector++) {
      if (!reaches(sector)) continue
      const from = sector * sectorBytes
      this.landBytes(data.subarray(from, from + sectorBytes), offset + from)
    }
  }

  private landBytes(data: Uint8Array, offset: number): void {
    this.platter = put(this.platter, this.platterSize, data, offset)
    this.platterSize = Math.max(this.platterSize, offset + data.length)
  }

  private reload(): void {
    this.cache = put(this.cache, 0, this.platter.subarray(0, this.platterSize), 0)
    this.size = this.platterSize
  }
}

/** Writes into a buffer that grows as needed; a gap beyond the old end reads as zeros. */
const put = (buffer: Uint8Array<ArrayBuffer>, size: number, data: Uint8Array, offset: number) => {
  const end = offset + data.length
  let target = buffer
  if (end > buffer.length) {
    target = new Uint8Array(Math.max(end, buffer.length * 2))
    target.set(buffer.subarray(0, size))
  }
  if (offset > size) target.fill(0, size, offset)
  target.set(data, offset)
  return target
}
