/**
 * Hashes of keys and the offsets of their events, in memory: a hash table of numbers, which gives the garbage collector
 * nothing to do. A hash may stand in it with several offsets.
 */

const smallest = 64
const empty = -1

/** The youngest keys. */
export class Table {
  private hashes: Float64Array
  private offsets: Float64Array
  /** How many entries there are. */
  size = 0

  /** An empty one with places for as many entries as another one has, which it follows. */
  constructor(before?: Table) {
    const places = before?.hashes.length ?? smallest
    this.hashes = new Float64Array(places).fill(empty)
    this.offsets = new Float64Array(places)
  }

  add(hash: number, offset: number): void {
    if (this.size * 2 >= this.hashes.length) this.grow()
    this.put(hash, offset)
    this.size++
  }

  /** The offsets of a hash, in the order in which they were added. */
  offsetsOf(hash: number): ReadonlyArray<number> {
    const mask = this.hashes.length - 1
    let found: Array<number> | undefined
    for (let slot = hash & mask; this.hashes[slot] !== empty; slot = (slot + 1) & mask) {
      if (this.hashes[slot] !== hash) continue
      found ??= []
      found.push(this.offsets[slot] ?? 0)
    }
    return found ?? none
  }

  forEach(visit: (hash: number, offset: number) => void): void {
    for (let slot = 0; slot < this.hashes.length; slot++) {
      const hash = this.hashes[slot] ?? empty
      if (hash !== empty) visit(hash, this.offsets[slot] ?? 0)
    }
  }

  private put(hash: number, offset: number): void {
    const mask = this.hashes.length - 1
    let slot = hash & mask
    while (this.hashes[slot] !== empty) slot = (slot + 1) & mask
    this.hashes[slot] = hash
    this.offsets[slot] = offset
  }

  private grow(): void {
    const { hashes, offsets } = this
    this.hashes = new Float64Array(hashes.length * 2).fill(empty)
    this.offsets = new Float64Array(hashes.length * 2)
    // An entry that ran over the end stands before those it followed: begin behind an empty place to keep their order.
    const from = hashes.indexOf(empty)
    for (let step = 0; step < hashes.length; step++) {
      const slot = (from + step) % hashes.length
      const hash = hashes[slot] ?? empty
      if (hash !== empty) this.put(hash, offsets[slot] ?? 0)
    }
  }
}

const none: ReadonlyArray<number> = []
