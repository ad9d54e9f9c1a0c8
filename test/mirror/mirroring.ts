/**
 * What the mirror's tests share: real services, mirrors between them on `fetch` over real sockets, and what a service
 * holds, read as text, so that not a digit escapes the comparison.
 */
import {
  FetchHttpClient,
  HttpClient,
  type HttpClientError,
  type HttpClientRequest,
  type HttpClientResponse
} from "@effect/platform"
import { Effect, Exit, Layer, Logger } from "effect"
import { expect } from "vitest"
import type { Event } from "../../src/domain/Event.ts"
import * as Mirror from "../../src/mirror/Mirror.ts"
import { get, post, stats } from "../http/client.ts"
import { makeEvent } from "../support/events.ts"
import { type RunningServer, startServer } from "../support/server.ts"

/** The cursor of a mirror, kept over its restarts. */
export interface Kept {
  text: string | undefined
  /** Everything that was ever kept. */
  readonly history: Array<string>
}

/** No cursor yet. */
export const nothingKept = (): Kept => ({ text: undefined, history: [] })

/** What comes between a mirror and the network. */
export type Between = (
  request: HttpClientRequest.HttpClientRequest,
  send: (
    request: HttpClientRequest.HttpClientRequest
  ) => Effect.Effect<HttpClientResponse.HttpClientResponse, HttpClientError.HttpClientError>
) => Effect.Effect<HttpClientResponse.HttpClientResponse, HttpClientError.HttpClientError>

/** A mirror that runs. */
export interface RunningMirror {
  /** Its log: level, message and annotations of each line. */
  readonly logs: ReadonlyArray<string>
  readonly ended: Promise<Exit.Exit<Mirror.MirrorCounts, Mirror.MirrorError>>
  /** Ends it where it is. */
  readonly kill: () => Promise<void>
}

/** Starts a mirror that loses no time. */
export const startMirror = (
  options: Mirror.MirrorOptions,
  kept: Kept = nothingKept(),
  between: Between = (request, send) => send(request)
): RunningMirror => {
  const logs: Array<string> = []
  const logger = Logger.make(({ logLevel, message, annotations }) => {
    const about = [...annotations].map(([name, value]) => `${name}=${value}`).sort()
    logs.push([logLevel.label, ...[message].flat().map(String), ...about].join(" "))
  })
  const cursor = Layer.succeed(Mirror.MirrorCursor, {
    load: Effect.sync(() => kept.text),
    save: (text: string) =>
      Effect.try({
        try: () => {
          kept.text = text
          kept.history.push(text)
        },
        catch: (error) => new Mirror.CursorTrouble({ sentence: String(error) })
      })
  })
  const network = Layer.map(FetchHttpClient.layer, (context) => context)
  const client = Layer.effect(
    HttpClient.HttpClient,
    Effect.map(HttpClient.HttpClient, (real) =>
      HttpClient.makeWith<HttpClientError.HttpClientError, never, HttpClientError.HttpClientError, never>(
        Effect.flatMap((request) => between(request, real.execute)),
        Effect.succeed
      )
    )
  ).pipe(Layer.provide(network))
  const fiber = Effect.runFork(
    Mirror.run({ pollMillisMax: 10, backoffMillisMax: 20, requestSecondsMax: 20, ...options }).pipe(
      Effect.provide([cursor, client, Logger.replace(Logger.defaultLogger, logger)])
    )
  )
  const ended = new Promise<Exit.Exit<Mirror.MirrorCounts, Mirror.MirrorError>>((resolve) =>
    fiber.addObserver(resolve)
  )
  return {
    logs,
    ended,
    kill: async () => {
      fiber.unsafeInterruptAsFork(fiber.id())
      await ended
    }
  }
}

/** Waits for something that mirrors bring about; fails if one of them ends before. */
export const whileMirroring = <A>(mirrors: ReadonlyArray<RunningMirror>, work: Promise<A>): Promise<A> => {
  const ended = mirrors.map(({ ended, logs }) =>
    ended.then((exit) => {
      throw new Error(`a mirror has ended: ${exit}\n${logs.join("\n")}`)
    })
  )
  return Promise.race([work, ...ended])
}

/** Mirrors what there is, and gives back what was done. */
export const mirrorOnce = async (
  from: { readonly url: string },
  to: { readonly url: string },
  kept?: Kept,
  options: Partial<Mirror.MirrorOptions> = {}
): Promise<Mirror.MirrorCounts> => {
  const exit = await startMirror({ from: from.url, to: to.url, once: true, ...options }, kept).ended
  if (Exit.isFailure(exit)) throw new Error(String(exit.cause))
  return exit.value
}

