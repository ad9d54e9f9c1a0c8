/**
 * A correct service in a few lines, to test the checker with: it writes the history that its clients would record and a
 * real database beside it. Requests, copies, commits and answers are separate steps, so that a test can interleave them
 * as it likes. Nothing of the service's own code is used here.
 */
import Sqlite from "better-sqlite3"
import type { Query } from "../../sim/Checker.ts"
import type { Entry, Operation, PageParameters, ServerChange } from "../../sim/History.ts"

const schema = `
  CREATE TABLE store (
    id INTEGER PRIMARY KEY CHECK (id = 1), received INTEGER NOT NULL, unique_processed INTEGER NOT NULL,
    duplicate_dropped INTEGER NOT NULL, conflicts INTEGER NOT NULL, topics INTEGER NOT NULL,
    last_offset INTEGER NOT NULL, processed_at INTEGER NOT NULL, opened INTEGER NOT NULL
  ) STRICT;
  INSERT INTO store VALUES (1, 0, 0, 0, 0, 0, 0, 0, 0);
  CREATE TABLE topic (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, events INTEGER NOT NULL, duplicates INTEGER NOT NULL,
    conflicts INTEGER NOT NULL, first_offset INTEGER NOT NULL, last_offset INTEGER NOT NULL,
    last_event_time TEXT NOT NULL, last_event_ms INTEGER NOT NULL, last_event_ns INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE event (
    offset INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL REFERENCES topic (id), event_id TEXT NOT NULL,
    timestamp TEXT NOT NULL, source TEXT NOT NULL, payload TEXT NOT NULL, sequence INTEGER, origin TEXT,
    processed_at INTEGER NOT NULL, UNIQUE (topic_id, event_id)
  ) STRICT;
  CREATE TABLE redelivery (
    offset INTEGER PRIMARY KEY REFERENCES event (offset), duplicates INTEGER NOT NULL, conflicts INTEGER NOT NULL,
    last_duplicate_at INTEGER NOT NULL, last_conflict_at INTEGER, last_conflict_source TEXT
  ) STRICT;
  CREATE INDEX redelivery_with_conflicts ON redelivery (offset) WHERE conflicts > 0;`

/** Payloads, in groups that are the same JSON value. */
export const payloads = [
  [`{"a":1,"b":[2]}`, `{ "b": [2.0], "a": 1e0 }`],
  [`{"a":1}`],
  [`9007199254740993`, `9007199254740993.0`],
  [`9007199254740992`],
  [`"x"`, `"\\u0078"`],
  [`{"payload":{"payload":null}}`]
]
const groupOf = new Map(payloads.flatMap((group, index) => group.map((text) => [text, index] as const)))

/** An event as JSON text; `payload` is the text of one. */
export const event = (
  event_id: string,
  rest: { topic?: string; source?: string; payload?: string; timestamp?: string; sequence?: number } = {}
): string => {
  const {
    topic = "t.a",
    source = "s1",
    payload = `{"a":1}`,
    timestamp = "2026-01-01T00:00:00Z",
    sequence
  } = rest
  const head = JSON.stringify({
    topic,
    event_id,
    timestamp,
    source,
    ...(sequence === undefined ? {} : { sequence })
  })
  return `${head.slice(0, -1)},"payload":${payload}}`
}

interface Answer {
  readonly status: number
  readonly headers: Record<string, string>
  readonly body: string
}

/** A request under way. */
export interface Request {
  readonly call: string
  readonly operation: Operation
  /** Answers that left the server and have not come back. */
  readonly answers: Array<Answer>
  settled: boolean
}

type Values = Record<string, string | number | null>

interface EventRow extends Values {
  offset: number
  topic: string
  event_id: string
  timestamp: string
  source: string
  payload: string
  sequence: number | null
  processed_at: number
}

const queueEventsMax = 100
const queueBytesMax = 100_000

export class Model {
  readonly history: Array<Entry> = []
  readonly database = new Sqlite(":memory:")
  /** Copies of publishes that wait for the next commit. */
  private queue: Array<Request> = []
  private calls = 0
  private now = 0

  constructor() {
    this.database.exec(schema)
    this.server("started")
    this.server("ready")
  }

  readonly query: Query = (sql) => this.database.prepare(sql).all() as Array<Record<string, unknown>>

  server(change: ServerChange["change"]): void {
    this.note({ kind: "server", at: this.tick(), server: "server", change })
  }

  /** What waits is gone, and a new process takes over. */
  crash(kind: "killed" | "power cut"): void {
    this.queue = []
    this.server(kind)
    this.server("started")
    this.server("ready")
  }

  calm(): void {
    this.note({ kind: "calm", at: this.tick() })
  }

  end(): void {
    this.note({ kind: "end", at: this.tick(), outcome: "done" })
  }

