/**
 * Bytes to lines. Whatever the bytes are and however they arrive, the same lines come of them, nothing of them is lost,
 * and a line has the same name whenever the file is read again, also when it has grown.
 */
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { fingerprint, type Line, lineId, makeLineReader, partBytesMax } from "../../src/cli/Lines.ts"

/** Bytes in which all that is hard stands close together: ends of lines, marks, characters of many bytes, no characters. */
const anyBytes: fc.Arbitrary<Buffer> = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        ...["\n", "\n", "\r\n", "\r", "a", "b", "\0", "\t", "é", "漢", "🦉", "\u2028", "\ufeff"].map((text) =>
          Buffer.from(text)
        )
      ),
      fc.constantFrom(...[0xef, 0xbb, 0xbf, 0x80, 0xff].map((byte) => Buffer.from([byte])))
    ),
    { maxLength: 40 }
  )
  .map((pieces) => Buffer.concat(pieces))

/** The bytes in pieces, cut anywhere. */
const inPieces = (bytes: Buffer, cuts: ReadonlyArray<number>): ReadonlyArray<Buffer> => {
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1))), bytes.length].sort((a, b) => a - b)
  return ends.map((end, index) => bytes.subarray(index === 0 ? 0 : ends[index - 1], end))
}

const anyCuts = fc.array(fc.nat(1000), { maxLength: 30 })

const linesOf = (pieces: ReadonlyArray<Buffer>, bytesMax?: number): ReadonlyArray<Line> => {
  const reader = makeLineReader(bytesMax)
  return [...pieces.flatMap((piece) => reader.push(piece)), ...reader.end()]
}

/** What the lines should be, found in the whole of the bytes. */
const expectedLines = (bytes: Buffer, bytesMax: number): ReadonlyArray<Line> => {
  const lines: Array<Line> = []
  let position = bytes.subarray(0, 3).equals(Buffer.from("\ufeff")) ? 3 : 0
  for (let number = 1; position < bytes.length; number++) {
    const found = bytes.indexOf("\n", position)
    const ended = found >= 0
    const end = ended ? found : bytes.length
    const contentEnd = end > position && bytes[end - 1] === 0x0d ? end - 1 : end
    let part = 1
    for (let from = position; from < contentEnd || (part === 1 && ended); part++) {
      let to = Math.min(contentEnd, from + bytesMax)
      if (to < contentEnd) {
        let boundary = to
        while (boundary > to - 4 && ((bytes[boundary] ?? 0) & 0xc0) === 0x80) boundary--
        if (boundary > to - 4) to = boundary
      }
      const last = to === contentEnd
      lines.push({
        position: from,
        number,
        part,
        last,
        ended: last && ended,
        bytes: bytes.subarray(from, to)
      })
      from = to
    }
    position = end + 1
  }
  return lines
}

