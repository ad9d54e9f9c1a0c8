/**
 * What subscribers cost: `npm run bench:streams -- --help`. A real service on a fresh database holds idle subscribers,
 * each of a topic of its own in which nothing happens, and active ones that get everything that is published, at several
 * rates. Printed are the time from the commit to a subscriber's socket, and the memory of the service.
 *
 * The time begins with `processed_at`, which the service reads just before the commit: so it contains the commit with its
 * sync, and what is printed is more than what the stream alone takes. Both ends have the clock of this machine.
 */
import { connect, type Socket } from "node:net"
import { availableParallelism } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { publish } from "../support/client.ts"
import { cleanUp, serve, temporaryFolder } from "../support/process.ts"
import { cpuOf, memoryOf, quantile } from "./figures.ts"

const help = `Holds idle and active subscribers on a real service, and measures from commit to delivery.

Usage
  npm run bench:streams
  npm run bench:streams -- --idle 5000 --active 50 --rates 10,500 --seconds 30

Options
  --idle N        subscribers of topics in which nothing happens (1000)
  --active N      subscribers that get every event (200)
  --rates N,N     events a second, one measurement for each (10,50,100)
  --seconds N     how long a measurement takes (10)
  --json          print JSON instead of a table
  --help          print this page
`

/** What was measured at one rate; times in milliseconds, memory in MiB. */
interface Measured {
  readonly rate: number
  readonly deliveries: number
  readonly missing: number
  readonly median: number
  readonly p99: number
  readonly most: number
  readonly memory: number
  /** Share of one CPU that the service used. */
  readonly cpu: number
}

const open = (port: number, topic: string, onText: (text: string) => void): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port })
    let begun = false
    socket.setEncoding("latin1")
    socket.once("error", reject)
    socket.on("data", (text: string) => {
      if (!begun) {
        begun = true
        if (text.startsWith("HTTP/1.1 200")) resolve(socket)
        else reject(new Error(text))
      }
      onText(text)
    })
    socket.write(`GET /events/stream?topic=${topic} HTTP/1.1\r\nhost: localhost\r\n\r\n`)
  })

const subscribers = async (
  port: number,
  count: number,
  topicOf: (n: number) => string,
  onText: () => (text: string) => void
): Promise<ReadonlyArray<Socket>> => {
  const sockets: Array<Socket> = []
  while (sockets.length < count) {
    const many = Math.min(100, count - sockets.length)
    const opened = Array.from({ length: many }, (_, n) => open(port, topicOf(sockets.length + n), onText()))
    sockets.push(...(await Promise.all(opened)))
  }
  return sockets
}

const now = () => performance.timeOrigin + performance.now()
const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds))

const bench = async (options: {
  idle: number
  active: number
  rates: ReadonlyArray<number>
  seconds: number
}) => {
  const { idle, active, rates, seconds } = options
  const service = await serve({
    database: join(temporaryFolder(), "sekali.db"),
    environment: { SEKALI_SUBSCRIBERS_MAX: String(idle + active) }
  })
  try {
    const alone = memoryOf(service.pid)
    let latencies: Array<number> = []
    const quiet = await subscribers(
      service.port,
      idle,
      (n) => `quiet.n${n}`,
      () => () => {}
    )
    const idleMemory = memoryOf(service.pid)
    const listening = await subscribers(
      service.port,
      active,
      () => "bench.>",
      () => {
        let rest = ""
        return (text) => {
          const at = now()
          rest += text
          let read = 0
          for (const found of rest.matchAll(/"processed_at":"([^"]+)"/g)) {
            latencies.push(at - Date.parse(found[1] ?? ""))
            read = found.index + found[0].length
          }
          rest = rest.slice(Math.max(read, rest.length - 100))
        }
      }
    )
    const allMemory = memoryOf(service.pid)
    const cpuBefore = cpuOf(service.pid)
    await sleep(2000)
    const idleCpu = (cpuOf(service.pid) - cpuBefore) / 2
    const measured: Array<Measured> = []
    for (const rate of rates) {
      latencies = []
      const cpuBefore = cpuOf(service.pid)
      const begun = now()
      const events = Math.round(rate * seconds)
      const answers: Array<Promise<unknown>> = []
      for (let n = 0; n < events; n++) {
        const wait = begun + (n * 1000) / rate - now()
        if (wait > 1) await sleep(wait)
        const event = { topic: "bench.flow", event_id: `${rate}-${n}`, source: "bench", payload: { n } }
        answers.push(publish(service.url, [{ ...event, timestamp: "2026-11-22T10:00:00.000Z" }]))
      }
      await Promise.all(answers)
      const elapsed = (now() - begun) / 1000
      const cpu = (cpuOf(service.pid) - cpuBefore) / elapsed
      for (let n = 0; n < 100 && latencies.length < events * active; n++) await sleep(100)
      measured.push({
        rate: events / elapsed,
        deliveries: latencies.length,
        missing: events * active - latencies.length,
        median: quantile(latencies, 0.5),
        p99: quantile(latencies, 0.99),
        most: quantile(latencies, 1),
        memory: memoryOf(service.pid),
        cpu
      })
    }
    for (const socket of [...quiet, ...listening]) socket.destroy()
    return { idle, active, alone, idleMemory, allMemory, idleCpu, measured }
  } finally {
    await cleanUp()
  }
}

const shown = (result: Awaited<ReturnType<typeof bench>>): string => {
  const { idle, active, alone, idleMemory, allMemory, idleCpu, measured } = result
  const rows = [
    [
      "events/s",
      "deliveries",
      "missing",
      "p50, ms",
      "p99, ms",
      "most, ms",
      "memory, MiB",
      "CPU of the service"
    ],
    ...measured.map(({ rate, deliveries, missing, median, p99, most, memory, cpu }) => [
      rate.toFixed(0),
      deliveries.toLocaleString("en-US"),
      String(missing),
      median.toFixed(1),
      p99.toFixed(1),
      most.toFixed(1),
      memory.toFixed(0),
      `${(cpu * 100).toFixed(0)} %`
    ])
  ]
  return [
    `Memory of the service: ${alone.toFixed(0)} MiB alone, ${idleMemory.toFixed(0)} with ${idle} idle subscribers, ` +
      `${allMemory.toFixed(0)} with ${active} active ones as well; ${(idleCpu * 100).toFixed(1)} % of a CPU while nothing is published.`,
    "",
    ...rows.map((row) => row.map((cell) => cell.padStart(12)).join("")),
    "",
    "The times begin just before the commit, and end at the subscriber's socket. The load runs on the same machine:",
    `Node ${process.version}, ${availableParallelism()} CPUs.`,
    ""
  ].join("\n")
}

const { values } = parseArgs({
  options: {
    idle: { type: "string", default: "1000" },
    active: { type: "string", default: "200" },
    rates: { type: "string", default: "10,50,100" },
    seconds: { type: "string", default: "10" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false }
  }
})
if (values.help) process.stdout.write(help)
else {
  const result = await bench({
    idle: Number(values.idle),
    active: Number(values.active),
    rates: values.rates.split(",").map(Number),
    seconds: Number(values.seconds)
  })
  process.stdout.write(values.json ? `${JSON.stringify(result)}\n` : shown(result))
}
