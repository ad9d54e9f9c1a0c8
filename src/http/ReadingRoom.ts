/**
 * The bound on what readers make the service hold (G6): the bytes of answers that are under way, from when they are put
 * together until the last of them is sent. A reader that does not read keeps its bytes, and nobody else's; when there
 * is no room, others are told to come again.
 */
import { Context, Effect, type Scope } from "effect"
import { Settings } from "../Config.ts"
import { ReadersOverloaded } from "../domain/Errors.ts"

/** How many answers are put together at a time; more would only wait for the same store. */
const buildersMax = 4

/** Room for answers. */
export class ReadingRoom extends Context.Tag("sekali/ReadingRoom")<
  ReadingRoom,
  {
    /** Puts an answer together, when it is its turn. */
    readonly build: <A, E, R>(answer: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
    /** Takes room until the scope closes, which the scope of a request does when its answer is sent. */
    readonly hold: (bytes: number) => Effect.Effect<void, ReadersOverloaded, Scope.Scope>
    /** A hold whose bytes change with what is under way, at first none: sets them, or says that there is no room. */
    readonly lease: Effect.Effect<(bytes: number) => boolean, never, Scope.Scope>
  }
>() {}

/** Room for `readBytesMax` bytes. A single answer always finds room where there is no other. */
export const make: Effect.Effect<Context.Tag.Service<ReadingRoom>, never, Settings> = Effect.gen(
  function* () {
    const { readBytesMax } = yield* Settings
    const turns = yield* Effect.makeSemaphore(buildersMax)
    let held = 0
    return ReadingRoom.of({
      // A turn that comes to a fiber which is interrupted before it runs would be lost, hence without interruption.
      build: (answer) => Effect.uninterruptible(turns.withPermits(1)(answer)),
      hold: (bytes) =>
        Effect.asVoid(
          Effect.acquireRelease(
            Effect.suspend(() => {
              if (held > 0 && held + bytes > readBytesMax) return new ReadersOverloaded()
              held += bytes
              return Effect.void
            }),
            () =>
              Effect.sync(() => {
                held -= bytes
              })
          )
        ),
      lease: Effect.suspend(() => {
        let leased = 0
        const set = (bytes: number): boolean => {
          held -= leased
          leased = held > 0 && held + bytes > readBytesMax ? 0 : bytes
          held += leased
          return leased === bytes
        }
        return Effect.acquireRelease(Effect.succeed(set), () => Effect.sync(() => void set(0)))
      })
    })
  }
)