  giveUp(submission: string): void {
    this.note({ kind: "gave up", at: this.tick(), submission })
  }

  invoke(process: string, operation: Operation, invalid = false): Request {
    const call = `call${++this.calls}`
    this.note({ kind: "invoked", at: this.tick(), process, call, operation, ...(invalid ? { invalid } : {}) })
    return { call, operation, answers: [], settled: false }
  }

  /** A copy reaches the server: a read is answered at once, a publish at the next commit. */
  deliver(request: Request): void {
    this.note({ kind: "delivered", at: this.tick(), call: request.call, server: "server" })
    const { operation } = request
    if (operation.type === "publish") this.queue.push(request)
    else request.answers.push(this.read(operation))
  }

  /** A copy reaches the server and is refused there. */
  overload(request: Request): void {
    this.note({ kind: "delivered", at: this.tick(), call: request.call, server: "server" })
    const body = JSON.stringify({ type: "urn:sekali:problem:overloaded", status: 503, retry_after: 1 })
    request.answers.push({ status: 503, headers: { "retry-after": "1" }, body })
  }

  /** Stores the first of what waits. */
  commit(submissions = Number.POSITIVE_INFINITY): void {
    const taken = this.queue.splice(0, submissions)
    if (taken.length === 0) return
    this.now += 1000
    this.database.transaction(() => {
      for (const request of taken) request.answers.push(this.append(request.operation))
    })()
  }

  /** The client gets the oldest answer. */
  answer(request: Request): void {
    const answer = request.answers.shift()
    if (answer === undefined || request.settled) return
    request.settled = true
    this.note({ kind: "returned", at: this.tick(), call: request.call, ...answer })
  }

  lose(request: Request): void {
    if (request.settled) return
    request.settled = true
    this.note({ kind: "unknown", at: this.tick(), call: request.call, why: "timeout" })
  }

  refuse(request: Request): void {
    request.settled = true
    this.note({ kind: "refused", at: this.tick(), call: request.call })
  }

  /** A whole call without trouble. */
  call(process: string, operation: Operation): Request {
    const request = this.invoke(process, operation)
    this.deliver(request)
    this.commit()
    this.answer(request)
    return request
  }

  publish(submission: string, events: ReadonlyArray<string>, attempt = 1, minimal = false): Request {
    return this.call("publisher", publishing(submission, events, attempt, minimal))
  }

  page(parameters: PageParameters, reader?: string): Request {
    return this.call("reader", { type: "page", parameters, reader })
  }

  private note(entry: Entry): void {
    this.history.push(entry)
  }

  private tick(): number {
    this.now += 10
    return this.now
  }

  private all<A>(sql: string, ...values: ReadonlyArray<string | number | null>): Array<A> {
    return this.database.prepare(sql).all(...values) as Array<A>
  }

  private run(sql: string, ...values: ReadonlyArray<string | number | null>): void {
    this.database.prepare(sql).run(...values)
  }

  private append(operation: Operation): Answer {
    if (operation.type !== "publish") throw new Error("only a publish is appended")
    const results = operation.events.map((text) => this.appendOne(text))
    const count = (outcome: string) => results.filter((result) => result.outcome === outcome).length
    const body = {
      status: "accepted",
      accepted: results.length,
      stored: count("stored"),
      duplicates: count("duplicate"),
      conflicts: count("conflict"),
      ...(operation.minimal ? {} : { results })
    }
    return { status: 202, headers: {}, body: JSON.stringify(body) }
  }