describe("the line reader", () => {
  it("gives the same lines however the bytes are cut", () => {
    fc.assert(
      fc.property(anyBytes, anyCuts, fc.integer({ min: 4, max: 50 }), (bytes, cuts, bytesMax) => {
        expect(linesOf(inPieces(bytes, cuts), bytesMax)).toEqual(expectedLines(bytes, bytesMax))
      }),
      { numRuns: 3000 }
    )
  })

  it("loses nothing but the ends of lines and the mark at the beginning", () => {
    fc.assert(
      fc.property(anyBytes, anyCuts, (bytes, cuts) => {
        let at = 0
        const gaps: Array<string> = []
        for (const line of linesOf(inPieces(bytes, cuts), 5)) {
          gaps.push(bytes.toString("latin1", at, line.position))
          at = line.position + line.bytes.length
          expect(bytes.subarray(line.position, at)).toEqual(line.bytes)
          expect(line.bytes.length).toBeLessThanOrEqual(5)
        }
        for (const gap of gaps) expect(gap).toMatch(/^(\xef\xbb\xbf)?\r?\n?$/)
        // At the very end, perhaps half of the end of a blank line.
        expect(bytes.toString("latin1", at)).toMatch(/^(\xef\xbb\xbf)?\r?\n?\r?$/)
      }),
      { numRuns: 1000 }
    )
  })

  it.each<[name: string, text: string, lines: ReadonlyArray<string>]>([
    ["an empty input", "", []],
    ["a line", "a\n", ["a"]],
    ["a last line without an end", "a\nb", ["a", "b"]],
    ["blank lines", "\n\na\n\n", ["", "", "a", ""]],
    ["CRLF", "a\r\nb\r\n", ["a", "b"]],
    ["a carriage return elsewhere", "a\rb\r\r\n", ["a\rb\r"]],
    ["half of a line's end", "a\r", ["a"]],
    ["half of the end of a blank line", "a\n\r", ["a"]],
    ["a mark at the beginning", "\ufeffa\n\ufeffb\n", ["a", "\ufeffb"]],
    ["nothing but a mark", "\ufeff", []]
  ])("reads %s", (_, text, lines) => {
    expect(linesOf([Buffer.from(text)]).map(({ bytes }) => bytes.toString())).toEqual(lines)
  })

  it("cuts a long line, but no character", () => {
    const line = `${"x".repeat(partBytesMax - 1)}é${"🦉".repeat(partBytesMax / 2)}`
    const parts = linesOf([Buffer.from(`first\n${line}\nlast`)])
    expect(parts.map(({ number, part, last }) => [number, part, last])).toEqual([
      [1, 1, true],
      [2, 1, false],
      [2, 2, false],
      [2, 3, false],
      [2, 4, true],
      [3, 1, true]
    ])
    expect(
      parts
        .slice(1, -1)
        .map(({ bytes }) => bytes.toString())
        .join("")
    ).toBe(line)
    for (const { bytes } of parts) expect(bytes.length).toBeLessThanOrEqual(partBytesMax)
  })

  it("holds no more of an endless line than a part", () => {
    const reader = makeLineReader(1000)
    const piece = Buffer.alloc(100, "x")
    let parts = 0
    for (let n = 1; n <= 1000; n++) {
      const found = reader.push(piece)
      parts += found.length
      expect(n * 100 - parts * 1000).toBeLessThanOrEqual(1001 + piece.length)
    }
    expect(parts).toBe(99)
  })
})

describe("the id of a line", () => {
  const idsOf = (bytes: Buffer, source = "web-1", bytesMax?: number) => {
    const lines = linesOf([bytes], bytesMax)
    const [first] = lines
    return first === undefined ? [] : lines.map((line) => lineId(fingerprint(source, first), line))
  }

  it("has the documented form, which anybody can compute", () => {
    // printf 'web-1\nfirst line' | sha256sum; printf 'first line' | sha256sum; printf 'second' | sha256sum
    expect(idsOf(Buffer.from("first line\r\nsecond\n"))).toEqual([
      "7c80d78ca4464695-0-1de24ae78ad0",
      "7c80d78ca4464695-12-16367aacb67a"
    ])
  })

  it("names each line of an input differently", () => {
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        const ids = idsOf(bytes, "web-1", 5)
        expect(new Set(ids).size).toBe(ids.length)
      })
    )
  })

  it("stays when the file grows, but for a last line that was not whole", () => {
    fc.assert(
      fc.property(anyBytes, fc.nat(200), (bytes, cut) => {
        const shorter = bytes.subarray(0, cut % (bytes.length + 1))
        // As long as the first line is not whole, there is nothing to know the file by.
        fc.pre(shorter.includes("\n"))
        const before = idsOf(shorter, "web-1", 5)
        const whole =
          shorter.at(-1) === 0x0a
            ? before
            : before.slice(0, linesOf([shorter.subarray(0, shorter.lastIndexOf("\n") + 1)], 5).length)
        expect(idsOf(bytes, "web-1", 5).slice(0, whole.length)).toEqual(whole)
      }),
      { numRuns: 1000 }
    )
  })

  it("stays when nothing but its end was added to a last line", () => {
    for (const text of ["a", "a\nb", "a\r\nb"]) {
      const ids = idsOf(Buffer.from(text))
      for (const end of ["\r", "\n", "\r\n"]) expect(idsOf(Buffer.from(text + end))).toEqual(ids)
    }
  })

  it("is another one for another source, place, first line, line or part", () => {
    const line: Line = { position: 7, number: 2, part: 1, last: true, ended: true, bytes: Buffer.from("b") }
    const first: Line = { ...line, position: 0, number: 1, bytes: Buffer.from("a") }
    const ids = [
      lineId(fingerprint("x", first), line),
      lineId(fingerprint("y", first), line),
      lineId(fingerprint("x", line), line),
      lineId(fingerprint("x", first), { ...line, position: 8 }),
      lineId(fingerprint("x", first), { ...line, bytes: Buffer.from("c") }),
      lineId(fingerprint("x", first), { ...line, part: 2 })
    ]
    expect(new Set(ids).size).toBe(ids.length)
  })
})
