/**
 * A good history, in which everything happens that may happen, and the tools to spoil it: in what was told, in what was
 * asked, or in what stands.
 */
import type { Entry, Operation, PageParameters } from "../../sim/History.ts"
import { event, Model, publishing, type Request } from "./CheckerModel.ts"

/** A history in which all goes well, by the calls that the tests spoil. */
export const good = () => {
  const model = new Model()
  const emptyStats = model.call("c", { type: "stats" })
  const missing = model.call("c", { type: "lookup", topic: "t.a", event_id: "e1" })
  const first = model.publish("first", [
    event("e1", { sequence: 1 }),
    event("e2", { payload: `{"a":1,"b":[2]}`, timestamp: "2026-01-01T00:00:05+00:00" }),
    event("e3", { topic: "T.b", payload: "9007199254740993" })
  ])
  const page1 = model.page({ limit: 2 }, "r")
  const second = model.publish("second", [
    event("e1", { timestamp: "2026-02-02T00:00:00Z", sequence: 2 }),
    event("e4"),
    event("e4")
  ])
  const conflict = model.publish("conflict", [event("e2", { source: "s2" })])
  // Lost on its way, then delivered twice.
  model.lose(model.invoke("p1", publishing("twice", [event("e5"), event("e6")])))
  const twice = model.invoke("p1", publishing("twice", [event("e5"), event("e6")], 2))
  model.deliver(twice)
  model.deliver(twice)
  const busyStats = model.invoke("c", { type: "stats" })
  model.deliver(busyStats)
  model.answer(busyStats)
  model.commit()
  twice.answers.shift()
  model.answer(twice)
  const page2 = model.page({ limit: 2, after: 2 }, "r")
  // Committed, but the answer was lost in a crash; the next copy meets what it had stored.
  const unanswered = model.invoke("p2", publishing("crashed", [event("e7"), event("e8")]))
  model.deliver(unanswered)
  model.commit()
  model.lose(unanswered)
  model.crash("power cut")
  const retried = model.publish("crashed", [event("e7"), event("e8")], 2)
  // Never committed.
  const lost = model.invoke("p3", publishing("lost", [event("e9")]))
  model.deliver(lost)
  model.crash("killed")
  model.lose(lost)
  model.giveUp("lost")
  const refused = model.invoke("p3", publishing("refused", [event("e10")]))
  model.overload(refused)
  model.answer(refused)
  const down = model.invoke("p3", publishing("refused", [event("e10")], 2))
  model.refuse(down)
  model.publish("refused", [event("e10")], 3)
  const minimal = model.publish(
    "minimal",
    [event("e11"), event("e2", { payload: "2" }), event("e1")],
    1,
    true
  )
  const page3 = model.page({ after: 5 }, "r")
  const page4 = model.page({ topic: "t.>", source: "s1", order: "desc", limit: 3 })
  const page5 = model.page({ topic: "t.b", since: "2025-01-01T00:00:00Z", until: "2027-01-01T00:00:00Z" })
  const stream = model.call("c", { type: "stream", parameters: { topic: "t.a" } })
  const lookup = model.call("c", { type: "lookup", topic: "t.A", event_id: "e2" })
  const stats = model.call("c", { type: "stats" })
  const metrics = model.call("c", { type: "metrics" })
  const topics = model.call("c", { type: "topics" })
  const conflicts = model.call("c", { type: "conflicts" })
  model.calm()
  const late = model.publish("late", [event("e12")])
  const lateStats = model.call("c", { type: "stats" })
  model.end()
  const { history } = model
  return {
    ...{
      model,
      history,
      emptyStats,
      missing,
      first,
      page1,
      second,
      conflict,
      twice,
      busyStats,
      page2,
      unanswered
    },
    ...{
      retried,
      lost,
      refused,
      minimal,
      page3,
      page4,
      page5,
      stream,
      lookup,
      stats,
      metrics,
      topics,
      conflicts,
      late,
      lateStats
    }
  }
}

export type Good = ReturnType<typeof good>

/** Replaces one entry of a history, or leaves it out. */
export const replace = (
  history: Array<Entry>,
  isIt: (entry: Entry) => boolean,
  by: (entry: Entry) => Entry | undefined
) => {
  const index = history.findIndex(isIt)
  const entry = history[index]
  if (entry === undefined) throw new Error("there is no such entry")
  const replacement = by(entry)
  history.splice(index, 1, ...(replacement === undefined ? [] : [replacement]))
}

export const isAnswerTo =
  ({ call }: Request) =>
  (entry: Entry): boolean =>
    entry.kind === "returned" && entry.call === call

/** Rewrites the body of an answer; that nothing changes is a mistake of the test. */
export const edit = ({ history }: Good, request: Request, change: (body: string) => string) =>
  replace(history, isAnswerTo(request), (entry) => {
    if (entry.kind !== "returned") return entry
    const body = change(entry.body)
    if (body === entry.body) throw new Error(`nothing changes in ${body}`)
    return { ...entry, body }
  })

