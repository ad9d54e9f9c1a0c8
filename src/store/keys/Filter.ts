/**
 * A Bloom filter over hashes of keys: it says of a hash either that it surely was not added, or that it may have been.
 * So a key that is new is known to be new without a look at the disk.
 */

/** Bits for each key; with `probes` looks at them, one new key in about seven hundred is taken for one that may be known. */
const bitsPerKey = 14
const probes = 7

/** How many bytes a filter for so many keys takes. */
export const filterBytes = (keys: number): number => Math.max(8, Math.ceil((keys * bitsPerKey) / 8))

/** The hashes that were added to it, and a few others. */
export class Filter {
  /** Its whole content, to be kept and to be made a filter of again. */
  readonly bytes: Uint8Array
  private readonly bits: number

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
    this.bits = bytes.length * 8
  }

  /** An empty one, of the right size for so many keys. */
  static for(keys: number): Filter {
    return new Filter(new Uint8Array(filterBytes(keys)))
  }

  add(hash: number): void {
    const step = stepOf(hash)
    let place = hash >>> 0
    for (let probe = 0; probe < probes; probe++) {
      const bit = Math.floor((place / 2 ** 32) * this.bits)
      this.bytes[bit >>> 3] = (this.bytes[bit >>> 3] ?? 0) | (1 << (bit & 7))
      place = (place + step) >>> 0
    }
  }

  mayHold(hash: number): boolean {
    const step = stepOf(hash)
    let place = hash >>> 0
    for (let probe = 0; probe < probes; probe++) {
      const bit = Math.floor((place / 2 ** 32) * this.bits)
      if (((this.bytes[bit >>> 3] ?? 0) & (1 << (bit & 7))) === 0) return false
      place = (place + step) >>> 0
    }
    return true
  }
}

// The upper bits of the hash, spread over all: places of two hashes that begin together part at the next step.
const stepOf = (hash: number): number => Math.imul(Math.floor(hash / 2 ** 20), 0x9e3779b1) | 1
