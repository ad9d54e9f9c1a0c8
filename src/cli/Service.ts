/**
 * The service as the commands reach it: over HTTP, at an address that somebody typed. What is certainly wrong with an
 * address is told at once; what may pass, such as a service that is not up yet, is told apart from it.
 */
import {
  FetchHttpClient,
  HttpClient,
  type HttpClientError,
  HttpClientRequest,
  type HttpClientResponse
} from "@effect/platform"
import { Data, Effect, Either, Option, Schema, Stream } from "effect"
import { HealthAnswer, ProblemAnswer } from "../http/Api.ts"
import { Failure } from "./Conventions.ts"

/** Calls over the network, by Node's own fetch. */
export const networkLayer = FetchHttpClient.layer

/** No answer came. */
class NoAnswer extends Data.TaggedError("NoAnswer")<{
  readonly reason: string
  /** Whether this may pass by itself. */
  readonly passes: boolean
}> {}

const passingCodes = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ECONNABORTED",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "EHOSTDOWN",
  "ENETUNREACH",
  "ENETDOWN",
  "EAI_AGAIN",
  "UND_ERR_CONNECT_TIMEOUT",
  "UND_ERR_HEADERS_TIMEOUT",
  "UND_ERR_SOCKET"
])

const causesOf = (error: unknown): ReadonlyArray<Error> =>
  error instanceof Error ? [error, ...causesOf(error.cause)] : []

const codeOf = (error: Error): string => ("code" in error ? String(error.code) : "")

const noAnswer = (error: HttpClientError.HttpClientError): NoAnswer => {
  const [, ...causes] = causesOf(error)
  // What lies deepest says it best. Of several addresses that were tried in vain Node tells only a code.
  const deepest = causes.at(-1)
  const reason = deepest === undefined ? error.message : deepest.message || codeOf(deepest)
  return new NoAnswer({ reason, passes: causes.some((cause) => passingCodes.has(codeOf(cause))) })
}

/** How long the service may take to begin its answer, in seconds, where nothing else is said. */
const answerSecondsMax = 10

const get = (
  address: string,
  path: string,
  secondsMax = answerSecondsMax
): Effect.Effect<HttpClientResponse.HttpClientResponse, NoAnswer, HttpClient.HttpClient> =>
  Effect.flatMap(HttpClient.HttpClient, (client) =>
    client.execute(HttpClientRequest.get(`${address}${path}`))
  ).pipe(
    Effect.mapError(noAnswer),
    Effect.timeoutFail({
      duration: `${secondsMax} seconds`,
      onTimeout: () => new NoAnswer({ reason: `no answer after ${secondsMax} s`, passes: true })
    })
  )

const unreachable = (address: string, reason: string): Failure =>
  new Failure({ sentence: `${address} cannot be reached: ${reason}.` })

const isAnotherService = (address: string, what: string): Failure =>
  new Failure({ sentence: `What answers at ${address} is not Sekali: ${what}.` })

const isPassing = (status: number): boolean => status === 408 || status === 429 || status >= 500

/**
 * Makes sure that the address is not wrong. Succeeds as well where nothing answers for a reason that may pass; gives back
 * that reason.
 */
export const checkAddress = (
  address: string
): Effect.Effect<Option.Option<string>, Failure, HttpClient.HttpClient> =>
  Effect.gen(function* () {
    const path = "/health/live"
    const response = yield* get(address, path)
    const { status } = response
    // Nothing is wrong with this request, so 400 says that it was damaged on its way.
    if (isPassing(status) || status === 400) return Option.some(`it answers ${status}`)
    const text = yield* Effect.mapError(response.text, noAnswer)
    const health = Schema.decodeOption(Schema.parseJson(HealthAnswer))(text)
    if (status === 200 && Option.isSome(health)) return Option.none<string>()
    const what = status === 200 ? "another body than Sekali's" : `status ${status}`
    return yield* isAnotherService(address, `GET ${path} gives ${what}`)
  }).pipe(
    Effect.catchTag("NoAnswer", ({ reason, passes }) =>
      passes ? Effect.succeed(Option.some(reason)) : unreachable(address, reason)
    )
  )

const decodeProblem = Schema.decodeUnknownEither(Schema.parseJson(ProblemAnswer))

/** Why a call was answered with something else than what was asked for. */
const refusal = (address: string, path: string, response: HttpClientResponse.HttpClientResponse) =>
  Effect.gen(function* () {
    const problem = decodeProblem(yield* Effect.mapError(response.text, noAnswer))
    if (Either.isRight(problem) && problem.right.type.startsWith("urn:sekali:problem:")) {
      return yield* new Failure({ sentence: `${address} answers: ${problem.right.detail}` })
    }
    const said = `GET ${path} gives status ${response.status}`
    if (isPassing(response.status)) {
      return yield* new Failure({ sentence: `${address} cannot answer now: ${said}. Try again later.` })
    }
    return yield* isAnotherService(address, said)
  })

/** The body of an answer to a GET, as it came and as what it says. */
export const fetchAnswer = <A, I>(
  address: string,
  path: string,
  schema: Schema.Schema<A, I>
): Effect.Effect<{ readonly text: string; readonly answer: A }, Failure, HttpClient.HttpClient> =>
  Effect.gen(function* () {
    const response = yield* get(address, path)
    if (response.status !== 200) return yield* refusal(address, path, response)
    const text = yield* Effect.mapError(response.text, noAnswer)
    const answer = yield* Effect.mapError(Schema.decodeUnknown(Schema.parseJson(schema))(text), () =>
      isAnotherService(address, `GET ${path} gives another body than Sekali's`)
    )
    return { text, answer }
  }).pipe(Effect.catchTag("NoAnswer", ({ reason }) => unreachable(address, reason)))

/** A file is made before it is sent, which takes as long as it takes; but then it has to come. */
const fileSecondsMax = 3600
const stalledSecondsMax = 60

/** The content of a file that a service answers with, of this type. It fails if it breaks off. */
export const fetchFile = (
  address: string,
  path: string,
  contentType: string
): Effect.Effect<Stream.Stream<Uint8Array, Failure>, Failure, HttpClient.HttpClient> =>
  Effect.gen(function* () {
    const response = yield* get(address, path, fileSecondsMax)
    if (response.status !== 200) return yield* refusal(address, path, response)
    if (response.headers["content-type"] !== contentType) {
      return yield* isAnotherService(address, `GET ${path} gives no ${contentType}`)
    }
    const brokeOff = (reason: string) =>
      new Failure({ sentence: `${address} broke off in the middle: ${reason}.` })
    const length = Number(response.headers["content-length"])
    let received = 0
    // A connection that is lost can look like the end of what came on it.
    const ended = Stream.suspend(() =>
      received < length ? Stream.fail(brokeOff(`${received} of ${length} bytes came`)) : Stream.empty
    )
    return response.stream.pipe(
      Stream.mapError((error) => brokeOff(noAnswer(error).reason)),
      Stream.timeoutFail(
        () => brokeOff(`nothing came for ${stalledSecondsMax} s`),
        `${stalledSecondsMax} seconds`
      ),
      Stream.tap((bytes) =>
        Effect.sync(() => {
          received += bytes.length
        })
      ),
      Stream.concat(ended)
    )
  }).pipe(Effect.catchTag("NoAnswer", ({ reason }) => unreachable(address, reason)))
