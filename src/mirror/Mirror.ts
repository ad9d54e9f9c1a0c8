/**
 * Copies the events of one aggregator to another (G9): reads them by offset, publishes them with their key, content, time
 * and origin, and goes on with what comes. Two of them, one each way, make two aggregators equal; any number may run at
 * once, in rings as well, and be killed and started again at any time, because publishing is idempotent.
 *
 * It needs an `HttpClient`, something that keeps its cursor, and the Clock and Random that every Effect has.
 */
import { HttpClient } from "@effect/platform"
import { Effect } from "effect"
import { InvalidOptions } from "../client/Errors.ts"
import { readAddress } from "../client/Options.ts"
import * as Publisher from "../client/Publisher.ts"
import type { MirrorError } from "./Errors.ts"
import { type MirrorCursor, makeKeeper } from "./MirrorCursor.ts"
import * as Peer from "./Peer.ts"
import { type Copying, type MirrorCounts, session } from "./Session.ts"

export * from "./Errors.ts"
export { MirrorCursor } from "./MirrorCursor.ts"
export type { MirrorCounts } from "./Session.ts"

/** What a mirror is told. Only the two addresses are required. */
export interface MirrorOptions {
  /** Where events are read, such as `http://127.0.0.1:8080`. */
  readonly from: string
  /** Where they are published to. */
  readonly to: string
  /** Whether to end when all that is there is copied; false. */
  readonly once?: boolean | undefined
  /** The longest pause before a store that had nothing more is asked again; 250 ms. */
  readonly pollMillisMax?: number | undefined
  /** Events of a page; 1,000, which is the most. */
  readonly pageEventsMax?: number | undefined
  /** How long to wait for an answer before a request is sent again; 30 s. */
  readonly requestSecondsMax?: number | undefined
  /** The longest random pause before that; 5 s. */
  readonly backoffMillisMax?: number | undefined
}

/** The bounds of the first pause after trouble. */
const backoffMillisFirst = 100

/** Room for the largest event that a service can be set to take. */
const bufferBytesMax = 128 * 1024 ** 2

/** The pause before copying begins anew, so that addresses that lead now here, now there, are not asked without end. */
const againMillis = 100

/** How often the log says what was done, if anything was. */
const tellSeconds = 60

/**
 * Mirrors until it is interrupted; or, where that is wanted, until all is copied, and gives back what was done. What
 * passes by itself is waited out. At most two pages of events are held at a time.
 */
export const run = (
  options: MirrorOptions
): Effect.Effect<MirrorCounts, MirrorError, HttpClient.HttpClient | MirrorCursor> =>
  Effect.gen(function* () {
    const { from, to, once, pollMillisMax, pageEventsMax } = yield* resolve(options)
    const { requestSecondsMax = 30, backoffMillisMax = 5000 } = options
    const retrying = { requestSecondsMax, backoffMillisFirst, backoffMillisMax }
    const asked: Copying["asked"] = { at: undefined }
    const peerOptions = {
      client: yield* HttpClient.HttpClient,
      pageEventsMax,
      ...retrying,
      onRecovered: () => {
        asked.at = undefined
      }
    }
    const target = Peer.make({ role: "to", address: to, ...peerOptions })
    const publisher = yield* Publisher.make({
      url: to,
      bufferBytesMax,
      ...retrying,
      // What is not acknowledged when the mirror ends is sent by the next one.
      closeSecondsMax: 0,
      onRetry: ({ trouble }) => target.troubled(trouble)
    })
    const counts = { read: 0, sent: 0, stored: 0, duplicates: 0, conflicts: 0, skipped: 0, refused: 0 }
    const copying: Copying = {
      source: Peer.make({ role: "from", address: from, ...peerOptions }),
      target,
      publisher,
      keeper: yield* makeKeeper,
      counts,
      once,
      pollMillisMax,
      asked
    }
    const tell = (what: string) => Effect.suspend(() => Effect.logInfo(`${what}: ${countsText(counts)}`))
    yield* Effect.forkScoped(tellAsItGoes(counts, tell("mirrored")))
    return yield* copyAll(copying).pipe(
      Effect.zipRight(tell("all is copied")),
      Effect.as(counts),
      Effect.onInterrupt(() => tell("stopped"))
    )
  }).pipe(Effect.scoped)

const resolve = (options: MirrorOptions) =>
  Effect.suspend(() => {
    const faults: Array<string> = []
    const { once = false, pollMillisMax = 250, pageEventsMax = 1000 } = options
    const from = readAddress("from", options.from, faults)
    const to = readAddress("to", options.to, faults)
    if (!(pollMillisMax >= 1 && pollMillisMax <= 3_600_000)) {
      faults.push(`pollMillisMax must be a number from 1 to 3600000, not ${pollMillisMax}`)
    }
    if (!(Number.isInteger(pageEventsMax) && pageEventsMax >= 1 && pageEventsMax <= 1000)) {
      faults.push(`pageEventsMax must be a whole number from 1 to 1000, not ${pageEventsMax}`)
    }
    return faults.length > 0
      ? new InvalidOptions({ faults })
      : Effect.succeed({ from, to, once, pollMillisMax, pageEventsMax })
  })

/** Copies between one pair of stores after the other, as they come to stand at the two addresses. */
const copyAll = Effect.fnUntraced(function* (copying: Copying) {
  const again = (why: string, about: Readonly<Record<string, string>>) =>
    Effect.logWarning(why).pipe(
      Effect.annotateLogs(about),
      Effect.zipRight(Effect.sleep(againMillis)),
      Effect.as(false)
    )
  const { keeper } = copying
  let isDone = false
  while (!isDone) {
    isDone = yield* session(copying).pipe(
      Effect.as(true),
      Effect.catchTags({
        StoreChanged: ({ role, was, is }) =>
          again("another store is there than before", { side: role, was, is }),
        CursorRefused: ({ detail }) => {
          const kept = keeper.kept()
          const forget = kept === undefined ? Effect.void : keeper.keep({ ...kept, after: 0 })
          return Effect.zipRight(
            forget,
            again("the cursor is not known there; reading again from the start", { detail })
          )
        }
      })
    )
  }
})

/** Tells every so often what was done, if anything was. */
const tellAsItGoes = Effect.fnUntraced(function* (counts: Readonly<MirrorCounts>, tell: Effect.Effect<void>) {
  for (let told = 0; ; told = counts.read) {
    yield* Effect.sleep(`${tellSeconds} seconds`)
    if (counts.read > told) yield* tell
  }
})

const countsText = (counts: MirrorCounts): string =>
  Object.entries(counts)
    .map(([name, count]) => `${count} ${name}`)
    .join(", ")
