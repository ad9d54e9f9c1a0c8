/**
 * Planted bugs: each is a mistake that a capable engineer could make, as a small change to the text of `src/`, applied
 * when the module is loaded. A simulator that does not find them proves nothing. Each names the guarantee by which it
 * has to fall; and each must load and, unless it breaks ordinary traffic by its nature, pass a run without faults, or
 * else anything at all would have found it.
 */
import type { Mutant } from "./loader/mutate.mjs"

/** A planted bug. */
export interface PlantedBug {
  readonly name: string
  readonly mistake: string
  /** What the checker has to say of it. */
  readonly guarantee: string
  readonly changes: ReadonlyArray<Mutant>
  /** Whether it shows without any fault; false by default. */
  readonly showsInCalm?: boolean
}

const connection = "src/store/Connection.ts"
const store = "src/store/SqlEventStore.ts"
const consumer = "src/pipeline/Consumer.ts"
const intake = "src/pipeline/Intake.ts"
const keyIndex = "src/store/keys/KeyIndex.ts"
const keyHash = "src/store/keys/Hash.ts"
const plainBody = "src/http/PlainBody.ts"
const sequences = "src/store/Sequences.ts"
const sequenceBooks = "src/store/SqlSequences.ts"
const mirror = "src/mirror/Session.ts"
const feed = "src/pipeline/Feed.ts"

const change = (file: string, find: string, replace: string): Mutant => ({ file, find, replace })

const commitStatement = "yield* sql`COMMIT`"
const checkpointAtOpen = `  yield* sql\`PRAGMA temp_store = MEMORY\`
  yield* checkpoint(sql)
`
const readAlone = "Effect.flatMap(current, (sql) => body(sql)).pipe(Effect.catchAllCause(failure), alone)"
const append = "Effect.exit(append(submissions))"
const storeAppend = "write((sql) => appendRemembering(sql, events, now, steadyNow))"
const settleEvents = "          events -= submission.events.length\n"
const known = "firsts.get(place) ?? firstInBatch(index, placed, each, lastOffset, processedAt)"
const isItsKey = "if (row?.topic_id === topicId && row.event_id === event.eventId) firsts.set(place, row)"
const isItsKeyInBatch =
  "if (earlier?.topicId !== topicId || earlier.event.eventId !== event.eventId) continue"
const settleKeys = "  yield* index.settle(sql, memory.lastOffset)\n"

