/**
 * What a user of Node would write in an afternoon: a framework that is known to be fast, a JSON schema for the events,
 * and one transaction a request.
 */
import type { AddressInfo } from "node:net"
import Fastify from "fastify"
import { announce, openDatabase, type PeerEvent } from "./common.ts"

const { database, add, books } = openDatabase()
const addAll = database.transaction((events: ReadonlyArray<PeerEvent>) => {
  for (const event of events) add(event)
})

const text = { type: "string" }
const event = {
  type: "object",
  required: ["topic", "event_id", "timestamp", "source"],
  properties: {
    topic: text,
    event_id: text,
    timestamp: text,
    source: text,
    payload: { type: "object", additionalProperties: true }
  }
}

const app = Fastify({ bodyLimit: 16 * 1024 * 1024 })
app.post<{ Body: PeerEvent | ReadonlyArray<PeerEvent> }>(
  "/publish",
  { schema: { body: { anyOf: [event, { type: "array", items: event }] } } },
  (request, reply) => {
    const events = Array.isArray(request.body) ? request.body : [request.body]
    addAll(events)
    reply.code(202).send({ accepted: events.length })
  }
)
app.get("/stats", () => books)
app.get("/health/ready", () => ({}))
await app.listen({ port: 0, host: "127.0.0.1" })
announce((app.server.address() as AddressInfo).port)