  private appendOne(text: string): { readonly outcome: string; readonly offset: number } {
    const sent = JSON.parse(text) as { [name: string]: string } & { sequence?: number }
    const payload = /"payload":(.*)\}$/.exec(text)?.[1] ?? "{}"
    const topic = sent["topic"]?.toLowerCase() as string
    const [known] = this.events("t.name = ? AND e.event_id = ?", topic, sent["event_id"] as string)
    const at = Math.floor(this.now / 1000)
    this.run("UPDATE store SET received = received + 1, last_offset = last_offset + 1, processed_at = ?", at)
    if (known !== undefined) {
      const equal = known.source === sent["source"] && groupOf.get(known.payload) === groupOf.get(payload)
      const conflict = equal ? 0 : 1
      this.run(
        `INSERT INTO redelivery VALUES (?, 1, ?, ?, iif(? = 1, ?, NULL), iif(? = 1, ?, NULL))
         ON CONFLICT DO UPDATE SET duplicates = duplicates + 1, conflicts = conflicts + excluded.conflicts,
           last_duplicate_at = excluded.last_duplicate_at,
           last_conflict_at = coalesce(excluded.last_conflict_at, last_conflict_at),
           last_conflict_source = coalesce(excluded.last_conflict_source, last_conflict_source)`,
        ...[known.offset, conflict, at, conflict, at, conflict, sent["source"] as string]
      )
      this.run(
        "UPDATE store SET duplicate_dropped = duplicate_dropped + 1, conflicts = conflicts + ?",
        conflict
      )
      const books = "duplicates = duplicates + 1, conflicts = conflicts + ?"
      this.run(`UPDATE topic SET ${books} WHERE name = ?`, conflict, topic)
      return { outcome: equal ? "duplicate" : "conflict", offset: known.offset }
    }
    const [{ last_offset: offset = 0 } = {}] = this.all<{ last_offset: number }>(
      "SELECT last_offset FROM store"
    )
    const ms = Date.parse(sent["timestamp"] as string)
    this.run(
      `INSERT INTO topic SELECT NULL, ?, 0, 0, 0, ?, 0, ?, ?, 0 WHERE NOT EXISTS (SELECT 1 FROM topic WHERE name = ?)`,
      ...[topic, offset, sent["timestamp"] as string, ms, topic]
    )
    this.run(
      `UPDATE topic SET events = events + 1, last_offset = ?, last_event_time = iif(? > last_event_ms, ?, last_event_time),
         last_event_ms = max(last_event_ms, ?) WHERE name = ?`,
      ...[offset, ms, sent["timestamp"] as string, ms, topic]
    )
    this.run(
      `INSERT INTO event SELECT ?, id, ?, ?, ?, ?, ?, NULL, ? FROM topic WHERE name = ?`,
      ...[offset, sent["event_id"] as string, sent["timestamp"] as string, sent["source"] as string],
      ...[payload, sent.sequence ?? null, at, topic]
    )
    this.run(
      `UPDATE store SET unique_processed = unique_processed + 1, topics = (SELECT count(*) FROM topic)`
    )
    return { outcome: "stored", offset }
  }

  private events(where: string, ...values: ReadonlyArray<string | number>): Array<EventRow> {
    return this.all(
      `SELECT e.*, t.name AS topic FROM event AS e JOIN topic AS t ON t.id = e.topic_id WHERE ${where}`,
      ...values
    )
  }

  private read(operation: Operation): Answer {
    const ok = (body: string): Answer => ({ status: 200, headers: {}, body })
    switch (operation.type) {
      case "page":
        return ok(this.readPage(operation.parameters))
      case "stream": {
        const lines = this.matching(operation.parameters).map(eventJson)
        return ok(lines.map((line) => `${line}\n`).join(""))
      }
      case "subscribe":
        throw new Error("the model is not subscribed to")
      case "lookup":
        return this.readKnown(operation.topic.toLowerCase(), operation.event_id)
      case "stats":
        return ok(this.readStats())
      case "metrics":
        return ok(this.readMetrics())
      case "topics": {
        const after = operation.after ?? ""
        const topics = this.all<Values>(
          `SELECT name AS topic, events, duplicates, conflicts, first_offset, last_offset, last_event_time
           FROM topic WHERE name > ? ORDER BY name`,
          after
        )
        const items = topics.slice(0, operation.limit ?? 100)
        const next = items.at(-1)?.["topic"] ?? after
        return ok(
          JSON.stringify({ count: items.length, topics: items, next, more: topics.length > items.length })
        )
      }
      case "conflicts": {
        const after = operation.after ?? 0
        const keys = this.all<Values>(
          `SELECT t.name AS topic, e.event_id, r.* FROM redelivery AS r JOIN event AS e USING (offset)
             JOIN topic AS t ON t.id = e.topic_id WHERE r.conflicts > 0 AND r.offset > ? ORDER BY r.offset`,
          after
        )
        const conflicts = keys
          .slice(0, operation.limit ?? 100)
          .map((key) => ({ ...key, last_conflict_at: isoTime(key["last_conflict_at"] as number) }) as Values)
        const next = conflicts.at(-1)?.["offset"] ?? after
        return ok(
          JSON.stringify({ count: conflicts.length, conflicts, next, more: keys.length > conflicts.length })
        )
      }
      case "publish":
        throw new Error("a publish is not read")
    }
  }

  /** What matches, in order and within the limit. Patterns are left to `LIKE`, which is enough for the tests' topics. */
  private matching({
    topic,
    event_id,
    source,
    since,
    until,
    limit,
    order,
    after
  }: PageParameters): Array<EventRow> {
    const like = topic?.toLowerCase().replace(/[>*]$/, "%") ?? "%"
    const desc = order === "desc"
    return this.events(
      `t.name LIKE ? AND e.event_id LIKE ? AND e.source LIKE ? AND e.offset ${desc ? "<" : ">"} ? ORDER BY e.offset ${desc ? "DESC" : "ASC"}`,
      ...[like, event_id ?? "%", source ?? "%", after ?? (desc ? Number.MAX_SAFE_INTEGER : 0)]
    )
      .filter((row) => since === undefined || Date.parse(row.timestamp) >= Date.parse(since))
      .filter((row) => until === undefined || Date.parse(row.timestamp) < Date.parse(until))
      .slice(0, limit)
  }

  private readPage(parameters: PageParameters): string {
    const { limit = 100, order, after } = parameters
    const all = this.matching({ ...parameters, limit: undefined })
    const events = all.slice(0, limit)
    const desc = order === "desc"
    const [end] = this.all<{ end: number | null }>(`SELECT ${desc ? "min" : "max"}(offset) AS end FROM event`)
    const more = all.length > limit
    const atEnd = end?.end ?? after ?? 0
    const whole = desc ? Math.min(atEnd, after ?? atEnd) : Math.max(atEnd, after ?? 0)
    const next = more ? events.at(-1)?.offset : whole
    const head = JSON.stringify({ topic: parameters.topic ?? null, count: events.length, next, more })
    return `${head.slice(0, -1)},"events":[${events.map(eventJson).join()}]}`
  }

  private readKnown(topic: string, eventId: string): Answer {
    const [row] = this.events("t.name = ? AND e.event_id = ?", topic, eventId)
    if (row === undefined)
      return { status: 404, headers: {}, body: `{"type":"urn:sekali:problem:not-found"}` }
    const [redelivery] = this.all<Values>("SELECT * FROM redelivery WHERE offset = ?", row.offset)
    const further = {
      duplicates: redelivery?.["duplicates"] ?? 0,
      conflicts: redelivery?.["conflicts"] ?? 0,
      last_duplicate_at: redelivery === undefined ? null : isoTime(redelivery["last_duplicate_at"] as number)
    }
    const body = `${eventJson(row).slice(0, -1)},${JSON.stringify(further).slice(1)}`
    return { status: 200, headers: {}, body }
  }

  private readMetrics(): string {
    const outcomes = this.all<{ topic: string; outcome: string; count: number }>(`
      SELECT name AS topic, outcome, count FROM (
        SELECT id, name, 'stored' AS outcome, events AS count FROM topic
        UNION ALL SELECT id, name, 'duplicate', duplicates - conflicts FROM topic
        UNION ALL SELECT id, name, 'conflict', conflicts FROM topic
        UNION ALL SELECT 1000000, '(other)', 'stored', 0
      ) ORDER BY id, outcome`)
    const lines = outcomes.map(
      ({ topic, outcome, count }) =>
        `sekali_events_received_total{topic="${topic}",outcome="${outcome}"} ${count}\n`
    )
    const { events, bytes } = this.level
    const queue = `sekali_queue_events ${events}\nsekali_queue_events_limit ${queueEventsMax}\nsekali_queue_bytes ${bytes}\nsekali_queue_bytes_limit ${queueBytesMax}\n`
    return `# TYPE sekali_events_received_total counter\n${lines.join("")}${queue}sekali_ready 1\n`
  }

  private get level() {
    const events = this.queue.reduce((sum, { operation }) => sum + eventsOf(operation), 0)
    return { events, bytes: events * 100 }
  }

  private readStats(): string {
    const [books = {}] = this.all<Values>("SELECT * FROM store")
    const received = books["received"] as number
    const dropped = books["duplicate_dropped"] as number
    const names = this.all<{ name: string }>("SELECT name FROM topic ORDER BY name").map(({ name }) => name)
    const { events, bytes } = this.level
    return JSON.stringify({
      received,
      unique_processed: books["unique_processed"],
      duplicate_dropped: dropped,
      conflicts: books["conflicts"],
      topics: names,
      topics_total: books["topics"],
      last_offset: books["last_offset"],
      uptime: 1.5,
      duplicate_rate: received === 0 ? 0 : dropped / received,
      queue: { events, events_max: queueEventsMax, bytes, bytes_max: queueBytesMax }
    })
  }
}

export const publishing = (
  submission: string,
  events: ReadonlyArray<string>,
  attempt = 1,
  minimal = false
): Operation => ({ type: "publish", submission, attempt, events, ...(minimal ? { minimal } : {}) })

const eventsOf = (operation: Operation): number =>
  operation.type === "publish" ? operation.events.length : 0

const isoTime = (milliseconds: number): string => new Date(milliseconds).toISOString()

const eventJson = (row: EventRow): string => {
  const { offset, topic, event_id, timestamp, source, payload, sequence, processed_at } = row
  const after = JSON.stringify({
    ...(sequence === null ? {} : { sequence }),
    processed_at: isoTime(processed_at)
  })
  return `${JSON.stringify({ offset, topic, event_id, timestamp, source }).slice(0, -1)},"payload":${payload},${after.slice(1)}`
}
