/**
 * A publisher for demonstration: makes up log lines of a few services, sends them in small batches at a steady rate,
 * and sends about a third of them again, as a publisher does that is not sure whether it did. A batch that got no 2xx
 * answer is sent again until it gets one, which is always safe.
 *
 *   node docs/demo/publish.mjs
 *   SEKALI_URL=http://127.0.0.1:9000 DEMO_EVENTS_PER_SECOND=100 DEMO_EVENTS=10000 node docs/demo/publish.mjs
 */
import { setTimeout as pause } from "node:timers/promises"

const url = process.env.SEKALI_URL ?? "http://127.0.0.1:8080"
const eventsPerSecond = Math.min(Math.max(Number(process.env.DEMO_EVENTS_PER_SECOND ?? 20), 1), 1000)
/** After how many events it is done; never, if nothing is said. */
const eventsMax = Number(process.env.DEMO_EVENTS ?? Number.POSITIVE_INFINITY)
const shareSentAgain = 1 / 3

const one = (list) => list[Math.floor(Math.random() * list.length)]
const say = (text) => process.stdout.write(`${text}\n`)

const lines = [
  { topic: "shop.gateway.access", source: "gateway-1", level: "info", message: "GET /products 200" },
  { topic: "shop.gateway.access", source: "gateway-2", level: "info", message: "POST /orders 201" },
  { topic: "shop.gateway.access", source: "gateway-2", level: "warn", message: "POST /orders 429" },
  { topic: "shop.orders", source: "orders-1", level: "info", message: "order accepted" },
  { topic: "shop.payments", source: "payments-1", level: "info", message: "card charged" },
  { topic: "shop.payments", source: "payments-1", level: "error", message: "card declined" },
  { topic: "system.metrics.cpu", source: "node-a", level: "debug", message: "cpu sampled" }
]

// An id is the source's alone, also after a restart: when this run began, and a number.
const run = Date.now().toString(36)
let made = 0

const newEvent = () => {
  const { topic, source, level, message } = one(lines)
  return {
    topic,
    event_id: `${source}-${run}-${++made}`,
    timestamp: new Date().toISOString(),
    source,
    payload: { level, message, duration_ms: Math.ceil(Math.random() * 250) }
  }
}

const publish = async (events) => {
  while (true) {
    try {
      const response = await fetch(`${url}/publish`, {
        method: "POST",
        headers: { "content-type": "application/json", prefer: "return=minimal" },
        body: JSON.stringify(events)
      })
      const answer = await response.json()
      if (response.ok) return answer
      if (response.status !== 503) throw new Error(`${answer.title}: ${JSON.stringify(answer.errors)}`)
      say(`${answer.title}; sending the same events again`)
      await pause(Number(response.headers.get("retry-after") ?? 1) * 1000)
    } catch (error) {
      if (!(error instanceof TypeError)) throw error
      say(`${url} does not answer (${error.cause?.code ?? error.message}); sending the same events again`)
      await pause(1000)
    }
  }
}

// As the first process of a container it would not end on these by itself.
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(0))

const recent = []
const total = { sent: 0, stored: 0, duplicates: 0 }
while (total.sent < eventsMax) {
  const began = performance.now()
  const events = Array.from({ length: Math.min(eventsPerSecond, eventsMax - total.sent) }, () => {
    const event = recent.length > 0 && Math.random() < shareSentAgain ? one(recent) : newEvent()
    recent.push(event)
    return event
  })
  recent.splice(0, recent.length - 200)
  const { accepted, stored, duplicates } = await publish(events)
  total.sent += accepted
  total.stored += stored
  total.duplicates += duplicates
  say(
    `sent ${accepted}: ${stored} stored, ${duplicates} duplicates dropped; ` +
      `in all ${total.sent} sent, ${total.stored} stored, ${total.duplicates} dropped`
  )
  await pause(Math.max(0, 1000 - (performance.now() - began)))
}
