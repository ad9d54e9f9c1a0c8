/**
 * What is published from: files, pipes and the standard input, as bytes in pieces, read one after the other.
 */
import { constants, createReadStream, open, stat } from "node:fs"
import { Socket } from "node:net"
import type { Readable } from "node:stream"
import { promisify } from "node:util"
import { Data, Effect, Option, type Scope } from "effect"

/** An input that can be read. */
export interface Input {
  /** The path, as it was given; or what stands for the standard input. */
  readonly name: string
  /** How many bytes it has, where that is known. */
  readonly size: number | undefined
  /** Opens it; it is closed with the scope. */
  readonly open: Effect.Effect<Readable, UnreadableInput, Scope.Scope>
}

/** An input that cannot be read, or not any further. */
export class UnreadableInput extends Data.TaggedError("UnreadableInput")<{
  readonly name: string
  readonly reason: string
}> {}

const pieceBytes = 256 * 1024

const unreadable = (name: string, error: unknown): UnreadableInput =>
  new UnreadableInput({ name, reason: reasonOf(error as NodeJS.ErrnoException) })

const attempt = <A>(name: string, action: () => Promise<A>): Effect.Effect<A, UnreadableInput> =>
  Effect.tryPromise({ try: action, catch: (error) => unreadable(name, error) })

const reasonOf = ({ code, message }: NodeJS.ErrnoException): string => {
  switch (code) {
    case "ENOENT":
      return "there is no such file"
    case "EACCES":
    case "EPERM":
      return "reading it is not allowed"
    case "EISDIR":
      return "it is a folder"
    default:
      return message
  }
}

const standardInput: Input = {
  name: "standard input",
  size: undefined,
  open: Effect.sync(() => listened(process.stdin))
}

/** The input at a path, or the standard input for `-`. */
export const inputAt = (path: string): Effect.Effect<Input, UnreadableInput> =>
  path === "-"
    ? Effect.succeed(standardInput)
    : Effect.gen(function* () {
        const about = yield* attempt(path, () => promisify(stat)(path))
        if (about.isDirectory()) return yield* new UnreadableInput({ name: path, reason: "it is a folder" })
        return {
          name: path,
          size: about.isFile() ? about.size : undefined,
          open: about.isFIFO() ? openPipe(path) : openFile(path)
        }
      })

// Trouble between two pieces waits for the next one to be asked for.
const listened = <Stream extends Readable>(stream: Stream): Stream => stream.on("error", () => {})

const openFile = (path: string): Input["open"] =>
  Effect.acquireRelease(
    Effect.sync(() => listened(createReadStream(path, { highWaterMark: pieceBytes }))),
    (stream) => Effect.sync(() => stream.destroy())
  )

// As a file, a pipe that nobody writes to would hold a thread of Node's, and with it the end of the process.
const openPipe = (path: string): Input["open"] =>
  Effect.acquireRelease(
    Effect.map(
      attempt(path, () => promisify(open)(path, constants.O_RDONLY | constants.O_NONBLOCK)),
      (fd) => listened(new Socket({ fd, readable: true, writable: false }))
    ),
    (socket) => Effect.sync(() => socket.destroy())
  )

const events = ["readable", "end", "close", "error"]

/** The next bytes of an open input, or nothing at its end. Only one call may wait at a time. */
export const nextPiece = (
  name: string,
  stream: Readable
): Effect.Effect<Option.Option<Buffer>, UnreadableInput> =>
  Effect.async((resume) => {
    const look = () => {
      const piece = stream.read() as Buffer | null
      if (piece !== null) done(Effect.succeed(Option.some(piece)))
      else if (stream.errored !== null) done(unreadable(name, stream.errored))
      else if (stream.readableEnded || stream.destroyed) done(Effect.succeed(Option.none()))
    }
    const off = () => {
      for (const event of events) stream.off(event, look)
    }
    const done = (result: Effect.Effect<Option.Option<Buffer>, UnreadableInput>) => {
      off()
      resume(result)
    }
    for (const event of events) stream.on(event, look)
    look()
    return Effect.sync(off)
  })
