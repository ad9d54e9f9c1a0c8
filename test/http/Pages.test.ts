/**
 * Health, the generated contract and its page; and that a path or a method that is not served is answered 404 or 405.
 */
import { describe, expect, it } from "vitest"
import { HealthAnswer } from "../../src/http/Api.ts"
import { DatabaseHand, listen, until, withServer } from "../support/server.ts"
import { call, decoded, event, faults, get, post, problem, publish } from "./client.ts"

const served: ReadonlyArray<readonly [path: string, method: "GET" | "POST"]> = [
  ["/publish", "POST"],
  ["/events", "GET"],
  ["/events/stream", "GET"],
  ["/events/test.topic/1", "GET"],
  ["/conflicts", "GET"],
  ["/stats", "GET"],
  ["/topics", "GET"],
  ["/sources", "GET"],
  ["/backup", "GET"],
  ["/metrics", "GET"],
  ["/health/live", "GET"],
  ["/health/ready", "GET"],
  ["/openapi.json", "GET"],
  ["/docs", "GET"]
]

describe("GET /health", () => {
  it("answers 200 while the service is live and ready", async () => {
    await withServer({}, async (server) => {
      expect((await get(server, "/health/live")).text).toBe('{"status":"live"}')
      const ready = await get(server, "/health/ready")
      expect([ready.status, ready.headers["content-type"]]).toEqual([200, "application/json"])
      expect(decoded(HealthAnswer, ready)).toEqual({ status: "ready" })
    })
  })

  it("answers every call 503 with Retry-After, and leaves none waiting, while the store is being opened", async () => {
    const database = new DatabaseHand()
    database.hold()
    const server = await listen({ database })
    try {
      await until(() => database.held > 0)
      for (const answer of [
        await get(server, "/health/ready"),
        await post(server, JSON.stringify(event("1")))
      ]) {
        expect([answer.status, answer.headers["content-type"]]).toEqual([503, "application/problem+json"])
        expect(answer.headers["retry-after"]).toBe("1")
      }
      database.release()
      await until(async () => (await get(server, "/health/ready")).status === 200)
      expect(await publish(server, event("1"))).toMatchObject({ stored: 1 })
    } finally {
      database.release()
      await server.stop()
    }
  })

  it("is not ready while the disk is full, with the reason, and ready again by itself (G7)", async () => {
    await withServer({}, async (server) => {
      await server.database.fillDisk()
      problem(
        await post(server, JSON.stringify(event("1", { payload: "x".repeat(100_000) }))),
        503,
        "store-unavailable"
      )
      const told = problem(await get(server, "/health/ready"), 503, "store-unavailable", "/health/ready")
      expect(told.title).toBe("The disk is full")
      expect((await get(server, "/health/live")).status).toBe(200)
      await server.database.freeDisk()
      await until(async () => (await get(server, "/health/ready")).status === 200)
    })
  })
})

describe("GET /openapi.json", () => {
  it("is OpenAPI 3.1, whole in itself, with every endpoint and parameter of the contract", async () => {
    await withServer({}, async (server) => {
      const answer = await get(server, "/openapi.json")
      expect([answer.status, answer.headers["content-type"]]).toEqual([200, "application/json"])
      expect(answer.text).not.toContain("HttpApiDecodeError")
      const spec = JSON.parse(answer.text) as Spec
      expect(spec.openapi).toMatch(/^3\.1\.\d+$/)
      expect(spec.info).toMatchObject({ title: "Sekali", version: expect.stringMatching(/^\d+\.\d+\.\d+$/) })

      const endpoints = served.filter(([path]) => path !== "/openapi.json" && path !== "/docs")
      const wanted = endpoints.map(([path, method]) => [
        path.replace("test.topic/1", "{topic}/{event_id}"),
        [method.toLowerCase()]
      ])
      expect(Object.entries(spec.paths).map(([path, methods]) => [path, Object.keys(methods)])).toEqual(
        wanted
      )

      const operations = Object.entries(spec.paths).flatMap(([path, methods]) =>
        Object.values(methods).map((operation) => ({ path, ...operation }))
      )
      expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(operations.length)
      for (const { path, parameters, responses } of operations) {
        const inPath = parameters.filter((parameter) => parameter.in === "path")
        expect(inPath.map(({ name, required }) => [name, required])).toEqual(
          [...path.matchAll(/\{([a-z_]+)\}/g)].map(([, name]) => [name, true])
        )
        for (const [status, { description }] of Object.entries(responses)) {
          expect(status).toMatch(/^[1-5]\d\d$/)
          expect(typeof description).toBe("string")
        }
      }
      const query = (path: string) =>
        spec.paths[path]?.["get"]?.parameters.filter((one) => one.in === "query").map(({ name }) => name)
      expect(query("/events")).toEqual([
        "topic",
        "event_id",
        "source",
        "since",
        "until",
        "limit",
        "order",
        "after"
      ])
      expect(query("/conflicts")).toEqual(["limit", "after"])
      expect(query("/topics")).toEqual(["limit", "after"])
      expect(query("/sources")).toEqual(["topic", "source", "limit", "after"])
      expect(query("/stats")).toEqual([])

      const statuses = (path: string, method: string) =>
        Object.keys(spec.paths[path]?.[method]?.responses ?? {})
      expect(statuses("/publish", "post")).toEqual(["202", "400", "413", "415", "422", "503"])
      expect(statuses("/events", "get")).toEqual(["200", "410", "422", "503"])
      expect(statuses("/conflicts", "get")).toEqual(["200", "410", "422", "503"])
      expect(statuses("/backup", "get")).toEqual(["200", "422", "501", "503"])
      expect(statuses("/events/{topic}/{event_id}", "get")).toEqual(["200", "404", "422", "503"])
      const body = spec.paths["/publish"]?.["post"]?.requestBody
      expect(Object.keys(body?.content ?? {})).toEqual(["application/json", "application/x-ndjson"])
      expect(Object.keys(spec.paths["/events"]?.["get"]?.responses["200"]?.content ?? {})).toEqual([
        "application/json",
        "application/x-ndjson"
      ])
      for (const [, name] of answer.text.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)) {
        expect(Object.keys(spec.components.schemas)).toContain(name)
      }
      expect(answer.text.match(/"\$ref":"(?!#\/components\/schemas\/)/g)).toBeNull()
    })
  })
})

interface Spec {
  readonly openapi: string
  readonly info: Readonly<Record<string, unknown>>
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, unknown>> }
}

