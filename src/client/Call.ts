/**
 * One HTTP call, whatever it is about: an answer of any status, or what kept it from coming; and what an answer says of
 * itself before its meaning is known.
 */
import { type HttpClient, HttpClientError, type HttpClientRequest } from "@effect/platform"
import { Clock, Duration, Effect, Option, Schema } from "effect"
import { ProblemAnswer } from "../http/Api.ts"
import type { Trouble } from "./Errors.ts"
import { within } from "./Waiting.ts"

/** An answer, as it came. */
export interface Response {
  readonly _tag: "Response"
  readonly status: number
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: string
  /** When it was there, by the wall clock. */
  readonly at: number
}

/** What keeps an answer from being one, and passes. */
export interface Troubled {
  readonly _tag: "Trouble"
  readonly trouble: Trouble
}

/** What a call came to. */
export type Called =
  | Response
  | Troubled
  /** It cannot even be made into a request, and will not be better the next time. */
  | { readonly _tag: "Unsendable"; readonly detail: string }

/** Sends a request, and waits so long for the whole answer. */
export const call = (
  client: HttpClient.HttpClient,
  request: HttpClientRequest.HttpClientRequest,
  secondsMax: number
): Effect.Effect<Called> =>
  within(
    client.execute(request).pipe(
      // A client that takes an error's status for a failure still has the answer.
      Effect.catchTag("ResponseError", (error) =>
        error.reason === "StatusCode" ? Effect.succeed(error.response) : Effect.fail(error)
      ),
      Effect.flatMap(({ status, headers, text }) => Effect.map(text, (body) => ({ status, headers, body }))),
      Effect.flatMap((response) =>
        Effect.map(Clock.currentTimeMillis, (at): Called => ({ _tag: "Response", ...response, at }))
      ),
      Effect.catchAll((error) => Effect.succeed(withoutAnswer(error)))
    ),
    Duration.seconds(secondsMax),
    () => troubled("timeout", undefined, `no answer after ${secondsMax} s`)
  )

/** Trouble, as what a call came to. */
export const troubled = (
  kind: Trouble["kind"],
  status: number | undefined,
  detail: string,
  retryAfterMillis = 0
): Troubled => ({ _tag: "Trouble", trouble: { kind, status, detail, retryAfterMillis } })

/** What broke a connection, as trouble. */
export const troubleOf = (error: { readonly cause?: unknown; readonly message: string }): Troubled =>
  troubled("network", undefined, causesOf(error))

const withoutAnswer = (error: HttpClientError.HttpClientError): Called =>
  error instanceof HttpClientError.RequestError && error.reason !== "Transport"
    ? { _tag: "Unsendable", detail: error.message }
    : troubleOf(error)

/** An error and what it was caused by, the platform's own words left out where there are better ones. */
const causesOf = ({ cause, message }: { readonly cause?: unknown; readonly message: string }): string => {
  const sentences: Array<string> = []
  for (let error = cause; error instanceof Error && sentences.length < 5; error = error.cause) {
    // Of several addresses that were tried in vain Node tells only a code.
    const sentence = error.message || ("code" in error ? String(error.code) : error.name)
    sentences.push(sentence)
  }
  return sentences.length === 0 ? message : sentences.join(": ")
}

/** An answer that is none of this service, or to another request: trouble, of which `what` says more. */
export const unexpected = (response: Response, what: string): Troubled =>
  troubled("answer", response.status, what)

/** An answer that is none of this service. */
export const foreign = (response: Response): Troubled =>
  unexpected(response, `an answer that is none of this service: ${excerptOf(response)}`)

/**
 * An error's status that passes by itself, as trouble: 408, 429, 5xx; and 400, where it is the service that says so. It
 * says that it received no HTTP or no JSON; as nothing else is sent, that was damaged on the way.
 */
export const passing = (response: Response): Troubled | undefined => {
  const { status } = response
  const damaged = status === 400 && problemTypeOf(response) !== undefined
  if (status !== 408 && status !== 429 && status < 500 && !damaged) return undefined
  return troubled("status", status, detailOf(response), retryAfterMillis(response))
}

/** The type of a problem that this service tells, without what all of them begin with. */
export const problemTypeOf = ({ body }: Response): string | undefined => {
  const { type } = Option.getOrElse(decodeProblem(body), () => ({ type: "" }))
  return /^urn:sekali:problem:(.+)$/.exec(type)?.[1]
}

/** An error's sentence. */
export const detailOf = (response: Response): string => {
  const problem = decodeProblem(response.body)
  if (Option.isSome(problem)) return problem.value.detail
  // The service says in a sentence what is wrong; others may not.
  const { location } = response.headers
  return `status ${response.status}${location === undefined ? "" : ` to ${location}`}: ${excerptOf(response)}`
}

const decodeProblem = Schema.decodeUnknownOption(Schema.parseJson(ProblemAnswer))

const excerptOf = ({ body }: Response): string => {
  const line = body.slice(0, 1000).replace(/\s+/g, " ").trim()
  return line === "" ? "an empty body" : line.length > 200 ? `${line.slice(0, 200)}…` : line
}

/** A service that asks to be left alone for longer is not taken at its word. */
const retryAfterMillisMax = 3_600_000

// Seconds, or a date (RFC 9110, section 10.2.3).
const retryAfterMillis = ({ headers, at }: Response): number => {
  const header = headers["retry-after"]
  if (header === undefined) return 0
  const millis = /^\s*\d+(\.\d+)?\s*$/.test(header) ? Number(header) * 1000 : Date.parse(header) - at
  return Number.isNaN(millis) ? 0 : Math.min(Math.max(0, millis), retryAfterMillisMax)
}
