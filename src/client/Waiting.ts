/**
 * Waiting no longer than so long. `Effect.timeout` would do, but runs its race where it cannot be interrupted, and
 * counts on the interruption reaching the fibers of the race; one that comes just before these are made is lost, and
 * the wait goes on to its end. Here the wait itself can be interrupted at every moment.
 */
import { Deferred, type Duration, Effect, Fiber } from "effect"

/** What an effect gives, or what `onTimeout` gives if it takes longer; it is interrupted then. */
export const within = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  duration: Duration.DurationInput,
  onTimeout: () => A
): Effect.Effect<A, E, R> =>
  Effect.flatMap(Deferred.make<A, E>(), (first) => {
    const race = Effect.all([
      Effect.fork(Effect.intoDeferred(Effect.interruptible(effect), first)),
      Effect.fork(Effect.interruptible(Effect.delay(Deferred.sync(first, onTimeout), duration)))
    ])
    return Effect.acquireUseRelease(race, () => Deferred.await(first), Fiber.interruptAll)
  })
