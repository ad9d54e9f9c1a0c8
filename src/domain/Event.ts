/**
 * The event, its key, and what becomes of it. These are the values that travel from the door to the store: decoded
 * once, in `http/`, and not checked again.
 */

import { sameJson } from "./Json.ts"
import type { Instant } from "./Timestamp.ts"

/** What makes an event one event: it is stored at most once for each pair (G2). The topic is normalised. */
export interface EventKey {
  readonly topic: string
  readonly eventId: string
}

/** An event as a publisher sent it, checked. */
export interface Event extends EventKey {
  /** The event's own time, as the text that was sent. */
  readonly timestamp: string
  /** The instant that `timestamp` names. */
  readonly time: Instant
  readonly source: string
  /** The payload as JSON text without insignificant white space. */
  readonly payload: string
  /** The publisher's count of its events in this topic, from 0, if it counts. */
  readonly sequence: number | null
  /** The store that first took this event, if a mirror brought it. */
  readonly origin: string | null
}

/** Events that were checked, as they wait for their commit: in a form that is small where they are many. */
export interface PackedEvents {
  readonly length: number
  /** Makes the events. */
  readonly unpack: () => ReadonlyArray<Event>
}

/** Events that were made already. */
export const packed = (events: ReadonlyArray<Event>): PackedEvents => ({
  length: events.length,
  unpack: () => events
})

/** An event in the store. */
export interface StoredEvent extends Event {
  /** Its place in the order of all events: it only grows, is never used again and never changes (G5). */
  readonly offset: number
  /** When it was stored, in milliseconds since 1970 by the wall clock; it never falls as offsets grow. */
  readonly processedAt: number
  /** Whether it came after its sequence had been declared missing. */
  readonly late: boolean
}

/** What became of one event of a submission (G8). `offset` is always that of the one stored event with this key. */
export type Outcome =
  /** It was new, and is now on disk. */
  | { readonly outcome: "stored"; readonly offset: number }
  /** The key is known with the same content: this delivery was dropped. */
  | { readonly outcome: "duplicate"; readonly offset: number }
  /** The key is known with other content: this delivery was dropped, the first one stands. */
  | { readonly outcome: "conflict"; readonly offset: number }

/**
 * Whether two deliveries with one key say the same: equal source and equal payload. `timestamp` and `sequence` are not
 * compared: a line shipped again with a new time is a duplicate, not a conflict.
 */
export const sameContent = (
  left: Pick<Event, "source" | "payload">,
  right: Pick<Event, "source" | "payload">
): boolean => left.source === right.source && sameJson(left.payload, right.payload)
