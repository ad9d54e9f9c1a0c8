/**
 * Memory against SQLite: random sequences of calls, with a wall clock that jumps, restarts, kills and failed commits
 * in between, after which both layers give the same answers. The memory layer is the model; what it knows nothing of
 * (files, windows, failures) must not be seen through the port.
 */
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Logger, LogLevel, Option, Scope } from "effect"
import fc from "fast-check"
import { KeyIndexLimits, ReadingLimits } from "../../src/Config.ts"
import type { Event, EventKey } from "../../src/domain/Event.ts"
import { parseTopicPattern } from "../../src/domain/Topic.ts"
import { EventStore, type Filter, layerMemory, type Scan } from "../../src/store/EventStore.ts"
import { collidingEvent, instant } from "../support/events.ts"
import { bookOf } from "../support/sequences.ts"
import {
  copyAsKilled,
  eventsOf,
  interceptedAt,
  makeWall,
  openStore,
  type Store,
  sqliteError,
  temporaryFolder
} from "../support/stores.ts"
import { sourcesOf } from "./SequencesSuite.ts"

/** How the next commit fails: before it is done or after, and whether leaving the transaction then fails too. */
interface FailedCommit {
  readonly committed: boolean
  readonly rollbackFails: boolean
}

/** The store over SQLite with its file, its faults, and the means to close and open it. */
const makeReal = Effect.gen(function* () {
  const folder = yield* temporaryFolder
  let files = 0
  let file = `${folder}/${files}.db`
  let fault: FailedCommit | undefined
  let scope: Scope.CloseableScope
  let store: Store

  const database = () =>
    interceptedAt(file, ({ sql, run }) =>
      Effect.suspend(() => {
        if (fault === undefined || (sql !== "COMMIT" && sql !== "ROLLBACK")) return run
        if (sql === "COMMIT") {
          return Effect.zipRight(fault.committed ? run : Effect.void, sqliteError("SQLITE_IOERR_FSYNC"))
        }
        return fault.rollbackFails ? sqliteError("SQLITE_IOERR") : run
      })
    )
  const open = Effect.gen(function* () {
    scope = yield* Scope.make()
    store = yield* Scope.extend(openStore(database()), scope)
  })
  const close = Effect.suspend(() => Scope.close(scope, Exit.void))
  yield* open
  yield* Effect.addFinalizer(() => close)

  return {
    store: () => store,
    reopen: Effect.zipRight(close, open),
    /** Goes on with what a kill would have left. */
    kill: Effect.gen(function* () {
      const from = file
      file = `${folder}/${++files}.db`
      copyAsKilled(from, file)
      yield* close
      yield* open
    }),
    failing: (failed: FailedCommit, append: Effect.Effect<unknown, unknown>) =>
      Effect.gen(function* () {
        // A connection that was given up is rebuilt first: it is the append that shall fail.
        yield* store.books
        fault = failed
        const exit = yield* Effect.exit(append)
        fault = undefined
        return exit
      })
  }
})

type Real = Effect.Effect.Success<typeof makeReal>
interface Model {
  readonly store: Store
  readonly setWall: (milliseconds: number) => void
  readonly run: <A, E>(effect: Effect.Effect<A, E>) => Promise<A>
}

type Step = (model: Model, real: Real) => Effect.Effect<void, unknown>

/** A command that can always run, and does its checks itself. */
class Command implements fc.AsyncCommand<Model, Real> {
  readonly title: string
  readonly step: Step
  constructor(title: string, step: Step) {
    this.title = title
    this.step = step
  }
  check = () => true
  run = (model: Model, real: Real) => model.run(this.step(model, real))
  toString = () => this.title
}

/** Asks both the same, and holds the answers against each other. */
const same = <A, E>(title: string, ask: (store: Store) => Effect.Effect<A, E>) =>
  new Command(title, (model, real) =>
    Effect.gen(function* () {
      const expected = yield* Effect.either(ask(model.store))
      expect(yield* Effect.either(ask(real.store()))).toEqual(expected)
    })
  )

const say = (what: string, value: unknown) => `${what} ${JSON.stringify(value)}`

const append = (events: ReadonlyArray<Event>) => same(say("append", events), (store) => store.append(events))

const failAppend = (events: ReadonlyArray<Event>, failed: FailedCommit) =>
  new Command(say("failing append", { failed, events }), (model, real) =>
    Effect.gen(function* () {
      const exit = yield* real.failing(failed, real.store().append(events))
      expect(Exit.isFailure(exit)).toBe(true)
      if (failed.committed) yield* model.store.append(events)
    })
  )

const anyPattern = fc
  .constantFrom("a", "a.b", "b", "c", "a.*", "*", "*.b", "a.>", ">")
  .map((text) => Option.getOrThrow(parseTopicPattern(text)))
const anyInstant = fc
  .constantFrom("2026-11-22T10:00:00Z", "2026-11-22T10:00:00.000000001Z", "1970-01-01T00:00:00Z")
  .map(instant)
