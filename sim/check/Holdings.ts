/**
 * What the database holds at the end of a run, read with SQL of the checker's own.
 */
import { contentOf, identityOf, keyOf, type Sent } from "./Calls.ts"
import { foldTopic } from "./Filter.ts"
import { canonicalJson } from "./Json.ts"
import type { Report } from "./Report.ts"
import { getOrMake } from "./Rising.ts"

/** Asks the database as it was found. */
export type Query = (sql: string) => ReadonlyArray<Record<string, unknown>>

/** A stored event, and what was dropped for its key. */
export interface Row extends Sent {
  /** Its place among the rows, by offset. */
  readonly rank: number
  readonly offset: number
  readonly topicId: number
  /** The topic as it is stored. */
  readonly topicText: string
  readonly processedAt: number
  redelivery: Redelivery | undefined
}

export interface Redelivery {
  readonly offset: number
  readonly duplicates: number
  readonly conflicts: number
  readonly lastDuplicateAt: number
  readonly lastConflictAt: number | null
  readonly lastConflictSource: string | null
}

export interface Topic {
  readonly id: number
  readonly name: string
  readonly events: number
  readonly duplicates: number
  readonly conflicts: number
  readonly firstOffset: number
  readonly lastOffset: number
  readonly lastEventTime: string
  readonly lastEventMillis: number
  readonly lastEventNanos: number
}

/** The one row that sums everything up. */
export interface Books {
  readonly received: number
  readonly uniqueProcessed: number
  readonly duplicateDropped: number
  readonly conflicts: number
  readonly topics: number
  readonly lastOffset: number
  readonly processedAt: number
}

/** The contents of the database. */
export interface Holdings {
  /** By offset. */
  readonly rows: ReadonlyArray<Row>
  readonly offsets: ReadonlyArray<number>
  /** The first row of each key. */
  readonly byKey: ReadonlyMap<string, Row>
  readonly byTopicId: ReadonlyMap<number, ReadonlyArray<Row>>
  readonly redeliveries: ReadonlyArray<Redelivery>
  readonly topics: ReadonlyMap<string, Topic>
  readonly books: Books
}

/** Asks SQLite whether the file is sound, and reads what is in it; nothing if it cannot be read. */
export const readHoldings = (query: Query, report: Report): Holdings | undefined => {
  try {
    for (const row of query("PRAGMA integrity_check")) {
      const [said] = Object.values(row)
      if (said !== "ok") report.add("integrity", `integrity_check says: ${said}`)
    }
    for (const row of query("PRAGMA foreign_key_check")) {
      report.add("integrity", `foreign_key_check says: ${JSON.stringify(row)}`)
    }
    return read(query, report)
  } catch (error) {
    report.add("integrity", `the database cannot be read: ${error instanceof Error ? error.message : error}`)
    return undefined
  }
}

const read = (query: Query, report: Report): Holdings | undefined => {
  const rows = query(
    `SELECT e.offset, e.topic_id, t.name AS topic, e.event_id, e.timestamp, e.source, e.payload, e.sequence,
       e.origin, e.processed_at
     FROM event AS e LEFT JOIN topic AS t ON t.id = e.topic_id ORDER BY e.offset`
  ).map((row, rank): Row => {
    const topicText = text(row, "topic")
    const topic = foldTopic(topicText)
    const eventId = text(row, "event_id")
    const rest = {
      timestamp: text(row, "timestamp"),
      source: text(row, "source"),
      payload: canonicalJson(text(row, "payload")),
      sequence: row["sequence"] === null ? null : number(row, "sequence"),
      origin: row["origin"] === null ? null : text(row, "origin")
    }
    return {
      rank,
      offset: number(row, "offset"),
      topicId: number(row, "topic_id"),
      topicText,
      key: keyOf(topic, eventId),
      topic,
      eventId,
      ...rest,
      content: contentOf(rest),
      identity: identityOf(rest),
      processedAt: number(row, "processed_at"),
      redelivery: undefined
    }
  })
  const byOffset = new Map<number, Row>()
  const byKey = new Map<string, Row>()
  const byTopicId = new Map<number, Array<Row>>()
  for (const row of rows) {
    byOffset.set(row.offset, row)
    getOrMake(byKey, row.key, () => row)
    getOrMake(byTopicId, row.topicId, () => []).push(row)
  }

  const redeliveries = query(
    `SELECT offset, duplicates, conflicts, last_duplicate_at, last_conflict_at, last_conflict_source
     FROM redelivery ORDER BY offset`
  ).map(
    (row): Redelivery => ({
      offset: number(row, "offset"),
      duplicates: number(row, "duplicates"),
      conflicts: number(row, "conflicts"),
      lastDuplicateAt: number(row, "last_duplicate_at"),
      lastConflictAt: row["last_conflict_at"] === null ? null : number(row, "last_conflict_at"),
      lastConflictSource: row["last_conflict_source"] === null ? null : text(row, "last_conflict_source")
    })
  )
  for (const redelivery of redeliveries) {
    const row = byOffset.get(redelivery.offset)
    if (row !== undefined) row.redelivery = redelivery
  }

  const topics = new Map(
    query("SELECT * FROM topic ORDER BY name").map((row): [string, Topic] => [
      text(row, "name"),
      {
        id: number(row, "id"),
        name: text(row, "name"),
        events: number(row, "events"),
        duplicates: number(row, "duplicates"),
        conflicts: number(row, "conflicts"),
        firstOffset: number(row, "first_offset"),
        lastOffset: number(row, "last_offset"),
        lastEventTime: text(row, "last_event_time"),
        lastEventMillis: number(row, "last_event_ms"),
        lastEventNanos: number(row, "last_event_ns")
      }
    ])
  )

  const [books, ...others] = query("SELECT * FROM store")
  if (books === undefined || others.length > 0) {
    report.add("G4", `the books have ${others.length + (books === undefined ? 0 : 1)} rows, not one`)
  }
  if (books === undefined) return undefined
  return {
    rows,
    offsets: rows.map(({ offset }) => offset),
    byKey,
    byTopicId,
    redeliveries,
    topics,
    books: {
      received: number(books, "received"),
      uniqueProcessed: number(books, "unique_processed"),
      duplicateDropped: number(books, "duplicate_dropped"),
      conflicts: number(books, "conflicts"),
      topics: number(books, "topics"),
      lastOffset: number(books, "last_offset"),
      processedAt: number(books, "processed_at")
    }
  }
}

type Values = Record<string, unknown>

const number = (row: Values, name: string): number => {
  const value = row[name]
  if (typeof value !== "number" && typeof value !== "bigint") throw new Error(`${name} is not a number`)
  return Number(value)
}

const text = (row: Values, name: string): string => {
  const value = row[name]
  if (typeof value !== "string") throw new Error(`${name} is not a text`)
  return value
}
