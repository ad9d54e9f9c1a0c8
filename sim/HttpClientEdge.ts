/**
 * The HTTP client of a process that publishes or mirrors, on the simulated network. What may befall a request is said in
 * `Network`; here it only gets the platform's shape: a broken, refused or cut-off connection is a `Transport` error, and
 * an interrupted request closes its connection. Neither `fetch` nor a promise is involved, since those would run outside
 * of the simulation. Bodies are bytes or texts; streams and forms are not simulated and end in a defect that says so.
 */
import {
  Cookies,
  Headers,
  HttpClient,
  HttpClientError,
  type HttpClientRequest,
  type HttpClientResponse,
  HttpIncomingMessage,
  UrlParams
} from "@effect/platform"
import { TypeId } from "@effect/platform/HttpClientResponse"
import { Effect, Inspectable, Option, Stream } from "effect"
import type { Answer, NetworkError, Request } from "./Network.ts"

/** How the edge sends: from a client to an address, as host and port. */
export type Send = (address: string, request: Request) => Effect.Effect<Answer, NetworkError>

/** An answer whose body may come in pieces. */
export interface Streamed {
  readonly answer: Answer
  /** The next piece, nothing at its end; left out where the answer is whole. */
  readonly pull: Effect.Effect<Uint8Array | undefined, NetworkError> | undefined
  readonly close: () => void
}

/** How the edge asks for an answer in pieces. */
export type Open = (address: string, request: Request) => Effect.Effect<Streamed, NetworkError>

/** A client of the platform that sends so, and asks for streams of events so. */
export const makeHttpClient = (send: Send, open?: Open): HttpClient.HttpClient =>
  HttpClient.makeWith<HttpClientError.HttpClientError, never, HttpClientError.HttpClientError, never>(
    Effect.flatMap((request) => {
      const url = new URL(request.url)
      for (const [name, value] of request.urlParams) url.searchParams.append(name, value)
      const sent: Request = {
        method: request.method,
        url: `${url.pathname}${url.search}`,
        headers: { ...request.headers, ...contentType(request) },
        ...bodyOf(request)
      }
      const answered =
        open !== undefined && request.headers["accept"] === "text/event-stream"
          ? Effect.map(open(url.host, sent), (streamed) => new Response(request, streamed.answer, streamed))
          : Effect.map(send(url.host, sent), (answer) => new Response(request, answer))
      return answered.pipe(
        Effect.mapError((cause) => new HttpClientError.RequestError({ request, reason: "Transport", cause }))
      )
    }),
    Effect.succeed
  )

const contentType = ({ body }: HttpClientRequest.HttpClientRequest): Readonly<Record<string, string>> =>
  body.contentType === undefined ? {} : { "content-type": body.contentType }

const bodyOf = ({ body }: HttpClientRequest.HttpClientRequest): Pick<Request, "body"> => {
  if (body._tag === "Empty") return {}
  if (body._tag === "Uint8Array") return { body: body.body }
  if (body._tag === "Raw" && typeof body.body === "string") return { body: body.body }
  throw new Error(`a request body of the kind ${body._tag} is not simulated`)
}

class Response extends Inspectable.Class implements HttpClientResponse.HttpClientResponse {
  readonly [TypeId]: typeof TypeId = TypeId
  readonly [HttpIncomingMessage.TypeId]: HttpIncomingMessage.TypeId = HttpIncomingMessage.TypeId
  readonly request: HttpClientRequest.HttpClientRequest
  readonly status: number
  readonly headers: Headers.Headers
  readonly cookies: Cookies.Cookies = Cookies.empty
  readonly remoteAddress: Option.Option<string> = Option.none()
  private readonly body: string
  private readonly streamed: Streamed | undefined

  constructor(
    request: HttpClientRequest.HttpClientRequest,
    { status, headers, body }: Answer,
    streamed?: Streamed
  ) {
    super()
    this.request = request
    this.status = status
    this.headers = Headers.fromInput(headers)
    this.body = body
    this.streamed = streamed
  }

  get text(): Effect.Effect<string, HttpClientError.ResponseError> {
    return Effect.succeed(this.body)
  }

  get json(): Effect.Effect<unknown, HttpClientError.ResponseError> {
    return Effect.try({
      try: () => (this.body === "" ? null : (JSON.parse(this.body) as unknown)),
      catch: (cause) =>
        new HttpClientError.ResponseError({
          request: this.request,
          response: this,
          reason: "Decode",
          cause
        })
    })
  }

  get arrayBuffer(): Effect.Effect<ArrayBuffer, HttpClientError.ResponseError> {
    return Effect.sync(() => {
      const bytes = Buffer.from(this.body)
      const copy = new ArrayBuffer(bytes.length)
      new Uint8Array(copy).set(bytes)
      return copy
    })
  }

  get stream(): Stream.Stream<Uint8Array, HttpClientError.ResponseError> {
    const { pull, close = () => undefined } = this.streamed ?? {}
    if (pull === undefined) return Stream.succeed(new Uint8Array(Buffer.from(this.body)))
    const next = Effect.matchEffect(pull, {
      onFailure: (cause) =>
        Effect.fail(
          Option.some(
            new HttpClientError.ResponseError({
              request: this.request,
              response: this,
              reason: "Decode",
              cause
            })
          )
        ),
      onSuccess: (bytes) => (bytes === undefined ? Effect.fail(Option.none()) : Effect.succeed(bytes))
    })
    return Stream.repeatEffectOption(next).pipe(Stream.ensuring(Effect.sync(close)))
  }

  get urlParamsBody(): Effect.Effect<UrlParams.UrlParams, HttpClientError.ResponseError> {
    return Effect.sync(() => UrlParams.fromInput(new URLSearchParams(this.body)))
  }

  get formData(): Effect.Effect<FormData, HttpClientError.ResponseError> {
    return Effect.dieMessage("a form is not simulated")
  }

  toJSON(): unknown {
    return HttpIncomingMessage.inspect(this, {
      _id: "@effect/platform/HttpClientResponse",
      request: this.request.toJSON(),
      status: this.status
    })
  }
}
