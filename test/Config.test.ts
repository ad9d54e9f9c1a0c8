/**
 * The settings: what holds when nothing is set, that a wrong value is told with its variable, what it is and what is
 * allowed, that two settings which do not fit together are told with the reason, and that all of it is told at once.
 */
import { ConfigProvider, Effect, Either, LogLevel } from "effect"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import {
  defaults,
  definitions,
  faultsBetween,
  type SettingsShape,
  settingsFromEnvironment
} from "../src/Config.ts"

type Environment = Readonly<Record<string, string>>

const read = (environment: Environment) =>
  Effect.runSync(
    Effect.either(
      Effect.withConfigProvider(
        settingsFromEnvironment,
        ConfigProvider.fromMap(new Map(Object.entries(environment)))
      )
    )
  )

const settingsOf = (environment: Environment): SettingsShape => Either.getOrThrow(read(environment))

const faultsOf = (environment: Environment): ReadonlyArray<string> => {
  const result = read(environment)
  if (Either.isRight(result) || result.left._tag !== "SettingsError") throw new Error("no fault was told")
  expect(result.left.message).toBe(result.left.faults.join("\n"))
  return result.left.faults
}

describe("without any setting", () => {
  it("the defaults hold, and fit together", () => {
    expect(settingsOf({})).toEqual({
      host: "127.0.0.1",
      port: 8080,
      database: "file:./data/sekali.db",
      queueEventsMax: 16_384,
      queueBytesMax: 64 * 1024 * 1024,
      commitEventsMax: 2000,
      requestEventsMax: 10_000,
      requestBytesMax: 16 * 1024 * 1024,
      eventBytesMax: 1024 * 1024,
      readBytesMax: 64 * 1024 * 1024,
      subscribersMax: 5000,
      heartbeatSeconds: 15,
      stalledSecondsMax: 60,
      headersSecondsMax: 10,
      requestSecondsMax: 30,
      publishSecondsMax: 10,
      shutdownSecondsMax: 10,
      gapSeconds: 30,
      gapEvents: 10_000,
      logLevel: LogLevel.Info,
      logFormat: "auto"
    })
    expect(settingsOf({})).toEqual(defaults)
    expect(faultsBetween(defaults)).toEqual([])
  })

  it("every variable is called SEKALI_ and after its setting, and none stands for two", () => {
    const names = Object.entries(definitions).map(([name, { variable }]) => {
      expect(variable).toBe(`SEKALI_${name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`)
      return variable
    })
    expect(new Set(names).size).toBe(names.length)
  })
})

