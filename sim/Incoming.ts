/**
 * An answer that comes in pieces, as its client has it: what has arrived and was not read yet, and how it ended. The
 * server's next piece leaves when the one before was read: who reads slowly slows the server down, and nothing is lost
 * but with the connection.
 */
import { Effect } from "effect"
import type { NetworkError } from "./Exchange.ts"

interface Arrived {
  readonly bytes: Uint8Array
  readonly read: () => void
}

export class Incoming {
  private readonly arrived: Array<Arrived> = []
  private over: "ended" | NetworkError | undefined
  private look: (() => void) | undefined
  /** Whether the answer comes in pieces; until its head is here, that is not known. */
  begun = false

  /** A piece is there; `read` is called when the client takes it. What comes after the end is lost. */
  arrive(bytes: Uint8Array, read: () => void): void {
    if (this.over !== undefined) return
    this.arrived.push({ bytes, read })
    this.look?.()
  }

  /** Nothing more comes: the answer is whole, or the connection broke. */
  end(over: "ended" | NetworkError): void {
    this.over ??= over
    this.look?.()
  }

  /** The next piece; nothing once the answer is whole. One at a time. */
  readonly pull: Effect.Effect<Uint8Array | undefined, NetworkError> = Effect.async((resume) => {
    const look = () => {
      const piece = this.arrived.shift()
      if (piece === undefined && this.over === undefined) return
      this.look = undefined
      if (piece !== undefined) {
        piece.read()
        resume(Effect.succeed(piece.bytes))
      } else {
        resume(this.over === "ended" ? Effect.succeed(undefined) : Effect.fail(this.over as NetworkError))
      }
    }
    this.look = look
    look()
    return Effect.sync(() => {
      this.look = undefined
    })
  })
}
