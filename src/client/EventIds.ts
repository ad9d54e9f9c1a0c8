/**
 * Ids for events that have none. An id is made once, before the event is first sent, and goes with every retry: this is
 * what lets the service know it again (G2).
 *
 * Of one maker all ids differ, and those of one source grow in the order they were made (compared as texts, by code
 * unit), also when the wall clock stands still or falls. Between processes with the same source they differ by the
 * chance that goes into them, which is as good as the `Random` they are made with.
 */
import { Clock, Effect, Random, Utils } from "effect"
import { monotonicFactory } from "ulid"

/** Makes ids. */
export interface EventIds {
  /** The next id for an event of this source. */
  readonly next: (source: string) => Effect.Effect<string>
}

/** An id has at most 255 characters: a longer source is cut to leave room for what comes behind it. */
const sourceCodePointsMax = 220

const prefixOf = (source: string): string =>
  source.length <= sourceCodePointsMax ? source : [...source].slice(0, sourceCodePointsMax).join("")

// Chance that can be asked without being an effect, so that an id is made in one step.
const makeChance = Effect.map(
  Effect.replicateEffect(Random.nextIntBetween(0, 2 ** 32), 4),
  ([a = 0, b = 0, c = 0, d = 0]) => new Utils.PCGRandom(a, b, c, d)
)

/** The wall clock in whole milliseconds, from 1 on: the clocks of tests may begin at 0. */
const wallMillis = Effect.map(Clock.currentTimeMillis, (millis) => Math.max(1, Math.floor(millis)))

/** Ids of the form `<source>-<ULID>`. */
export const ulid: Effect.Effect<EventIds> = Effect.map(makeChance, (chance) => {
  // Within a millisecond, and while the clock is behind, it counts the random part up.
  const nextUlid = monotonicFactory(() => chance.number())
  return { next: (source) => Effect.map(wallMillis, (now) => `${prefixOf(source)}-${nextUlid(now)}`) }
})

const counterMax = 9999

/**
 * Ids of the form `<source>-<epoch ms>-<counter>-<hash>`. The counter begins anew with each millisecond; the hash of
 * both, salted by chance, keeps two processes apart that make ids for one source at the same time.
 */
export const counter: Effect.Effect<EventIds> = Effect.map(makeChance, (chance) => {
  const salt = `${chance.number()}-${chance.number()}`
  let last = 0
  let count = 0
  return {
    next: (source) =>
      Effect.map(wallMillis, (now) => {
        if (now > last || count === counterMax) {
          last = Math.max(now, last + 1)
          count = 0
        } else {
          count++
        }
        const place = `${String(last).padStart(13, "0")}-${String(count).padStart(4, "0")}`
        return `${prefixOf(source)}-${place}-${hashOf(`${salt}-${place}`)}`
      })
  }
})

// FNV-1a, 32 bits, as eight hexadecimal digits.
const hashOf = (text: string): string => {
  let hash = 0x811c9dc5
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  }
  return (hash >>> 0).toString(16).padStart(8, "0")
}
