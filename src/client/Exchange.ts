/**
 * One attempt: a request with a batch of events, and what its answer means for them. Only an answer that fits the
 * contract and the request is a success; whatever else can pass by itself (no answer, 408, 429, 5xx, the page of some
 * proxy) is trouble, after which the same request is sent again, and other statuses are refusals.
 */
import { HttpBody, type HttpClient, HttpClientRequest } from "@effect/platform"
import { Effect, Either, Schema } from "effect"
import type { Fault } from "../domain/Errors.ts"
import { attemptHeader, PublishAnswer, problems } from "../http/Api.ts"
import type { Told } from "./Buffer.ts"
import { call, detailOf, foreign, passing, type Response, type Troubled, unexpected } from "./Call.ts"
import type { Resolved } from "./Options.ts"

/** What an attempt came to. */
export type Answer =
  /** What became of each event, in their order. */
  | { readonly _tag: "Accepted"; readonly told: ReadonlyArray<Told> }
  /** Nothing of the request was stored. Faults are by the index of their event, where the answer names any. */
  | {
      readonly _tag: "Refusal"
      readonly status: number
      readonly detail: string
      readonly faults: ReadonlyMap<number, ReadonlyArray<Fault>>
    }
  /** Whether anything was stored is not known. */
  | Troubled

/** A request with so many events in its body. */
export interface Request {
  readonly body: Uint8Array
  readonly events: number
  /** Which attempt this is, from 1. */
  readonly attempt: number
}

/** Makes one attempt. */
export const exchange = (
  client: HttpClient.HttpClient,
  { publishUrl, requestSecondsMax }: Pick<Resolved, "publishUrl" | "requestSecondsMax">,
  request: Request
): Effect.Effect<Answer> => {
  const post = HttpClientRequest.post(publishUrl, {
    headers: { [attemptHeader]: String(request.attempt) },
    acceptJson: true,
    body: HttpBody.uint8Array(request.body, "application/json")
  })
  return Effect.map(call(client, post, requestSecondsMax), (called) => {
    switch (called._tag) {
      case "Response":
        return read(request, called)
      case "Trouble":
        return called
      case "Unsendable":
        return refusal(0, called.detail)
    }
  })
}

const refusal = (
  status: number,
  detail: string,
  faults: ReadonlyMap<number, ReadonlyArray<Fault>> = new Map()
): Answer => ({ _tag: "Refusal", status, detail, faults })

const read = (request: Request, response: Response): Answer => {
  const { status, body } = response
  if (status === 202) return readAccepted(request, response)
  if (status >= 200 && status < 300) return foreign(response)
  const refused = refusal(status, detailOf(response), status === 422 ? faultsByEvent(body) : undefined)
  return passing(response) ?? refused
}

const decodeAccepted = Schema.decodeUnknownEither(Schema.parseJson(PublishAnswer))

const readAccepted = ({ events, attempt }: Request, response: Response): Answer => {
  const decoded = decodeAccepted(response.body)
  if (Either.isLeft(decoded)) return foreign(response)
  const { accepted, results } = decoded.right
  if (accepted !== events || results?.length !== events) {
    const count = `${accepted} accepted, ${results?.length ?? 0} told`
    return unexpected(response, `an answer to another request: ${count}, ${events} sent`)
  }
  return { _tag: "Accepted", told: results.map((result) => ({ ...result, attempt })) }
}

const decodeInvalid = Schema.decodeUnknownEither(Schema.parseJson(problems.invalid))

/** The faults of a 422 by the index of their event; the pointers lead into that event. */
const faultsByEvent = (body: string): ReadonlyMap<number, ReadonlyArray<Fault>> => {
  const faults = new Map<number, Array<Fault>>()
  for (const { pointer, detail } of Either.getOrUndefined(decodeInvalid(body))?.errors ?? []) {
    const [, index, rest = ""] = /^\/(\d+)(\/.*)?$/.exec(pointer) ?? []
    if (index === undefined) continue
    const ofEvent = faults.get(Number(index)) ?? []
    faults.set(Number(index), [...ofEvent, { pointer: rest, detail }])
  }
  return faults
}
