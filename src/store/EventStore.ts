/**
 * The port to the store: what the rest of the service may ask of it, and its layer in memory. The port promises the
 * same for every layer, also for one that several instances share: an append is one transaction, reads see committed
 * states only, and offsets follow the order of the appends.
 */
import { Clock, Context, Effect, Layer, Option, Random } from "effect"
import { SequenceLimits } from "../Config.ts"
import { CursorAhead, type CursorError, CursorOutside, type StoreError } from "../domain/Errors.ts"
import { type Event, type EventKey, type Outcome, type StoredEvent, sameContent } from "../domain/Event.ts"
import { compareInstants, type Instant } from "../domain/Timestamp.ts"
import { matchesTopic, type TopicPattern } from "../domain/Topic.ts"
import {
  type Availability,
  availabilityOf,
  beaten,
  type Heartbeat,
  type Outage,
  outageUntil
} from "./Availability.ts"
import { advance, type Gap, numbersIn, steadyClock, sumMax, warnOfMissing } from "./Sequences.ts"

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
  /**
   * By offset, ascending or descending; or those of one topic and source, which the filter has to name, that have a
   * sequence, by that and then by offset.
   */
  readonly order: "asc" | "desc" | "sequence"
  /**
   * Ascending: only greater offsets. Descending: only smaller ones. In sequence: only what comes behind the event with
   * this offset, which has to be one of those that are read. Undefined, or in sequence 0: from the beginning.
   */
  readonly after: number | undefined
  /** No more events than this. */
  readonly eventsMax: number
}

