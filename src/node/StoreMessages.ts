/**
 * What passes between the service and the thread of its store: calls of the store's port with their arguments, and what
 * comes of each. Values of the port that a message cannot carry as they are (events in their hundreds, optional values,
 * errors) are packed here, and unpacked on the other side into equal ones.
 */
import { SqlError } from "@effect/sql/SqlError"
import { Data, type LogLevel } from "effect"
import type { SettingsShape } from "../Config.ts"
import {
  BackupFailed,
  BackupUnderWay,
  BackupUnsupported,
  CursorAhead,
  CursorLost,
  CursorOutside,
  StoreDamaged,
  StoreRefused,
  StoreUnavailable
} from "../domain/Errors.ts"
import type { Event, Outcome, StoredEvent } from "../domain/Event.ts"
import type { Availability } from "../store/Availability.ts"
import type {
  Books,
  ConflictedKey,
  EventStoreShape,
  KnownEvent,
  Listing,
  Scan,
  SourceBook,
  SourcesPage,
  TopicBook,
  TopicCounts
} from "../store/EventStore.ts"

/** The calls, by their names: what each is given, and what it gives back. */
export interface Calls {
  readonly append: readonly [events: PackedEvents, outcomes: PackedOutcomes]
  readonly declareMissing: readonly [
    limits: Parameters<EventStoreShape["declareMissing"]>[0],
    declared: number
  ]
  readonly scan: readonly [scan: Scan, window: PackedWindow]
  readonly lookup: readonly [key: Parameters<EventStoreShape["lookup"]>[0], known: KnownEvent | undefined]
  readonly books: readonly [nothing: undefined, books: Books]
  readonly booksByTopic: readonly [topicsMax: number, books: readonly [Books, ReadonlyArray<TopicCounts>]]
  readonly topics: readonly [page: Parameters<EventStoreShape["topics"]>[0], topics: Listing<TopicBook>]
  readonly sources: readonly [
    page: SourcesPage,
    sources: Listing<SourceBook> & { readonly scannedTo: number }
  ]
  readonly conflicts: readonly [
    page: Parameters<EventStoreShape["conflicts"]>[0],
    conflicts: Listing<ConflictedKey>
  ]
  readonly size: readonly [
    nothing: undefined,
    size: { readonly database: number; readonly log: number } | undefined
  ]
  readonly beat: readonly [starting: boolean, nothing: undefined]
  readonly availability: readonly [nothing: undefined, availability: Availability]
  readonly trouble: readonly [nothing: undefined, trouble: PackedError | undefined]
  /** Makes a backup, which is kept until it is given up; there is one at a time. */
  readonly takeBackup: readonly [
    nothing: undefined,
    backup: { readonly storeId: string; readonly at: number; readonly bytes: number }
  ]
  /** The next piece of the backup; nothing behind its end. */
  readonly readBackup: readonly [nothing: undefined, piece: Uint8Array | undefined]
  readonly giveBackupUp: readonly [nothing: undefined, nothing: undefined]
  /** Closes the store, and with it the thread. */
  readonly close: readonly [nothing: undefined, nothing: undefined]
}

/** The name of a call. */
export type CallName = keyof Calls

/** A call on its way to the store. */
export interface Call {
  readonly id: number
  readonly name: CallName
  readonly given: Calls[CallName][0]
}

/** What the store counted since its last message, for the figures of the service. */
export interface Counted {
  readonly failures: ReadonlyArray<string>
  readonly rebuilds: number
  readonly duplicateAges: ReadonlyArray<number>
}

/** What the thread of the store says. Its first message tells whether the store is open; `id` is that of a call. */
export type Reply = { readonly counted?: Counted | undefined } & (
  | { readonly _tag: "Open" }
  | { readonly _tag: "Refused"; readonly error: PackedError }
  | { readonly _tag: "Done"; readonly id: number; readonly value: unknown }
  | { readonly _tag: "Failed"; readonly id: number; readonly error: PackedError }
  | { readonly _tag: "Died"; readonly id: number; readonly why: string }
)

/** What the store is opened with: the first message to its thread. */
export interface StoreThreadData {
  readonly settings: Omit<SettingsShape, "logLevel">
  readonly logLevel: LogLevel.Literal
  /** Whether its log is for a person on a terminal. */
  readonly pretty: boolean
}

/** Events as one text and a list of numbers, which are copied at once. */
export interface PackedEvents {
  readonly text: string
  readonly numbers: Float64Array
}

/** How many numbers there are for an event: the lengths of its texts, its time, its sequence. */
const numbersOfEvent = 9

/** The length of a text that is not there, or a sequence that is not. */
const absent = -1

/** Packs events. */
export const packEvents = (events: ReadonlyArray<Event>): PackedEvents => {
  const numbers = new Float64Array(events.length * numbersOfEvent)
  let text = ""
  let at = 0
  for (const { topic, eventId, timestamp, source, payload, origin, time, sequence } of events) {
    text += topic + eventId + timestamp + source + payload
    if (origin !== null) text += origin
    numbers[at] = topic.length
    numbers[at + 1] = eventId.length
    numbers[at + 2] = timestamp.length
    numbers[at + 3] = source.length
    numbers[at + 4] = payload.length
    numbers[at + 5] = origin?.length ?? absent
    numbers[at + 6] = time.milliseconds
    numbers[at + 7] = time.nanoseconds
    numbers[at + 8] = sequence ?? absent
    at += numbersOfEvent
  }
  return { text, numbers }
}

