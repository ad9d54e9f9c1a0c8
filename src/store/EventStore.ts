/**
 * The port to the store: what the rest of the service may ask of it, and its layer in memory. The port promises the
 * same for every layer, also for one that several instances share: an append is one transaction, reads see committed
 * states only, and offsets follow the order of the appends.
 */
import { Clock, Context, Effect, Layer, Option, Random } from "effect"
import { CursorAhead, type CursorError, type StoreError } from "../domain/Errors.ts"
import { type Event, type EventKey, type Outcome, type StoredEvent, sameContent } from "../domain/Event.ts"
import { compareInstants, type Instant } from "../domain/Timestamp.ts"
import { matchesTopic, type TopicPattern } from "../domain/Topic.ts"

/** Which events a reader wants; what is undefined does not restrict. */
export interface Filter {
  readonly topic?: TopicPattern | undefined
  readonly eventId?: string | undefined
  readonly source?: string | undefined
  /** Event time, inclusive. */
  readonly since?: Instant | undefined
  /** Event time, exclusive. */
  readonly until?: Instant | undefined
}

/** Whether an event is one that the reader wants. */
export const matchesFilter = (filter: Filter, event: StoredEvent): boolean =>
  (filter.topic === undefined || matchesTopic(filter.topic, event.topic)) &&
  (filter.eventId === undefined || filter.eventId === event.eventId) &&
  (filter.source === undefined || filter.source === event.source) &&
  (filter.since === undefined || compareInstants(filter.since, event.time) <= 0) &&
  (filter.until === undefined || compareInstants(event.time, filter.until) < 0)

/** A step of a reader through the events. */
export interface Scan {
  readonly filter: Filter
  readonly order: "asc" | "desc"
  /** Ascending: only greater offsets. Descending: only smaller ones. Undefined: from the oldest or the newest. */
  readonly after: number | undefined
  /** No more events than this. */
  readonly eventsMax: number
}

/** What one step saw. It may hold few events or none although more match: a step is bounded by what it reads. */
export interface Window {
  readonly events: ReadonlyArray<StoredEvent>
  /** The last offset that was looked at, to go on from; the cursor itself where there was nothing to look at. */
  readonly scannedTo: number
  /** Whether nothing was left behind `scannedTo` when this was read. */
  readonly end: boolean
}

/** An event, and what has been made of later deliveries with its key. */
export interface KnownEvent {
  readonly event: StoredEvent
  /** Deliveries dropped, conflicts among them. */
  readonly duplicates: number
  readonly conflicts: number
  /** When the last delivery was dropped, in milliseconds since 1970. */
  readonly lastDuplicateAt: number | null
}

/** A key that was used again with other content. */
export interface ConflictedKey extends EventKey {
  readonly offset: number
  readonly conflicts: number
  readonly lastConflictAt: number
  readonly lastConflictSource: string
}

/** The books of one topic. */
export interface TopicBook {
  readonly topic: string
  readonly events: number
  /** Deliveries dropped, conflicts among them. */
  readonly duplicates: number
  readonly conflicts: number
  readonly firstOffset: number
  readonly lastOffset: number
  /** The latest event time in the topic, as the text that was sent. */
  readonly lastEventTime: string
}

/** The books of the store at one committed state: `received = uniqueProcessed + duplicateDropped` (G4). */
export interface Books {
  readonly received: number
  readonly uniqueProcessed: number
  readonly duplicateDropped: number
  /** How many of those dropped had other content than the first. */
  readonly conflicts: number
  readonly topicsTotal: number
  /** The names of the first topics in their alphabetical order, at most `booksTopicsMax`. */
  readonly topics: ReadonlyArray<string>
  /** The greatest offset that was given out, 0 at first. */
  readonly lastOffset: number
  /** Names this store among all others, until it is restored from a backup. */
  readonly storeId: string
  /** Counted from 1; a store that is restored from a backup begins a new one. */
  readonly epoch: number
}

/** How many topics `Books` names. */
export const booksTopicsMax = 1000

/** A page of a listing, and whether more follow. */
export interface Listing<A> {
  readonly items: ReadonlyArray<A>
  readonly more: boolean
}

/** The store of events. */
export class EventStore extends Context.Tag("sekali/EventStore")<
  EventStore,
  {
    /**
     * Stores the events that are new, drops the others, moves every counter and gives out offsets in the order of the
     * list, all in one transaction that is on disk when this returns; an outcome for each event, in order (G1, G2, G4,
     * G5, G8). When it fails, all of it is on disk or nothing, and it is not known which. Appending nothing still asks
     * the store to write. Appends are made one at a time.
     */
    readonly append: (events: ReadonlyArray<Event>) => Effect.Effect<ReadonlyArray<Outcome>, StoreError>
    /** One bounded step through the events. Follow `scannedTo` for more. */
    readonly scan: (scan: Scan) => Effect.Effect<Window, StoreError | CursorError>
    readonly lookup: (key: EventKey) => Effect.Effect<Option.Option<KnownEvent>, StoreError>
    readonly books: Effect.Effect<Books, StoreError>
    /** Topics in their alphabetical order, after one of them or from the first. */
    readonly topics: (page: {
      readonly after: string | undefined
      readonly limit: number
    }) => Effect.Effect<Listing<TopicBook>, StoreError>
    /** Keys with conflicts by their offset, after one of them or from the first. */
    readonly conflicts: (page: {
      readonly after: number | undefined
      readonly limit: number
    }) => Effect.Effect<Listing<ConflictedKey>, StoreError | CursorError>
    /** What keeps the store from writing, as far as is known from the last attempt. */
    readonly trouble: Effect.Effect<Option.Option<StoreError>>
  }
>() {}