/** Rewrites texts of an answer, each of which must stand in it. */
export const tell = (
  run: Good,
  request: Request,
  ...changes: ReadonlyArray<readonly [from: string, to: string]>
) =>
  edit(run, request, (body) =>
    changes.reduce((text, [from, to]) => {
      if (!text.includes(from)) throw new Error(`${from} does not stand in ${text}`)
      return text.replace(from, to)
    }, body)
  )

/** Answers a call with another status and body. */
export const answer = ({ history }: Good, request: Request, status: number, body = "{}") =>
  replace(history, isAnswerTo(request), (entry) =>
    entry.kind === "returned" ? { ...entry, status, body, headers: {} } : entry
  )

/** Rewrites what a call asked for. */
export const ask = ({ history }: Good, { call }: Request, change: (operation: Operation) => Operation) =>
  replace(
    history,
    (entry) => entry.kind === "invoked" && entry.call === call,
    (entry) => (entry.kind === "invoked" ? { ...entry, operation: change(entry.operation) } : entry)
  )

export const parameters = (run: Good, request: Request, parameters: PageParameters) =>
  ask(run, request, (operation) => (operation.type === "page" ? { ...operation, parameters } : operation))

/** Takes calls out of the history: reads, of which nothing remains. */
export const forget = ({ history }: Good, ...requests: ReadonlyArray<Request>) => {
  const calls = new Set(requests.map(({ call }) => call))
  history.splice(
    0,
    history.length,
    ...history.filter((entry) => !("call" in entry) || !calls.has(entry.call))
  )
}

export const bodyOf = ({ history }: Good, request: Request): string => {
  const entry = history.find(isAnswerTo(request))
  return entry?.kind === "returned" ? entry.body : ""
}

/** Where an event stands. */
export const offsetOf = ({ model }: Good, event_id: string): number =>
  model.query(`SELECT offset FROM event WHERE event_id = '${event_id}'`)[0]?.["offset"] as number

/** Ends a history behind what was added to it. */
export const end = (run: Good) => {
  const { history } = run
  history.splice(0, history.length, ...history.filter(({ kind }) => kind !== "end"))
  run.model.end()
}

/** An event that is stored without its publisher knowing. */
export const unheard = (run: Good, text: string, submission = "unheard"): Request => {
  const { model } = run
  const request = model.invoke("p9", publishing(submission, [text]))
  model.deliver(request)
  model.commit()
  model.lose(request)
  model.giveUp(submission)
  end(run)
  return request
}

export const withExtra = (run: Good): Good & { readonly extra: Request } => ({
  ...run,
  extra: unheard(run, event("e13", { payload: "9007199254740993", sequence: 7 }))
})

/** A page on which the extra event is seen, and how it is told of it. */
export const seeExtra = (run: Good, change?: (body: string) => string): Request => {
  const page = run.model.page({ after: offsetOf(run, "e12") })
  end(run)
  if (change !== undefined) edit(run, page, change)
  return page
}

/** Swaps the offsets of two events in the database. */
export const swap = (run: Good, left: number, right: number) =>
  sql(
    `UPDATE event SET offset = 9999 WHERE offset = ${left}`,
    `UPDATE event SET offset = ${left} WHERE offset = ${right}`,
    `UPDATE event SET offset = ${right} WHERE offset = 9999`
  )(run)

/** Spoils what stands. */
export const sql =
  (...statements: ReadonlyArray<string>) =>
  ({ model }: Good) => {
    model.database.pragma("foreign_keys = OFF")
    model.database.pragma("ignore_check_constraints = ON")
    for (const statement of statements) {
      if (model.database.prepare(statement).run().changes === 0) throw new Error(`no effect: ${statement}`)
    }
  }

/** Without its results, the body of a publish answer about one event. */
export const told = (outcome: "stored" | "duplicate" | "conflict", offset: number) =>
  JSON.stringify({
    status: "accepted",
    accepted: 1,
    stored: outcome === "stored" ? 1 : 0,
    duplicates: outcome === "duplicate" ? 1 : 0,
    conflicts: outcome === "conflict" ? 1 : 0,
    results: [{ outcome, offset }]
  })

export const move = (entry: Entry, micros: number): Entry => ({ ...entry, at: entry.at + micros })

/** The event of the last publish, gone without a trace. */
export const loseLast = [
  "DELETE FROM event WHERE event_id = 'e12'",
  "UPDATE store SET received = received - 1, unique_processed = unique_processed - 1",
  "UPDATE topic SET events = events - 1, last_offset = (SELECT max(offset) FROM event) WHERE name = 't.a'"
]

/** One more delivery of an event is counted, everywhere. */
export const countAgain = (event_id: string) => [
  `INSERT INTO redelivery SELECT offset, 1, 0, processed_at, NULL, NULL FROM event WHERE event_id = '${event_id}'
   ON CONFLICT DO UPDATE SET duplicates = duplicates + 1`,
  "UPDATE store SET received = received + 1, duplicate_dropped = duplicate_dropped + 1",
  "UPDATE topic SET duplicates = duplicates + 1 WHERE name = 't.a'"
]
