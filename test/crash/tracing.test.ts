/**
 * Traces of a real process, sent to a collector on a real socket: a caller's trace is continued, the commit is linked to
 * the requests it served, and nothing depends on a collector that is not there.
 */
import { join } from "node:path"
import { afterEach, describe, expect, it } from "vitest"
import { withAnswers } from "../support/answers.ts"
import { eventNumber, publish, publishRequest } from "../support/client.ts"
import { cleanUp, launch, type Serving, serve, temporaryFolder } from "../support/process.ts"

afterEach(cleanUp)

interface Span {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly kind: number
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly attributes: ReadonlyArray<{ readonly key: string; readonly value: Record<string, unknown> }>
  readonly links: ReadonlyArray<{ readonly traceId: string; readonly spanId: string }>
}

interface Traces {
  readonly resourceSpans: ReadonlyArray<{
    readonly resource: { readonly attributes: Span["attributes"] }
    readonly scopeSpans: ReadonlyArray<{ readonly spans: ReadonlyArray<Span> }>
  }>
}

const traceId = "0af7651916cd43dd8448eb211c80319c"
const callerSpan = "b7ad6b7169203331"

const publishTraced = async (service: Serving, n: number, flags: "00" | "01") => {
  const response = await fetch(`${service.url}/publish`, {
    method: "POST",
    headers: { "content-type": "application/json", traceparent: `00-${traceId}-${callerSpan}-${flags}` },
    body: JSON.stringify(eventNumber(n))
  })
  expect(response.status).toBe(202)
  await response.arrayBuffer()
}

/** What a collector was sent by a service that did something and was stopped. */
const tracesOf = async (
  use: (service: Serving) => Promise<void>,
  variables: Readonly<Record<string, string>> = {}
) =>
  await withAnswers(
    () => ({ status: 200, body: "{}" }),
    async (collector) => {
      const database = join(temporaryFolder(), "sekali.db")
      const environment = { OTEL_EXPORTER_OTLP_ENDPOINT: `${collector.url}/`, ...variables }
      const service = await serve({ database, environment })
      await use(service)
      service.kill("SIGTERM")
      expect((await service.ended).code).toBe(0)
      expect([...new Set(collector.requests.map(({ method, path }) => `${method} ${path}`))]).toEqual(
        collector.requests.length === 0 ? [] : ["POST /v1/traces"]
      )
      const traces = collector.requests.map(({ body }) => JSON.parse(body) as Traces)
      const resources = traces.flatMap(({ resourceSpans }) => resourceSpans)
      return {
        resources: resources.map(({ resource }) => resource.attributes),
        spans: resources.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))
      }
    }
  )

describe("with a collector", () => {
  it("continues the trace of a caller, down to the body, and links the commit to it", async () => {
    const { resources, spans } = await tracesOf((service) => publishTraced(service, 1, "01"))
    expect(resources[0]).toContainEqual({ key: "service.name", value: { stringValue: "sekali" } })
    const named = (name: string) => spans.filter((span) => span.name === name)
    const [door] = named("http.server POST")
    const [handler] = named("Publishing.publish")
    const [commit] = named("Consumer.commit")
    const [append] = named("EventStore.append")
    expect(door).toMatchObject({ traceId, parentSpanId: callerSpan, kind: 2 })
    expect(handler).toMatchObject({ traceId, parentSpanId: door?.spanId })
    for (const name of ["Body.readBody", "Decoding.decodeBody"]) {
      expect(named(name)).toMatchObject([{ traceId, parentSpanId: handler?.spanId }])
    }
    expect(commit?.traceId).not.toBe(traceId)
    expect(commit?.links).toMatchObject([{ traceId, spanId: handler?.spanId }])
    expect(append).toMatchObject({ traceId: commit?.traceId, parentSpanId: commit?.spanId })
    expect(door?.attributes).toContainEqual({
      key: "http.response.status_code",
      value: { intValue: 202 }
    })
    // What `/health/ready` was asked at the start is not among them.
    expect(spans.map(({ name }) => name).sort()).toEqual([
      "Body.readBody",
      "Consumer.commit",
      "Decoding.decodeBody",
      "EventStore.append",
      "Publishing.publish",
      "http.server POST"
    ])
    for (const { startTimeUnixNano, endTimeUnixNano } of spans) {
      expect(BigInt(endTimeUnixNano)).toBeGreaterThan(BigInt(startTimeUnixNano))
    }
  })

  it("links one commit to all requests that it served", async () => {
    const count = 20
    const { spans } = await tracesOf(async (service) => {
      await Promise.all(Array.from({ length: count }, (_, n) => publish(service.url, [eventNumber(n)])))
    })
    const handlers = spans.filter(({ name }) => name === "Publishing.publish")
    const commits = spans.filter(({ name }) => name === "Consumer.commit")
    expect(handlers).toHaveLength(count)
    expect(commits.flatMap(({ links }) => links.map(({ spanId }) => spanId)).sort()).toEqual(
      handlers.map(({ spanId }) => spanId).sort()
    )
  })

  it.each([
    [{ OTEL_SERVICE_NAME: "" }, "sekali", undefined],
    [{ OTEL_RESOURCE_ATTRIBUTES: "service.name=logs, team=a%2Cb=c,,odd" }, "logs", "a,b=c"],
    [{ OTEL_SERVICE_NAME: "own", OTEL_RESOURCE_ATTRIBUTES: "team=100%,service.name=logs" }, "own", "100%"]
  ])("says of itself what the standard's variables say: %o", async (variables, name, team) => {
    const { resources } = await tracesOf((service) => publishTraced(service, 1, "01"), variables)
    const told = resources[0]?.map(({ key, value }) => [key, value["stringValue"]])
    expect(told?.sort()).toEqual([
      ["service.name", name],
      ["service.version", expect.any(String)],
      ...(team === undefined ? [] : [["team", team]])
    ])
  })

  it("sends nothing of a trace that its caller does not record", async () => {
    expect((await tracesOf((service) => publishTraced(service, 1, "00"))).spans).toEqual([])
  })
})

it("serves and stops in time where no collector answers", async () => {
  const database = join(temporaryFolder(), "sekali.db")
  const service = await serve({
    database,
    environment: { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9" }
  })
  const response = await publishRequest(service.url, [eventNumber(1)])
  expect(response.status).toBe(202)
  await response.arrayBuffer()
  service.kill("SIGTERM")
  expect((await service.ended).code).toBe(0)
})

it("does not start where the collector's address is none", async () => {
  const database = join(temporaryFolder(), "sekali.db")
  const { code, stderr } = await launch({
    database,
    environment: { OTEL_EXPORTER_OTLP_ENDPOINT: "localhost:4318" }
  }).ended
  expect(code).toBe(1)
  expect(stderr).toBe(
    'sekali: OTEL_EXPORTER_OTLP_ENDPOINT is "localhost:4318", but must be an http or https address, such as http://localhost:4318.\n'
  )
})