/** How many events the memory layer looks at in a step. */
const windowEvents = 1000

interface Redelivery {
  duplicates: number
  conflicts: number
  lastDuplicateAt: number
  lastConflict: { readonly at: number; readonly source: string } | undefined
}

interface Entry {
  readonly event: StoredEvent
  redelivery: Redelivery | undefined
}

const makeMemory = Effect.map(Random.nextIntBetween(0, 2 ** 32), (id) => {
  const storeId = `memory-${id.toString(16)}`
  const entries: Array<Entry> = []
  const byKey = new Map<string, Entry>()
  const topics = new Map<string, TopicBook>()
  let received = 0
  let conflicts = 0
  let processedAt = 0
  let lastOffset = 0

  const keyOf = ({ topic, eventId }: EventKey) => `${topic}\n${eventId}`

  const appendOne = (event: Event): Outcome => {
    received++
    const offset = ++lastOffset
    const known = byKey.get(keyOf(event))
    const book = topics.get(event.topic)
    if (known === undefined) {
      const entry: Entry = { event: { ...event, offset, processedAt }, redelivery: undefined }
      entries.push(entry)
      byKey.set(keyOf(event), entry)
      const latest = Option.fromNullable(latestTime.get(event.topic))
      const later = Option.match(latest, {
        onNone: () => true,
        onSome: (time) => compareInstants(event.time, time) > 0
      })
      if (later) latestTime.set(event.topic, event.time)
      topics.set(event.topic, {
        topic: event.topic,
        events: (book?.events ?? 0) + 1,
        duplicates: book?.duplicates ?? 0,
        conflicts: book?.conflicts ?? 0,
        firstOffset: book?.firstOffset ?? offset,
        lastOffset: offset,
        lastEventTime: later ? event.timestamp : (book?.lastEventTime ?? event.timestamp)
      })
      return { outcome: "stored", offset }
    }
    const conflict = !sameContent(known.event, event)
    known.redelivery ??= { duplicates: 0, conflicts: 0, lastDuplicateAt: 0, lastConflict: undefined }
    known.redelivery.duplicates++
    known.redelivery.lastDuplicateAt = processedAt
    if (conflict) {
      conflicts++
      known.redelivery.conflicts++
      known.redelivery.lastConflict = { at: processedAt, source: event.source }
    }
    if (book !== undefined) {
      topics.set(event.topic, {
        ...book,
        duplicates: book.duplicates + 1,
        conflicts: book.conflicts + (conflict ? 1 : 0)
      })
    }
    return { outcome: conflict ? "conflict" : "duplicate", offset: known.event.offset }
  }
  const latestTime = new Map<string, Instant>()

  const pageOf = <A>(items: ReadonlyArray<A>, limit: number): Listing<A> => ({
    items: items.slice(0, limit),
    more: items.length > limit
  })

  const topicNames = () => [...topics.keys()].sort()

  return EventStore.of({
    append: (events) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        if (events.length > 0) processedAt = Math.max(processedAt, now)
        return events.map(appendOne)
      }),
    scan: ({ filter, order, after, eventsMax }) =>
      Effect.suspend(() => {
        if (after !== undefined && after > lastOffset) return new CursorAhead({ after, lastOffset })
        const ahead =
          order === "asc"
            ? entries.filter(({ event }) => event.offset > (after ?? 0))
            : entries.filter(({ event }) => after === undefined || event.offset < after).reverse()
        const matching: Array<StoredEvent> = []
        let scannedTo = after ?? 0
        let scanned = 0
        for (const { event } of ahead) {
          if (scanned === windowEvents || matching.length === eventsMax) break
          scanned++
          scannedTo = event.offset
          if (matchesFilter(filter, event)) matching.push(event)
        }
        return Effect.succeed({ events: matching, scannedTo, end: scanned === ahead.length })
      }),
    lookup: (key) =>
      Effect.sync(() =>
        Option.map(Option.fromNullable(byKey.get(keyOf(key))), ({ event, redelivery }) => ({
          event,
          duplicates: redelivery?.duplicates ?? 0,
          conflicts: redelivery?.conflicts ?? 0,
          lastDuplicateAt: redelivery?.lastDuplicateAt ?? null
        }))
      ),
    books: Effect.sync(() => ({
      received,
      uniqueProcessed: entries.length,
      duplicateDropped: received - entries.length,
      conflicts,
      topicsTotal: topics.size,
      topics: topicNames().slice(0, booksTopicsMax),
      lastOffset,
      storeId,
      epoch: 1
    })),
    topics: ({ after, limit }) =>
      Effect.sync(() =>
        pageOf(
          topicNames().flatMap((name) => {
            const book = topics.get(name)
            return book === undefined || (after !== undefined && name <= after) ? [] : [book]
          }),
          limit
        )
      ),
    conflicts: ({ after, limit }) =>
      Effect.suspend(() => {
        if (after !== undefined && after > lastOffset) return new CursorAhead({ after, lastOffset })
        const page = pageOf(
          entries.flatMap(({ event, redelivery }) =>
            redelivery?.lastConflict === undefined || event.offset <= (after ?? 0)
              ? []
              : [
                  {
                    topic: event.topic,
                    eventId: event.eventId,
                    offset: event.offset,
                    conflicts: redelivery.conflicts,
                    lastConflictAt: redelivery.lastConflict.at,
                    lastConflictSource: redelivery.lastConflict.source
                  }
                ]
          ),
          limit
        )
        return Effect.succeed(page)
      }),
    trouble: Effect.succeedNone
  })
})

/** A store that keeps everything in memory and forgets it with its scope: G1 holds as long as the process does. */
export const layerMemory: Layer.Layer<EventStore> = Layer.effect(EventStore, makeMemory)
