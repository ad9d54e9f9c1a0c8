/**
 * From a request to the handler of its endpoint, as the contract says: which paths there are, with which methods, and
 * what their parameters are. A path is what it says: neither case nor slashes are folded, and a percent sign that
 * encodes nothing leads nowhere. Every fault of the parameters is told, and one that is not known is a fault.
 */
import {
  HttpApi,
  type HttpApiEndpoint,
  type HttpApiGroup,
  type HttpServerRequest,
  HttpServerResponse
} from "@effect/platform"
import { Effect, Either, Option, ParseResult, Schema } from "effect"
import { type CallError, type Fault, InvalidInput, MethodNotAllowed, NotFound } from "../domain/Errors.ts"
import { faultsOf } from "../domain/Faults.ts"
import { within } from "../telemetry/Spans.ts"
import { Api } from "./Api.ts"
import { pagePath } from "./Pages.ts"

type Groups = typeof Api extends HttpApi.HttpApi<infer _Id, infer Groups, infer _E, infer _R> ? Groups : never
type Endpoints = HttpApiGroup.HttpApiGroup.Endpoints<Groups>
type Endpoint<Name extends string> = Extract<Endpoints, { readonly name: Name }>

/** The names of a group's endpoints. */
export type NamesIn<Group extends string> = HttpApiGroup.HttpApiGroup.EndpointsWithName<Groups, Group>["name"]

/** A call of an endpoint, its parameters decoded. The body is for the handler to read. */
export interface Call<Name extends string> {
  readonly request: HttpServerRequest.HttpServerRequest
  readonly path: HttpApiEndpoint.HttpApiEndpoint.PathParsed<Endpoint<Name>>
  readonly urlParams: HttpApiEndpoint.HttpApiEndpoint.UrlParams<Endpoint<Name>>
  readonly headers: HttpApiEndpoint.HttpApiEndpoint.Headers<Endpoint<Name>>
}

/** What answers the calls of an endpoint: with what the contract says, or with a whole response. */
export type Handler<Name extends string, R> = (
  call: Call<Name>
) => Effect.Effect<
  HttpServerResponse.HttpServerResponse | HttpApiEndpoint.HttpApiEndpoint.Success<Endpoint<Name>>,
  CallError,
  R
>

/** Handlers by the names of their endpoints. */
export type Handlers<Names extends string, R> = { readonly [Name in Names]: Handler<Name, R> }

/** Handlers of a group, typed by the contract. */
export const handlersOf = <const Group extends string, Made extends Handlers<NamesIn<Group>, unknown>>(
  _group: Group,
  handlers: Made
): Made => handlers

/** What handlers need. */
type Needs<Made> = Made[keyof Made] extends (call: never) => infer Answer
  ? Answer extends Effect.Effect<unknown, unknown, infer R>
    ? R
    : never
  : never

/** What answers a request. */
type App<R> = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  CallError,
  R | HttpServerRequest.HttpServerRequest
>

/** What a request has come to. */
export interface Route<R> {
  /** The path as the contract has it, with names in the place of parameters; undefined where nothing is served. */
  readonly path: string | undefined
  readonly app: App<R>
}

/** The path of a request's target. */
export const pathOf = (target: string): string => target.split("?", 1)[0] ?? target

const none = Schema.decodeUnknownEither(
  Schema.Record({
    key: Schema.String,
    value: Schema.Never.annotations({ message: () => "is not known here" })
  }),
  { errors: "all" }
)

const decoder = (schema: Option.Option<Schema.Schema.All>) =>
  Option.match(schema, {
    onNone: () => none,
    onSome: (schema) => Schema.decodeUnknownEither(schema as Schema.Schema<unknown, unknown>)
  })

const faults = (decoded: Either.Either<unknown, ParseResult.ParseError>): ReadonlyArray<Fault> =>
  Either.isRight(decoded)
    ? []
    : faultsOf(ParseResult.ArrayFormatter.formatErrorSync(decoded.left), ([name]) => String(name ?? ""))

const queryOf = (target: string): Given["query"] => {
  // A name may be any text, also one that objects have by nature.
  const query: Record<string, string | ReadonlyArray<string>> = Object.create(null)
  const at = target.indexOf("?")
  if (at === -1) return query
  for (const [name, value] of new URLSearchParams(target.slice(at + 1))) {
    const known = query[name]
    query[name] = known === undefined ? value : [known, value].flat()
  }
  return query
}

