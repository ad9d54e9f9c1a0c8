/**
 * Events of each topic and source in the order of their sequence, through a bounded window: an event whose number is
 * ahead waits for those that are missing, until one of the bounds is met; then its source goes on without them, and that
 * is said. Nothing is left out: what comes behind its place is delivered when it comes, marked as late.
 *
 * All of it is plain state, moved by events and by the clock of whoever asks.
 */
import type { FollowedEvent } from "./Follower.ts"

/** What is delivered in sequence. */
export type Delivery =
  | {
      readonly _tag: "Event"
      readonly event: FollowedEvent
      /** It came after its source went on without its number, or its number came before with another event. */
      readonly late: boolean
      /** Everything up to this offset is delivered: whoever goes on from here misses nothing, but may get some again. */
      readonly cursor: number
    }
  /** The source goes on without these numbers. */
  | {
      readonly _tag: "Missing"
      readonly topic: string
      readonly source: string
      readonly from: number
      readonly to: number
      readonly cursor: number
    }

/** The bounds of the window. */
export interface WindowLimits {
  /** Events that are held back, of all sources together. */
  readonly heldEventsMax: number
  /** How long one is held back. */
  readonly heldMillisMax: number
}

/** The window. */
export interface Window {
  /** Takes the next event of the stream; gives what is due. */
  readonly offer: (event: FollowedEvent, now: bigint) => ReadonlyArray<Delivery>
  /** What is due because it was held back for long enough. */
  readonly expire: (now: bigint) => ReadonlyArray<Delivery>
  /** When something will be due, by the clock that `offer` was told of. */
  readonly dueAt: () => bigint | undefined
}

interface Held {
  readonly series: Series
  readonly event: FollowedEvent
  readonly sequence: number
  readonly dueAt: bigint
}

/** The events of a topic and source. */
interface Series {
  /** The number that is to come. */
  next: number
  readonly held: Map<number, Held>
}

/** An empty window. A series begins with the first number that comes. */
export const makeWindow = ({ heldEventsMax, heldMillisMax }: WindowLimits): Window => {
  const heldNanos = BigInt(Math.round(heldMillisMax * 1e6))
  const all = new Map<string, Series>()
  /** In the order of their offsets, which is that of their coming. */
  const held = new Set<Held>()
  let last = 0

  const cursor = (): number => {
    const [oldest] = held
    return oldest === undefined ? last : oldest.event.offset - 1
  }
  const deliver = (event: FollowedEvent, late = false): Delivery => ({
    _tag: "Event",
    event,
    late,
    cursor: cursor()
  })

  const release = (series: Series): ReadonlyArray<Delivery> => {
    const deliveries: Array<Delivery> = []
    for (let due = series.held.get(series.next); due !== undefined; due = series.held.get(series.next)) {
      series.held.delete(due.sequence)
      held.delete(due)
      series.next++
      deliveries.push(deliver(due.event))
    }
    return deliveries
  }

  /** Lets the series go on with the least number that it has. */
  const goOn = ({ series, event }: Held): ReadonlyArray<Delivery> => {
    const from = series.next
    series.next = Math.min(...series.held.keys())
    const { topic, source } = event
    const missing: Delivery = {
      _tag: "Missing",
      topic,
      source,
      from,
      to: series.next - 1,
      cursor: cursor()
    }
    return [missing, ...release(series)]
  }

  const goOnWhile = (isDue: (oldest: Held) => boolean): ReadonlyArray<Delivery> => {
    const deliveries: Array<Delivery> = []
    for (let [oldest] = held; oldest !== undefined && isDue(oldest); [oldest] = held)
      deliveries.push(...goOn(oldest))
    return deliveries
  }

  return {
    offer: (event, now) => {
      last = event.offset
      const { topic, source, sequence } = event
      if (sequence === undefined) return [deliver(event)]
      const key = `${topic}\n${source}`
      const series = all.get(key)
      if (series === undefined) {
        all.set(key, { next: sequence + 1, held: new Map() })
        return [deliver(event)]
      }
      if (sequence < series.next || series.held.has(sequence)) return [deliver(event, true)]
      if (sequence === series.next) {
        series.next++
        return [deliver(event), ...release(series)]
      }
      const waiting: Held = { series, event, sequence, dueAt: now + heldNanos }
      series.held.set(sequence, waiting)
      held.add(waiting)
      return goOnWhile(() => held.size > heldEventsMax)
    },
    expire: (now) => goOnWhile(({ dueAt }) => dueAt <= now),
    dueAt: () => {
      const [oldest] = held
      return oldest?.dueAt
    }
  }
}