/** What one step saw. It may hold few events or none although more match: a step is bounded by what it reads. */
export interface Window {
  readonly events: ReadonlyArray<StoredEvent>
  /** The offset of the last event that was looked at, to go on from; the cursor itself where there was nothing to look at. */
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

/** The books of the numbers that one source gave its events in one topic. */
export interface SourceBook {
  /** Its place among all, in the order in which they were opened. */
  readonly id: number
  readonly topic: string
  readonly source: string
  /** The number that was seen first. */
  readonly first: number
  /** All numbers from `first` to this one are stored, or given up. */
  readonly contiguous: number
  readonly highest: number
  readonly gapsOpen: number
  /** How many numbers were ever declared missing: those that still are, and those that came late. */
  readonly declared: number
  /** How many events came after their number had been declared missing. */
  readonly late: number
  /** How many events have a number that an earlier one has. */
  readonly reused: number
  /** The lowest of the open gaps, at most `gapsListedMax`. */
  readonly gaps: ReadonlyArray<Gap>
}

/** How many gaps a `SourceBook` names. */
export const gapsListedMax = 10

/** Which part of a listing a reader wants: from behind an item, or from the first. */
export interface ListingPage<Cursor> {
  readonly after: Cursor | undefined
  readonly limit: number
}

/** Which series a reader wants, in the order in which they were opened, behind the one with this id. */
export interface SourcesPage extends ListingPage<number> {
  readonly topic: TopicPattern | undefined
  readonly source: string | undefined
}

/** What all series add up to. */
export interface SequenceSums {
  readonly sources: number
  readonly gapsOpen: number
  readonly declared: number
  readonly late: number
  readonly reused: number
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
  readonly sequences: SequenceSums
}

/** What the deliveries to one topic have become. */
export type TopicCounts = Pick<TopicBook, "topic" | "events" | "duplicates" | "conflicts">

/** How many topics `Books` names. */
export const booksTopicsMax = 1000

/** A page of a listing, and whether more follow. */
export interface Listing<A> {
  readonly items: ReadonlyArray<A>
  readonly more: boolean
}

/** The store of events, as its users see it. */
export type EventStoreShape = Context.Tag.Service<typeof EventStore>

/** The store of events. */
export class EventStore extends Context.Tag("sekali/EventStore")<
  EventStore,
  {
    /**
     * Stores the events that are new, drops the others, moves every counter and gives out offsets in the order of the
     * list, all in one transaction that is on disk when this returns; an outcome for each event, in order (G1, G2, G4,
     * G5, G8). When it fails, all of it is on disk or nothing, and it is not known which. Appending nothing still asks
     * the store to write. Appends are made one at a time.
     *
     * The books of sequences move in the same transaction: only events that are stored move them. Where a series has
     * more open gaps after it than `SequenceLimits` allows, its oldest are declared missing.
     */
    readonly append: (events: ReadonlyArray<Event>) => Effect.Effect<ReadonlyArray<Outcome>, StoreError>
    /**
     * Declares the gaps missing that have been open so long, or lie so far behind their series' highest number, and says
     * so in the log when that is on disk. Writes only where there is one; how many there were. It takes a bounded number
     * at a time: ask again until there is none.
     */
    readonly declareMissing: (limits: {
      readonly secondsMax: number
      readonly eventsMax: number
    }) => Effect.Effect<number, StoreError>
    /** One bounded step through the events. Follow `scannedTo` for more. */
    readonly scan: (scan: Scan) => Effect.Effect<Window, StoreError | CursorError>
    readonly lookup: (key: EventKey) => Effect.Effect<Option.Option<KnownEvent>, StoreError>
    readonly books: Effect.Effect<Books, StoreError>
    /** The books with those of the first topics that were created, all at one committed state. */
    readonly booksByTopic: (
      topicsMax: number
    ) => Effect.Effect<readonly [Books, ReadonlyArray<TopicCounts>], StoreError>
    /** Topics in their alphabetical order, after one of them or from the first. */
    readonly topics: (page: ListingPage<string>) => Effect.Effect<Listing<TopicBook>, StoreError>
    /** Series in the order in which they were opened. `scannedTo` is to be followed: a page may be short, or empty. */
    readonly sources: (
      page: SourcesPage
    ) => Effect.Effect<Listing<SourceBook> & { readonly scannedTo: number }, StoreError>
    /** Keys with conflicts by their offset, after one of them or from the first. */
    readonly conflicts: (
      page: ListingPage<number>
    ) => Effect.Effect<Listing<ConflictedKey>, StoreError | CursorError>
    /** How many bytes it takes, and its log besides, where that can be told. */
    readonly size: Effect.Effect<Option.Option<{ readonly database: number; readonly log: number }>>
    /**
     * Stores a heartbeat: the service can store events now. `starting` says that it is the first one of a process: then
     * the time since the last one before it was an outage, however short.
     */
    readonly beat: (starting: boolean) => Effect.Effect<void, StoreError>
    /** For how much of the time the service could store events, by its heartbeats. */
    readonly availability: Effect.Effect<Availability, StoreError>
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

interface Series {
  book: SourceBook
  /** All of them, ascending. */
  gaps: ReadonlyArray<Gap>
  readonly numbers: Set<number>
}

interface Entry {
  event: StoredEvent
  redelivery: Redelivery | undefined
}

const makeMemory = Effect.gen(function* () {
  const storeId = `memory-${(yield* Random.nextIntBetween(0, 2 ** 32)).toString(16)}`
  const steady = yield* steadyClock
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
      const entry: Entry = { event: { ...event, offset, processedAt, late: false }, redelivery: undefined }
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

  const outages: Array<Outage> = []
  let heartbeat: Heartbeat | undefined

  const series = new Map<string, Series>()

  const setGaps = (
    one: Series,
    gaps: ReadonlyArray<Gap>,
    missing: ReadonlyArray<Gap>,
    moved: Partial<SourceBook>
  ) => {
    one.gaps = [...gaps].sort((left, right) => left.first - right.first)
    const book = { ...one.book, ...moved }
    const declared = book.declared + missing.reduce((sum, gap) => sum + numbersIn(gap), 0)
    const contiguous = (one.gaps[0]?.first ?? book.highest + 1) - 1
    one.book = {
      ...book,
      contiguous,
      declared,
      gapsOpen: gaps.length,
      gaps: one.gaps.slice(0, gapsListedMax)
    }
  }

  /** Moves the series of the events stored since an offset; gives back the gaps of which there were too many. */
  const moveSeries = (lastBefore: number, now: number, gapsMax: number) => {
    const arrived = new Map<string, Array<Entry>>()
    for (const entry of entries.slice(entries.findLastIndex(({ event }) => event.offset <= lastBefore) + 1)) {
      const { topic, source, sequence } = entry.event
      if (sequence === null) continue
      const key = `${topic}\n${source}`
      arrived.set(key, [...(arrived.get(key) ?? []), entry])
    }
    return [...arrived].flatMap(([key, found]) => {
      const known = series.get(key)
      const arrivals = found.map(({ event }) => ({ offset: event.offset, sequence: event.sequence ?? 0 }))
      const before = known && {
        first: known.book.first,
        highest: known.book.highest,
        gaps: known.gaps,
        isTaken: (sequence: number) => known.numbers.has(sequence)
      }
      const move = advance(before, arrivals, now)
      const { topic, source } = (found[0] as Entry).event
      const one: Series = known ?? {
        book: {
          id: series.size + 1,
          topic,
          source,
          first: move.first,
          contiguous: move.first,
          highest: move.first,
          gapsOpen: 0,
          declared: 0,
          late: 0,
          reused: 0,
          gaps: []
        },
        gaps: [],
        numbers: new Set()
      }
      series.set(key, one)
      for (const { sequence } of arrivals) one.numbers.add(sequence)
      for (const entry of found) {
        if (move.late.includes(entry.event.offset)) entry.event = { ...entry.event, late: true }
      }
      const open = [...one.gaps.filter((gap) => !move.closed.includes(gap)), ...move.opened]
      const byAge = open.sort((left, right) => left.openedAt - right.openedAt || left.first - right.first)
      const excess = byAge.slice(0, Math.max(0, open.length - gapsMax))
      setGaps(one, byAge.slice(excess.length), excess, {
        highest: move.highest,
        late: one.book.late + move.late.length,
        reused: one.book.reused + move.reused
      })
      return excess.length > 0 ? [{ topic, source, gaps: excess }] : []
    })
  }

  const pageOf = <A>(items: ReadonlyArray<A>, limit: number): Listing<A> => ({
    items: items.slice(0, limit),
    more: items.length > limit
  })

  const entriesInSequence = ({ topic, source }: Filter) =>
    entries
      .filter(({ event }) => event.sequence !== null && matchesFilter({ topic, source }, event))
      .sort((left, right) => (left.event.sequence ?? 0) - (right.event.sequence ?? 0))

  const topicNames = () => [...topics.keys()].sort()

  const books = Effect.sync(() => ({
    received,
    uniqueProcessed: entries.length,
    duplicateDropped: received - entries.length,
    conflicts,
    topicsTotal: topics.size,
    topics: topicNames().slice(0, booksTopicsMax),
    lastOffset,
    storeId,
    epoch: 1,
    sequences: [...series.values()].reduce(
      (sums, { book }) => ({
        sources: sums.sources + 1,
        gapsOpen: sums.gapsOpen + book.gapsOpen,
        declared: Math.min(sums.declared + book.declared, sumMax),
        late: sums.late + book.late,
        reused: sums.reused + book.reused
      }),
      { sources: 0, gapsOpen: 0, declared: 0, late: 0, reused: 0 }
    )
  }))

  return EventStore.of({
    append: (events) =>
      Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        const { gapsMax } = yield* SequenceLimits
        if (events.length > 0) processedAt = Math.max(processedAt, now)
        const before = lastOffset
        const outcomes = events.map(appendOne)
        yield* warnOfMissing(moveSeries(before, yield* steady, gapsMax))
        return outcomes
      }),
    declareMissing: ({ secondsMax, eventsMax }) =>
      Effect.gen(function* () {
        const openedBefore = (yield* steady) - secondsMax * 1000
        const declared = [...series.values()].flatMap((one) => {
          const { topic, source, highest } = one.book
          const due = one.gaps.filter(
            ({ last, openedAt }) => openedAt <= openedBefore || highest - last > eventsMax
          )
          if (due.length === 0) return []
          setGaps(
            one,
            one.gaps.filter((gap) => !due.includes(gap)),
            due,
            {}
          )
          return [{ topic, source, gaps: due }]
        })
        yield* warnOfMissing(declared)
        return declared.reduce((sum, { gaps }) => sum + gaps.length, 0)
      }),
    scan: ({ filter, order, after, eventsMax }) =>
      Effect.suspend((): Effect.Effect<Window, CursorError> => {
        if (after !== undefined && after > lastOffset) return new CursorAhead({ after, lastOffset })
        const inSequence = order === "sequence" ? entriesInSequence(filter) : []
        const place = inSequence.findIndex(({ event }) => event.offset === after)
        if (order === "sequence" && after !== undefined && after !== 0 && place < 0) {
          return new CursorOutside({ after })
        }
        const ahead =
          order === "sequence"
            ? inSequence.slice(place + 1)
            : order === "asc"
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
    books,
    booksByTopic: (topicsMax) =>
      Effect.map(books, (books) => [books, [...topics.values()].slice(0, topicsMax)] as const),
    size: Effect.succeedNone,
    sources: ({ topic, source, after, limit }) =>
      Effect.sync(() => {
        const books = [...series.values()].map(({ book }) => book)
        const page = pageOf(
          books.filter(
            (book) =>
              book.id > (after ?? 0) &&
              (topic === undefined || matchesTopic(topic, book.topic)) &&
              (source === undefined || source === book.source)
          ),
          limit
        )
        const last = page.more ? page.items.at(-1) : books.at(-1)
        return { ...page, scannedTo: Math.max(last?.id ?? 0, after ?? 0) }
      }),
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
    beat: (starting) =>
      Effect.map(steady, (now) => {
        const outage = heartbeat && outageUntil(heartbeat, now, starting)
        if (outage !== undefined) outages.push(outage)
        heartbeat = beaten(heartbeat, now)
      }),
    availability: Effect.map(steady, (now) => availabilityOf(heartbeat, outages, now)),
    trouble: Effect.succeedNone
  })
})

/** A store that keeps everything in memory and forgets it with its scope: G1 holds as long as the process does. */
export const layerMemory: Layer.Layer<EventStore> = Layer.effect(EventStore, makeMemory)