const decoded = (text: string): string | undefined => {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

const parametersOf = (found: RegExpExecArray): Given["path"] | undefined => {
  const path: Record<string, string> = {}
  for (const [name, text] of Object.entries(found.groups ?? {})) {
    const value = decoded(text)
    if (value === undefined) return undefined
    path[name] = value
  }
  return path
}

const jsonAnswer = (value: unknown): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.isServerResponse(value)
    ? value
    : HttpServerResponse.text(JSON.stringify(value), { contentType: "application/json" })

/** A request with the parameters of its path and its query, as they were given. */
interface Given {
  readonly request: HttpServerRequest.HttpServerRequest
  readonly path: Readonly<Record<string, string>>
  readonly query: Readonly<Record<string, string | ReadonlyArray<string>>>
}

/** The calls that an endpoint's handler is given, or what is wrong with a request. */
interface Served {
  readonly name: Endpoints["name"]
  readonly spanName: string
  readonly method: string
  readonly path: string
  readonly decode: (given: Given) => Either.Either<Call<Endpoints["name"]>, InvalidInput>
}

const served = ((): ReadonlyArray<Served> => {
  const all: Array<Served> = []
  HttpApi.reflect(Api, {
    onGroup: () => {},
    onEndpoint: ({
      group: { identifier },
      endpoint: { name, method, path, pathSchema, urlParamsSchema, headersSchema }
    }) => {
      const decodePath = decoder(pathSchema)
      const decodeQuery = decoder(urlParamsSchema)
      // Headers that the contract does not name are for others than the handler.
      const decodeHeaders = decoder(Option.orElseSome(headersSchema, () => Schema.Struct({})))
      const decode: Served["decode"] = ({ request, ...given }) => {
        const path = decodePath(given.path)
        const urlParams = decodeQuery(given.query)
        const headers = decodeHeaders(request.headers)
        return Either.all({ path, urlParams, headers }).pipe(
          Either.mapBoth({
            onLeft: () => new InvalidInput({ errors: [path, urlParams, headers].flatMap(faults) }),
            onRight: (decoded) => ({ request, ...decoded }) as Call<Endpoints["name"]>
          })
        )
      }
      const spanName = `${identifier.charAt(0).toUpperCase()}${identifier.slice(1)}.${name}`
      all.push({ name: name as Served["name"], spanName, method, path, decode })
    }
  })
  return all
})()

/** Something that is served beside the contract; it has no parameters. */
export interface Page {
  readonly path: string
  readonly app: App<never>
}

/** A path that is served, and what answers there, by method. */
interface Place<R> {
  readonly path: string
  readonly shape: RegExp
  readonly methods: Map<string, (given: Given) => App<R>>
}

const shapeOf = (path: string): RegExp => new RegExp(`^${path.replace(/:([a-z_]+)/g, "(?<$1>[^/]+)")}$`)

/** Finds what answers a request, its handler or page; it fails where there is neither. */
export const route = <Made extends Handlers<Endpoints["name"], unknown>>(
  handlers: Made,
  pages: ReadonlyArray<Page>
): ((request: HttpServerRequest.HttpServerRequest) => Route<Needs<Made>>) => {
  type R = Needs<Made>
  const places = new Map<string, Place<R>>()
  const put = (path: string, method: string, answer: (given: Given) => App<R>): void => {
    const place = places.get(path) ?? { path, shape: shapeOf(path), methods: new Map() }
    places.set(path, place)
    place.methods.set(method, answer)
    if (method === "GET") place.methods.set("HEAD", answer)
  }
  for (const { name, spanName, method, path, decode } of served) {
    const handle = handlers[name] as (call: Call<Endpoints["name"]>) => App<R>
    const span = within(spanName)
    put(path, method, (given) => span(Effect.map(Effect.flatMap(decode(given), handle), jsonAnswer)))
  }
  for (const { path, app } of pages) {
    put(path, "GET", ({ query }) => {
      const errors = faults(none(query))
      return errors.length > 0 ? new InvalidInput({ errors }) : app
    })
  }

  return (request) => {
    const target = request.originalUrl
    const path = pathOf(target)
    const literal = places.get(path)
    for (const { path: contractPath, shape, methods } of literal === undefined
      ? places.values()
      : [literal]) {
      const found = shape.exec(path)
      if (found === null) continue
      const answer = methods.get(request.method)
      if (answer === undefined) {
        const app = new MethodNotAllowed({ method: request.method, allowed: [...methods.keys()] })
        return { path: contractPath, app }
      }
      const parameters = parametersOf(found)
      if (parameters === undefined) continue
      // The platform runs an app without interruption; who waits for a commit has to be able to go.
      const app = Effect.interruptible(answer({ request, path: parameters, query: queryOf(target) }))
      return { path: contractPath, app }
    }
    return {
      path: undefined,
      app: new NotFound({ detail: `Nothing is served at ${path}; see ${pagePath}.` })
    }
  }
}