/** Runs a test with so many services, each with its own folder, and stops them however the test ends. */
export const withServers = async <A>(
  count: number,
  use: (...servers: ReadonlyArray<RunningServer>) => Promise<A>
): Promise<A> => {
  const servers = await Promise.all(Array.from({ length: count }, () => startServer()))
  try {
    return await use(...servers)
  } finally {
    for (const server of servers) server.database.release()
    await Promise.all(servers.map((server) => server.stop()))
  }
}

/** An event as JSON text, with its payload exact. */
export const textOf = ({ topic, eventId, timestamp, source, payload, sequence, origin }: Event): string => {
  const further = { ...(sequence === null ? {} : { sequence }), ...(origin === null ? {} : { origin }) }
  const named = JSON.stringify({ topic, event_id: eventId, timestamp, source, ...further })
  return `${named.slice(0, -1)},"payload":${payload}}`
}

/** Publishes events, which must be accepted. */
export const publishAll = async (server: RunningServer, events: ReadonlyArray<Event>): Promise<void> => {
  if (events.length === 0) return
  const answer = await post(server, `[${events.map(textOf).join(",")}]`)
  expect(answer.status, answer.text).toBe(202)
}

/** The n-th event of a source. */
export const eventOf = (source: string, n: number, payload = `{"n":${n}}`): Event =>
  makeEvent({ topic: `topic-${n % 3}`, eventId: `${source}-${n}`, source, payload })

/** So many events of a source, from one of them on. */
export const eventsOf = (source: string, count: number, first = 0): ReadonlyArray<Event> =>
  Array.from({ length: count }, (_, index) => eventOf(source, first + index))

/** An event as a service holds it. */
export interface Held {
  readonly key: string
  /** All that a mirror has to keep, as the service writes it. */
  readonly content: string
  readonly origin: string | undefined
}

/** What a service holds, in its order. */
export const heldBy = async (server: RunningServer): Promise<ReadonlyArray<Held>> => {
  const { status, text } = await get(server, "/events", { accept: "application/x-ndjson" })
  expect(status, text).toBe(200)
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [, content = ""] = /^\{"offset":\d+,(.*),"processed_at":"[^"]*"\}$/.exec(line) ?? []
      const { topic, event_id, origin } = JSON.parse(line) as Record<string, string | undefined>
      const suffix = origin === undefined ? "" : `,"origin":${JSON.stringify(origin)}`
      expect(content.endsWith(suffix)).toBe(true)
      return {
        key: `${topic}/${event_id}`,
        content: content.slice(0, content.length - suffix.length),
        origin
      }
    })
}

/** The contents that a service holds, each once, in an order of their own. */
export const contentsOf = async (server: RunningServer): Promise<ReadonlyArray<string>> => {
  const held = await heldBy(server)
  expect(new Set(held.map(({ key }) => key)).size).toBe(held.length)
  return held.map(({ content }) => content).sort()
}

/** The id of a service's store. */
export const storeIdOf = async (server: RunningServer): Promise<string> => (await stats(server)).store_id

/** What the books say of deliveries. */
export const booksOf = async (server: RunningServer) => {
  const { received, unique_processed, duplicate_dropped, conflicts } = await stats(server)
  return { received, unique: unique_processed, duplicates: duplicate_dropped, conflicts }
}

/** Waits until services hold so many events each. */
export const untilHeld = async (servers: ReadonlyArray<RunningServer>, count: number): Promise<void> => {
  for (const server of servers) {
    while ((await booksOf(server)).unique < count) await new Promise((resolve) => setImmediate(resolve))
  }
}

/** Waits until a cursor is kept at the last event of a service: all is acknowledged, and none is on its way. */
export const untilKept = async (kept: Kept, from: RunningServer): Promise<void> => {
  const { text } = await get(from, "/events?order=desc&limit=1")
  const { events } = JSON.parse(text) as { readonly events: ReadonlyArray<{ readonly offset: number }> }
  const store = await storeIdOf(from)
  const isThere = () => offsetIn(kept) === events[0]?.offset && kept.text?.includes(store)
  while (!isThere()) await new Promise((resolve) => setImmediate(resolve))
}

/** The offset of the cursor that is kept. */
export const offsetIn = ({ text }: Kept): number =>
  text === undefined ? 0 : (JSON.parse(text) as { readonly after: number }).after

/** Starts a service where another one was stopped: at its port, with its folder or another. */
export const startAgain = (
  { port, settings }: RunningServer,
  folder: string,
  further: Partial<RunningServer["settings"]> = {}
): Promise<RunningServer> => {
  const { database: _file, ...others } = settings
  return startServer({ folder, settings: { ...others, ...further, port } })
}
