/**
 * What a run did, twice over: a digest that takes in every step, choice and clock reading (two runs of one
 * seed must agree in it to the last bit), and a timeline of notes that a person can read. The digest is a
 * rolling 64-bit mix of integers, because a cryptographic hash on every step costs more than the step.
 */

/** One line of the story: virtual microseconds since the run began, and what happened. */
export interface Note {
  readonly micros: number
  readonly text: string
}

const textHashes = new Map<string, number>()

/** A 32-bit FNV-1a hash, the same in every process. Labels repeat endlessly, so the answers are kept. */
export const hashText = (text: string): number => {
  const known = textHashes.get(text)
  if (known !== undefined) return known
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  // Texts that carry a number of their own would fill the table without ever being asked for again.
  if (textHashes.size < 10_000) textHashes.set(text, hash)
  return hash
}

/** Spreads the bits of an integer: MurmurHash3's finaliser. */
export const scramble = (value: number): number => {
  let x = value | 0
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b)
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35)
  return (x ^ (x >>> 16)) >>> 0
}

export class Trace {
  readonly notes: Array<Note> = []
  /** Filled only when asked for: every scheduler step, which is far too much to keep for each run. */
  readonly steps: Array<string> = []
  private low = 0x2545f491
  private high = 0x6c078965

  private readonly now: () => number
  readonly verbose: boolean

  constructor(now: () => number, verbose = false) {
    this.now = now
    this.verbose = verbose
  }

  /** Takes an integer into the digest. */
  add(value: number): void {
    this.low = Math.imul(this.low ^ value, 0x01000193) + (value >>> 15)
    this.high = Math.imul(
      (this.high << 5) ^ (this.high >>> 27) ^ this.low ^ (value / 0x1_0000_0000),
      0x85ebca6b
    )
  }

  /** Takes an event of the story into the digest and the timeline. */
  note(text: string): void {
    const micros = this.now()
    this.notes.push({ micros, text })
    this.add(micros)
    this.add(hashText(text))
  }

  /** Adds a line to the timeline alone: whether it is kept or not, the run is the same. */
  remark(text: string): void {
    this.notes.push({ micros: this.now(), text })
  }

  digest(): string {
    const hex = (value: number) => scramble(value).toString(16).padStart(8, "0")
    return hex(this.low ^ (this.high >>> 7)) + hex(this.high)
  }

  /** The timeline as lines of `   12.345 ms  text`. */
  story(): ReadonlyArray<string> {
    return this.notes.map((note) => `${(note.micros / 1000).toFixed(3).padStart(11)} ms  ${note.text}`)
  }
}
