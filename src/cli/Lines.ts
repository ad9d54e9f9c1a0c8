/**
 * Bytes to lines, and what a line is named by. The names do not depend on when, from where or in what pieces an input is
 * read: its first line stands for the input, so that a file may grow or be renamed, and a line is known by its place and
 * its own bytes. Reading the same bytes again gives the same names, and nothing has to be remembered between two runs.
 */
import { createHash } from "node:crypto"

/**
 * A longer line is read in parts of at most so many bytes. Memory stays bounded, and a part fits into an event of the
 * default size however much of it has to be escaped.
 */
export const partBytesMax = 128 * 1024

const lineFeed = 0x0a
const carriageReturn = 0x0d
const byteOrderMark = Buffer.from([0xef, 0xbb, 0xbf])

/** A line, or a part of a long one. */
export interface Line {
  /** Where it begins, in bytes from the beginning of the input. */
  readonly position: number
  /** The number of its line, from 1. */
  readonly number: number
  /** Which part of its line it is, from 1. */
  readonly part: number
  /** Whether its line is complete with it. */
  readonly last: boolean
  /** Whether the end of its line was seen. The last line of an input may lack it: perhaps it is still being written. */
  readonly ended: boolean
  /** Without the end of the line (LF or CRLF), and without a byte order mark at the beginning of the input. */
  readonly bytes: Buffer
}

/** Cuts an input into lines, in whatever pieces it arrives. It keeps no more than a part and the last piece. */
export interface LineReader {
  /** The lines and parts that these further bytes complete. The bytes must not be changed afterwards. */
  readonly push: (bytes: Buffer) => ReadonlyArray<Line>
  /** The last line, if it has no end. */
  readonly end: () => ReadonlyArray<Line>
}

// Up to where a part reaches: not into the middle of a character, if this is UTF-8.
const partEnd = (bytes: Buffer, bytesMax: number): number => {
  for (let end = bytesMax; end > bytesMax - 4; end--) {
    if (((bytes[end] ?? 0) & 0xc0) !== 0x80) return end
  }
  return bytesMax
}

/** A reader at the beginning of an input; `bytesMax` is at least 4. */
export const makeLineReader = (bytesMax: number = partBytesMax): LineReader => {
  let held: Array<Buffer> = []
  let heldBytes = 0
  let position = 0
  let number = 1
  let part = 1

  const hold = (bytes: Buffer) => {
    held.push(bytes)
    heldBytes += bytes.length
  }
  const release = (): Buffer => {
    const bytes = Buffer.concat(held)
    held = []
    heldBytes = 0
    if (position > 0 || !bytes.subarray(0, byteOrderMark.length).equals(byteOrderMark)) return bytes
    position = byteOrderMark.length
    return bytes.subarray(byteOrderMark.length)
  }
  const emit = (lines: Array<Line>, bytes: Buffer, last: boolean, ended: boolean) => {
    lines.push({ position, number, part, last, ended, bytes })
    position += bytes.length
    part++
  }
  // Cuts parts off as long as more than one is there, not counting `spare` bytes at the end; gives back the rest.
  const cut = (lines: Array<Line>, bytes: Buffer, spare: number): Buffer => {
    let rest = bytes
    while (rest.length - spare > bytesMax) {
      const end = partEnd(rest, bytesMax)
      emit(lines, rest.subarray(0, end), false, false)
      rest = rest.subarray(end)
    }
    return rest
  }
  const endsInReturn = (bytes: Buffer): 0 | 1 => (bytes.at(-1) === carriageReturn ? 1 : 0)
  const finish = (lines: Array<Line>, ended: boolean) => {
    const bytes = release()
    const returned = endsInReturn(bytes)
    const content = cut(lines, bytes.subarray(0, bytes.length - returned), 0)
    // What has neither content nor an end is no line.
    if (ended || content.length > 0) emit(lines, content, true, ended)
    position += returned + (ended ? 1 : 0)
    number++
    part = 1
  }

  return {
    push: (bytes) => {
      const lines: Array<Line> = []
      let from = 0
      for (let at = bytes.indexOf(lineFeed); at >= 0; at = bytes.indexOf(lineFeed, from)) {
        hold(bytes.subarray(from, at))
        from = at + 1
        finish(lines, true)
      }
      hold(bytes.subarray(from))
      if (heldBytes > bytesMax) {
        const unended = release()
        // A carriage return at the end may be the first half of the line's end.
        hold(cut(lines, unended, endsInReturn(unended)))
      }
      return lines
    },
    end: () => {
      const lines: Array<Line> = []
      finish(lines, false)
      return lines
    }
  }
}

const digest = (parts: ReadonlyArray<string | Buffer>, hexDigits: number): string => {
  const hash = createHash("sha256")
  for (const part of parts) hash.update(part)
  return hash.digest("hex").slice(0, hexDigits)
}

/**
 * What an input is recognised by: its source, and its first line (as much of it as is its first part). Two inputs of one
 * source that begin with the same line have the same fingerprint.
 */
export const fingerprint = (source: string, first: Line): string => digest([source, "\n", first.bytes], 16)

/**
 * The id of a line's event: `<fingerprint>-<position>-<hash of the line>`, as in `8c2f0a1be4d95e07-1048-5f0c9ad2e431`.
 * Equal ids mean an equal source and equal bytes, and so equal content: shipping a line again never conflicts.
 */
export const lineId = (print: string, { position, part, bytes }: Line): string =>
  `${print}-${position}-${digest(part === 1 ? [bytes] : [bytes, `\n${part}`], 12)}`
