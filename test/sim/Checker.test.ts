/**
 * The checker against histories that are known to be bad: a good one, in which everything happens that may happen, is
 * spoilt in one place, in what was told or in what stands, and exactly the guarantee that this breaks must be named.
 * And against many that are known to be good, drawn at random from a correct model: nothing may be found in those.
 */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { check, type Guarantee, type Options } from "../../sim/Checker.ts"
import { instantOf } from "../../sim/check/Filter.ts"
import { canonicalJson, NotJson, readJson } from "../../sim/check/Json.ts"
import { type Entry, parseHistory, writeHistory } from "../../sim/History.ts"
import {
  answer,
  ask,
  bodyOf,
  countAgain,
  edit,
  end,
  forget,
  type Good,
  good,
  isAnswerTo,
  loseLast,
  move,
  offsetOf,
  parameters,
  replace,
  seeExtra,
  sql,
  swap,
  tell,
  told,
  withExtra
} from "./CheckerGood.ts"
import { event, Model, payloads, publishing, type Request } from "./CheckerModel.ts"
import { anyStep, walk } from "./CheckerWalk.ts"

const options: Options = { progressMicrosMax: 1_000_000, queueEventsMax: 100, queueBytesMax: 100_000 }

interface Bad {
  readonly name: string
  readonly broken: ReadonlyArray<Guarantee>
  /** What one of the violations says. */
  readonly says: RegExp
  readonly spoil: (run: Good) => void
}

const bad = (
  broken: Guarantee | ReadonlyArray<Guarantee>,
  name: string,
  says: RegExp,
  spoil: Bad["spoil"]
): Bad => ({
  name,
  broken: typeof broken === "string" ? [broken] : broken,
  says,
  spoil
})