describe("a setting", () => {
  it.each([
    ["SEKALI_HOST", "0.0.0.0", { host: "0.0.0.0" }],
    ["SEKALI_HOST", "::1", { host: "::1" }],
    ["SEKALI_HOST", "log-host.example", { host: "log-host.example" }],
    ["SEKALI_PORT", "0", { port: 0 }],
    ["SEKALI_PORT", "65535", { port: 65_535 }],
    ["SEKALI_PORT", " 9000 ", { port: 9000 }],
    ["SEKALI_DATABASE", "file:/var/lib/sekali/events.db", { database: "file:/var/lib/sekali/events.db" }],
    ["SEKALI_DATABASE", "file:///tmp/a,b.db", { database: "file:///tmp/a,b.db" }],
    ["SEKALI_QUEUE_EVENTS_MAX", "20000", { queueEventsMax: 20_000 }],
    ["SEKALI_QUEUE_BYTES_MAX", "16777216", { queueBytesMax: 16_777_216 }],
    ["SEKALI_COMMIT_EVENTS_MAX", "1000000", { commitEventsMax: 1_000_000 }],
    ["SEKALI_REQUEST_EVENTS_MAX", "1", { requestEventsMax: 1 }],
    ["SEKALI_REQUEST_BYTES_MAX", "1048576", { requestBytesMax: 1_048_576 }],
    ["SEKALI_EVENT_BYTES_MAX", "256", { eventBytesMax: 256 }],
    ["SEKALI_SUBSCRIBERS_MAX", "1", { subscribersMax: 1 }],
    ["SEKALI_HEARTBEAT_SECONDS", "60", { heartbeatSeconds: 60 }],
    ["SEKALI_STALLED_SECONDS_MAX", "15", { stalledSecondsMax: 15 }],
    ["SEKALI_HEADERS_SECONDS_MAX", "0.5", { headersSecondsMax: 0.5 }],
    ["SEKALI_REQUEST_SECONDS_MAX", "3600", { requestSecondsMax: 3600 }],
    ["SEKALI_PUBLISH_SECONDS_MAX", "0.1", { publishSecondsMax: 0.1 }],
    ["SEKALI_SHUTDOWN_SECONDS_MAX", "2.125", { shutdownSecondsMax: 2.125 }],
    ["SEKALI_GAP_SECONDS", "0.5", { gapSeconds: 0.5 }],
    ["SEKALI_GAP_EVENTS", "1", { gapEvents: 1 }],
    ["SEKALI_LOG_LEVEL", "trace", { logLevel: LogLevel.Trace }],
    ["SEKALI_LOG_LEVEL", "debug", { logLevel: LogLevel.Debug }],
    ["SEKALI_LOG_LEVEL", "info", { logLevel: LogLevel.Info }],
    ["SEKALI_LOG_LEVEL", "warn", { logLevel: LogLevel.Warning }],
    ["SEKALI_LOG_LEVEL", "error", { logLevel: LogLevel.Error }],
    ["SEKALI_LOG_LEVEL", "off", { logLevel: LogLevel.None }],
    ["SEKALI_LOG_FORMAT", "pretty", { logFormat: "pretty" }],
    ["SEKALI_LOG_FORMAT", "json", { logFormat: "json" }]
  ])("%s=%s is taken", (variable, value, changed) => {
    expect(settingsOf({ [variable]: value })).toEqual({ ...defaults, ...changed })
  })

  it.each([
    ["SEKALI_HOST", "", "a host name or an IP address"],
    ["SEKALI_HOST", "http://localhost", "a host name or an IP address"],
    ["SEKALI_PORT", "65536", "a whole number from 0 to 65535"],
    ["SEKALI_PORT", "-1", "a whole number from 0 to 65535"],
    ["SEKALI_PORT", "80a", "a whole number from 0 to 65535"],
    ["SEKALI_PORT", "8e1", "a whole number from 0 to 65535"],
    ["SEKALI_PORT", "", "a whole number from 0 to 65535"],
    ["SEKALI_DATABASE", "./data/sekali.db", "file: and a path"],
    ["SEKALI_DATABASE", "file:", "file: and a path"],
    ["SEKALI_DATABASE", "file:/var/lib/", "file: and a path"],
    ["SEKALI_DATABASE", "file:a.db?mode=memory", "file: and a path"],
    ["SEKALI_DATABASE", "postgres://localhost/sekali", "file: and a path"],
    ["SEKALI_QUEUE_EVENTS_MAX", "0", "a whole number from 1 to 10000000"],
    ["SEKALI_QUEUE_BYTES_MAX", "64MiB", "a whole number from 1024 to"],
    ["SEKALI_COMMIT_EVENTS_MAX", "1.5", "a whole number from 1 to 1000000"],
    ["SEKALI_REQUEST_EVENTS_MAX", "99999999999999999999", "a whole number from 1 to 1000000"],
    ["SEKALI_REQUEST_BYTES_MAX", "1023", "a whole number from 1024 to"],
    ["SEKALI_EVENT_BYTES_MAX", "255", "a whole number from 256 to"],
    ["SEKALI_HEADERS_SECONDS_MAX", "0", "a number of seconds from 0.1 to 3600"],
    ["SEKALI_REQUEST_SECONDS_MAX", "3601", "a number of seconds from 0.1 to 3600"],
    ["SEKALI_PUBLISH_SECONDS_MAX", "ten", "a number of seconds from 0.1 to 3600"],
    ["SEKALI_SHUTDOWN_SECONDS_MAX", "Infinity", "a number of seconds from 0.1 to 3600"],
    ["SEKALI_LOG_LEVEL", "INFO", "one of trace, debug, info, warn, error, off"],
    ["SEKALI_LOG_LEVEL", "constructor", "one of trace, debug, info, warn, error, off"],
    ["SEKALI_LOG_FORMAT", "xml", "one of auto, pretty, json"]
  ])("%s=%j stops the start, and what is allowed is told", (variable, value, allowed) => {
    const [fault, ...others] = faultsOf({ [variable]: value })
    expect(others).toEqual([])
    expect(fault).toContain(`${variable} is ${JSON.stringify(value)}, but must be ${allowed}`)
  })

  it("with a number in its range is taken as it is, and with any other refused", () => {
    const { variable } = definitions.port
    fc.assert(
      fc.property(fc.integer({ min: -100, max: 100_000 }), (port) => {
        const result = read({ [variable]: String(port) })
        expect(Either.isRight(result)).toBe(port >= 0 && port <= 65_535)
        if (Either.isRight(result)) expect(result.right.port).toBe(port)
      })
    )
  })
})

