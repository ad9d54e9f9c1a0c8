/**
 * What the process says while it runs: a line of JSON each, where it does not write on a terminal, about what an
 * operator has to know, and about nothing twice.
 */
import { connect } from "node:net"
import { join } from "node:path"
import { afterEach, expect, it } from "vitest"
import { eventNumber, eventNumbers, publish, publishRequest, stats, until } from "../support/client.ts"
import { cleanUp, serve, temporaryFolder } from "../support/process.ts"

afterEach(cleanUp)

const start = (environment: Readonly<Record<string, string>> = {}) =>
  serve({ database: join(temporaryFolder(), "sekali.db"), environment })

it("is lines of JSON: where it serves, what was dropped, every conflict, and that it has stopped", async () => {
  const service = await start({ SEKALI_UNHEARD_OF: "1" })
  await publish(service.url, eventNumbers(20))
  await publish(service.url, eventNumbers(20))
  const conflicting = [3, 4].map((n) => ({ ...eventNumber(n), source: "somebody else" }))
  await publish(service.url, conflicting)
  service.kill("SIGTERM")
  const { stdout, stderr } = await service.ended
  expect(stderr).toBe("")
  expect(stdout.trimEnd().split("\n")).toHaveLength(service.log().length)

  const lines = service.log()
  for (const { timestamp, logLevel } of lines) {
    expect(new Date(timestamp).toISOString()).toBe(timestamp)
    expect(logLevel).toMatch(/^(INFO|WARN)$/)
  }
  const serving = lines.find(({ message }) => message === "serving")
  expect(serving?.annotations).toMatchObject({ address: service.url, docs: `${service.url}/docs` })
  expect(lines.some(({ message }) => message.startsWith(`try: curl -X POST ${service.url}/publish `))).toBe(
    true
  )
  expect(lines.some(({ message }) => message.startsWith("SEKALI_UNHEARD_OF is set"))).toBe(true)

  const dropped = lines.filter(({ message }) => message === "duplicates dropped")
  // At once, then no more than a line a second, and at the end.
  expect(dropped.map(({ annotations }) => annotations["dropped"])).toEqual([20, 2])
  expect(dropped[0]?.annotations["keys"]).toEqual(
    eventNumbers(5).map(({ topic, event_id }) => `${topic}/${event_id}`)
  )
  const conflicts = lines.filter(({ message }) => message.startsWith("conflict"))
  expect(conflicts.map(({ logLevel, annotations }) => ({ logLevel, ...annotations }))).toMatchObject(
    conflicting.map(({ topic, event_id }) => ({ logLevel: "WARN", topic, event_id, source: "somebody else" }))
  )
  const last = lines.map(({ message }) => message).filter((message) => message !== "duplicates dropped")
  expect(last.slice(-2)).toEqual(["draining", "stopped"])
})

it("names each duplicate where more is asked for", async () => {
  const service = await start({ SEKALI_LOG_LEVEL: "debug" })
  await publish(service.url, eventNumbers(20))
  await publish(service.url, eventNumbers(20))
  service.kill("SIGTERM")
  await service.ended
  const each = service.log().filter(({ message }) => message === "duplicate")
  expect(each.map(({ annotations }) => annotations["event_id"])).toEqual(
    eventNumbers(20).map(({ event_id }) => event_id)
  )
})

it("tells of refusals for trouble once, and of none for bad input", async () => {
  // A body that is on its way holds room in the queue; there is none left for another.
  const service = await start({
    SEKALI_QUEUE_BYTES_MAX: "1024",
    SEKALI_REQUEST_BYTES_MAX: "1024",
    SEKALI_EVENT_BYTES_MAX: "1024"
  })
  const unfinished = connect(Number(new URL(service.url).port), "127.0.0.1")
  unfinished.write("POST /publish HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n[")
  await until(
    () => stats(service.url),
    ({ queue }) => queue.bytes === 1000
  )
  for (let n = 0; n < 3; n++) {
    const refused = await publishRequest(service.url, eventNumbers(5, `service-${n}`))
    expect(refused.status).toBe(503)
    await refused.arrayBuffer()
  }
  unfinished.destroy()
  await until(
    () => stats(service.url),
    ({ queue }) => queue.bytes === 0
  )
  const invalid = await publishRequest(service.url, [{ ...eventNumber(0), topic: "no topic" }])
  expect(invalid.status).toBe(422)
  service.kill("SIGTERM")
  await service.ended
  const refusals = service.log().filter(({ message }) => message.startsWith("refused"))
  expect(refusals).toHaveLength(1)
  expect(refusals[0]).toMatchObject({ logLevel: "WARN", annotations: { problem: "overloaded", status: 503 } })
})
