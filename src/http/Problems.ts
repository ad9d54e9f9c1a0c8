/**
 * How errors leave: as `application/problem+json` (RFC 9457), with `Retry-After` where trying again helps.
 */
import { HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect } from "effect"
import type { CallError, Problem } from "../domain/Errors.ts"
import { Refusals } from "./Refusals.ts"

/** An answer as it leaves: a status, headers by their names in lower case, and a text. */
export interface PlainAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** An answer for the platform to send. */
export const responseOf = ({ status, headers, body }: PlainAnswer): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(body, { status, headers, ...contentTypeOf(headers) })

const contentTypeOf = ({ "content-type": contentType }: PlainAnswer["headers"]) =>
  contentType === undefined ? {} : { contentType }

/** The members of the answer to a problem. */
export const problemMembers = (problem: Problem, instance: string): Record<string, unknown> => ({
  type: `urn:sekali:problem:${problem.type}`,
  title: problem.title,
  status: problem.status,
  detail: problem.detail,
  instance,
  ...problem.members,
  ...(problem.errors === undefined ? {} : { errors: problem.errors }),
  ...(problem.retryAfterSeconds === undefined ? {} : { retry_after: problem.retryAfterSeconds })
})

/** What a bug is answered with; the cause is for the log. */
export const bug: Problem = {
  status: 500,
  type: "bug",
  title: "A bug in the service",
  detail: "The service made a mistake. It is in its log; please report it."
}

/** The answer to a problem with the request of this target. */
export const problemAnswer = (problem: Problem, target: string): PlainAnswer => {
  const retry = problem.retryAfterSeconds
  return {
    status: problem.status,
    headers: {
      "content-type": "application/problem+json",
      ...problem.headers,
      ...(retry === undefined ? {} : { "retry-after": String(retry) })
    },
    body: JSON.stringify(problemMembers(problem, target.split("?", 1)[0] ?? target))
  }
}

/** The answer to a problem with the request that is being handled. */
export const problemResponse = (
  problem: Problem
): Effect.Effect<HttpServerResponse.HttpServerResponse, never, HttpServerRequest.HttpServerRequest> =>
  Effect.map(HttpServerRequest.HttpServerRequest, ({ originalUrl }) =>
    responseOf(problemAnswer(problem, originalUrl))
  )

/** Answers a call's errors as problems, and takes note of those that are trouble of ours. */
export const answered = <A, R>(
  effect: Effect.Effect<A, CallError, R>
): Effect.Effect<
  A | HttpServerResponse.HttpServerResponse,
  never,
  R | HttpServerRequest.HttpServerRequest | Refusals
> =>
  Effect.catchAll(effect, ({ problem }) =>
    problem.status === 503
      ? Effect.zipRight(
          Effect.flatMap(Refusals, (refusals) => refusals.note(problem) ?? Effect.void),
          problemResponse(problem)
        )
      : problemResponse(problem)
  )