describe("settings that do not fit together", () => {
  it.each([
    [
      { SEKALI_QUEUE_EVENTS_MAX: "99", SEKALI_REQUEST_EVENTS_MAX: "100" },
      "SEKALI_QUEUE_EVENTS_MAX is 99, which is less than SEKALI_REQUEST_EVENTS_MAX, 100: a request must fit into the empty queue."
    ],
    [
      { SEKALI_QUEUE_BYTES_MAX: "16777215" },
      "SEKALI_QUEUE_BYTES_MAX is 16777215, which is less than SEKALI_REQUEST_BYTES_MAX, 16777216: a request must fit into the empty queue."
    ],
    [
      { SEKALI_REQUEST_BYTES_MAX: "1024" },
      "SEKALI_REQUEST_BYTES_MAX is 1024, which is less than SEKALI_EVENT_BYTES_MAX, 1048576: an event must fit into a request."
    ],
    [
      { SEKALI_REQUEST_SECONDS_MAX: "5" },
      "SEKALI_REQUEST_SECONDS_MAX is 5, which is less than SEKALI_HEADERS_SECONDS_MAX, 10: a request's time includes that of its headers."
    ],
    [
      { SEKALI_HEARTBEAT_SECONDS: "61" },
      "SEKALI_STALLED_SECONDS_MAX is 60, which is less than SEKALI_HEARTBEAT_SECONDS, 61: a stream that waits for events must not count as left standing."
    ]
  ])("%j stop the start, and the reason is told", (environment, sentence) => {
    expect(faultsOf(environment)).toEqual([sentence])
  })

  it("fit where they are equal", () => {
    const { variable } = definitions.queueEventsMax
    expect(settingsOf({ [variable]: "10000" }).queueEventsMax).toBe(10_000)
  })

  it("are all told at once", () => {
    const faults = faultsOf({ SEKALI_REQUEST_EVENTS_MAX: "100000", SEKALI_HEADERS_SECONDS_MAX: "31" })
    expect(faults.map((fault) => fault.split(" ", 1)[0])).toEqual([
      "SEKALI_QUEUE_EVENTS_MAX",
      "SEKALI_REQUEST_SECONDS_MAX"
    ])
  })
})

it("every wrong value is told at once, each in a sentence of its own", () => {
  const wrong = Object.fromEntries(
    Object.values(definitions).map(({ variable }) => [variable, "\u0000wrong/"])
  )
  const faults = faultsOf(wrong)
  expect(faults.map((fault) => fault.split(" ", 1)[0])).toEqual(Object.keys(wrong))
})
