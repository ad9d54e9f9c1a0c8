/**
 * HTTP/1.1 as it passes by: bytes of one direction of a connection to the whole messages in them. It is enough of the
 * protocol for this service and its clients, and reads nothing into what is cut short: half a message is none.
 */

/** A request or an answer that is complete. */
export interface Message {
  /** `POST /publish HTTP/1.1` or `HTTP/1.1 202 Accepted`. */
  readonly start: string
  /** By their names in lower case. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** Reads one direction of a connection. */
export interface MessageReader {
  /** The messages that these further bytes complete. */
  readonly push: (bytes: Buffer) => ReadonlyArray<Message>
  /** The message that the end of the connection completes, if it is one that says its length in no other way. */
  readonly end: () => ReadonlyArray<Message>
}

interface Head extends Omit<Message, "body"> {
  readonly kind: "request" | "answer"
  /** Where the body begins. */
  readonly bytes: number
}

/** A reader at the beginning of a connection. */
export const makeMessageReader = (): MessageReader => {
  let held: Buffer = Buffer.alloc(0)

  const take = (atEnd: boolean): Message | undefined => {
    const head = headOf(held)
    const found = head === undefined ? undefined : bodyOf(head, held, atEnd)
    if (head === undefined || found === undefined) return undefined
    held = held.subarray(found.end)
    return { start: head.start, headers: head.headers, body: found.body.toString("utf8") }
  }
  const takeAll = (atEnd: boolean): ReadonlyArray<Message> => {
    const messages: Array<Message> = []
    for (let next = take(atEnd); next !== undefined; next = take(atEnd)) messages.push(next)
    // An interim answer is none.
    return messages.filter(({ start }) => !/^HTTP\/1\.1 1/.test(start))
  }
  return {
    push: (bytes) => {
      held = held.length === 0 ? bytes : Buffer.concat([held, bytes])
      return takeAll(false)
    },
    end: () => takeAll(true)
  }
}

const headOf = (bytes: Buffer): Head | undefined => {
  const end = bytes.indexOf("\r\n\r\n")
  if (end < 0) return undefined
  const [start = "", ...lines] = bytes.toString("latin1", 0, end).split("\r\n")
  const headers: Record<string, string> = {}
  for (const line of lines) {
    const colon = line.indexOf(":")
    headers[line.slice(0, colon).trim().toLowerCase()] = line.slice(colon + 1).trim()
  }
  return { start, headers, kind: start.startsWith("HTTP/") ? "answer" : "request", bytes: end + 4 }
}

const bodyOf = (
  { start, headers, kind, bytes: from }: Head,
  bytes: Buffer,
  atEnd: boolean
): { readonly body: Buffer; readonly end: number } | undefined => {
  if (headers["transfer-encoding"]?.toLowerCase() === "chunked") return chunksOf(bytes, from)
  const length = headers["content-length"]
  if (length !== undefined) {
    const end = from + Number(length)
    return bytes.length < end ? undefined : { body: bytes.subarray(from, end), end }
  }
  if (kind === "request" || /^HTTP\/1\.1 (1..|204|304)/.test(start)) {
    return { body: Buffer.alloc(0), end: from }
  }
  return atEnd ? { body: bytes.subarray(from), end: bytes.length } : undefined
}

const chunksOf = (bytes: Buffer, from: number) => {
  const chunks: Array<Buffer> = []
  for (let at = from; ; ) {
    const lineEnd = bytes.indexOf("\r\n", at)
    if (lineEnd < 0) return undefined
    const size = Number.parseInt(bytes.toString("latin1", at, lineEnd), 16)
    const end = lineEnd + 2 + size + 2
    if (bytes.length < end) return undefined
    if (size === 0) return { body: Buffer.concat(chunks), end }
    chunks.push(bytes.subarray(lineEnd + 2, end - 2))
    at = end
  }
}
