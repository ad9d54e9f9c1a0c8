/**
 * A stream of Server-Sent Events, taken apart (HTML, section 9.2.6). The platform has a parser as well, but it tells of
 * an `id` only where there is data; here it is the cursor, and moves without any.
 */

/** What stands between two blank lines. */
export interface Block {
  readonly id: string | undefined
  readonly event: string
  /** The data of an event; undefined where there is none. */
  readonly data: string | undefined
}

/** No block of a service may be larger, in characters: its largest event has 64 MiB, and some more around it. */
const blockCharactersMax = 80 * 1024 * 1024

/** Takes pieces of a stream, cut anywhere, and gives the blocks that are whole; nothing once a block does not end. */
export const makeParser = (): ((bytes: Uint8Array) => ReadonlyArray<Block> | undefined) => {
  const decoder = new TextDecoder()
  let pieces: Array<string> = []
  let characters = 0
  let id: string | undefined
  let event = "message"
  let data: Array<string> | undefined
  let isBlank = true

  const readLine = (line: string): Block | undefined => {
    if (line === "") {
      const block = isBlank ? undefined : { id, event, data: data?.join("\n") }
      id = data = undefined
      event = "message"
      isBlank = true
      characters = 0
      return block
    }
    isBlank = false
    const colon = line.indexOf(":")
    const name = colon < 0 ? line : line.slice(0, colon)
    const from = line[colon + 1] === " " ? colon + 2 : colon + 1
    const value = colon < 0 ? "" : line.slice(from)
    if (name === "id") id = value
    else if (name === "event") event = value
    else if (name === "data") data = [...(data ?? []), value]
    return undefined
  }

  return (bytes) => {
    const text = decoder.decode(bytes, { stream: true })
    if (characters > blockCharactersMax) return undefined
    characters += text.length
    const lines = text.split("\n")
    const last = lines.pop() ?? ""
    const blocks = lines.flatMap((line, index) => {
      const whole = index === 0 ? pieces.join("") + line : line
      const block = readLine(whole.endsWith("\r") ? whole.slice(0, -1) : whole)
      return block === undefined ? [] : [block]
    })
    if (lines.length > 0) pieces = []
    pieces.push(last)
    return blocks
  }
}
