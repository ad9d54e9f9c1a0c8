/**
 * A subscriber for tests: Server-Sent Events over `node:http`, read by the plain rules of the format (HTML, section
 * 9.2.6), in a few lines that know nothing of the client library.
 */
import { type Agent, type ClientRequest, type IncomingMessage, request } from "node:http"

/** One block of a stream: an event, or what stands without one. */
export interface Block {
  readonly id: string | undefined
  readonly event: string
  /** The text of an event; undefined where the block has none. */
  readonly data: string | undefined
  readonly comments: ReadonlyArray<string>
}

/** An event, as far as most tests look at it. */
export interface SubscribedEvent {
  readonly offset: number
  readonly topic: string
  readonly event_id: string
}

/** A stream that was answered with 200. */
export interface Subscriber {
  readonly status: number
  readonly headers: IncomingMessage["headers"]
  /** The whole blocks so far. */
  readonly blocks: ReadonlyArray<Block>
  /** Their events, parsed. */
  readonly events: () => ReadonlyArray<SubscribedEvent>
  /** The last `id` so far. */
  readonly lastId: () => string | undefined
  readonly ended: () => boolean
  readonly pause: () => void
  readonly resume: () => void
  readonly leave: () => void
}

const blockOf = (text: string): Block => {
  const block = { id: undefined as string | undefined, event: "message", comments: [] as Array<string> }
  const data: Array<string> = []
  for (const line of text.split("\n")) {
    const [, name = "", value = ""] = /^([^:]*):? ?([\s\S]*)$/.exec(line) ?? []
    if (line.startsWith(":")) block.comments.push(line.slice(1).trim())
    else if (name === "id") block.id = value
    else if (name === "event") block.event = value
    else if (name === "data") data.push(value)
  }
  return { ...block, data: data.length === 0 ? undefined : data.join("\n") }
}

/** Subscribes; resolves once the answer has begun. */
export const subscribe = (
  service: { readonly host?: string; readonly port: number; readonly agent?: Agent | false },
  query = "",
  headers: Readonly<Record<string, string>> = {}
): Promise<Subscriber> =>
  new Promise((resolve, reject) => {
    const { host = "127.0.0.1", port, agent = false } = service
    const path = `/events/stream${query}`
    const outgoing: ClientRequest = request({ host, port, agent, path, headers }, (incoming) => {
      const blocks: Array<Block> = []
      const events: Array<SubscribedEvent> = []
      let rest = ""
      let ended = false
      incoming.setEncoding("utf8")
      incoming.on("data", (more: string) => {
        rest += more
        const texts = rest.split("\n\n")
        rest = texts.pop() ?? ""
        for (const block of texts.map(blockOf)) {
          blocks.push(block)
          if (block.data !== undefined && block.event === "message")
            events.push(JSON.parse(block.data) as SubscribedEvent)
        }
      })
      incoming.on("error", () => {})
      incoming.on("close", () => {
        ended = true
      })
      resolve({
        status: incoming.statusCode ?? 0,
        headers: incoming.headers,
        blocks,
        events: () => events,
        lastId: () => blocks.findLast(({ id }) => id !== undefined)?.id,
        ended: () => ended,
        pause: () => void incoming.pause(),
        resume: () => void incoming.resume(),
        leave: () => void outgoing.destroy()
      })
    })
    outgoing.on("error", reject)
    outgoing.end()
  })