const anyFilter: fc.Arbitrary<Filter> = fc.record(
  {
    topic: anyPattern,
    eventId: fc.constantFrom("1", "2", "9"),
    source: fc.constantFrom("x", "y"),
    since: anyInstant,
    until: anyInstant
  },
  { requiredKeys: [] }
)
const anyKey: fc.Arbitrary<EventKey> = fc.record({
  topic: fc.constantFrom("a", "a.b", "c"),
  eventId: fc.constantFrom("1", "2", "04", "9")
})
const scanOf = (filter: fc.Arbitrary<Filter>, ...orders: ReadonlyArray<Scan["order"]>) =>
  fc.record({
    filter,
    order: fc.constantFrom(...orders),
    after: fc.option(fc.nat(60), { nil: undefined }),
    eventsMax: fc.integer({ min: 1, max: 20 })
  })
const inSequence = anyFilter.map((filter) => ({
  ...filter,
  topic: Option.getOrThrow(parseTopicPattern("a")),
  source: filter.source ?? "x"
}))
const anyScan = fc.oneof(
  { weight: 2, arbitrary: scanOf(anyFilter, "asc", "desc") },
  { weight: 1, arbitrary: scanOf(inSequence, "sequence") }
)
const anyEvents = fc.array(collidingEvent, { maxLength: 8 })
const anyLimit = fc.integer({ min: 1, max: 5 })

const commands = fc.commands<Model, Real, false>(
  [
    anyEvents.map(append),
    anyEvents.map(append),
    fc
      .tuple(anyEvents, fc.record({ committed: fc.boolean(), rollbackFails: fc.boolean() }))
      .map(([events, failed]) => failAppend(events, failed)),
    // The whole of what a reader sees; how it is cut into windows is each layer's own affair.
    anyScan.map((scan) =>
      same(say("read", scan), (store) => Effect.either(eventsOf(store, scan.filter, scan)))
    ),
    anyKey.map((key) => same(say("lookup", key), (store) => store.lookup(key))),
    // Every store has an id of its own.
    fc.constant(same("books", (store) => Effect.map(store.books, (books) => ({ ...books, storeId: "" })))),
    // Which of the two clocks is ahead is not the same after a restart: either every gap is old enough, or none is.
    fc
      .record({ secondsMax: fc.constantFrom(0, 3600, 3600), eventsMax: fc.constantFrom(1, 4, 100) })
      .map((limits) => same(say("declare missing", limits), (store) => store.declareMissing(limits))),
    fc
      .record({
        topic: fc.option(anyPattern, { nil: undefined }),
        source: fc.option(fc.constantFrom("x", "y"), { nil: undefined })
      })
      .map((page) =>
        same(say("sources", page), (store) =>
          Effect.map(sourcesOf(store, { ...page, limit: 2 }), (books) => books.map(bookOf))
        )
      ),
    fc
      .record({ after: fc.option(fc.constantFrom("a", "a.a", "b"), { nil: undefined }), limit: anyLimit })
      .map((page) => same(say("topics", page), (store) => store.topics(page))),
    fc
      .record({ after: fc.option(fc.nat(40), { nil: undefined }), limit: anyLimit })
      .map((page) => same(say("conflicts", page), (store) => store.conflicts(page))),
    fc
      .integer({ min: 0, max: 10_000 })
      .map((time) => new Command(say("wall clock", time), (model) => Effect.sync(() => model.setWall(time)))),
    fc.constant(new Command("reopen", (_, real) => real.reopen)),
    fc.constant(new Command("kill", (_, real) => real.kill))
  ],
  { maxCommands: 40 }
)

/** So small that keys go into runs and through merges every few events. */
const fewKeys: KeyIndexLimits["Type"] = {
  youngKeysMax: 3,
  keysPerPage: 1,
  runsPerMerge: 2,
  pagesPerStep: 1,
  filterBytesMax: 24
}

describe("EventStore, memory against SQLite", () => {
  it.live.each<readonly [string, KeyIndexLimits["Type"] | undefined]>([
    ["many keys in memory", undefined],
    ["few", fewKeys]
  ])(
    "G1, G2, G4, G5: gives the same answers in any order of calls, through restarts, kills and failed commits; with %s",
    ([_, keyLimits]) =>
      Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(commands, (commands) =>
            Effect.gen(function* () {
              const wall = makeWall(5000)
              const limits = keyLimits ?? (yield* KeyIndexLimits)
              const real = yield* Effect.provideService(makeReal, KeyIndexLimits, limits)
              const memory = Context.get(yield* Layer.build(layerMemory), EventStore)
              const model: Model = {
                store: memory,
                setWall: wall.set,
                run: (effect) =>
                  effect.pipe(
                    // So small that every read takes several windows.
                    Effect.provideService(ReadingLimits, {
                      windowRowsMax: 3,
                      windowBytesMax: 40,
                      pageStepsMax: 1,
                      pageBytesMax: 1,
                      streamBytesMax: 40,
                      feedEventsMax: 3,
                      feedBytesMax: 40
                    }),
                    Effect.provideService(KeyIndexLimits, limits),
                    Effect.withClock(wall.clock),
                    Logger.withMinimumLogLevel(LogLevel.None),
                    Effect.runPromise
                  )
              }
              yield* Effect.promise(() => fc.asyncModelRun(() => ({ model, real }), commands))
            }).pipe(Effect.scoped, Effect.runPromise)
          ),
          { numRuns: 60 }
        )
      )
  )
})
