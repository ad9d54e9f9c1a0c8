/**
 * The floor: what Node's own HTTP server and SQLite can do for the same durable work, with no framework and next to no
 * checks. All requests that arrived in a turn of the event loop share one transaction.
 */
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { announce, openDatabase, type PeerEvent } from "./common.ts"

const { database, add, books } = openDatabase()
const begin = database.prepare("BEGIN IMMEDIATE")
const commit = database.prepare("COMMIT")

interface Submission {
  readonly events: ReadonlyArray<PeerEvent>
  readonly response: ServerResponse
}

let waiting: Array<Submission> = []

const commitAll = () => {
  const submissions = waiting
  waiting = []
  begin.run()
  for (const { events } of submissions) {
    for (const event of events) {
      if (typeof event.topic !== "string" || typeof event.event_id !== "string")
        throw new Error("not an event")
      add(event)
    }
  }
  commit.run()
  for (const { events, response } of submissions) {
    const body = `{"accepted":${events.length}}`
    response.writeHead(202, { "content-type": "application/json", "content-length": body.length }).end(body)
  }
}

const server = createServer((request, response) => {
  if (request.method === "GET") return void response.end(JSON.stringify(books))
  const chunks: Array<Buffer> = []
  request.on("data", (chunk: Buffer) => chunks.push(chunk))
  request.on("end", () => {
    const body: PeerEvent | ReadonlyArray<PeerEvent> = JSON.parse(Buffer.concat(chunks).toString())
    if (waiting.length === 0) setImmediate(commitAll)
    waiting.push({ events: Array.isArray(body) ? body : [body], response })
  })
})
server.listen(0, "127.0.0.1", () => announce((server.address() as AddressInfo).port))
