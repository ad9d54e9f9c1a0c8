/**
 * The house of `src/`, held by reading it: an import runs down the way of an event or to `domain/`, never back up; the
 * edges are named where the service is put together and nowhere else; and what a simulation could not drive (clocks,
 * chance, timers, fibers of one's own) is not touched in between.
 */
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path/posix"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"

/** Source files by their path under `src/`. */
type Sources = Readonly<Record<string, string>>

/** The floors of the house, from the top. An import runs down, or stays on its floor. */
const floors = ["main", "mirror", "client", "App", "http", "pipeline", "store", "telemetry", "domain"]

const isEdge = (path: string): boolean =>
  path === "main.ts" || path.startsWith("cli/") || path.startsWith("node/")

/** The client's face for those without Effect: it runs effects, and is an edge in that alone. */
const promises = "client/promises.ts"

const isForClients = (path: string): boolean =>
  path.startsWith("client/") || path.startsWith("domain/") || path === "http/Api.ts"

const floorOf = (path: string): number => {
  if (isEdge(path)) return 0
  return floors.indexOf(path === "App.ts" ? "App" : (path.split("/")[0] ?? ""))
}

// Comments may name anything. Texts stay: SQL stands in them.
const withoutComments = (text: string): string =>
  text.replace(
    /("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g,
    (_all, kept) => kept ?? ""
  )

const importsOf = (text: string): ReadonlyArray<string> =>
  [...withoutComments(text).matchAll(/\b(?:from|import|require)\s*\(?\s*["'`]([^"'`]+)["'`]/g)].map(
    ([, name = ""]) => name
  )

const drivers = ["@effect/platform-node", "@effect/sql-sqlite-node", "better-sqlite3", "@sqlite.org/"]

const faultOfImport = (path: string, name: string): string | undefined => {
  if (!name.startsWith(".")) {
    if (isEdge(path)) return undefined
    if (drivers.some((driver) => name.startsWith(driver))) return "names a driver"
    return name.startsWith("node:") ? "names a part of Node" : undefined
  }
  const target = join("src", dirname(path), name)
  if (!target.startsWith("src/")) return "leaves src"
  const to = target.slice("src/".length)
  if (path.startsWith("client/") && !isForClients(to)) return "is the service's own"
  if (to === promises && path !== "client/index.ts") return "runs effects"
  if (to === "Config.ts") return undefined
  if (path === "Config.ts") return to.startsWith("domain/") ? undefined : "is imported by everything"
  if (isEdge(to) && !isEdge(path)) return "is an edge, which only edges import"
  if (path.startsWith("http/") && to === "pipeline/Consumer.ts") return "must be met at the Intake"
  if (floorOf(to) < 0 || floorOf(path) < 0) return "has no floor in the house"
  return floorOf(to) < floorOf(path) ? "lies further up" : undefined
}

const running = "runFork, runPromise, runSync"

const bans: ReadonlyArray<readonly [pattern: RegExp, name: string]> = [
  [/\bDate\s*\.\s*now\b/, "Date.now"],
  [/\bnew\s+Date\s*(\(\s*\)|(?!\s*\())/, "new Date()"],
  [/(?<!new\s+)(?<![.\w])Date\s*\(/, "Date()"],
  [/\bperformance\s*\.\s*now\b|\bhrtime\b/, "performance.now"],
  [/\bMath\s*\.\s*random\b/, "Math.random"],
  [/\brandomUUID\b|\brandomBytes\b|\bgetRandomValues\b/, "randomUUID"],
  [/\bset(Timeout|Interval|Immediate)\b|\bqueueMicrotask\b|\bnextTick\b/, "timers"],
  [/\bEffect\s*\.\s*(promise|tryPromise)\b/, "Effect.promise"],
  [/\b(unsafe)?run(Fork|Promise|Sync|Callback)(Exit)?\b/, running],
  [/\bEffect\s*\.\s*never\b/, "Effect.never"],
  [/\bCURRENT_(TIMESTAMP|TIME|DATE)\b/i, "CURRENT_TIMESTAMP"],
  [/\bMailbox\b/, "Mailbox"]
]

/** Every wrong import and every use of what is banned, a line for each. */
const violations = (sources: Sources): ReadonlyArray<string> =>
  Object.entries(sources).flatMap(([path, text]) => {
    const imports = importsOf(text).flatMap((name) => {
      const fault = faultOfImport(path, name)
      return fault === undefined ? [] : [`${path} imports ${name}, which ${fault}`]
    })
    const code = withoutComments(text)
    const banned = bans.filter(
      ([pattern, name]) => !isEdge(path) && !(path === promises && name === running) && pattern.test(code)
    )
    return [...imports, ...banned.map(([, name]) => `${path} uses ${name}`)]
  })

const sources: Sources = (() => {
  const root = fileURLToPath(new URL("../src/", import.meta.url))
  const files = readdirSync(root, { recursive: true, encoding: "utf8" }).map((path) =>
    path.replaceAll("\\", "/")
  )
  return Object.fromEntries(
    files.filter((path) => path.endsWith(".ts")).map((path) => [path, readFileSync(join(root, path), "utf8")])
  )
})()

describe("the house", () => {
  it("is read whole: every floor is there, and imports are found", () => {
    for (const path of [
      "main.ts",
      "App.ts",
      "http/Api.ts",
      "pipeline/Intake.ts",
      "store/EventStore.ts",
      "telemetry/Metrics.ts",
      "client/Publisher.ts",
      promises,
      "domain/Event.ts"
    ]) {
      expect(Object.keys(sources)).toContain(path)
      expect(sources[path]).not.toBe("")
    }
    const imports = Object.values(sources).flatMap(importsOf)
    expect(imports).toContain("../pipeline/Intake.ts")
    expect(imports).toContain("@effect/platform-node/NodeHttpServer")
    expect(imports.filter((name) => name.startsWith(".") && !name.endsWith(".ts"))).toEqual([])
  })

  it("imports only downwards, names its edges only in main.ts, cli/ and node/, and touches nothing that is banned", () => {
    expect(violations(sources)).toEqual([])
  })
})

describe("the check finds what is planted", () => {
  it.each([
    ["domain/Event.ts", 'import { Intake } from "../pipeline/Intake.ts"'],
    ["domain/Event.ts", 'import type { EventStore } from "../store/EventStore.ts"'],
    ["telemetry/Metrics.ts", 'import { EventStore } from "../store/EventStore.ts"'],
    ["store/SqlEventStore.ts", 'import * as Intake from "../pipeline/Intake.ts"'],
    ["pipeline/Consumer.ts", 'import { Api } from "../http/Api.ts"'],
    ["pipeline/Intake.ts", 'export { Api } from "../http/Api.ts"'],
    ["http/Publish.ts", 'import { Consumer } from "../pipeline/Consumer.ts"'],
    ["http/Publish.ts", 'const consumer = await import("../pipeline/Consumer.ts")'],
    ["http/Server.ts", 'import { run } from "../App.ts"'],
    ["App.ts", 'import "./main.ts"'],
    ["App.ts", 'import * as HttpListener from "./node/HttpListener.ts"'],
    ["App.ts", 'import { start } from "./cli/Serve.ts"'],
    ["http/Server.ts", 'import { exitCodes } from "../cli/Conventions.ts"'],
    ["http/Server.ts", 'import * as HttpListener from "../node/HttpListener.ts"'],
    ["App.ts", 'import { NodeHttpServer } from "@effect/platform-node"'],
    ["http/Server.ts", 'import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"'],
    ["store/Connection.ts", 'import { SqliteClient } from "@effect/sql-sqlite-node"'],
    ["store/Connection.ts", "import Database from 'better-sqlite3'"],
    ["store/Connection.ts", 'const Database = require("better-sqlite3")'],
    ["store/Connection.ts", 'import {\n  readFileSync\n} from "node:fs"'],
    ["store/Connection.ts", 'import { World } from "../../sim/World.ts"'],
    ["main.ts", 'import { World } from "../sim/World.ts"'],
    ["node/HttpListener.ts", 'import { until } from "../../test/support/server.ts"'],
    ["Config.ts", 'import { Intake } from "./pipeline/Intake.ts"'],
    ["http/Publish.ts", 'import { make } from "../client/Publisher.ts"'],
    ["App.ts", 'import { make } from "./client/Publisher.ts"'],
    ["client/Publisher.ts", 'import { make } from "../mirror/Mirror.ts"'],
    ["client/Publisher.ts", 'import { Settings } from "../Config.ts"'],
    ["client/Publisher.ts", 'import { EventStore } from "../store/EventStore.ts"'],
    ["client/Publisher.ts", 'import { decodeBody } from "../http/Decoding.ts"'],
    ["client/Publisher.ts", 'import { readFileSync } from "node:fs"'],
    ["client/Publisher.ts", 'import { createPublisher } from "./promises.ts"'],
    ["client/promises.ts", 'import { readFileSync } from "node:fs"'],
    ["elsewhere/Thing.ts", 'import { Event } from "../domain/Event.ts"']
  ])("a wrong import: %s: %s", (path, text) => {
    expect(violations({ [path]: text }).map((line) => line.startsWith(`${path} imports `))).toEqual([true])
  })

  it.each([
    "const now = Date.now()",
    "const now = new Date()",
    "const now = new Date",
    "const now = Date()",
    "const from = performance.now()",
    "const from = process.hrtime.bigint()",
    "const chance = Math.random()",
    "const id = crypto.randomUUID()",
    "setTimeout(() => {}, 1)",
    "setInterval(() => {}, 1)",
    "setImmediate(() => {})",
    "queueMicrotask(() => {})",
    "process.nextTick(() => {})",
    "Effect.promise(() => fetch(url))",
    "Effect.tryPromise({ try: () => fetch(url), catch: identity })",
    "Effect.runFork(effect)",
    "Effect.runPromise(effect)",
    "Effect.runSync(effect)",
    "Runtime.runPromiseExit(runtime)(effect)",
    "yield* Effect.never",
    "yield* sql`INSERT INTO event VALUES (CURRENT_TIMESTAMP)`",
    'const sql = "SELECT current_timestamp"',
    "const mailbox = yield* Mailbox.make<Event>()",
    "const path = 'a//b'; const now = Date.now()"
  ])("a use of what is banned: %s", (text) => {
    for (const path of [
      "App.ts",
      "Config.ts",
      "domain/Event.ts",
      "http/Api.ts",
      "pipeline/Intake.ts",
      "store/Connection.ts",
      "client/Publisher.ts"
    ]) {
      expect(violations({ [path]: text }).map((line) => line.startsWith(`${path} uses `))).toEqual([true])
    }
  })

  it("and nothing else", () => {
    expect(
      violations({
        "domain/Event.ts":
          "// Date.now() and Mailbox are not used.\n/* import '../main.ts' */ const day = new Date(0)",
        "domain/Timestamp.ts": "const at = Date.UTC(2026, 10, 22); const text = new Date(at).toISOString()",
        "pipeline/Consumer.ts":
          'import { EventStore } from "../store/EventStore.ts"\nimport { Settings } from "../Config.ts"',
        "http/Publish.ts": 'import { Intake } from "../pipeline/Intake.ts"\nimport { Effect } from "effect"',
        "App.ts": 'import * as Consumer from "./pipeline/Consumer.ts"',
        "client/Publisher.ts":
          'import { Api } from "../http/Api.ts"\nimport type { Fault } from "../domain/Errors.ts"',
        "client/promises.ts": 'import { make } from "./Publisher.ts"\nEffect.runPromise(make(options))',
        "client/index.ts": 'export * from "./promises.ts"',
        "mirror/Mirror.ts": 'import { make } from "../client/Publisher.ts"',
        "node/SqliteDatabase.ts":
          'import { SqliteClient } from "@effect/sql-sqlite-node"\nimport { mkdirSync } from "node:fs"',
        "main.ts":
          'import * as HttpListener from "./node/HttpListener.ts"\nEffect.runFork(program); setTimeout(stop, 1)'
      })
    ).toEqual([])
  })
})
