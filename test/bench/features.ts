/**
 * `features`: what the parts of the service cost that one may or may not use. The same loads with one of them at a time,
 * in turn with the plain service. Figures cannot be switched off, so of them only the scraping can be measured.
 */
import { createServer } from "node:http"
import { type AddressInfo, connect } from "node:net"
import { publish } from "../support/client.ts"
import type { Serving } from "../support/process.ts"
import { headingOf, measureAll, ratesJson } from "./against.ts"
import { ratioOf, type Spread, spreadOf } from "./figures.ts"
import { type Attached, type Contender, type Workload, workloads } from "./measure.ts"
import type { Benchmark } from "./options.ts"
import { measurementTable, number, type Rounds, ratesOf, spread, table } from "./report.ts"

const subscribersCount = 10

/** Measures the features under these loads. */
export const features =
  (loads: ReadonlyArray<"single" | "batch"> = ["single", "batch"]): Benchmark =>
  async (options, progress) => {
    const collector = await startCollector()
    const contenders: ReadonlyArray<Contender> = [
      { name: "plain", server: "sekali" },
      { name: "sequences", server: "sekali", sequences: true },
      { name: "subscribers", server: "sekali", attach: attachSubscribers },
      { name: "tracing", server: "sekali", environment: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url } },
      { name: "scrapes", server: "sekali", attach: attachScrapes }
    ]
    const json: Record<string, unknown> = {}
    const texts: Array<string> = []
    try {
      for (const name of loads) {
        const workload: Workload = workloads[name]
        const rounds = await measureAll(contenders, workload, options, progress)
        const ratios = ratiosToPlain(rounds)
        const plainRounds = rounds["plain"]?.length ?? 0
        const caughtUp = spreadOf(
          (rounds["subscribers"] ?? []).map((measured) => measured.attachedMilliseconds)
        )
        json[name] = { workload, rounds, eventsPerSecond: ratesJson(rounds), ratios }
        texts.push(
          headingOf(workload, plainRounds, options),
          measurementTable(rounds),
          "",
          table(
            Object.entries(ratios).map(([name, ratio]) => [`events/s, ${name} to plain`, spread(ratio, 2)])
          ),
          `The ${subscribersCount} subscribers had everything ${spread(caughtUp)} ms after the last commit.`,
          ""
        )
      }
      if (collector.bytes() === 0) throw new Error("no span was sent to the collector")
      json["collectorBytes"] = collector.bytes()
      texts.push(
        `sequences: every event has one. subscribers: ${subscribersCount} that get every event. tracing: spans to a collector on this ` +
          `machine (${number(collector.bytes() / 2 ** 20)} MiB in all). scrapes: /metrics once a second.`
      )
      return { json, text: texts.join("\n") }
    } finally {
      collector.close()
    }
  }

const ratiosToPlain = (rounds: Rounds): Readonly<Record<string, Spread>> =>
  Object.fromEntries(
    Object.entries(rounds)
      .filter(([name]) => name !== "plain")
      .map(([name, all]) => [name, ratioOf(ratesOf(all), ratesOf(rounds["plain"]))])
  )

/** Takes whatever spans are sent, and keeps none. */
const startCollector = async () => {
  let bytes = 0
  const server = createServer((request, response) => {
    request.on("data", (chunk: Buffer) => {
      bytes += chunk.length
    })
    request.on("end", () => response.writeHead(200, { "content-type": "application/json" }).end("{}"))
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const { port } = server.address() as AddressInfo
  const close = () => {
    server.close()
    server.closeAllConnections()
  }
  return { url: `http://127.0.0.1:${port}`, bytes: () => bytes, close }
}

const attachScrapes = async ({ url }: Serving): Promise<Attached> => {
  let under = Promise.resolve()
  const scrape = async () => {
    const answer = await fetch(`${url}/metrics`)
    await answer.arrayBuffer()
    if (answer.status !== 200) throw new Error(`/metrics was answered ${answer.status}`)
  }
  await scrape()
  const timer = setInterval(() => {
    under = under.then(scrape)
  }, 1000)
  return {
    done: () => {
      clearInterval(timer)
      return under
    }
  }
}

/** The last event, by which subscribers know that they have all. */
const last = {
  topic: "last",
  event_id: "the-last-of-all",
  timestamp: "2026-11-22T10:00:00.000Z",
  source: "bench",
  payload: {}
}

const attachSubscribers = async ({ port, url }: Serving): Promise<Attached> => {
  const subscribers = await Promise.all(Array.from({ length: subscribersCount }, () => subscribe(port)))
  return {
    done: async () => {
      const allSeen = Promise.all(subscribers.map(({ seenLast }) => seenLast()))
      await publish(url, [last])
      await allSeen
    }
  }
}

// It looks into what it gets only when the last event is to be waited for, so that it takes little from the load.
const subscribe = (port: number): Promise<{ readonly seenLast: () => Promise<void> }> =>
  new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1" })
    let seen: (() => void) | undefined
    let lost = reject
    let tail = Buffer.alloc(0)
    socket.on("error", (error) => lost(error))
    socket.on("close", () => lost(new Error("a subscriber was cut off")))
    socket.once("data", (head) => {
      if (!head.toString("latin1").startsWith("HTTP/1.1 200")) return reject(new Error(head.toString()))
      resolve({
        seenLast: () =>
          new Promise((resolve, reject) => {
            seen = resolve
            lost = reject
          })
      })
    })
    socket.on("data", (chunk) => {
      if (seen === undefined) return
      const received = Buffer.concat([tail, chunk])
      tail = received.subarray(-last.event_id.length)
      if (!received.includes(last.event_id)) return
      lost = () => {}
      seen()
      socket.destroy()
    })
    socket.write("GET /events/stream HTTP/1.1\r\nhost: localhost\r\n\r\n")
  })
