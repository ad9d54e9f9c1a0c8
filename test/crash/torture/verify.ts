/**
 * What must have come of the files, beside what the checker says: an event for every line of every file, once, in the
 * order of its lines, and no other events; and nothing new where all was shipped once more.
 */
import type { Violation } from "../../../sim/Checker.ts"
import type { Stats } from "../../support/client.ts"
import type { Aggregator } from "./aggregator.ts"
import { keysOf, type Line, type LogFile, lineId } from "./logs.ts"
import type { Seen } from "./reader.ts"
import type { Cargo, Shipped } from "./shipper.ts"

interface Stored extends Seen {
  readonly payload: string
}

/** What the database holds, by offset. */
export const storedIn = (aggregator: Aggregator): ReadonlyArray<Stored> =>
  aggregator.read((query) =>
    query(
      `SELECT e.offset, t.name AS topic, e.event_id, e.payload FROM event AS e JOIN topic AS t ON t.id = e.topic_id
       ORDER BY e.offset`
    )
  ) as unknown as ReadonlyArray<Stored>

/** Whether an aggregator holds what was shipped to it, and nothing else. */
export const checkShipped = (
  { name }: Aggregator,
  stored: ReadonlyArray<Stored>,
  cargos: ReadonlyArray<Cargo>
): ReadonlyArray<Violation> => {
  const violations: Array<Violation> = []
  const wrong = (guarantee: Violation["guarantee"], detail: string) =>
    violations.push({ guarantee, detail: `${name}: ${detail}` })

  const expected = new Map<string, { readonly file: LogFile; readonly index: number }>()
  const files = cargos.flatMap((cargo) => cargo.files.map((file) => ({ cargo, file })))
  for (const { cargo, file } of files) {
    for (const [index, key] of keysOf(cargo, file).entries()) {
      // Of events with one id the first one stands for all of them.
      if (!expected.has(key)) expected.set(key, { file, index })
    }
  }
  const found = new Map<LogFile, Array<number>>(files.map(({ file }) => [file, []]))
  for (const event of stored) {
    const key = `${event.topic}/${event.event_id}`
    const line = expected.get(key)
    if (line !== undefined) {
      found.get(line.file)?.push(line.index)
      const { bytes } = line.file.lines[line.index] as Line
      if (line.file.format === "lines" && !bytesOf(event).equals(bytes)) {
        wrong("G3", `${key} is not what line ${line.index + 1} of ${line.file.name} is`)
      }
    } else if (!files.some(({ cargo, file }) => isTornLine(event, cargo, file))) {
      wrong("G3", `${key} is stored, and is no line of any file`)
    }
  }
  for (const [file, indexes] of found) {
    const wanted = [...expected.values()].filter((line) => line.file === file)
    if (indexes.length < wanted.length) {
      const missing = wanted.find(({ index }) => !indexes.includes(index))
      const detail = `${wanted.length - indexes.length} of ${wanted.length} lines of ${file.name} are not stored, such as line ${(missing?.index ?? 0) + 1}`
      wrong("G1", detail)
    }
    // Ids that several files have are stored by whoever comes first.
    if (file.format === "ndjson") continue
    const place = indexes.findIndex((index, before) => before > 0 && index <= (indexes[before - 1] ?? 0))
    if (place >= 0) {
      const [before, after] = [indexes[place - 1] ?? 0, indexes[place] ?? 0]
      wrong("G5", `line ${after + 1} of ${file.name} is stored behind line ${before + 1}`)
    }
  }
  return violations
}

const bytesOf = ({ payload }: Stored): Buffer => {
  const { line, base64 } = JSON.parse(payload) as { readonly line?: string; readonly base64?: string }
  return base64 === undefined ? Buffer.from(line ?? "") : Buffer.from(base64, "base64")
}

// What a line was while it was being written is an event of its own.
const isTornLine = (event: Stored, { topic, source }: Cargo, { format, lines }: LogFile): boolean => {
  const position = Number(/-(\d+)-[0-9a-f]{12}$/.exec(event.event_id)?.[1])
  const line = lines.find((each) => each.position === position)
  if (format !== "lines" || line === undefined) return false
  const bytes = bytesOf(event)
  const id = lineId(source, lines[0]?.bytes ?? Buffer.alloc(0), { position, bytes })
  return event.topic === topic && event.event_id === id && line.bytes.subarray(0, bytes.length).equals(bytes)
}

/** Whether nothing was new where all was shipped once more. */
export const checkAgain = (again: ReadonlyArray<Shipped>): ReadonlyArray<Violation> =>
  again.flatMap(({ stored }) =>
    stored === 0
      ? []
      : [{ guarantee: "G2", detail: `${stored} events are stored when all is shipped once more` }]
  )

/** Whether the books, as they are told in the end, are those of what is stored. */
export const checkBooks = (
  { name }: Aggregator,
  stored: ReadonlyArray<Stored>,
  books: string
): ReadonlyArray<Violation> => {
  const { received, unique_processed, duplicate_dropped } = JSON.parse(books) as Stats
  if (received === unique_processed + duplicate_dropped && unique_processed === stored.length) return []
  return [{ guarantee: "G4", detail: `${name} stores ${stored.length} events, and its books say ${books}` }]
}

/** Whether a reader that followed the offsets has seen what is stored, once each and in order. */
export const checkSeen = (
  name: string,
  seen: ReadonlyArray<Seen>,
  stored: ReadonlyArray<Stored>
): ReadonlyArray<Violation> => {
  const text = ({ offset, topic, event_id }: Seen) => `${offset} ${topic}/${event_id}`
  const length = Math.max(seen.length, stored.length)
  for (let index = 0; index < length; index++) {
    const [left, right] = [seen[index], stored[index]].map((event) => event && text(event))
    if (left === right) continue
    return [{ guarantee: "G5", detail: `${name} saw ${left ?? "nothing"} where ${right ?? "nothing"} is` }]
  }
  return []
}
