/**
 * Files as servers write them, made up from chance: they grow, in pieces that may end in the middle of a line; some of
 * their lines stand in other files as well, and some more than once in the same one. What must come of each file, an
 * event for every line, is worked out here anew, from what the help of `sekali publish` says about ids.
 */
import { createHash } from "node:crypto"
import { appendFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { type JsonObject, readJson } from "../../../sim/check/Json.ts"
import type { Chance } from "./chance.ts"

const lineFeed = 0x0a
const carriageReturn = 0x0d

/** A line of a file. */
export interface Line {
  /** In bytes from the beginning of the file. */
  readonly position: number
  /** Without its end. */
  readonly bytes: Buffer
}

/** A file that is shipped. */
export interface LogFile {
  readonly name: string
  readonly path: string
  readonly format: "lines" | "ndjson"
  readonly lines: ReadonlyArray<Line>
  /** How many of its lines are written, with their ends. */
  readonly linesWritten: () => number
  /** As much as is written. */
  readonly content: () => Buffer
  /** Writes more of it, up to so many lines, perhaps not to the end of the last one. */
  readonly grow: (linesMax: number) => void
  /** Writes the rest of it. */
  readonly finish: () => void
}

/** Lines of a file by where they begin. */
export const linesOf = (bytes: Buffer): ReadonlyArray<Line> => {
  const lines: Array<Line> = []
  for (let position = 0; position < bytes.length; ) {
    const found = bytes.indexOf(lineFeed, position)
    const end = found < 0 ? bytes.length : found
    const contentEnd = end > position && bytes[end - 1] === carriageReturn ? end - 1 : end
    lines.push({ position, bytes: bytes.subarray(position, contentEnd) })
    position = end + 1
  }
  return lines
}

/** The id of an event that is made of this line. */
export const lineId = (source: string, first: Buffer, { position, bytes }: Line): string => {
  const digest = (parts: ReadonlyArray<string | Buffer>, digits: number) =>
    createHash("sha256")
      .update(Buffer.concat(parts.map((part) => Buffer.from(part))))
      .digest("hex")
      .slice(0, digits)
  return `${digest([source, "\n", first], 16)}-${position}-${digest([bytes], 12)}`
}

/** The keys of the events that are made of the lines of a file, where lines name no others. */
export const keysOf = (
  { topic, source }: { readonly topic: string; readonly source: string },
  { format, lines }: LogFile
): ReadonlyArray<string> => {
  const first = lines[0]?.bytes ?? Buffer.alloc(0)
  return lines.map((line) => {
    const id = lineId(source, first, line)
    if (format === "lines") return `${topic}/${id}`
    const event = readJson(line.bytes.toString()) as JsonObject
    return `${event.get("topic") ?? topic}/${event.get("event_id") ?? id}`
  })
}

/** How many lines a file has before it is first shipped. */
const linesFirst = 5

/** A file in a folder that will come to have these bytes. */
export const makeLogFile = (
  folder: string,
  name: string,
  format: LogFile["format"],
  bytes: Buffer,
  chance: Chance
): LogFile => {
  const path = join(folder, name)
  const lines = linesOf(bytes)
  let written = 0
  const writeTo = (end: number) => {
    if (end <= written) return
    appendFileSync(path, bytes.subarray(written, end))
    written = end
  }
  const startOf = (line: number) => lines[line]?.position ?? bytes.length
  writeFileSync(path, "")
  writeTo(startOf(linesFirst))
  return {
    name,
    path,
    format,
    lines,
    linesWritten: () => {
      const next = lines.findIndex((_, index) => startOf(index + 1) > written)
      return next < 0 ? lines.length : next
    },
    content: () => bytes.subarray(0, written),
    grow: (linesMax) => {
      const next = lines.findIndex(({ position }) => position >= written)
      if (next < 0) return
      const end = startOf(next + chance.between(1, linesMax))
      const isTorn = format === "lines" && chance.happens(0.3)
      writeTo(isTorn ? chance.between(written + 1, end) : end)
    },
    finish: () => writeTo(bytes.length)
  }
}

const words = [
  "error",
  "GET /health",
  "blk_-1608999687919862906",
  "ünïcödé",
  "漢字 🦉",
  "\t",
  '"quoted"',
  "\\"
] as const

// Some lines come again wherever they are drawn from a few.
const text = (chance: Chance): Buffer => {
  if (chance.happens(0.2)) return Buffer.from(`[notice] workerEnv.init() ok ${chance.between(1, 9)}`)
  if (chance.happens(0.05)) return Buffer.alloc(0)
  const line = Buffer.from(
    `${chance.one(words)} ${chance.one(words)} ${"x".repeat(chance.happens(0.02) ? 5000 : chance.between(0, 60))} ${chance.between(0, 10 ** 9)}`
  )
  if (chance.happens(0.05)) line[0] = 0xff
  return line
}

/** The bytes of a log of so many lines; it may lack the end of its last line. */
export const drawLog = (chance: Chance, name: string, lines: number): Buffer => {
  const parts: Array<Buffer> = [Buffer.from(`# ${name} begins\n`)]
  for (let line = 1; line < lines; line++) {
    parts.push(text(chance), Buffer.from(chance.happens(0.1) ? "\r\n" : "\n"))
  }
  // Its end is no blank line without an end, which would be none.
  parts.push(Buffer.from(chance.happens(0.5) ? "the last line\n" : "the last line"))
  return Buffer.concat(parts)
}

/**
 * The bytes of so many events as lines: with ids that are fresh, that came before with the same content or with another,
 * that other files have too and agree upon or not, and without any.
 */
export const drawEvents = (chance: Chance, name: string, lines: number): Buffer => {
  const known: Array<string> = []
  const content = (id: string) => `{"n":12345678901234567890.10,"of":${JSON.stringify(id)}}`
  const draw = (line: number): { readonly id?: string; readonly payload: string } => {
    const again = known[chance.between(0, known.length - 1)]
    const kind = chance.one(["fresh", "fresh", "fresh", "again", "other", "shared", "disputed", "none"])
    const number = chance.between(1, 40)
    if (kind === "shared") return { id: `shared-${number}`, payload: content(`shared-${number}`) }
    if (kind === "disputed") return { id: `disputed-${number}`, payload: content(`${name} has its own`) }
    if (kind === "none") return { payload: content(`line ${line}`) }
    if (kind === "again" && again !== undefined) return { id: again, payload: content(again) }
    if (kind === "other" && again !== undefined) return { id: again, payload: content(`other ${number}`) }
    const id = `${name}-${line}`
    known.push(id)
    return { id, payload: content(id) }
  }
  const parts: Array<string> = []
  for (let line = 0; line < lines; line++) {
    const { id, payload } = draw(line)
    const event = {
      topic: "shop.orders",
      ...(id === undefined ? {} : { event_id: id }),
      timestamp: `2026-11-22T10:00:00.${String(line % 1000).padStart(3, "0")}Z`,
      source: "shop"
    }
    parts.push(`${JSON.stringify(event).slice(0, -1)},"payload":${payload}}\n`)
  }
  return Buffer.from(parts.join(""))
}
