/**
 * Two mirrors in whatever order their fibers run, killed at any step and started again, between services that lose
 * requests and answers, refuse for a while, hang, and whose stores are restored from backups at any moment. The services
 * here are the contract in a few lines, what they do with a request is done in one step, and time passes only when nobody
 * has anything to do: whoever waits for what never comes is found.
 */
import { HttpClient, HttpClientError, type HttpClientRequest, HttpClientResponse } from "@effect/platform"
import { Effect, Fiber, Logger, Random } from "effect"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import * as Mirror from "../../src/mirror/Mirror.ts"
import { runInterleaved } from "../client/interleaving.ts"

interface Event {
  readonly event_id: string
  readonly payload: unknown
  readonly origin?: string
}

/** A store: its id, and its events by their ids, each with its offset. */
class Store {
  readonly id: string
  readonly events: Map<string, Event & { readonly offset: number }>
  readonly conflicts = new Set<string>()
  #last: number

  constructor(id: string, events: Store["events"] = new Map(), last = 0) {
    this.id = id
    this.events = events
    this.#last = last
  }

  /** What is made of it when a backup of it is put into service. */
  restored(id: string, events: Store["events"]): Store {
    return new Store(id, new Map(events), this.#last + 1000)
  }

  publish(event: Event): { readonly outcome: string; readonly offset: number } {
    const known = this.events.get(event.event_id)
    const offset = ++this.#last
    if (known === undefined) {
      this.events.set(event.event_id, { ...event, offset })
      return { outcome: "stored", offset }
    }
    const isSame = known.payload === event.payload
    if (!isSame) this.conflicts.add(event.event_id)
    return { outcome: isSame ? "duplicate" : "conflict", offset: known.offset }
  }

  answer({ url, body }: HttpClientRequest.HttpClientRequest): readonly [status: number, body: unknown] {
    const { pathname, searchParams } = new URL(url)
    if (pathname === "/stats") return [200, { store_id: this.id }]
    if (pathname === "/publish") {
      const text = body._tag === "Uint8Array" ? new TextDecoder().decode(body.body) : "[]"
      const results = (JSON.parse(text) as ReadonlyArray<Event>).map((event) => this.publish(event))
      const counts = { accepted: results.length, stored: 0, duplicates: 0, conflicts: 0 }
      return [202, { status: "accepted", ...counts, results }]
    }
    const [after, limit] = [Number(searchParams.get("after")), Number(searchParams.get("limit"))]
    if (after > this.#last) return [422, problem("cursor-ahead")]
    const behind = [...this.events.values()].filter(({ offset }) => offset > after)
    const events = behind.slice(0, limit).map((event) => ({
      topic: "t",
      timestamp: "2026-11-22T10:00:00Z",
      source: "s",
      processed_at: "2026-11-22T10:00:00Z",
      ...event
    }))
    const next = events.at(-1)?.offset ?? after
    return [200, { topic: null, count: events.length, events, next, more: behind.length > limit }]
  }
}

const problem = (type: string) => ({
  type: `urn:sekali:problem:${type}`,
  title: "",
  status: 0,
  detail: "",
  instance: ""
})

const names = ["left", "right"] as const

const makeWorld = (trouble: { rate: number }) => {
  const stores = { left: new Store("left-1"), right: new Store("right-1") }
  const client = HttpClient.make((request) =>
    Effect.gen(function* () {
      const name = request.url.startsWith("http://left") ? "left" : "right"
      const lost = new HttpClientError.RequestError({ request, reason: "Transport" })
      const hang = Effect.async<never>(() => {})
      const response = (status: number, body: unknown) =>
        HttpClientResponse.fromWeb(request, new Response(JSON.stringify(body), { status }))
      const fate = (yield* Random.next) / trouble.rate
      yield* Effect.yieldNow()
      if (fate < 0.2) return yield* lost
      if (fate < 0.4) return response(503, problem("overloaded"))
      const [status, body] = stores[name].answer(request)
      yield* Effect.yieldNow()
      if (fate < 0.7) return yield* lost
      if (fate < 0.9) return yield* hang
      return fate < 1 ? response(200, "<html>") : response(status, body)
    })
  )
  const cursors = { left: [] as Array<string>, right: [] as Array<string> }
  const mirror = (from: (typeof names)[number], once: boolean) =>
    Mirror.run({
      from: `http://${from}`,
      to: from === "left" ? "http://right" : "http://left",
      once,
      pageEventsMax: 3,
      requestSecondsMax: 1
    }).pipe(
      Effect.provideService(HttpClient.HttpClient, client),
      Effect.provideService(Mirror.MirrorCursor, {
        load: Effect.sync(() => cursors[from].at(-1)),
        save: (text) =>
          Effect.zipRight(
            Effect.yieldNow(),
            Effect.sync(() => void cursors[from].push(text))
          )
      })
    )
  return { stores, cursors, mirror }
}

const name = fc.constantFrom(...names)

/** What happens, one thing after the other, with so many turns of everybody in between. */
const happening = fc.tuple(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ what: fc.constant("publish"), at: name, id: fc.nat(30) }) },
    { weight: 1, arbitrary: fc.record({ what: fc.constant("publish two ways"), at: name, id: fc.nat(30) }) },
    {
      weight: 2,
      arbitrary: fc.record({ what: fc.constantFrom("kill", "kill, cursor older"), at: name, id: fc.nat() })
    },
    {
      weight: 1,
      arbitrary: fc.record({ what: fc.constantFrom("back up", "restore"), at: name, id: fc.nat() })
    },
    { weight: 1, arbitrary: fc.record({ what: fc.constant("wait"), at: name, id: fc.nat(20_000) }) }
  ),
  fc.nat(60)
)

