/**
 * What both peers have in common: the database of the one table that such a service needs, and how they tell that they
 * serve. They take their settings and announce themselves as the service does, so that one function starts all three.
 */
import Database from "better-sqlite3"

/** An event as it arrives, with next to nothing known of it. */
export interface PeerEvent {
  readonly topic: string
  readonly event_id: string
  readonly timestamp: string
  readonly source: string
  readonly payload?: unknown
}

/** The books that `/stats` tells. */
export interface PeerBooks {
  received: number
  unique_processed: number
  duplicate_dropped: number
}

/** Opens the database that the environment names, durable as the service's: each commit waits for its sync. */
export const openDatabase = () => {
  const database = new Database((process.env["SEKALI_DATABASE"] ?? "").replace(/^file:/, ""))
  database.pragma("journal_mode = WAL")
  database.exec(`CREATE TABLE IF NOT EXISTS events (
    offset INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    event_id TEXT NOT NULL,
    timestamp TEXT NOT NULL,
    source TEXT NOT NULL,
    payload TEXT NOT NULL,
    UNIQUE (topic, event_id)
  )`)
  // Behind the first write, at which this build of SQLite would choose less.
  database.pragma("synchronous = FULL")
  if (database.pragma("synchronous", { simple: true }) !== 2) throw new Error("synchronous is not FULL")
  const insert = database.prepare<[string, string, string, string, string]>(
    "INSERT INTO events (topic, event_id, timestamp, source, payload) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
  )
  const books: PeerBooks = { received: 0, unique_processed: 0, duplicate_dropped: 0 }

  /** Inserts an event where its key is new, and counts it; for use within a transaction. */
  const add = ({ topic, event_id, timestamp, source, payload = {} }: PeerEvent): void => {
    const { changes } = insert.run(topic, event_id, timestamp, source, JSON.stringify(payload))
    books.received++
    if (changes === 1) books.unique_processed++
    else books.duplicate_dropped++
  }
  process.on("SIGTERM", () => {
    database.close()
    process.exit(0)
  })
  return { database, add, books }
}

/** Tells, in the words of the service's log, that the peer answers on this port. */
export const announce = (port: number): void => {
  const annotations = { address: `http://127.0.0.1:${port}` }
  process.stdout.write(`${JSON.stringify({ message: "serving", annotations })}\n`)
}
