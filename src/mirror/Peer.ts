/**
 * One of the two services, as a mirror asks it: which store it has, and what is in it. Questions are asked again until
 * they are answered, with pauses like a publisher's; the log tells when trouble begins and when it is over.
 */
import { type HttpClient, HttpClientRequest } from "@effect/platform"
import { Clock, Data, Effect, Option, Schema } from "effect"
import {
  type Called,
  call,
  detailOf,
  foreign,
  passing,
  problemTypeOf,
  type Troubled
} from "../client/Call.ts"
import { jitter } from "../client/Delivery.ts"
import type { Trouble } from "../client/Errors.ts"
import { StatsAnswer } from "../http/Api.ts"
import { PeerRefused, type Role } from "./Errors.ts"
import { type Page, parsePage } from "./Page.ts"

/** The store does not know the offset: it is another one than the offset is of, or an older state of it. */
export class CursorRefused extends Data.TaggedError("CursorRefused")<{ readonly detail: string }> {}

/** A service that is read from or written to. */
export interface Peer {
  readonly role: Role
  readonly address: string
  /** The id of the store that it has now. */
  readonly storeId: Effect.Effect<string, PeerRefused>
  /** The events behind an offset. */
  readonly pageAfter: (offset: number) => Effect.Effect<Page, PeerRefused | CursorRefused>
  /** A request met with trouble, and is going to be sent again. */
  readonly troubled: (trouble: Trouble) => Effect.Effect<void>
  /** A request was answered. */
  readonly answered: Effect.Effect<void>
}

/** What a peer needs. */
export interface PeerOptions {
  readonly role: Role
  readonly address: string
  readonly client: HttpClient.HttpClient
  readonly pageEventsMax: number
  readonly requestSecondsMax: number
  readonly backoffMillisFirst: number
  readonly backoffMillisMax: number
  /** Called when trouble is over: the service may be another one than before. */
  readonly onRecovered: () => void
}

const decodeStats = Schema.decodeUnknownOption(Schema.parseJson(StatsAnswer.pick("store_id")))

/** A service at an address. */
export const make = (options: PeerOptions): Peer => {
  const { role, address, client, pageEventsMax, requestSecondsMax, onRecovered } = options
  let troubledSince: bigint | undefined

  const troubled = ({ detail }: Trouble) =>
    Effect.flatMap(Clock.currentTimeNanos, (now) => {
      if (troubledSince !== undefined) return Effect.void
      troubledSince = now
      return Effect.logWarning("no answer; trying again until there is one").pipe(
        Effect.annotateLogs({ [role]: address, trouble: detail })
      )
    })

  const answered = Effect.flatMap(Clock.currentTimeNanos, (now) => {
    if (troubledSince === undefined) return Effect.void
    const seconds = Number(now - troubledSince) / 1e9
    troubledSince = undefined
    onRecovered()
    return Effect.logInfo("answers again").pipe(
      Effect.annotateLogs({ [role]: address, seconds: Number(seconds.toFixed(1)) })
    )
  })

  const judge = <A>(path: string, called: Called, read: (body: string) => Option.Option<A>): Judged<A> => {
    if (called._tag === "Trouble") return called
    const refused = (status: number, detail: string, type?: string): Judged<A> => ({
      _tag: "Refused",
      error: new PeerRefused({ role, address, path, status, detail, type })
    })
    if (called._tag === "Unsendable") return refused(0, called.detail)
    const { status, body } = called
    const answer = status === 200 ? read(body) : Option.none()
    if (Option.isSome(answer)) return { _tag: "Answer", answer: answer.value }
    if (status >= 200 && status < 300) return foreign(called)
    return passing(called) ?? refused(status, detailOf(called), problemTypeOf(called))
  }

  const ask = <A>(
    path: () => string,
    read: (body: string) => Option.Option<A>,
    onTimeout: () => void = () => {}
  ): Effect.Effect<A, PeerRefused> =>
    Effect.gen(function* () {
      for (let attempt = 1; ; attempt++) {
        const asked = path()
        const request = HttpClientRequest.get(`${address}${asked}`, { acceptJson: true })
        const judged = judge(asked, yield* call(client, request, requestSecondsMax), read)
        if (judged._tag === "Refused") return yield* judged.error
        if (judged._tag === "Answer") {
          yield* answered
          return judged.answer
        }
        const { trouble } = judged
        yield* troubled(trouble)
        if (trouble.kind === "timeout") onTimeout()
        yield* Effect.sleep(Math.ceil(trouble.retryAfterMillis + (yield* jitter(options, attempt))))
      }
    })

  // A page that does not arrive in time never will, unless it is a smaller one.
  let limit = pageEventsMax
  const halve = () => {
    limit = Math.ceil(limit / 2)
  }

  return {
    role,
    address,
    storeId: ask(
      () => "/stats",
      (body) => Option.map(decodeStats(body), ({ store_id }) => store_id)
    ),
    pageAfter: (offset) =>
      ask(
        () => `/events?after=${offset}&limit=${limit}`,
        (body) => parsePage(body, offset),
        halve
      ).pipe(
        Effect.tap(() => {
          limit = Math.min(limit * 2, pageEventsMax)
        }),
        Effect.catchTag("PeerRefused", (error) =>
          Effect.fail(
            offset > 0 && error.type?.startsWith("cursor-")
              ? new CursorRefused({ detail: error.detail })
              : error
          )
        )
      ),
    troubled,
    answered
  }
}

/** What an answer is to the question. */
type Judged<A> =
  | { readonly _tag: "Answer"; readonly answer: A }
  | { readonly _tag: "Refused"; readonly error: PeerRefused }
  | Troubled
