/**
 * From a request to the bytes of its body. Whatever the headers tell is judged before a byte is read, and room for the
 * body is taken in the Intake before it is held: of all requests together no more bytes are held than the queue allows.
 */
import { HttpIncomingMessage, type HttpServerRequest } from "@effect/platform"
import { Deferred, Effect, Fiber, Option, type Scope, Stream } from "effect"
import type { SettingsShape } from "../Config.ts"
import { type Draining, MalformedBody, Overloaded, TooLarge, UnsupportedBody } from "../domain/Errors.ts"
import type { Intake, Room } from "../pipeline/Intake.ts"
import type { BodyType } from "./Decoding.ts"

/** A body that has arrived, and the room it holds until its events are offered or the scope closes. */
export interface Body {
  readonly type: BodyType
  readonly bytes: Uint8Array
  readonly room: Room
}

/** What is wrong with the headers of a body, or with its arrival. */
export type BodyError = UnsupportedBody | TooLarge | MalformedBody | Overloaded | Draining

const bodyTypes: Readonly<Record<string, BodyType>> = {
  "application/json": "json",
  "application/x-ndjson": "ndjson"
}

const bodyType = (header: string | undefined): Effect.Effect<BodyType, UnsupportedBody> => {
  const [name = "", ...parameters] = (header ?? "application/json")
    .split(";")
    .map((part) => part.trim().toLowerCase())
  const type = bodyTypes[name]
  const charset = parameters.find((parameter) => parameter.startsWith("charset="))?.slice("charset=".length)
  if (type === undefined) {
    const known = Object.keys(bodyTypes).join(" and ")
    return new UnsupportedBody({ detail: `The content type ${name || "''"} is not read here; ${known} are.` })
  }
  if (charset !== undefined && !/^"?utf-?8"?$/.test(charset)) {
    return new UnsupportedBody({ detail: `The charset ${charset} is not read here; UTF-8 is.` })
  }
  return Effect.succeed(type)
}

/** A body of no more bytes than this is read in one piece. */
export const smallBodyBytes = 64 * 1024

/** Reads the body of a publish. */
export const readBody = (
  request: HttpServerRequest.HttpServerRequest,
  intake: Intake["Type"],
  { requestBytesMax }: Pick<SettingsShape, "requestBytesMax">
): Effect.Effect<Body, BodyError, Scope.Scope> =>
  Effect.gen(function* () {
    const type = yield* bodyType(request.headers["content-type"])
    const encoding = request.headers["content-encoding"]
    if (encoding !== undefined && encoding.trim().toLowerCase() !== "identity") {
      return yield* new UnsupportedBody({
        detail: `The content encoding ${encoding} is not read here; send it plain.`
      })
    }
    const tooLarge = () => new TooLarge({ detail: `The body has more than ${requestBytesMax} bytes.` })
    const length = request.headers["content-length"]
    const known = length === undefined ? undefined : Number(length)
    if (known !== undefined && known > requestBytesMax) return yield* tooLarge()
    // A small body takes its room at once. For a large one it is taken as it arrives, so that a few clients that
    // promise much and send little cannot keep everyone else out.
    if (intake.isFull()) return yield* new Overloaded({ bound: "events" })
    const small = known !== undefined && known <= smallBodyBytes
    const room = yield* intake.admit(small ? known : 0)
    if (small) {
      const bytes = yield* request.arrayBuffer.pipe(
        HttpIncomingMessage.withMaxBodySize(Option.none()),
        Effect.mapError(() => new MalformedBody({ detail: "The body did not arrive." }))
      )
      return { type, bytes: new Uint8Array(bytes), room }
    }
    return { type, bytes: yield* readChunks(request, room, requestBytesMax, tooLarge), room }
  })

// A body that is large, or whose length is not known, takes room as it grows. Once it is refused, what is still to come is read and
// thrown away: to stop reading would break the connection off before the refusal could leave.
const readChunks = (
  request: HttpServerRequest.HttpServerRequest,
  room: Room,
  bytesMax: number,
  tooLarge: () => TooLarge
): Effect.Effect<Uint8Array, MalformedBody | TooLarge | Overloaded> =>
  Effect.gen(function* () {
    const arrived = yield* Deferred.make<Uint8Array, MalformedBody | TooLarge | Overloaded>()
    const chunks: Array<Uint8Array> = []
    let total = 0
    const keep = (chunk: Uint8Array): Effect.Effect<void, TooLarge | Overloaded> => {
      total += chunk.length
      if (total > bytesMax) return tooLarge()
      chunks.push(chunk)
      return room.grow(chunk.length)
    }
    let refused = false
    const refuse = (error: TooLarge | Overloaded) => {
      refused = true
      chunks.length = 0
      return Deferred.fail(arrived, error)
    }
    const reader = yield* Stream.runForEach(request.stream, (chunk) =>
      refused ? Effect.void : Effect.catchAll(keep(chunk), refuse)
    ).pipe(
      Effect.matchEffect({
        onFailure: () => Deferred.fail(arrived, new MalformedBody({ detail: "The body did not arrive." })),
        onSuccess: () => Effect.suspend(() => Deferred.succeed(arrived, concatenate(chunks)))
      }),
      Effect.forkDaemon
    )
    // Who is interrupted has lost its client: then there is nothing to throw away, and no room may be taken any more.
    return yield* Effect.onInterrupt(Deferred.await(arrived), () => Fiber.interrupt(reader))
  })

/** Puts the pieces of a body together, in memory that nothing else shares: a view would keep what lies beside it. */
export const concatenate = (chunks: ReadonlyArray<Uint8Array>): Uint8Array => {
  const bytes = new Uint8Array(chunks.reduce((total, { length }) => total + length, 0))
  let at = 0
  for (const chunk of chunks) {
    bytes.set(chunk, at)
    at += chunk.length
  }
  return bytes
}
