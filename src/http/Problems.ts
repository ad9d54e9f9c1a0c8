/**
 * How errors leave: as `application/problem+json` (RFC 9457), with `Retry-After` where trying again helps.
 */
import { HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect } from "effect"
import type { CallError, Problem } from "../domain/Errors.ts"
import { Refusals } from "./Refusals.ts"

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

/** The answer to a problem with the request that is being handled. */
export const problemResponse = (
  problem: Problem
): Effect.Effect<HttpServerResponse.HttpServerResponse, never, HttpServerRequest.HttpServerRequest> =>
  Effect.map(HttpServerRequest.HttpServerRequest, (request) => {
    const path = request.originalUrl.split("?", 1)[0] ?? request.originalUrl
    const retry = problem.retryAfterSeconds
    return HttpServerResponse.text(JSON.stringify(problemMembers(problem, path)), {
      status: problem.status,
      contentType: "application/problem+json",
      headers: { ...problem.headers, ...(retry === undefined ? {} : { "retry-after": String(retry) }) }
    })
  })

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
          Effect.flatMap(Refusals, (refusals) => refusals.note(problem)),
          problemResponse(problem)
        )
      : problemResponse(problem)
  )