const badRuns: ReadonlyArray<Bad> = [
  // ---------- G1 ----------
  bad("G1", "an acknowledged event is lost", /t.a\/e12 is lost/, (run) => {
    sql(...loseLast)(run)
    forget(run, run.lateStats)
  }),
  bad("G1", "an event of a minimal answer is lost", /t.a\/e12 is lost/, (run) => {
    sql(...loseLast)(run)
    forget(run, run.lateStats)
    answer(run, run.late, 202, `{"status":"accepted","accepted":1,"stored":1,"duplicates":0,"conflicts":0}`)
    ask(run, run.late, (operation) => ({ ...operation, minimal: true }))
  }),
  bad("G1", "a lookup after the answer finds nothing", /did not find t.a\/e2/, (run) => {
    answer(run, run.lookup, 404)
  }),
  bad(
    "G1",
    "a last page after the answer does not show it",
    /does not show t.a\/e11 .* answered before/,
    (run) => {
      const cut = /,\{"offset":\d+,"topic":"t.a","event_id":"e11".*\}\]/
      edit(run, run.page3, (body) =>
        body
          .replace(cut, "]")
          .replace(/"count":(\d+)/, (_, count) => `"count":${count - 1}`)
          .replace(/"next":\d+/, `"next":${offsetOf(run, "e10")}`)
      )
    }
  ),
  bad(
    "G1",
    "a stream after the answer ends too early",
    /does not show t.a\/e11 .* answered before/,
    (run) => {
      edit(run, run.stream, (body) => body.split("\n").slice(0, -2).join("\n"))
    }
  ),

  // ---------- G2 ----------
  bad("G2", "a key has two rows", /t.a\/e1 has rows at the offsets 1 and/, (run) => {
    run.model.database.exec(`
      CREATE TABLE other (offset INTEGER PRIMARY KEY, topic_id INTEGER, event_id TEXT, timestamp TEXT, source TEXT,
        payload TEXT, sequence INTEGER, origin TEXT, processed_at INTEGER);
      INSERT INTO other SELECT * FROM event;
      PRAGMA foreign_keys = OFF;
      DROP TABLE event;
      ALTER TABLE other RENAME TO event;`)
    sql(
      `INSERT INTO event SELECT 1000, topic_id, event_id, timestamp, source, payload, sequence, origin,
         (SELECT processed_at FROM store) FROM event WHERE offset = 1`,
      "UPDATE topic SET events = events + 1, last_offset = 1000 WHERE name = 't.a'",
      "UPDATE store SET received = received + 1, unique_processed = unique_processed + 1, last_offset = 1000",
      "UPDATE redelivery SET duplicates = duplicates - 1 WHERE offset = 1",
      "UPDATE topic SET duplicates = duplicates - 1 WHERE name = 't.a'",
      "UPDATE store SET received = received - 1, duplicate_dropped = duplicate_dropped - 1"
    )(run)
    forget(run, run.stats, run.metrics, run.topics, run.lateStats)
  }),
  bad("G2", "a topic counts an event twice", /the topic t.b counts 2 events and has 1/, (run) => {
    sql("UPDATE topic SET events = 2 WHERE name = 't.b'")(run)
  }),
  bad("G2", "stored is told twice of a key", /"stored" was told 2 times of t.a\/e7/, (run) => {
    const [first] = run.unanswered.answers
    if (first === undefined) throw new Error("it was answered")
    answer(run, run.retried, 202, first.body)
    replace(
      run.history,
      (entry) => entry.kind === "unknown" && entry.call === run.unanswered.call,
      ({ at }) => ({ kind: "returned", at, call: run.unanswered.call, ...first })
    )
  }),
  bad(
    "G2",
    "stored is told of another offset than it stands at",
    /e12 was told stored at 500, and stands at/,
    (run) => {
      answer(run, run.late, 202, told("stored", 500))
    }
  ),
  bad(
    "G2",
    "a delivery is counted that nobody sent",
    /3 deliveries of t.a\/e4 with its content are counted; 2 to 2 came/,
    (run) => {
      sql(...countAgain("e4"))(run)
    }
  ),
  bad(
    "G2",
    "a delivery that was answered is not counted",
    /1 deliveries of t.a\/e4 with its content .* 2 to 2/,
    (run) => {
      sql(
        "DELETE FROM redelivery WHERE offset = (SELECT offset FROM event WHERE event_id = 'e4')",
        "UPDATE redelivery SET duplicates = duplicates + 1 WHERE offset = 1"
      )(run)
    }
  ),
  bad(
    ["G2", "G4"],
    "a conflict is counted that nobody sent",
    /1 deliveries of t.a\/e1 with other content are counted; 0 to 0/,
    (run) => {
      sql(
        `UPDATE redelivery SET conflicts = 1, last_conflict_at = last_duplicate_at, last_conflict_source = 's1'
       WHERE offset = 1`,
        "UPDATE store SET conflicts = conflicts + 1",
        "UPDATE topic SET conflicts = conflicts + 1 WHERE name = 't.a'"
      )(run)
    }
  ),

  // ---------- G3 ----------
  bad("G3", "an event is stored that nobody sent", /t.a\/eX is stored, and never reached a server/, (run) => {
    sql("UPDATE event SET event_id = 'eX' WHERE event_id = 'e13'")(withExtra(run))
  }),
  bad(
    "G3",
    "an event is stored that never reached a server",
    /t.a\/e13 is stored, and never reached/,
    (run) => {
      const { extra, history } = withExtra(run)
      replace(
        history,
        (entry) => entry.kind === "delivered" && entry.call === extra.call,
        () => undefined
      )
    }
  ),
  bad(
    "G3",
    "an event is stored whose only delivery was refused",
    /t.a\/e13 is stored, and never reached/,
    (run) => {
      const { extra, history } = withExtra(run)
      const headers = { "retry-after": "1" }
      const body = `{"type":"urn:sekali:problem:draining"}`
      replace(
        history,
        (entry) => entry.kind === "unknown" && entry.call === extra.call,
        ({ at }) => ({ kind: "returned", at, call: extra.call, status: 503, headers, body })
      )
    }
  ),
  bad("G3", "a payload is rounded", /t.a\/e13 stands with a content that was never sent/, (run) => {
    sql("UPDATE event SET payload = '9007199254740992' WHERE event_id = 'e13'")(withExtra(run))
  }),
  bad(
    "G3",
    "a source is altered",
    /t.a\/e13 stands with a content that was never sent: source other/,
    (run) => {
      sql("UPDATE event SET source = 'other' WHERE event_id = 'e13'")(withExtra(run))
    }
  ),
  bad("G3", "a time is altered", /t.a\/e13 stands with the time 2026-01-01T00:00:00.000Z/, (run) => {
    sql("UPDATE event SET timestamp = '2026-01-01T00:00:00.000Z' WHERE event_id = 'e13'")(withExtra(run))
  }),
  bad("G3", "a sequence is lost", /t.a\/e13 stands with .* sequence null/, (run) => {
    sql("UPDATE event SET sequence = NULL WHERE event_id = 'e13'")(withExtra(run))
  }),
  bad("G3", "a topic is not folded", /the topic of t.b\/e3 is stored as T.b/, (run) => {
    sql("UPDATE topic SET name = 'T.b' WHERE name = 't.b'")(run)
    forget(
      run,
      run.stats,
      run.metrics,
      run.topics,
      run.lateStats,
      run.page2,
      run.page3,
      run.page4,
      run.page5,
      run.busyStats
    )
  }),
  bad(
    "G3",
    "a later delivery's time replaces the first one's",
    /t.a\/e1 stands with the time 2026-02-02T00:00:00Z.* told of before/,
    (run) => {
      sql(
        "UPDATE event SET timestamp = '2026-02-02T00:00:00Z', sequence = 2 WHERE event_id = 'e1'",
        `UPDATE topic SET last_event_time = '2026-02-02T00:00:00Z', last_event_ms = ${Date.parse("2026-02-02T00:00:00Z")} WHERE name = 't.a'`
      )(run)
      forget(run, run.page1, run.page2, run.page3, run.stream)
    }
  ),
  bad(
    "G3",
    "another delivery's time stands than that which was told stored",
    /e13 stands with .* but was told stored with/,
    (run) => {
      const { model } = run
      const other = model.invoke(
        "p1",
        publishing("other", [event("e13", { timestamp: "2026-01-01T00:00:01Z" })])
      )
      model.deliver(other)
      model.crash("killed")
      model.lose(other)
      model.giveUp("other")
      model.publish("told", [event("e13")])
      end(run)
      sql("UPDATE event SET timestamp = '2026-01-01T00:00:01Z' WHERE event_id = 'e13'")(run)
    }
  ),

  // ---------- G4 ----------
  ...(
    [
      ["received", "received = received + 1"],
      ["unique_processed", "unique_processed = unique_processed + 1"],
      ["duplicate_dropped", "duplicate_dropped = duplicate_dropped + 1"],
      ["conflicts", "conflicts = conflicts + 1"],
      ["topics", "topics = topics + 1"]
    ] as const
  ).map(([name, set]) =>
    bad(
      "G4",
      `${name} is one too many at the end`,
      new RegExp(`^${name}: the books say \\d+, it is`, "m"),
      sql(`UPDATE store SET ${set}`)
    )
  ),
  bad(
    "G4",
    "more is received than came",
    /\d+ deliveries are counted as received; \d+ to \d+ came/,
    (run) => {
      sql("UPDATE store SET received = received + 100, duplicate_dropped = duplicate_dropped + 100")(run)
    }
  ),
  bad(
    "G4",
    "less is received than was answered",
    /\d+ deliveries are counted as received; \d+ to \d+ came/,
    (run) => {
      sql("UPDATE store SET received = received - 10, duplicate_dropped = duplicate_dropped - 10")(run)
    }
  ),
  bad("G4", "the last offset is not counted", /last_offset: the books say/, (run) => {
    sql("UPDATE store SET last_offset = last_offset - 1")(run)
  }),
  bad(
    "G4",
    "the last commit is not counted",
    /processed_at: the books say/,
    sql("UPDATE store SET processed_at = 0")
  ),
  ...(
    [
      ["duplicates", "duplicates = duplicates + 1"],
      ["conflicts", "conflicts = conflicts + 1"],
      ["first offset", "first_offset = first_offset + 1"],
      ["last offset", "last_offset = last_offset + 1"],
      ["last event time", "last_event_time = '2026-01-01T00:00:06Z'"],
      ["last event instant", "last_event_ns = 1"]
    ] as const
  ).map(([name, set]) =>
    bad(
      "G4",
      `the ${name} of a topic is wrong`,
      new RegExp(`^${name} of the topic t.a`, "m"),
      sql(`UPDATE topic SET ${set} WHERE name = 't.a'`)
    )
  ),
  bad("G4", "a topic has no events", /events of the topic t.c: the books say 0/, (run) => {
    sql(
      "INSERT INTO topic VALUES (9, 't.c', 0, 0, 0, 0, 0, '', 0, 0)",
      "UPDATE store SET topics = topics + 1"
    )(run)
  }),
  bad("G4", "a conflict is from nobody", /no conflicting delivery came from s9/, (run) => {
    sql("UPDATE redelivery SET last_conflict_source = 's9' WHERE offset = 2")(run)
    forget(run, run.conflicts)
  }),
  bad("G4", "a conflict has no time", /2 conflicts, the last at null/, (run) => {
    sql("UPDATE redelivery SET last_conflict_at = NULL WHERE offset = 2")(run)
    forget(run, run.conflicts)
  }),
  bad("G4", "a redelivery came after the last commit", /the redeliveries of t.a\/e1: the last at/, (run) => {
    sql("UPDATE redelivery SET last_duplicate_at = last_duplicate_at + 100000000 WHERE offset = 1")(run)
  }),
  bad("G4", "an answer does not balance", /received 6 = unique 4 \+ dropped 3 does not hold/, (run) => {
    tell(run, run.busyStats, [`"received":7`, `"received":6`])
  }),
  bad("G4", "a rate is wrong", /the rate 0.25 should be 0/, (run) => {
    tell(run, run.emptyStats, [`"duplicate_rate":0`, `"duplicate_rate":0.25`])
  }),
  bad("G4", "the books go backwards", /received fell from \d+ to 0/, (run) => {
    edit(run, run.lateStats, (body) =>
      body.replace(
        /"(received|unique_processed|duplicate_dropped|conflicts|duplicate_rate)":[\d.]+/g,
        `"$1":0`
      )
    )
  }),
  bad("G4", "the books end behind an answer", /conflicts was 3 and ends at 2/, (run) => {
    tell(run, run.lateStats, [`"conflicts":2`, `"conflicts":3`])
  }),
  bad("G4", "what was answered is not counted", /received is 0, when 7 had been told of/, (run) => {
    edit(run, run.busyStats, () => bodyOf(run, run.emptyStats))
  }),
  bad("G4", "more is counted than had been delivered", /received is 1, when 0 had been delivered/, (run) => {
    tell(
      run,
      run.emptyStats,
      [`"received":0`, `"received":1`],
      [`"unique_processed":0`, `"unique_processed":1`]
    )
  }),
  bad("G4", "topics are miscounted", /2 topics are named of 1/, (run) => {
    tell(run, run.busyStats, [`"topics_total":2`, `"topics_total":1`])
  }),
  bad("G4", "a topic is not named", /the topic t.b is not named/, (run) => {
    tell(
      run,
      run.busyStats,
      [`"topics":["t.a","t.b"]`, `"topics":["t.a"]`],
      [`"topics_total":2`, `"topics_total":1`]
    )
  }),
  bad("G4", "topics are named out of order", /the topic t.a is named after t.b/, (run) => {
    tell(run, run.busyStats, [`["t.a","t.b"]`, `["t.b","t.a"]`])
  }),
  bad(
    "G4",
    "a lookup counts too few duplicates",
    /the duplicates of t.a\/e2 is 1, when 2 had been told of/,
    (run) => {
      tell(run, run.lookup, [`"duplicates":2`, `"duplicates":1`])
    }
  ),
  bad("G4", "a lookup counts too many conflicts", /the conflicts of t.a\/e2 was 3 and ends at 2/, (run) => {
    tell(run, run.lookup, [`"conflicts":2`, `"conflicts":3`])
  }),
  bad(
    "G4",
    "a topic's listing counts too few events",
    /the events of t.b is 0, when 1 had been told of/,
    (run) => {
      tell(run, run.topics, [`"t.b","events":1`, `"t.b","events":0`])
    }
  ),
  bad("G4", "a topic is not listed", /the topic t.b is not listed/, (run) => {
    edit(run, run.topics, (body) =>
      body
        .replace(/,\{"topic":"t.b".*?\}/, "")
        .replace(`"count":2`, `"count":1`)
        .replace(`"next":"t.b"`, `"next":"t.a"`)
    )
  }),
  bad("G4", "a conflict is not listed", /t.a\/e2 is not listed, whose conflict had been told/, (run) => {
    edit(run, run.conflicts, () => `{"count":0,"conflicts":[],"next":0,"more":false}`)
  }),
  bad("G4", "a conflict is listed from nobody", /no conflicting delivery of t.a\/e2 came from s9/, (run) => {
    edit(run, run.conflicts, (body) =>
      body.replace(/"last_conflict_source":"s\d"/, `"last_conflict_source":"s9"`)
    )
  }),
  bad("G4", "books have another shape", /its received is not a number/, (run) => {
    tell(run, run.stats, [`"received":`, `"received":"many","was":`])
  }),

  bad("G4", "the metrics leave the counts out without a reason", /it counts no events/, (run) => {
    edit(run, run.metrics, (body) => body.replace(/^sekali_events_received_total\{.*\n?/gm, ""))
  }),
  bad("G4", "the metrics have another shape", /it counts events by/, (run) => {
    edit(run, run.metrics, (body) => body.replace(/(outcome="stored"\} )\d+/, "$1many"))
  }),
  bad(
    "G4",
    "the metrics count fewer than was told of",
    /there are \d+ events received, when \d+ had/,
    (run) => {
      edit(run, run.metrics, (body) => body.replace(/(topic="t.a",outcome="stored"\} )\d+/, "$10"))
    }
  ),
  bad(
    "G4",
    "the metrics count what nobody delivered",
    /events received, when \d+ had been delivered/,
    (run) => {
      edit(run, run.metrics, (body) => body.replace(/(topic="t.a",outcome="duplicate"\} )\d+/, "$1999"))
    }
  ),
  bad("G4", "the metrics count under the wrong topic", /the stored of t.b were \d+ and end at/, (run) => {
    edit(run, run.metrics, (body) =>
      body.replaceAll('"t.a"', '"t.c"').replaceAll('"t.b"', '"t.a"').replaceAll('"t.c"', '"t.b"')
    )
  }),

  // ---------- G5 ----------
  bad("G5", "a reader misses an event of which nobody else was told", /missed t.a\/e13 at/, (run) => {
    withExtra(run)
    seeExtra(run, (body) => body.replace(/"events":.*/, `"events":[]}`).replace(`"count":1`, `"count":0`))
  }),
  bad("G5", "a page skips its first event", /missed t.a\/e4 at/, (run) => {
    edit(run, run.page2, (body) =>
      body.replace(/,\{"offset":5,.*?Z"\}/, "").replace(`"count":2`, `"count":1`)
    )
  }),
  bad("G5", "a descending page misses an event", /missed t.a\/e10 at/, (run) => {
    edit(run, run.page4, (body) =>
      body
        .replace(/,\{"offset":\d+,"topic":"t.a","event_id":"e10".*?Z"\}/, "")
        .replace(`"count":3`, `"count":2`)
    )
  }),
  bad("G5", "a page shows an event twice", /1 is shown behind 1/, (run) => {
    edit(run, run.page1, (body) =>
      body.replace(/(\{"offset":1,.*?Z"\}),/, "$1,$1,").replace(`"count":2`, `"count":3`)
    )
    parameters(run, run.page1, { limit: 3 })
  }),
  bad("G5", "a page shows what lies before its cursor", /2 is shown behind 2/, (run) => {
    const [, second] = /,(\{"offset":2.*\})\]/.exec(bodyOf(run, run.page1)) ?? []
    tell(run, run.page2, [`"events":[`, `"events":[${second},`], [`"count":2`, `"count":3`])
    parameters(run, run.page2, { after: 2, limit: 3 })
  }),
  bad("G5", "a page is longer than its limit", /2 events are more than 1/, (run) => {
    parameters(run, run.page1, { limit: 1 })
  }),
  bad(
    "G5",
    "a crash takes back what was seen",
    /t.a\/e13 was seen at \d+, and is not there at the end/,
    (run) => {
      withExtra(run)
      seeExtra(run)
      sql(
        "DELETE FROM event WHERE event_id = 'e13'",
        "UPDATE store SET received = received - 1, unique_processed = unique_processed - 1",
        "UPDATE topic SET events = events - 1, last_offset = (SELECT max(offset) FROM event WHERE topic_id = 1) WHERE name = 't.a'"
      )(run)
    }
  ),
  bad("G5", "an offset changes", /t.a\/e13 was seen at 1200, and ends at/, (run) => {
    withExtra(run)
    seeExtra(run, (body) => body.replace(/"offset":\d+/, `"offset":1200`))
  }),
  bad(
    "G5",
    "a payload is read otherwise than it stands",
    /the payload of t.a\/e13 was seen otherwise/,
    (run) => {
      withExtra(run)
      seeExtra(run, (body) => body.replace("9007199254740993", "9007199254740992"))
    }
  ),
  bad(
    "G5",
    "a time is read otherwise than it stands",
    /the timestamp of t.a\/e13 was seen otherwise/,
    (run) => {
      withExtra(run)
      seeExtra(run, (body) => body.replace("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000Z"))
    }
  ),
  bad("G5", "a lookup no longer finds what was seen", /did not find t.a\/e13, which had been seen/, (run) => {
    withExtra(run)
    seeExtra(run)
    const lookup = run.model.call("c", { type: "lookup", topic: "t.a", event_id: "e13" })
    end(run)
    answer(run, lookup, 404)
  }),
  bad("G5", "a last page no longer shows what was seen", /does not show t.a\/e13 .* seen before/, (run) => {
    withExtra(run)
    seeExtra(run)
    const page = run.model.page({ after: offsetOf(run, "e12") })
    end(run)
    edit(run, page, () => `{"topic":null,"count":0,"events":[],"next":${offsetOf(run, "e12")},"more":false}`)
  }),
  bad("G5", "a page shows what was not asked for", /t.a\/e2 was not asked for/, (run) => {
    parameters(run, run.page1, { limit: 2, event_id: "e1" })
  }),
  bad("G5", "a page goes on without going on", /there is more, and its next is 2 as before/, (run) => {
    edit(run, run.page2, () => `{"topic":null,"count":0,"events":[],"next":2,"more":true}`)
    parameters(run, run.page3, { after: 2 })
  }),
  bad(
    "G5",
    "a page promises more than there is",
    /there should be more than \d+, and there is none/,
    (run) => {
      const page = run.model.page({})
      end(run)
      tell(run, page, [`"more":false`, `"more":true`])
    }
  ),
  bad("G5", "a cursor is ahead of the end", /its next is 1000, and \d+ is the last at the end/, (run) => {
    edit(run, run.page3, (body) => body.replace(/"next":\d+/, `"next":1000`))
  }),
  bad("G5", "a cursor lies before what was shown", /its next is 5, and it shows/, (run) => {
    edit(run, run.page3, (body) =>
      body.replace(/"next":\d+/, `"next":5`).replace(`"more":false`, `"more":true`)
    )
  }),
  bad(
    "G5",
    "a cursor that was given out is refused",
    /answered 422, although the cursor 5 had been told of/,
    (run) => {
      answer(run, run.page3, 422)
    }
  ),
  bad("G5", "offsets fall within a submission", /was told of 1 after 2/, (run) => {
    swap(run, 1, 2)
    sql(
      "UPDATE redelivery SET offset = 9999 WHERE offset = 1",
      "UPDATE redelivery SET offset = 1 WHERE offset = 2",
      "UPDATE redelivery SET offset = 2 WHERE offset = 9999"
    )(run)
    tell(
      run,
      run.first,
      [`"offset":1}`, `"offset":X}`],
      [`"offset":2}`, `"offset":1}`],
      [`"offset":X}`, `"offset":2}`]
    )
    tell(run, run.second, [`"duplicate","offset":1}`, `"duplicate","offset":2}`])
    tell(run, run.conflict, [`"conflict","offset":2}`, `"conflict","offset":1}`])
    forget(run, run.conflicts)
  }),
  bad(
    "G5",
    "a later submission gets a smaller offset",
    /t.a\/e12 stands at 4, and was sent when \d+ was given out/,
    (run) => {
      const from = offsetOf(run, "e12")
      sql(
        `UPDATE event SET offset = 4, processed_at = (SELECT processed_at FROM event WHERE offset = 3) WHERE offset = ${from}`,
        "UPDATE topic SET last_offset = (SELECT max(offset) FROM event WHERE topic_id = 1) WHERE name = 't.a'"
      )(run)
      tell(run, run.late, [`"offset":${from}`, `"offset":4`])
    }
  ),
  bad(
    "G5",
    "a submission is stored in part",
    /the submission unheard is stored in part: t.a\/e14 is not there/,
    (run) => {
      const { extra } = withExtra(run)
      ask(run, extra, (operation) =>
        operation.type === "publish"
          ? { ...operation, events: [...operation.events, event("e14")] }
          : operation
      )
    }
  ),
  bad(
    "G5",
    "another submission stands in the middle of one",
    /the submission split does not stand in one piece/,
    (run) => {
      const { model } = run
      const split = model.invoke("p1", publishing("split", [event("e13"), event("e14")]))
      const between = model.invoke("p2", publishing("between", [event("e15")]))
      for (const request of [split, between]) model.deliver(request)
      model.commit()
      for (const request of [split, between]) model.answer(request)
      end(run)
      const [left, right] = [offsetOf(run, "e14"), offsetOf(run, "e15")]
      swap(run, left, right)
      tell(run, split, [`"offset":${left}}`, `"offset":${right}}`])
      tell(run, between, [`"offset":${right}}`, `"offset":${left}}`])
    }
  ),
  bad("G5", "processed_at falls", /processed_at falls to 0 at the offset/, (run) => {
    sql("UPDATE event SET processed_at = 0 WHERE event_id = 'e12'")(run)
  }),
  bad(
    "G5",
    "an event was not there when a greater offset was given out",
    /t.a\/e13 was not there when \d+ was given out/,
    (run) => {
      const { model } = run
      const slow = model.invoke("p1", publishing("slow", [event("e13")]))
      const fast = model.invoke("p2", publishing("fast", [event("e14")]))
      for (const request of [slow, fast]) model.deliver(request)
      model.commit()
      model.answer(fast)
      const lookup = model.call("c", { type: "lookup", topic: "t.a", event_id: "e13" })
      model.answer(slow)
      end(run)
      answer(run, lookup, 404)
    }
  ),
  bad("G5", "a page has another shape", /its next is not a number/, (run) => {
    edit(run, run.page5, (body) => body.replace(/"next":\d+/, `"next":null`))
  }),

  // ---------- G6 ----------
  bad("G6", "the queue holds more events than it may", /the queue holds 101 events of at most 100/, (run) => {
    tell(run, run.stats, [`"queue":{"events":0`, `"queue":{"events":101`])
  }),
  bad(
    "G6",
    "the queue holds more bytes than it may",
    /the queue holds 100001 bytes of at most 100000/,
    (run) => {
      tell(run, run.stats, [`"bytes":0`, `"bytes":100001`])
    }
  ),
  bad("G6", "room was given back twice", /the queue holds -2 events/, (run) => {
    tell(run, run.stats, [`"queue":{"events":0`, `"queue":{"events":-2`])
  }),
  bad("G6", "room was never given back", /the queue holds 4 events, 0 can be under way/, (run) => {
    tell(run, run.stats, [`"queue":{"events":0`, `"queue":{"events":4`])
  }),
  bad("G6", "the bound is not the one that was set", /bounded by 99 events, not by 100/, (run) => {
    tell(run, run.stats, [`"events_max":100`, `"events_max":99`])
  }),
  bad(
    "G6",
    "the metrics tell of more events than the queue may hold",
    /holds 101 events of at most 100/,
    (run) => {
      edit(run, run.metrics, (body) => body.replace(/^(sekali_queue_events) \d+$/m, "$1 101"))
    }
  ),
  bad("G4", "the metrics do not tell of the queue", /it has no sekali_queue_bytes/, (run) => {
    edit(run, run.metrics, (body) => body.replace(/^sekali_queue_bytes .*\n/m, ""))
  }),
  bad("G6", "503 does not say when to try again", /answered 503 with "Retry-After: undefined"/, (run) => {
    answer(run, run.refused, 503, `{"type":"urn:sekali:problem:overloaded"}`)
  }),

  // ---------- G7 ----------
  bad("G7", "a publisher is never answered", /the submission late was never answered/, (run) => {
    replace(
      run.history,
      (entry) => entry.kind === "returned" && entry.call === run.late.call,
      ({ at }) => ({ kind: "unknown", at, call: run.late.call, why: "timeout" })
    )
  }),
  bad("G7", "a call still waits at the end", /the stats \w+ of c still waits at the end/, (run) => {
    replace(
      run.history,
      (entry) => entry.kind === "returned" && entry.call === run.lateStats.call,
      () => undefined
    )
  }),
  bad(
    "G7",
    "an answer comes too late after the faults have stopped",
    /the submission late was not answered until/,
    (run) => {
      const from = run.history.findIndex((entry) => entry.kind === "returned" && entry.call === run.late.call)
      for (let index = from; index < run.history.length; index++) {
        run.history[index] = move(run.history[index] as Entry, 2_000_000)
      }
    }
  ),
  bad("G7", "there is a 500", /answered 500/, (run) => {
    answer(run, run.emptyStats, 500)
  }),
  bad("G7", "a server never gets ready", /server never got ready/, (run) => {
    const { history } = run
    const ready = history.findLastIndex((entry) => entry.kind === "server" && entry.change === "ready")
    history.splice(ready, 1)
  }),
  bad("G7", "a server does not start after the faults have stopped", /server did not start: no/, (run) => {
    const { at } = run.history.at(-1) as Entry
    run.history.splice(-1, 0, { kind: "server", at, server: "server", change: "failed", detail: "no" })
  }),
  bad("G7", "a server takes too long to start", /server was not ready until/, (run) => {
    const { at } = run.history.at(-1) as Entry
    const server = (change: "started" | "ready", later: number) =>
      ({ kind: "server", at: at + later, server: "server", change }) as const
    run.history.splice(-1, 1, server("started", 0), server("ready", 5_000_000), {
      kind: "end",
      at: at + 5_000_000,
      outcome: "done"
    })
  }),

  // ---------- G8 ----------
  bad("G8", "counts disagree with results", /its counts 0\/1\/0 are not its results 1\/0\/0/, (run) => {
    tell(run, run.late, [`"stored":1`, `"stored":0`], [`"duplicates":0`, `"duplicates":1`])
  }),
  bad("G8", "counts do not add up", /stored 0, duplicates 0 and conflicts 0 are not 1/, (run) => {
    tell(run, run.late, [`"stored":1`, `"stored":0`])
  }),
  bad("G8", "not every event is accepted", /1 events were sent, 2 accepted/, (run) => {
    tell(run, run.late, [`"accepted":1`, `"accepted":2`])
  }),
  bad("G8", "a result is missing", /2 results for 3 events/, (run) => {
    tell(run, run.second, [`,{"outcome":"duplicate","offset":5}]`, `]`])
  }),
  bad("G8", "results are not given", /there are no results/, (run) => {
    tell(run, run.late, [`"results"`, `"result"`])
  }),
  bad(
    "G8",
    "a duplicate is told of other content",
    /e2 is told duplicate for s2: .* and s1: .* stands/,
    (run) => {
      answer(run, run.conflict, 202, told("duplicate", 2))
    }
  ),
  bad(
    "G8",
    "a conflict is told of the same content",
    /e7 is told conflict for s1: .* just that stands/,
    (run) => {
      tell(run, run.retried, [`"outcome":"duplicate"`, `"outcome":"conflict"`])
      tell(run, run.retried, [`"duplicates":2`, `"duplicates":1`], [`"conflicts":0`, `"conflicts":1`])
    }
  ),
  bad("G8", "stored is told of content that does not stand", /e13 is told stored for s2/, (run) => {
    withExtra(run)
    const request = run.model.publish("other", [event("e13", { source: "s2" })])
    end(run)
    answer(run, request, 202, told("stored", offsetOf(run, "e13")))
  }),
  bad("G8", "a duplicate is told of another offset", /e7 is told duplicate of 400, and stands at/, (run) => {
    edit(run, run.retried, (body) => body.replace(/"offset":\d+/, `"offset":400`))
  }),
  bad("G8", "a conflict is told of another offset", /e2 is told conflict of 400, and stands at 2/, (run) => {
    tell(run, run.conflict, [`"offset":2`, `"offset":400`])
  }),
  bad(
    "G8",
    "a duplicate has no first",
    /e12 is told duplicate, and nothing else could have been stored before/,
    (run) => {
      answer(run, run.late, 202, told("duplicate", offsetOf(run, "e12")))
    }
  ),
  bad(
    "G8",
    "a batch's second place is told stored, not its first",
    /e4 is told stored for its second place/,
    (run) => {
      tell(
        run,
        run.second,
        [`stored","offset":5`, `X","offset":5`],
        [`duplicate","offset":5`, `stored","offset":5`],
        [`X"`, `duplicate"`]
      )
    }
  ),
  bad(
    "G8",
    "a minimal answer counts conflicts wrongly",
    /0 conflicts are told, and 1 differ from what stands/,
    (run) => {
      tell(run, run.minimal, [`"duplicates":1`, `"duplicates":2`], [`"conflicts":1`, `"conflicts":0`])
    }
  ),
  bad("G8", "a minimal answer tells stored too often", /2 are told stored of 1 keys/, (run) => {
    const request = run.model.publish("again", [event("e1"), event("e1")], 1, true)
    end(run)
    tell(run, request, [`"stored":0`, `"stored":2`], [`"duplicates":2`, `"duplicates":0`])
  }),
  bad("G8", "a valid publish is refused", /answered 422, although it is valid/, (run) => {
    const request = run.model.publish("again", [event("e1")])
    end(run)
    answer(run, request, 422)
    sql(
      "UPDATE redelivery SET duplicates = duplicates - 1 WHERE offset = 1",
      "UPDATE store SET received = received - 1, duplicate_dropped = duplicate_dropped - 1",
      "UPDATE topic SET duplicates = duplicates - 1 WHERE name = 't.a'"
    )(run)
  }),
  bad("G8", "a request that is not valid is accepted", /answered 200, although it is not valid/, (run) => {
    const request = run.model.invoke("c", { type: "page", parameters: { limit: 0 } }, true)
    run.model.deliver(request)
    run.model.answer(request)
    end(run)
  }),
  bad("G8", "a publish is answered 207", /answered 207/, (run) => {
    answer(run, run.minimal, 207)
  }),

  // ---------- the file and the run ----------
  bad("integrity", "a reference leads nowhere", /foreign_key_check says/, (run) => {
    sql(
      "INSERT INTO redelivery VALUES (77777, 1, 0, (SELECT processed_at FROM store), NULL, NULL)",
      "UPDATE store SET received = received + 1, duplicate_dropped = duplicate_dropped + 1"
    )(run)
  }),
  bad("integrity", "an index is not what its table says", /integrity_check says/, ({ model }) => {
    model.database.unsafeMode(true)
    model.database.pragma("writable_schema = ON")
    model.database.exec(
      "UPDATE sqlite_schema SET sql = replace(sql, 'conflicts > 0', 'conflicts >= 0') WHERE type = 'index' AND sql IS NOT NULL"
    )
    model.database.pragma("writable_schema = RESET")
  }),
  bad("integrity", "a table is gone", /the database cannot be read: no such table/, ({ model }) => {
    model.database.pragma("foreign_keys = OFF")
    model.database.exec("DROP TABLE redelivery")
  }),
  bad("G7", "a run is stuck", /the run is stuck: p1 waits for the server/, ({ history }) => {
    const { at } = history.pop() as Entry
    history.push({ kind: "end", at, outcome: "stuck", waiting: ["p1 waits for the server"] })
  }),
  bad("G7", "a history has no end", /the history has no end/, ({ history }) => {
    history.pop()
  })
]

const violations = ({ history, model }: Pick<Good, "history" | "model">, more: Partial<Options> = {}) =>
  check(history, model.query, { ...options, ...more })

describe("a good history", () => {
  it("has no violations", () => {
    expect(violations(good())).toEqual([])
  })

  it("has none after it was written and read", () => {
    const run = good()
    const history = parseHistory(writeHistory(run.history))
    expect(history).toEqual(JSON.parse(JSON.stringify(run.history)))
    expect(check(history, run.model.query, options)).toEqual([])
  })
})

describe("a bad history", () => {
  for (const { broken, name, says, spoil } of badRuns) {
    it(`${broken.join(" and ")}: ${name}`, () => {
      const run = good()
      spoil(run)
      const found = violations(run)
      expect(
        [...new Set(found.map(({ guarantee }) => guarantee))].sort(),
        JSON.stringify(found, null, 2)
      ).toEqual(broken)
      expect(found.map(({ detail }) => detail).join("\n")).toMatch(says)
    })
  }

  it("names the entry in which it shows", () => {
    const run = good()
    answer(run, run.lookup, 404)
    const index = run.history.findIndex(isAnswerTo(run.lookup))
    expect(violations(run)).toMatchObject([{ guarantee: "G1", at: { index, time: run.history[index]?.at } }])
  })

  it("may have failed starts before the faults have stopped, unless it may not", () => {
    const run = good()
    const ready = run.history.findLastIndex((entry) => entry.kind === "server" && entry.change === "ready")
    const { at } = run.history[ready] as Entry
    const server = (change: "started" | "failed") =>
      ({ kind: "server", at, server: "server", change }) as const
    run.history.splice(ready, 0, server("failed"), server("started"))
    expect(violations(run)).toEqual([])
    expect(violations(run, { startMayFail: false })).toMatchObject([{ guarantee: "G7" }])
  })
})

describe("a server that is asked to stop while it starts", () => {
  const stopped = (began: "before" | "after") => {
    const model = new Model()
    model.server("killed")
    if (began === "after") model.calm()
    model.server("started")
    model.server("stopping")
    if (began === "before") model.calm()
    model.server("failed")
    model.server("started")
    model.server("ready")
    model.end()
    return check(model.history, model.query, options)
  }

  it("may fail in the calm if it began before, and not if it began there", () => {
    expect(stopped("before")).toEqual([])
    expect(stopped("after")).toMatchObject([
      { guarantee: "G7", detail: expect.stringMatching(/did not start/) }
    ])
  })
})

describe("a publish that a server leaves without an answer", () => {
  const late = (befalls: (model: Model, request: Request) => void) => {
    const model = new Model()
    const request = model.invoke("p1", publishing("waits", [event("e1")]))
    model.deliver(request)
    befalls(model, request)
    for (let calls = 0; calls < 30; calls++) model.call("c", { type: "stats" })
    model.end()
    const found = check(model.history, model.query, { ...options, answerMicrosMax: 500 })
    return found.filter(({ detail }) => /was not answered by server in time/.test(detail))
  }
  const answered = (model: Model, { call }: Request) =>
    model.history.push({ kind: "answered", at: model.history.at(-1)?.at ?? 0, call, server: "server" })

  it("is told (G7)", () => {
    expect(late(() => {})).toMatchObject([{ guarantee: "G7", at: { index: 3 } }])
  })

  it("is told where only the other one of two copies was answered", () => {
    const found = late((model, request) => {
      model.deliver(request)
      answered(model, request)
    })
    expect(found).toMatchObject([{ guarantee: "G7", at: { index: 4 } }])
  })

  it("is nothing where the answer was lost, the client went away, or the server ended", () => {
    expect(late(answered)).toEqual([])
    expect(late((model, request) => model.lose(request))).toEqual([])
    expect(late((model) => model.crash("killed"))).toEqual([])
  })
})

describe("a history that contradicts itself", () => {
  const contradictions: ReadonlyArray<readonly [string, RegExp, (run: Good) => void]> = [
    ["an answer to what was never asked", /before it was invoked/, ({ history }) => history.splice(2, 1)],
    [
      "a second answer",
      /settled twice/,
      (run) => {
        const index = run.history.findIndex(isAnswerTo(run.late))
        run.history.splice(index, 0, run.history[index] as Entry)
      }
    ],
    ["an answer without a delivery", /never delivered/, ({ history }) => history.splice(3, 1)],
    [
      "a time that falls",
      /time falls at entry 5/,
      ({ history }) => {
        history[5] = move(history[5] as Entry, -1000)
      }
    ],
    [
      "a reader that leaves its cursor",
      /asks from 3, and was told 5/,
      (run) => parameters(run, run.page3, { after: 3 })
    ]
  ]
  for (const [name, says, spoil] of contradictions) {
    it(`throws: ${name}`, () => {
      const run = good()
      spoil(run)
      expect(() => violations(run)).toThrow(says)
    })
  }
})

describe("histories of a correct service", () => {
  it("have no violations", () => {
    fc.assert(
      fc.property(fc.array(anyStep, { minLength: 1, maxLength: 80 }), (steps) => {
        const model = walk(steps)
        const found = check(model.history, model.query, { ...options, progressMicrosMax: 10_000_000 })
        model.database.close()
        expect(found).toEqual([])
      }),
      { numRuns: Number(process.env["SEKALI_CHECKER_RUNS"] ?? 300), endOnFailure: false }
    )
  })
})

// ---------- what the checker stands on ----------

describe("JSON", () => {
  it("is the same text for the same value", () => {
    for (const [index, group] of payloads.entries()) {
      for (const [other, texts] of payloads.entries()) {
        for (const left of group) {
          for (const right of texts)
            expect(canonicalJson(left) === canonicalJson(right)).toBe(index === other)
        }
      }
    }
  })

  it("is exact about numbers", () => {
    const same = [
      ["0", "-0", "0.0", "0e99999999999999999999"],
      ["100", "1e2", "1E+2", "10.00e1", "1000e-1"],
      ["1e400", "10e399"],
      ["0.1", "1e-1", "0.10"],
      ["-1.5", "-15e-1"]
    ]
    for (const texts of same) expect(new Set(texts.map(canonicalJson)).size).toBe(1)
    expect(new Set(same.map(([text = ""]) => canonicalJson(text))).size).toBe(same.length)
    expect(canonicalJson("0.1")).not.toBe(canonicalJson("0.1000000000000000055511151231257827"))
  })

  it("is read as JSON.parse reads it, and refused where it refuses", () => {
    const plain = (value: unknown): unknown =>
      value instanceof Map
        ? Object.fromEntries([...value].map(([name, member]) => [name, plain(member)]))
        : Array.isArray(value)
          ? value.map(plain)
          : value
    fc.assert(
      fc.property(
        fc.json(),
        fc.nat(),
        fc.constantFrom("", "}", ",", '"', "\\", "-", "0"),
        (text, at, noise) => {
          const place = at % (text.length + 1)
          const mutated = text.slice(0, place) + noise + text.slice(place + (noise === "" ? 0 : 1))
          let expected: unknown
          try {
            expected = JSON.parse(mutated)
          } catch {
            expect(() => readJson(mutated)).toThrow(NotJson)
            return
          }
          if (mutated.includes("payload") || mutated.includes("__proto__")) return
          expect(plain(readJson(mutated))).toEqual(expected)
          // Printed by JavaScript, a number beyond its range would be null, and one that is too small 0.
          if (/e[+-]?\d{3}/i.test(mutated)) return
          expect(JSON.parse(canonicalJson(mutated))).toEqual(JSON.parse(JSON.stringify(expected)))
        }
      )
    )
  })
})

describe("instants", () => {
  it("are compared, not spelled", () => {
    const same = [
      "2026-01-01T00:00:00Z",
      "2026-01-01t00:00z",
      "2026-01-01T07:00:00,000+07",
      "2025-12-31T22:30:00.0-0130",
      "2025-12-31T23:59:60Z"
    ]
    expect(new Set(same.map(instantOf)).size).toBe(1)
    expect(instantOf("2026-01-01T00:00:00.000000001Z")).toBe((instantOf("2026-01-01T00:00:00Z") ?? 0n) + 1n)
    expect(instantOf("1969-12-31T23:59:59.9Z")).toBe(-100_000_000n)
    expect(instantOf("yesterday")).toBeUndefined()
  })
})

describe("the checker", () => {
  it("knows nothing of the service, nor of Effect", () => {
    const root = join(import.meta.dirname, "../../sim")
    const own = [
      "History.ts",
      "Checker.ts",
      ...readdirSync(join(root, "check")).map((name) => `check/${name}`)
    ]
    for (const file of own) {
      const imports = [
        ...readFileSync(join(root, file), "utf8").matchAll(
          /^(?:import|export|\}).*?\b(?:from|import) "([^"]+)"/gm
        )
      ]
      for (const [, specifier = ""] of imports) {
        expect(specifier, file).toMatch(/^\.{1,2}\//)
        expect(own, file).toContain(join(file, "..", specifier))
      }
    }
  })
})