/** The events that were packed. */
export const unpackEvents = ({ text, numbers }: PackedEvents): ReadonlyArray<Event> => {
  const events: Array<Event> = []
  let from = 0
  for (let at = 0; at < numbers.length; at += numbersOfEvent) {
    const number = (place: number): number => numbers[at + place] as number
    const next = (length: number): string => {
      const start = from
      from += length
      return text.slice(start, from)
    }
    events.push({
      topic: next(number(0)),
      eventId: next(number(1)),
      timestamp: next(number(2)),
      source: next(number(3)),
      payload: next(number(4)),
      origin: number(5) === absent ? null : next(number(5)),
      time: { milliseconds: number(6), nanoseconds: number(7) },
      sequence: number(8) === absent ? null : number(8)
    })
  }
  return events
}

/** A step through the store, packed. */
export interface PackedWindow {
  readonly events: PackedEvents
  /** Of each event: its offset, when it was stored, and whether it was late. */
  readonly places: Float64Array
  readonly scannedTo: number
  readonly end: boolean
}

/** Packs events with their places in the store. */
export const packStored = (events: ReadonlyArray<StoredEvent>) => ({
  events: packEvents(events),
  places: Float64Array.from(
    events.flatMap(({ offset, processedAt, late }) => [offset, processedAt, Number(late)])
  )
})

/** The events that were packed with their places. */
export const unpackStored = ({
  events,
  places
}: Pick<PackedWindow, "events" | "places">): ReadonlyArray<StoredEvent> =>
  unpackEvents(events).map((event, index) => ({
    ...event,
    offset: places[index * 3] as number,
    processedAt: places[index * 3 + 1] as number,
    late: places[index * 3 + 2] === 1
  }))

/** Outcomes: an offset, and the place of what came of the event in `outcomeNames`, for each. */
export interface PackedOutcomes {
  readonly offsets: Float64Array
  readonly kinds: Uint8Array
}

const outcomeNames = ["stored", "duplicate", "conflict"] as const

/** Packs outcomes. */
export const packOutcomes = (outcomes: ReadonlyArray<Outcome>): PackedOutcomes => {
  const offsets = new Float64Array(outcomes.length)
  const kinds = new Uint8Array(outcomes.length)
  for (const [index, { outcome, offset }] of outcomes.entries()) {
    offsets[index] = offset
    kinds[index] = outcomeNames.indexOf(outcome)
  }
  return { offsets, kinds }
}

/** The outcomes that were packed. */
export const unpackOutcomes = ({ offsets, kinds }: PackedOutcomes): ReadonlyArray<Outcome> =>
  Array.from(offsets, (offset, index) => ({ outcome: outcomeNames[kinds[index] as 0 | 1 | 2], offset }))

/** The errors that the store may fail with. */
export type StoreFailure =
  | StoreUnavailable
  | StoreDamaged
  | StoreRefused
  | CursorAhead
  | CursorLost
  | CursorOutside
  | BackupUnderWay
  | BackupFailed
  | BackupUnsupported
  | SqlError

const failures = {
  StoreUnavailable,
  StoreDamaged,
  StoreRefused,
  CursorAhead,
  CursorLost,
  CursorOutside,
  BackupUnderWay,
  BackupFailed,
  BackupUnsupported,
  SqlError
} as const

/** An error as a message carries it. */
export interface PackedError {
  readonly tag: keyof typeof failures
  readonly fields: Readonly<Record<string, unknown>>
  readonly cause: PackedCause | undefined
}

/** What an error has for its cause: its message, and the code that the driver or the system gave it. */
export interface PackedCause {
  readonly message: string
  readonly code: unknown
  readonly cause: PackedCause | undefined
}

const packCause = (cause: unknown): PackedCause | undefined => {
  if (cause === undefined) return undefined
  if (typeof cause !== "object" || cause === null) {
    return { message: String(cause), code: undefined, cause: undefined }
  }
  const { message, code, cause: inner } = cause as { message?: unknown; code?: unknown; cause?: unknown }
  return { message: String(message ?? ""), code, cause: packCause(inner) }
}

const unpackCause = (packed: PackedCause | undefined): Error | undefined => {
  if (packed === undefined) return undefined
  const { message, code } = packed
  const cause = unpackCause(packed.cause)
  const error = new Error(message, cause === undefined ? {} : { cause })
  return code === undefined ? error : Object.assign(error, { code })
}

const notFields = new Set(["cause", "name", "stack", "_tag"])

/** Packs an error. */
export const packError = (error: StoreFailure): PackedError => ({
  tag: error._tag,
  fields: {
    ...Object.fromEntries(Object.entries(error).filter(([name]) => !notFields.has(name))),
    // All others make their message of their fields.
    ...(error instanceof SqlError ? { message: error.message } : {})
  },
  cause: packCause("cause" in error ? error.cause : undefined)
})

/** The error that was packed. */
export const unpackError = ({ tag, fields, cause }: PackedError): StoreFailure =>
  new (failures[tag] as new (given: unknown) => StoreFailure)({ ...fields, cause: unpackCause(cause) })

/** The thread of the store has ended although nobody asked it to. */
export class StoreThreadEnded extends Data.TaggedError("StoreThreadEnded")<{ readonly code: number }> {
  override get message(): string {
    return `The thread of the store ended unasked, with code ${this.code}.`
  }
}
