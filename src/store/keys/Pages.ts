/**
 * How a run of keys lies on the disk: as pages, each of which holds the entries of an equal part of all hashes, in no
 * order. Hashes are spread evenly, so pages have much the same size, and where a hash has to be is worked out from the
 * number of pages alone. Nothing has to be sorted, and a key is found, or not, with one page.
 */
import { hashSpan } from "./Hash.ts"

/** A key's hash and the offset of its event, one after the other: entries as they lie in a page. */
export type Entries = Float64Array

/** Each run has so many places for pages. */
const pagesMax = 2 ** 24

/** Which of so many pages a hash belongs to. */
export const pageOf = (hash: number, pages: number): number => Math.floor((hash / hashSpan) * pages)

/** The key under which a page of a run is stored. Later runs lie behind earlier ones. */
export const placeOf = (run: number, page: number): number => run * pagesMax + page

/** How many pages there are for so many entries. */
export const pagesFor = (entries: number, entriesPerPage: number): number =>
  Math.min(pagesMax, Math.max(1, Math.ceil(entries / entriesPerPage)))

/** A page as a database keeps it. */
export const toBytes = (entries: Entries): Uint8Array =>
  new Uint8Array(entries.buffer, entries.byteOffset, entries.byteLength)

/** The entries of a page that was kept. They are copied, because they may lie at any address. */
export const fromBytes = (bytes: Uint8Array): Entries =>
  new Float64Array(new Uint8Array(bytes).buffer, 0, (bytes.length >>> 4) << 1)

/** Gathers entries, and deals them out to the pages from `from` up to, not including, `to` of so many. */
export class Dealer {
  private entries = new Float64Array(128)
  private length = 0
  private readonly from: number
  private readonly to: number
  private readonly pages: number

  constructor(from: number, to: number, pages: number) {
    this.from = from
    this.to = to
    this.pages = pages
  }

  /** Takes an entry, unless it belongs to another page. */
  take(hash: number, offset: number): void {
    const page = pageOf(hash, this.pages)
    if (page < this.from || page >= this.to) return
    if (this.length === this.entries.length) {
      const larger = new Float64Array(this.length * 2)
      larger.set(this.entries)
      this.entries = larger
    }
    this.entries[this.length++] = hash
    this.entries[this.length++] = offset
  }

  /** The pages, from the first to the last. */
  deal(): ReadonlyArray<Entries> {
    const { entries, from, length, pages } = this
    const ends = new Uint32Array(this.to - from + 1)
    for (let at = 0; at < length; at += 2) {
      const page = pageOf(entries[at] ?? 0, pages) - from
      ends[page + 1] = (ends[page + 1] ?? 0) + 2
    }
    for (let page = 1; page < ends.length; page++) ends[page] = (ends[page] ?? 0) + (ends[page - 1] ?? 0)
    const starts = ends.slice()
    const dealt = new Float64Array(length)
    for (let at = 0; at < length; at += 2) {
      const page = pageOf(entries[at] ?? 0, pages) - from
      const to = starts[page] ?? 0
      dealt[to] = entries[at] ?? 0
      dealt[to + 1] = entries[at + 1] ?? 0
      starts[page] = to + 2
    }
    return Array.from({ length: this.to - from }, (_, page) => dealt.subarray(ends[page], ends[page + 1]))
  }
}
