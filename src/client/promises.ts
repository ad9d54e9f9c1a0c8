/**
 * The publisher and the follower for people who do not use Effect: the same ones, on `fetch`, with promises and async
 * iterators. This is an edge: effects are run here.
 */
import { FetchHttpClient, type HttpClient } from "@effect/platform"
import { Cause, Effect, Exit, Scope, Stream } from "effect"
import * as Follower from "./Follower.ts"
import type { BaseOptions, Retry } from "./Options.ts"
import { type EventToPublish, make, type PublisherStats, type PublishOutcome } from "./Publisher.ts"
import type { Delivery } from "./Sequence.ts"

/** The options of a publisher with promises. */
export interface PromisePublisherOptions extends BaseOptions {
  /** Told of each retry; it must return at once. */
  readonly onRetry?: ((retry: Retry) => void) | undefined
}

/** What can be given with a call. */
export interface CallOptions {
  /** Ends the wait; the call then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined
}

/**
 * A publisher with promises. Its calls reject with the errors of `Errors.ts`, which can be told apart by their `_tag`.
 */
export interface PromisePublisher {
  /** Publishes an event and resolves with its outcome. Where the wait is ended early, a taken event is sent still. */
  readonly publish: (event: EventToPublish, options?: CallOptions) => Promise<PublishOutcome>
  /**
   * Resolves once there is room for the event, with a function that gives a promise of its outcome. To keep memory
   * bounded, wait for the one before calling again.
   */
  readonly submit: (
    event: EventToPublish,
    options?: CallOptions
  ) => Promise<(options?: CallOptions) => Promise<PublishOutcome>>
  /** What it has done so far. */
  readonly stats: () => PublisherStats
  /**
   * Takes nothing new and resolves when every event has its outcome. Where the wait is ended early, it stops sending, and
   * the outcome of what is left is unknown. Without this, events that were not sent yet go with the process.
   */
  readonly close: (options?: CallOptions) => Promise<void>
}

/** Makes a publisher, on `fetch`. Rejects with `InvalidOptions` where these are wrong. */
export const createPublisher = async (options: PromisePublisherOptions): Promise<PromisePublisher> => {
  const { onRetry } = options
  const scope = Effect.runSync(Scope.make())
  const publisher = await run(
    make({
      ...options,
      onRetry: onRetry === undefined ? undefined : (retry) => Effect.sync(() => onRetry(retry))
    }).pipe(Scope.extend(scope), Effect.provide(FetchHttpClient.layer), Effect.withTracerEnabled(false))
  )
  return {
    publish: async (event, call) => {
      call?.signal?.throwIfAborted()
      return run(publisher.publish(event), call)
    },
    submit: async (event, call) => {
      call?.signal?.throwIfAborted()
      const outcome = await run(publisher.submit(event), call)
      return (waiting) => run(outcome, waiting)
    },
    stats: () => Effect.runSync(publisher.stats),
    close: (call) => run(Effect.ensuring(publisher.close, Scope.close(scope, Exit.void)), call)
  }
}

/** The options of a follower with promises. */
export interface PromiseFollowOptions extends Follower.BaseFollowOptions, CallOptions {
  /** Told of each interruption; it must return at once. */
  readonly onRetry?: ((retry: Follower.FollowRetry) => void) | undefined
}

/**
 * Follows a topic or a pattern, on `fetch`: `for await (const event of followEvents({ url, topic }))`. The loop ends when
 * it is left, throws the reason of the signal, `InvalidOptions`, or `FollowRefused`.
 */
export const followEvents = (options: PromiseFollowOptions): AsyncIterable<Follower.FollowedEvent> =>
  iterable(Follower.events(withEffects(options)), options.signal)

/** The same, with the events of each topic and source in sequence. */
export const followInSequence = (
  options: PromiseFollowOptions & Follower.SequenceOptions
): AsyncIterable<Delivery> => iterable(Follower.inSequence(withEffects(options)), options.signal)

const withEffects = <O extends PromiseFollowOptions>(options: O) => {
  const { onRetry } = options
  return {
    ...options,
    onRetry:
      onRetry === undefined ? undefined : (retry: Follower.FollowRetry) => Effect.sync(() => onRetry(retry))
  }
}

const iterable = <A, E>(
  stream: Stream.Stream<A, E, HttpClient.HttpClient>,
  signal: AbortSignal | undefined
): AsyncIterable<A> => ({
  async *[Symbol.asyncIterator]() {
    signal?.throwIfAborted()
    const aborted = Effect.async<void>((resume) => {
      const abort = () => resume(Effect.void)
      signal?.addEventListener("abort", abort, { once: true })
      return Effect.sync(() => signal?.removeEventListener("abort", abort))
    })
    yield* Stream.toAsyncIterable(
      stream.pipe(Stream.interruptWhen(aborted), Stream.provideLayer(FetchHttpClient.layer))
    )
    signal?.throwIfAborted()
  }
})

const run = async <A, E>(effect: Effect.Effect<A, E>, { signal }: CallOptions = {}): Promise<A> => {
  const exit = await Effect.runPromiseExit(effect, { ...(signal === undefined ? {} : { signal }) })
  if (Exit.isSuccess(exit)) return exit.value
  if (Cause.isInterruptedOnly(exit.cause)) signal?.throwIfAborted()
  throw Cause.squash(exit.cause)
}