describe("two mirrors", () => {
  it("make two stores equal in the end, whatever happens before", async () => {
    const script = fc.array(happening, { minLength: 5, maxLength: 40, size: "max" })
    const property = fc.asyncProperty(
      script,
      fc.constantFrom(0.01, 0.3, 0.7),
      fc.integer(),
      (script, rate, seed) =>
        Effect.gen(function* () {
          const trouble: { rate: number } = { rate }
          const { stores, cursors, mirror } = makeWorld(trouble)
          const backups = {
            left: stores.left.restored("", new Map()),
            right: stores.right.restored("", new Map())
          }
          const usedTwice = new Set<string>()
          let stored = 0
          const running = {
            left: yield* Effect.fork(mirror("left", false)),
            right: yield* Effect.fork(mirror("right", false))
          }
          for (const [{ what, at, id }, turns] of script) {
            const event_id = `e${id}`
            if (what === "publish") stores[at].publish({ event_id, payload: 0 })
            if (what === "publish two ways") {
              usedTwice.add(event_id)
              stores[at].publish({ event_id, payload: names.indexOf(at) })
            }
            if (what === "back up") backups[at] = stores[at].restored("", stores[at].events)
            if (what === "restore")
              stores[at] = stores[at].restored(`${at}-${++stored + 1}`, backups[at].events)
            if (what === "wait") yield* Effect.sleep(id)
            if (what.startsWith("kill")) {
              yield* Fiber.interrupt(running[at])
              if (what.endsWith("older")) cursors[at].splice(-2)
              running[at] = yield* Effect.fork(mirror(at, false))
            }
            yield* Effect.replicateEffect(Effect.yieldNow(), turns)
          }
          for (const at of names) yield* Fiber.interrupt(running[at])
          trouble.rate = 0.001
          for (const at of ["left", "right", "left"] as const) yield* mirror(at, true)

          const { left, right } = stores
          expect([...left.events.keys()].sort()).toEqual([...right.events.keys()].sort())
          for (const [id, { payload }] of left.events) {
            if (right.events.get(id)?.payload === payload) continue
            expect(usedTwice).toContain(id)
            expect(left.conflicts.has(id) || right.conflicts.has(id)).toBe(true)
          }
        }).pipe(
          Effect.withRandom(Random.make(seed)),
          Effect.provide(Logger.remove(Logger.defaultLogger)),
          (effect) => runInterleaved(seed, effect)
        )
    )
    await fc.assert(property, { numRuns: 40 })
  })
})
