/**
 * An HTTP server that answers as a test says: for what the service itself never answers, such as the page of a gateway
 * in front of it.
 */
import { once } from "node:events"
import { createServer, type IncomingHttpHeaders } from "node:http"
import type { AddressInfo } from "node:net"

/** A request as it arrived. */
export interface Arrived {
  readonly method: string
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** An answer; or nothing, and then the request hangs. */
export type ScriptedAnswer =
  | {
      readonly status: number
      readonly headers?: Readonly<Record<string, string>>
      readonly body?: string
    }
  | undefined

/** A server that answers by a script. */
export interface Answering {
  readonly url: string
  readonly requests: ReadonlyArray<Arrived>
}

/** What the service answers where it stores every event of a request, at offsets from 1 on. */
export const accepted = ({ body }: Arrived): ScriptedAnswer => {
  const results = (JSON.parse(body) as ReadonlyArray<unknown>).map((_event, index) => ({
    outcome: "stored",
    offset: index + 1
  }))
  const counts = { accepted: results.length, stored: results.length, duplicates: 0, conflicts: 0 }
  return { status: 202, body: JSON.stringify({ status: "accepted", ...counts, results }) }
}

/** Runs a test against a server that answers each request by its number, from 0. */
export const withAnswers = async <A>(
  answer: (request: Arrived, number: number) => ScriptedAnswer,
  use: (server: Answering) => Promise<A>
): Promise<A> => {
  const requests: Array<Arrived> = []
  const server = createServer((request, response) => {
    const chunks: Array<Buffer> = []
    request.on("data", (chunk: Buffer) => chunks.push(chunk))
    request.on("end", () => {
      const { method = "", url: path = "", headers } = request
      const arrived = { method, path, headers, body: Buffer.concat(chunks).toString("utf8") }
      const told = answer(arrived, requests.push(arrived) - 1)
      if (told === undefined) return
      response.writeHead(told.status, { "content-type": "application/json", ...told.headers })
      response.end(told.body)
    })
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as AddressInfo
  try {
    return await use({ url: `http://127.0.0.1:${port}`, requests })
  } finally {
    server.close()
    server.closeAllConnections()
  }
}