interface Content {
  readonly content?: Readonly<Record<string, unknown>>
}

interface Operation {
  readonly operationId: string
  readonly parameters: ReadonlyArray<{
    readonly name: string
    readonly in: string
    readonly required: boolean
  }>
  readonly requestBody?: Content
  readonly responses: Readonly<Record<string, Content & { readonly description?: string }>>
}

describe("GET /docs", () => {
  it("is a page that stands alone: it loads nothing from anywhere", async () => {
    await withServer({}, async (server) => {
      const { status, headers, text } = await get(server, "/docs")
      expect([status, headers["content-type"]]).toEqual([200, expect.stringMatching(/^text\/html/)])
      expect(text).toMatch(/^<!DOCTYPE html>/i)
      expect(text).toContain("Sekali")
      const markup = text.replace(/(<(script|style)[^>]*>)[\s\S]*?<\/\2>/g, "$1")
      expect(markup.length).toBeLessThan(5000)
      expect(markup).not.toMatch(/\b(src|href|action|data)\s*=/i)
      const styles = [...text.matchAll(/<style[^>]*>([\s\S]*?)<\/style>/g)].map(([, style]) => style).join("")
      expect(styles).not.toMatch(/@import|url\(\s*["']?(?!data:)[a-z/]/i)
    })
  })
})

describe("unknown paths and wrong methods", () => {
  it("answers 404 for a path that is not served, however much it looks like one that is", async () => {
    await withServer({}, async (server) => {
      const near = [
        "/Stats",
        "/stats/",
        "//stats",
        "/stats//",
        "/stats;a",
        "/publish/1",
        "/events/",
        "/events/a",
        "/health"
      ]
      const far = [
        "/",
        "/index.html",
        "/events/a/b/c",
        "/health/live/x",
        "/../stats",
        "/%73tats%2F",
        "*",
        "/x".repeat(2000)
      ]
      for (const path of [...near, ...far]) problem(await get(server, path), 404, "not-found", path)
      problem(await get(server, "/nothing?x=1"), 404, "not-found", "/nothing")
      problem(await post(server, JSON.stringify(event("1")), {}, "/Publish"), 404, "not-found", "/Publish")
      const { text } = await get(server, "/stats")
      expect(text).toContain('"received":0')
    })
  })

  it("answers 405 with Allow for a method that a path does not have, OPTIONS among them", async () => {
    await withServer({}, async (server) => {
      for (const [path, method] of served) {
        const allow = method === "GET" ? "GET, HEAD" : "POST"
        const wrong = ["OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", method === "GET" ? "POST" : "GET"]
        for (const other of wrong) {
          const answer = await call(server, other, path)
          expect(answer.headers["allow"]).toBe(allow)
          problem(answer, 405, "method-not-allowed", path)
        }
      }
      const head = await call(server, "HEAD", "/publish")
      expect([head.status, head.headers["allow"], head.text]).toEqual([405, "POST", ""])
    })
  })

  it("refuses an unknown query parameter by its name on every endpoint, and so a repeated one", async () => {
    await withServer({}, async (server) => {
      await publish(server, event("1"))
      for (const [path, method] of served) {
        for (const [query, names] of [
          ["?x=1", ["x"]],
          ["?x", ["x"]],
          ["?__proto__=1", ["__proto__"]],
          ["?toString=1&y=2&y=3", ["toString", "y"]]
        ] as const) {
          const body = method === "POST" ? { body: JSON.stringify(event("2")) } : {}
          const told = faults(await call(server, method, `${path}${query}`, body), path)
          expect(told).toEqual(names.map((name) => [name, "is not known here"]))
        }
      }
      const { text } = await get(server, "/stats")
      expect(text).toContain('"received":1,')
    })
  })
})
