/**
 * Why a mirror ends. Trouble that passes is no reason: it is waited out. What is here needs somebody to mend it; then
 * the mirror can be started again, and goes on where it was.
 */
import { Data } from "effect"
import type { InvalidOptions } from "../client/Errors.ts"

/** Which of the two services is meant. */
export type Role = "from" | "to"

/** Both addresses lead to one store. */
export class SameStore extends Data.TaggedError("SameStore")<{ readonly storeId: string }> {
  override get message(): string {
    return `Both addresses lead to the same store (${this.storeId}); a store is not mirrored to itself.`
  }
}

/** A service refuses to be asked, for a reason that asking again does not mend (4xx). */
export class PeerRefused extends Data.TaggedError("PeerRefused")<{
  readonly role: Role
  readonly address: string
  readonly path: string
  /** The HTTP status; 0 where the request could not even be made. */
  readonly status: number
  /** The last part of the problem's type, where it is one of this service's. */
  readonly type: string | undefined
  readonly detail: string
}> {
  override get message(): string {
    return `${this.address} refuses GET ${this.path}${this.status === 0 ? "" : ` (${this.status})`}: ${this.detail}`
  }
}

/** An event that the one store has and the other refuses. */
export interface RefusedEvent {
  readonly topic: string
  readonly event_id: string
  /** Where it is in the store that has it. */
  readonly offset: number
  readonly reason: string
}

/**
 * Events are refused by the store that they are copied to. To go on would leave a hole that nobody sees: the events
 * behind it are not copied before the refused ones are taken.
 */
export class EventsRefused extends Data.TaggedError("EventsRefused")<{
  readonly address: string
  readonly events: ReadonlyArray<RefusedEvent>
}> {
  override get message(): string {
    const [first] = this.events
    const others = this.events.length > 1 ? `, and ${this.events.length - 1} more near it` : ""
    const which =
      first === undefined
        ? "an event"
        : `the event ${first.topic}/${first.event_id} (offset ${first.offset})${others}. ${first.reason}`
    return (
      `${this.address} does not take ${which}\n` +
      "Stopped, so that no event is left out: make it take them (its limits, its version), and start the mirror again."
    )
  }
}

/** The cursor that is kept cannot be read or written, or what is there is none. */
export class CursorTrouble extends Data.TaggedError("CursorTrouble")<{ readonly sentence: string }> {
  override get message(): string {
    return this.sentence
  }
}

/** Why a mirror ends. */
export type MirrorError = InvalidOptions | SameStore | PeerRefused | EventsRefused | CursorTrouble
