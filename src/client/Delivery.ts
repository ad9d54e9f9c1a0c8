/**
 * A batch on its way: attempt after attempt until each of its events has an outcome, or a reason for having none. What
 * the service refuses is taken apart, so that one bad event does not keep the others: of a refused request nothing was
 * stored, and the rest of it is a new request.
 */
import type { HttpClient } from "@effect/platform"
import { Array as Arr, Clock, Effect, Exit, Random } from "effect"
import type { Fault } from "../domain/Errors.ts"
import type { Buffer, Item, Settlement } from "./Buffer.ts"
import { GaveUp, Refused } from "./Errors.ts"
import { bodyOf } from "./EventToPublish.ts"
import { type Answer, exchange } from "./Exchange.ts"
import type { Resolved } from "./Options.ts"

/** Requests that were sent, by all that send. */
export interface SentCounts {
  attempts: number
  retries: number
}

/** What a delivery needs. */
export interface DeliveryContext {
  readonly client: HttpClient.HttpClient
  readonly options: Resolved
  readonly buffer: Buffer
  readonly counts: SentCounts
}

type Batch = ReadonlyArray<Item>

/** Delivers a batch: when it ends, all its events are settled. */
export const deliver = (context: DeliveryContext, batch: Batch): Effect.Effect<void> =>
  Effect.gen(function* () {
    const startedAt = yield* Clock.currentTimeNanos
    const toSend = [batch]
    for (let next = toSend.shift(); next !== undefined; next = toSend.shift()) {
      toSend.unshift(...(yield* request(context, next, startedAt)))
    }
  })

/** Sends one request until it is answered; gives back what is left to be sent, in other requests. */
const request = (
  { client, options, buffer, counts }: DeliveryContext,
  batch: Batch,
  startedAt: bigint
): Effect.Effect<ReadonlyArray<Batch>> =>
  Effect.gen(function* () {
    const body = bodyOf(batch.map(({ event }) => event))
    for (let attempt = 1; ; attempt++) {
      counts.attempts++
      if (attempt > 1) counts.retries++
      for (const item of batch) item.sent = true
      const answer = yield* exchange(client, options, { body, events: batch.length, attempt })
      if (answer._tag === "Accepted") {
        yield* buffer.settle(Arr.zipWith(batch, answer.told, (item, told) => [item, Exit.succeed(told)]))
        return []
      }
      if (answer._tag === "Refusal") {
        const { settlements, rest } = takeApart(batch, answer)
        yield* buffer.settle(settlements)
        return rest
      }
      const { trouble } = answer
      const waitMillis = Math.ceil(trouble.retryAfterMillis + (yield* jitter(options, attempt)))
      const elapsedMillis = Number((yield* Clock.currentTimeNanos) - startedAt) / 1e6
      if (attempt >= options.attemptsMax || elapsedMillis + waitMillis > options.retrySecondsMax * 1000) {
        const gaveUp = new GaveUp({ attempts: attempt, trouble })
        yield* buffer.settle(batch.map((item) => [item, Exit.fail(gaveUp)]))
        return []
      }
      yield* options.onRetry({ attempts: attempt, events: batch.length, waitMillis, trouble })
      yield* Effect.sleep(waitMillis)
    }
  })

/**
 * Full jitter: anything from nothing to the bound, which doubles with each attempt. Where many met the same trouble, they
 * do not come back at the same moment.
 */
export const jitter = (
  { backoffMillisFirst, backoffMillisMax }: Pick<Resolved, "backoffMillisFirst" | "backoffMillisMax">,
  attempt: number
): Effect.Effect<number> =>
  Random.nextRange(0, Math.min(backoffMillisMax, backoffMillisFirst * 2 ** Math.min(attempt - 1, 50)))

type Refusal = Extract<Answer, { readonly _tag: "Refusal" }>

interface Parts {
  readonly settlements: ReadonlyArray<Settlement>
  readonly rest: ReadonlyArray<Batch>
}

const takeApart = (batch: Batch, { status, detail, faults }: Refusal): Parts => {
  const refused = (item: Item, faults: ReadonlyArray<Fault>): Settlement => [
    item,
    Exit.fail(new Refused({ status, detail, faults }))
  ]
  if (status === 413 && batch.length > 1) {
    const middle = Math.ceil(batch.length / 2)
    return { settlements: [], rest: [batch.slice(0, middle), batch.slice(middle)] }
  }
  const named = batch.flatMap((item, index) => {
    const ofItem = faults.get(index)
    return ofItem === undefined ? [] : [refused(item, ofItem)]
  })
  // A refusal that names no event is one of them all.
  if (named.length === 0) return { settlements: batch.map((item) => refused(item, [])), rest: [] }
  const rest = batch.filter((_item, index) => !faults.has(index))
  return { settlements: named, rest: rest.length === 0 ? [] : [rest] }
}