/** All of them. */
export const plantedBugs: ReadonlyArray<PlantedBug> = [
  {
    name: "trap 1: synchronous stays NORMAL",
    mistake: "no pragma after the driver's default, and the check does not look",
    guarantee: "G1",
    changes: [
      change(connection, "  yield* sql`PRAGMA synchronous = FULL`\n", ""),
      change(connection, "if (synchronous !== 2)", "if (synchronous > 2)")
    ]
  },
  {
    name: "trap 2: the connection stays in the transaction",
    mistake: "nothing leaves the transaction after a failed COMMIT",
    guarantee: "G7",
    changes: [change(connection, "Effect.tapErrorCause(body(sql), () => mend(sql))", "body(sql)")]
  },
  {
    name: "trap 3: a read inside another's transaction",
    mistake: "a read lets the connection go before its statements run",
    guarantee: "G5",
    changes: [
      change(
        connection,
        readAlone,
        "Effect.flatMap(alone(current), (sql) => body(sql)).pipe(Effect.catchAllCause(failure))"
      )
    ]
  },
  {
    name: "trap 4: recovered, not synced",
    mistake: "no checkpoint after opening, and nothing else that syncs",
    guarantee: "G5",
    changes: [
      change(connection, checkpointAtOpen, ""),
      change(connection, "      yield* sql`UPDATE store SET opened = opened + 1`\n", ""),
      change(connection, "        yield* writeLogAgain\n", ""),
      change(consumer, "    yield* beating\n", "")
    ]
  },
  {
    name: "answer before commit",
    mistake: "the outcomes are handed over as soon as they are known",
    guarantee: "G1",
    changes: [
      change(connection, `import { Cause, Effect, Exit`, `import { Cause, Deferred, Effect, Exit`),
      change(
        connection,
        `(body) => writing((sql) => transaction(sql, body))`,
        `(body) =>
          Effect.flatMap(Deferred.make(), (early) =>
            Effect.zipRight(
              Effect.forkDaemon(
                writing((sql) => transaction(sql, (sql) => Effect.tap(body(sql), (value) => Deferred.succeed(early, value)))).pipe(
                  Effect.onError((cause) => Deferred.failCause(early, cause))
                )
              ),
              Deferred.await(early)
            )
          )`
      )
    ]
  },
  {
    name: "no transaction",
    mistake: "check, insert and count, each statement for itself",
    guarantee: "G4",
    changes: [change(connection, "writing((sql) => transaction(sql, body))", "writing(body)")]
  },
  {
    name: "counters in another transaction",
    mistake: "the books are moved after the events are committed",
    guarantee: "G4",
    changes: [
      change(store, "received = received + ${events.length}", "received = received + 0"),
      change(
        store,
        storeAppend,
        `Effect.tap(${storeAppend}, () => write((sql) => sql\`UPDATE store SET received = received + \${events.length}\`))`
      )
    ]
  },
  {
    name: "counters in memory",
    mistake: "what was received is counted in the process",
    guarantee: "G4",
    changes: [
      change(
        store,
        "  const { read, write } = connection\n",
        "  const { read, write } = connection\n  let received = 0\n"
      ),
      change(
        store,
        "    books: read(readBooks),",
        "    books: Effect.map(read(readBooks), (books) => ({ ...books, received })),"
      ),
      change(
        store,
        storeAppend,
        `Effect.tap(${storeAppend}, () => Effect.sync(() => { received += events.length }))`
      )
    ]
  },
  {
    name: "restart resets a counter",
    mistake: "a start begins to count conflicts anew",
    guarantee: "G4",
    changes: [change(connection, "SET opened = opened + 1`", "SET opened = opened + 1, conflicts = 0`")]
  },
  {
    name: "key marked before the event is stored",
    mistake: "the key is taken in one transaction, the content written in the next",
    guarantee: "G3",
    changes: [
      change(
        store,
        storeAppend,
        `Effect.tap(
          write((sql) => Effect.map(appendRemembering(sql, events.map((event) => ({ ...event, source: "?" })), now, steadyNow), ({ outcomes, ...rest }) =>
            ({ ...rest, outcomes: outcomes.map((each) => each.outcome === "conflict" ? { ...each, outcome: "duplicate" as const } : each) }))),
          ({ outcomes }) => write((sql) => Effect.forEach(outcomes, ({ outcome, offset }, index) =>
            outcome === "stored" ? sql\`UPDATE event SET source = \${events[index]?.source ?? ""} WHERE offset = \${offset}\` : Effect.void))
        )`
      )
    ],
    showsInCalm: true
  },
  {
    name: "dedup by event_id alone",
    mistake: "the topic is left out of the key",
    guarantee: "G2",
    changes: [
      change(keyHash, "Math.imul(seed ^ topicId, 0x9e3779b1)", "Math.imul(seed, 0x9e3779b1)"),
      change(keyHash, "Math.imul(seed + topicId, 0x85ebca77)", "Math.imul(seed, 0x85ebca77)"),
      change(store, isItsKey, isItsKey.replace("row?.topic_id === topicId && row.", "row?.")),
      change(
        store,
        isItsKeyInBatch,
        isItsKeyInBatch.replace("earlier?.topicId !== topicId || earlier.", "earlier?.")
      )
    ],
    showsInCalm: true
  },
  {
    name: "insert or replace",
    mistake: "the last delivery wins",
    guarantee: "G5",
    changes: [
      change(store, known, "firstInBatch(index, placed, each, lastOffset, processedAt)"),
      change(
        store,
        "  yield* insertEvents(\n",
        `  const replaced = JSON.stringify([...firsts.values()].map(({ offset }) => offset))
  yield* sql\`DELETE FROM event WHERE offset IN (SELECT value FROM json_each(\${replaced}))\`
  yield* insertEvents(\n`
      )
    ],
    showsInCalm: true
  },
  {
    name: "offset from a counter in memory",
    mistake: "the next offset is taken from the number of events at the start",
    guarantee: "G7",
    changes: [
      change(
        store,
        "`SELECT last_offset, processed_at FROM store`",
        "`SELECT (SELECT count(*) FROM event) AS last_offset, processed_at FROM store`"
      )
    ],
    showsInCalm: true
  },
  {
    name: "results in the wrong order",
    mistake: "the dropped ones are told after the stored ones",
    guarantee: "G8",
    changes: [
      change(
        "src/http/Publish.ts",
        "results: outcomes",
        `results: [...outcomes].sort((a, b) => Number(a.outcome !== "stored") - Number(b.outcome !== "stored"))`
      )
    ],
    showsInCalm: true
  },
  {
    name: "a failed COMMIT answered as success",
    mistake: "the error of COMMIT is thrown away",
    guarantee: "G1",
    changes: [change(connection, commitStatement, "yield* Effect.ignore(sql`COMMIT`)")]
  },
  {
    name: "a failed COMMIT kills the consumer",
    mistake: "the error ends the loop, and nobody watches it",
    guarantee: "G7",
    changes: [
      change(consumer, append, "Effect.map(append(submissions), Exit.succeed)"),
      change(
        consumer,
        "return { ended: Fiber.join(fiber) }",
        "return { ended: Effect.catchAllCause(Fiber.join(fiber), () => Effect.async<void>(() => undefined)) }"
      )
    ]
  },
  {
    name: "a retry in the consumer that counts twice",
    mistake: "the books are moved first, and both are tried again together",
    guarantee: "G4",
    changes: [
      change(store, "received = received + ${events.length}", "received = received + 0"),
      change(
        store,
        storeAppend,
        `Effect.retry(Effect.zipRight(
          write((sql) => sql\`UPDATE store SET received = received + \${events.length}\`), ${storeAppend}), { times: 3 })`
      )
    ]
  },
  {
    name: "a failed batch appended again",
    mistake: "the connection is rebuilt after a failure, and the batch is tried once more",
    guarantee: "G4",
    changes: [
      change(consumer, append, "Effect.exit(Effect.retry(append(submissions), { times: 2 }))"),
      change(connection, "if (Exit.isFailure(outside)) yield* disconnect", "yield* disconnect")
    ]
  },
  {
    name: "queue full answered as accepted",
    mistake: "what does not fit is dropped, and the publisher thanked",
    guarantee: "G1",
    changes: [
      change(
        intake,
        `if (events + offer.length > queueEventsMax) {
        refused = offer.length
        return Either.left(new Overloaded({ bound: "events" }))`,
        `if (events + offer.length > queueEventsMax) {
        settled({ _tag: "Success", value: offer.unpack().map(() => ({ outcome: "duplicate", offset: 1 })) } as never)
        return Either.void`
      )
    ]
  },
  {
    name: "drain forgets the last batch",
    mistake: "the loop ends as it sees the stop, and thanks for what it has just taken",
    guarantee: "G1",
    changes: [
      change(
        consumer,
        "if (Option.isNone(taken)) return",
        "if (Option.isNone(taken) || (yield* intake.closed)) return"
      ),
      change(
        consumer,
        `      yield* fail(rest, new StoreUnavailable({ trouble: "unexpected", cause }))`,
        `      for (const { events, settled } of rest)
        settled(Exit.succeed(events.unpack().map(() => ({ outcome: "duplicate" as const, offset: Number(cause === null) + 1 }))))`
      )
    ]
  },
  {
    name: "duplicates inside a batch counted as stored",
    mistake: "only what was stored before this batch counts as known",
    guarantee: "G2",
    changes: [change(store, known, "firsts.get(place)")],
    showsInCalm: true
  },
  {
    name: "page boundary off by one",
    mistake: "a full page says that it has looked at the whole window",
    guarantee: "G5",
    changes: [
      change(
        store,
        "\n    : { events, scannedTo: full.offset, end: false }",
        "\n    : { events, scannedTo: last, end: false }"
      )
    ],
    showsInCalm: true
  },
  {
    name: "cursor inclusive",
    mistake: "a page begins with the event at the cursor",
    guarantee: "G5",
    changes: [
      change(
        store,
        "WHERE offset > ${after ?? 0} ORDER BY offset LIMIT",
        "WHERE offset >= ${after ?? 0} ORDER BY offset LIMIT"
      )
    ],
    showsInCalm: true
  },
  {
    name: "reading before commit",
    mistake: "reads use the connection as it is, whoever is in a transaction",
    guarantee: "G5",
    changes: [
      change(
        connection,
        readAlone,
        "Effect.flatMap(current, (sql) => body(sql)).pipe(Effect.catchAllCause(failure))"
      )
    ]
  },
  {
    name: "conflict told as duplicate",
    mistake: "the key alone decides",
    guarantee: "G8",
    changes: [change(store, "if (sameContent(first, event))", "if (sameContent(first, first))")],
    showsInCalm: true
  },
  {
    name: "topic normalised after the key is made",
    mistake: "the spelling that was sent becomes part of the key",
    guarantee: "G2",
    changes: [
      change("src/domain/Topic.ts", "Option.some(text.toLowerCase())", "Option.some(text)"),
      change(plainBody, "(mind & hasUpperCase) === 0 ? topic : topic.toLowerCase()", "topic")
    ],
    showsInCalm: true
  },
  {
    name: "marks of a body that the next body overwrites",
    mistake: "where the parts of events stand is kept in the place that all bodies are marked in",
    guarantee: "G7",
    changes: [change(plainBody, "gathered.slice(0, ", "gathered.subarray(0, ")],
    showsInCalm: true
  },
  {
    name: "content compared without the source",
    mistake: "only payloads are compared",
    guarantee: "G8",
    changes: [change("src/domain/Event.ts", "left.source === right.source && ", "")],
    showsInCalm: true
  },
  {
    name: "a neighbour's failure leaves a publisher waiting",
    mistake: "only the first submission of a failed commit is told, and nothing ends the waiting",
    guarantee: "G7",
    changes: [
      change(
        consumer,
        "      yield* fail(submissions, error)\n",
        "      yield* fail(Chunk.take(submissions, 1), error)\n"
      ),
      change(
        "src/http/Publish.ts",
        "Duration.seconds(settings.publishSecondsMax)",
        "Duration.days(settings.publishSecondsMax)"
      )
    ]
  },
  {
    name: "two consumers at once",
    mistake: "a second fiber takes from the same queue",
    guarantee: "G7",
    changes: [
      change(
        consumer,
        "    const fiber = yield* run.pipe(",
        "    yield* Effect.forkScoped(run)\n    const fiber = yield* run.pipe("
      )
    ],
    showsInCalm: true
  },
  {
    name: "a submission split across commits",
    mistake: "a commit takes so many events, wherever a submission ends",
    guarantee: "G5",
    changes: [
      change(
        consumer,
        "store.append(events)",
        "Effect.zipWith(store.append(events.slice(0, 3)), store.append(events.slice(3)), (a, b) => [...a, ...b])"
      )
    ]
  },
  {
    name: "room given back twice",
    mistake: "the Consumer gives back what the request gives back, too",
    guarantee: "G6",
    changes: [
      change(intake, "if (!offered) bytes -= held", "bytes -= held"),
      change("src/http/Api.ts", "bytes: Count, bytes_max: Count", "bytes: Schema.Int, bytes_max: Count")
    ],
    showsInCalm: true
  },
  {
    name: "a bound that is not enforced",
    mistake: "the queue takes events beyond its bound",
    guarantee: "G6",
    changes: [
      change(
        intake,
        "events + offer.length > queueEventsMax",
        "events + offer.length > 100 * queueEventsMax"
      ),
      change(intake, "events + refused > queueEventsMax", "events + refused > 100 * queueEventsMax"),
      change(intake, ">(queueEventsMax + 1)", ">(100 * queueEventsMax)")
    ]
  },
  {
    name: "room never given back",
    mistake: "events that were committed still count as waiting",
    guarantee: "G7",
    changes: [change(intake, settleEvents, "")],
    showsInCalm: true
  },
  {
    name: "no Retry-After",
    mistake: "an overloaded service does not say when to come back",
    guarantee: "G6",
    changes: [
      change(
        "src/http/Problems.ts",
        `...(retry === undefined ? {} : { "retry-after": String(retry) })`,
        `...(retry === undefined ? {} : {})`
      )
    ]
  },
  {
    name: "processed_at follows the wall clock",
    mistake: "a clock that is set back sets it back",
    guarantee: "G5",
    changes: [change(store, "Math.max(memory.processedAt, now)", "Math.max(0, now)")]
  },
  {
    name: "a place kept before the acknowledgement",
    mistake: "a mirror remembers a page as copied when it begins to send it",
    guarantee: "G9",
    changes: [
      change(
        mirror,
        "      const toSend = page.events.filter(",
        "      position = page.next\n      yield* settle\n      const toSend = page.events.filter("
      )
    ]
  },
  {
    name: "sent back to where it came from",
    mistake: "a mirror sends what it reads, whatever its origin",
    guarantee: "G9",
    changes: [change(mirror, "event.origin !== to", "event.origin !== from")],
    showsInCalm: true
  },
  {
    name: "an origin that changes on its way",
    mistake: "a mirror calls the store that it reads from the origin, also of what came there from another",
    guarantee: "G9",
    changes: [change(mirror, "origin: event.origin ?? from", "origin: from")],
    showsInCalm: true
  },
  {
    name: "a copy with a time of its own",
    mistake: "a mirror stamps what it sends",
    guarantee: "G9",
    changes: [
      change(
        mirror,
        "origin: event.origin ?? from",
        'origin: event.origin ?? from, timestamp: "2026-11-23T00:00:00Z"'
      )
    ],
    showsInCalm: true
  },
  {
    name: "a payload parsed and printed again",
    mistake: "a mirror sends the value of a payload, whose numbers were rounded on the way",
    guarantee: "G9",
    changes: [change("src/mirror/Page.ts", "new JsonText(payload)", "JSON.parse(payload)")],
    showsInCalm: true
  },
  {
    name: "sequences: duplicates move them",
    mistake: "the books of sequences are moved by what was sent, not by what was stored",
    guarantee: "G4",
    changes: [change(store, "const sequenced = fresh.flatMap(", "const sequenced = placed.flatMap(")],
    showsInCalm: true
  },
  {
    name: "sequences: moved in another transaction",
    mistake: "the books of sequences follow after the commit of the events",
    guarantee: "G4",
    changes: [
      change(
        store,
        `  const declared = yield* moveSeries(sql, sequenced, lastOffset, steadyNow, gapsMax)
${settleKeys}  return { outcomes, declared, duplicateAges }`,
        `${settleKeys}  return { outcomes, duplicateAges, sequenced, before: lastOffset, gapsMax }`
      ),
      change(
        store,
        storeAppend,
        `Effect.flatMap(${storeAppend}, ({ sequenced, before, gapsMax, ...appended }) =>
          Effect.map(write((sql) => moveSeries(sql, sequenced, before, steadyNow, gapsMax)), (declared) => ({ ...appended, declared })))`
      )
    ]
  },
  {
    name: "sequences: a commit's own events taken for earlier ones",
    mistake: "who had the number before is asked after the events are in the table",
    guarantee: "G4",
    changes: [change(sequenceBooks, "\n        AND e.offset <= ${lastOffset})`", ")`")],
    showsInCalm: true
  },
  {
    name: "sequences: a gap that is cut loses its upper part",
    mistake: "a number in the middle of a gap closes all that is above it",
    guarantee: "G4",
    changes: [change(sequences, ",\n    { ...gap, first: sequence + 1 }\n", "\n")],
    showsInCalm: true
  },
  {
    name: "sequences: late events are not marked",
    mistake: "they are counted, and stored like any other",
    guarantee: "G4",
    changes: [change(sequenceBooks, "if (late.length > 0) {", "if (late.length > 1000) {")]
  },
  {
    name: "sequences: a look for gaps that trusts the last one",
    mistake: "where no gap was open once, none is looked for again",
    guarantee: "G7",
    changes: [change(store, " && gapless.turns === turns", "")],
    showsInCalm: true
  },
  {
    name: "sequences: nobody gives gaps up",
    mistake: "the fiber that does it ends with its first look",
    guarantee: "G7",
    changes: [
      change(
        consumer,
        "  let failing = false\n  while (true) {",
        "  let failing = false\n  for (let look = 0; look < 1; look++) {"
      )
    ]
  },
  {
    name: "a follower that forgets what it saw",
    mistake: "its place moves when it is told one, and not with the events",
    guarantee: "G5",
    changes: [
      change(
        "src/client/Follower.ts",
        `said._tag === "Event" ? said.event.offset : said.at`,
        `said._tag === "Event" ? cursor : said.at`
      )
    ]
  },
  {
    name: "a first place that is one ahead",
    mistake: "a stream that is resumed begins by telling what was looked at, and not where it begins",
    guarantee: "G5",
    changes: [change("src/http/Subscription.ts", "id: ${start}", "id: ${scannedTo}")]
  },
  {
    name: "kept for everyone",
    mistake: "events are let go, and subscribers behind them are not sent to the store",
    guarantee: "G5",
    changes: [change(feed, "      keptFrom = oldest.to\n", "")],
    showsInCalm: true
  },
  {
    name: "woken before the commit",
    mistake: "subscribers are told to look when a commit begins, and not when it is done",
    guarantee: "G7",
    changes: [
      change(consumer, "        yield* feed.committed\n", ""),
      change(
        consumer,
        `const result = yield* ${append}`,
        `yield* feed.committed\n      const result = yield* ${append}`
      )
    ],
    showsInCalm: true
  },
  {
    name: "keys: memory kept after a failed append",
    mistake: "what an append knew and did stays, whatever became of its commit",
    guarantee: "G4",
    changes: [
      change(
        store,
        "      memory = undefined\n      return Effect.map(append",
        "      return Effect.map(append"
      )
    ]
  },
  {
    name: "keys: memory kept across a rebuilt connection",
    mistake: "after a failure the connection is replaced, and what was known of the old one goes on",
    guarantee: "G2",
    changes: [
      change(store, "    memory?.sql === sql\n", "    memory !== undefined\n"),
      change(
        store,
        "      memory = undefined\n      return Effect.map(append",
        "      return Effect.map(append"
      ),
      change(connection, "if (Exit.isFailure(outside)) yield* disconnect", "yield* disconnect")
    ]
  },
  {
    name: "keys: a run that says it reaches further",
    mistake: "its last offset is off by one batch",
    guarantee: "G2",
    changes: [change(store, settleKeys, settleKeys.replace("lastOffset)", "lastOffset + events.length)"))]
  },
  {
    name: "keys: the youngest are forgotten",
    mistake: "a start does not read the events behind the last run",
    guarantee: "G2",
    changes: [change(keyIndex, "      yield* index.readYoungest(sql, Number.POSITIVE_INFINITY)\n", "")]
  },
  {
    name: "keys: runs written after the commit",
    mistake: "the index follows in a transaction of its own, and a failure of that is nobody's affair",
    guarantee: "G2",
    changes: [
      change(store, settleKeys, ""),
      change(
        store,
        storeAppend,
        `Effect.tap(${storeAppend}, ({ taken }) => Effect.ignore(write((sql) => taken.index.settle(sql, taken.lastOffset))))`
      )
    ]
  },
  {
    name: "keys: merged runs dropped at once",
    mistake: "a run takes the place of others when its merge begins, not when it is whole",
    guarantee: "G2",
    changes: [
      change(
        keyIndex,
        "yield* writeRun(sql, into, 0)",
        `yield* writeRun(sql, into, 1)
        const taken = JSON.stringify(from.map(({ id }) => id))
        yield* sql\`UPDATE key_run SET live = 0 WHERE id IN (SELECT value FROM json_each(\${taken}))\``
      )
    ]
  },
  {
    name: "keys: a filter that lacks the last pages",
    mistake: "the keys of a merge's last step are not added to the filter",
    guarantee: "G2",
    changes: [
      change(
        keyIndex,
        "for (const page of pages) eachEntry(page, (hash) =>",
        "if (end < into.pages) for (const page of pages) eachEntry(page, (hash) =>"
      )
    ]
  },
  {
    name: "keys: a hash taken for the key",
    mistake: "an event with the same hash is the same event, and hashes are short",
    guarantee: "G1",
    changes: [
      change(
        keyHash,
        "return (left >>> 0) * 2 ** 20 + (right >>> 12)",
        "return ((left >>> 0) % 16) * 2 ** 48"
      ),
      change(store, isItsKey, "if (row !== undefined) firsts.set(place, row)"),
      change(store, isItsKeyInBatch, "if (earlier === undefined) continue")
    ],
    showsInCalm: true
  }
]
