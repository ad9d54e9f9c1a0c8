/**
 * The pipeline for tests: the real Intake and Consumer over a store in memory whose appends a test can watch, hold up
 * and let fail; and publishers that do with it what a request does.
 */
import { Clock, Context, Deferred, Duration, Effect, Layer, type Scope } from "effect"
import { defaults, Settings, type SettingsShape } from "../../src/Config.ts"
import type { Draining, Overloaded, StoreError } from "../../src/domain/Errors.ts"
import { StoreUnavailable } from "../../src/domain/Errors.ts"
import { type Event, type Outcome, packed } from "../../src/domain/Event.ts"
import * as Consumer from "../../src/pipeline/Consumer.ts"
import * as Feed from "../../src/pipeline/Feed.ts"
import * as Intake from "../../src/pipeline/Intake.ts"
import { EventStore, layerMemory } from "../../src/store/EventStore.ts"
import * as Metrics from "../../src/telemetry/Metrics.ts"
import type { Store } from "./stores.ts"

/** The queue, as its users see it. */
export type Queue = Context.Tag.Service<typeof Intake.Intake>

/** What happens before an append reaches the store; `attempt` counts the appends from 1. */
export type Script = (events: ReadonlyArray<Event>, attempt: number) => Effect.Effect<void, StoreError>

/** A commit that failed as a disk makes it fail. */
export const unavailable = new StoreUnavailable({ trouble: "io", cause: new Error("injected") })

/** A store whose appends go through a script, which a test may change at any time. */
export const scriptedStore = (store: Store) => {
  let script: Script = () => Effect.void
  const appends: Array<ReadonlyArray<Event>> = []
  let running = 0
  let runningMost = 0
  const append = (events: ReadonlyArray<Event>) =>
    Effect.suspend(() => {
      appends.push(events)
      runningMost = Math.max(runningMost, ++running)
      return Effect.zipRight(script(events, appends.length), store.append(events))
    }).pipe(
      Effect.ensuring(
        Effect.sync(() => {
          running--
        })
      )
    )
  return {
    store: { ...store, append } satisfies Store,
    /** The events of every append that was tried, in their order. */
    appends,
    /** The most appends that were under way at once. */
    runningMost: () => runningMost,
    script: (next: Script) => {
      script = next
    }
  }
}

/** The store in memory. */
export const memoryStore = Effect.map(Layer.build(layerMemory), (context) => Context.get(context, EventStore))

const settingsLayer = (settings: Partial<SettingsShape>) =>
  Layer.succeed(Settings, { ...defaults, ...settings })

/** An Intake alone. */
export const openIntake = (settings: Partial<SettingsShape> = {}): Effect.Effect<Queue, never, Scope.Scope> =>
  Effect.map(Layer.build(Layer.provide(Intake.layer, settingsLayer(settings))), (context) =>
    Context.get(context, Intake.Intake)
  )

/** A Feed alone. */
export const openFeed = (store: Store, settings: Partial<SettingsShape> = {}) =>
  Effect.map(
    Layer.build(Feed.layer.pipe(Layer.provide([settingsLayer(settings), Layer.succeed(EventStore, store)]))),
    (context) => Context.get(context, Feed.Feed)
  )

/** A Consumer that takes from an Intake and appends to a store; it runs until the scope closes. */
export const startConsumer = (
  intake: Queue,
  store: Store,
  settings: Partial<SettingsShape> = {},
  feed?: Context.Tag.Service<typeof Feed.Feed>
) =>
  Layer.build(
    Consumer.layer.pipe(
      Layer.provide(feed === undefined ? Feed.layer : Layer.succeed(Feed.Feed, feed)),
      Layer.provide([settingsLayer(settings), Metrics.layer]),
      Layer.provide(Layer.succeed(Intake.Intake, intake)),
      Layer.provide(Layer.succeed(EventStore, store))
    )
  ).pipe(Effect.map((context) => Context.get(context, Consumer.Consumer)))

/** Intake and Consumer over a scripted store in memory. */
export const startPipeline = (settings: Partial<SettingsShape> = {}) =>
  Effect.gen(function* () {
    const scripted = scriptedStore(yield* memoryStore)
    const intake = yield* openIntake(settings)
    const feed = yield* openFeed(scripted.store, settings)
    const consumer = yield* startConsumer(intake, scripted.store, settings, feed)
    return { ...scripted, intake, feed, consumer }
  })

/** Publishes as a request does: takes room, offers, and waits for what became of it. */
export const publish = (
  intake: Queue,
  events: ReadonlyArray<Event>,
  bytes = events.length
): Effect.Effect<ReadonlyArray<Outcome>, Overloaded | Draining | StoreError> =>
  Effect.scoped(
    Effect.gen(function* () {
      const room = yield* intake.admit(bytes)
      return yield* Deferred.await(yield* room.offer(packed(events), yield* Clock.currentTimeNanos))
    })
  )

/** Lets every fiber run as far as it comes without the clock. */
export const settled: Effect.Effect<void> = Effect.repeatN(Effect.yieldNow(), 200)

/** A clock on which every sleep is over at once, and has taken its time. */
export const hastyClock = (): Clock.Clock => {
  let now = 0
  return Object.assign(Clock.make(), {
    unsafeCurrentTimeMillis: () => now,
    currentTimeMillis: Effect.sync(() => now),
    sleep: (duration: Duration.Duration) =>
      Effect.zipRight(
        Effect.sync(() => {
          now += Duration.toMillis(duration)
        }),
        Effect.yieldNow()
      )
  })
}
