/**
 * The commands: their options and pages. What they do is in files of its own, each of which is loaded when its command
 * runs.
 */
import * as Args from "@effect/cli/Args"
import * as Options from "@effect/cli/Options"
import { Config, Effect } from "effect"
import { definitions } from "../Config.ts"
import { timestampRule } from "../domain/Timestamp.ts"
import { type Command, make, option, readAs } from "./CommandLine.ts"
import { urlVariable } from "./Conventions.ts"
import { readSince } from "./Since.ts"

/** The address of a service as it is typed: without a slash at its end, and without what has no place in it. */
const readAddress = (text: string): string | undefined => {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol)) return undefined
  if (url.search !== "" || url.hash !== "" || url.username !== "" || url.password !== "") return undefined
  return url.href.replace(/\/+$/, "")
}

const addressRule = "an http or https address, such as http://127.0.0.1:8080"

const urlOption = option("url", "URL", `the service; ${urlVariable}, or else http://127.0.0.1:8080`).pipe(
  Options.withFallbackConfig(Config.string(urlVariable)),
  Options.withDefault("http://127.0.0.1:8080"),
  readAs(`--url (or ${urlVariable})`, addressRule, readAddress)
)

const initialText = (initial: unknown): string => (typeof initial === "object" ? "info" : String(initial))

const serve = make({
  name: "serve",
  summary: "serve the HTTP API until SIGTERM or Ctrl-C; a second Ctrl-C ends at once",
  usage: "",
  options: Options.none,
  args: Args.none,
  text: `Settings (environment variable, default, what it is for)
${Object.values(definitions)
  .map(
    ({ variable, initial, purpose }) =>
      `  ${variable.padEnd(28)} ${initialText(initial).padEnd(24)} ${purpose}`
  )
  .join("\n")}`,
  examples: [
    "sekali serve",
    "SEKALI_PORT=9000 SEKALI_DATABASE=file:/var/lib/sekali/events.db sekali serve",
    "SEKALI_LOG_LEVEL=debug SEKALI_LOG_FORMAT=pretty sekali serve"
  ],
  run: () =>
    Effect.gen(function* () {
      const { start } = yield* Effect.promise(() => import("./Serve.ts"))
      start()
      // It ends the process by itself.
      return yield* Effect.never
    })
})

const publish = make({
  name: "publish",
  summary: "publish the lines of files, or of the standard input, as events",
  usage: "[options] [FILE…]",
  options: Options.all({
    url: urlOption,
    topic: option("topic", "TOPIC", "the topic of lines that name none; logs").pipe(
      Options.withDefault("logs")
    ),
    source: option("source", "NAME", "the source of lines that name none; the name of this host").pipe(
      Options.withDefault(undefined)
    ),
    format: option("format", "FORMAT", "lines, ndjson, or auto: what the first line is; auto").pipe(
      Options.withDefault("auto"),
      readAs("--format", "one of auto, lines, ndjson", (text) =>
        text === "auto" || text === "lines" || text === "ndjson" ? text : undefined
      )
    ),
    giveUpAfterSeconds: option(
      "give-up-after",
      "SECONDS",
      "how long a request is sent again without an answer; for ever"
    ).pipe(
      readAs("--give-up-after", "a number of seconds from 0 to 1000000", (text) =>
        /^\d{1,6}(\.\d{1,3})?$/.test(text) ? Number(text) : undefined
      ),
      Options.withDefault(undefined)
    )
  }),
  args: Args.text({ name: "FILE" }).pipe(
    Args.withDescription("a file or a pipe; - or none is the standard input"),
    Args.repeated
  ),
  text: `Publishing the same input again stores nothing twice and loses no line: also when the file has
grown or was renamed, and after a crash of this command, of the service or of the machine.
Nothing is remembered for that: it follows from the id that each line has.

Lines
  A line becomes the payload {"line": "…"}; its timestamp is the time of reading. Its event_id is
  <fingerprint>-<position>-<hash>, as in 8c2f0a1be4d95e07-1048-5f0c9ad2e431:
    fingerprint  16 hexadecimal digits of the SHA-256 of the source, a line feed, and the first
                 line of the input
    position     where the line begins, in bytes from the beginning of the input
    hash         12 hexadecimal digits of the SHA-256 of the line
  all without the end of the line, which is LF or CRLF.
  - A last line without an end counts. If it was still being written, the whole line is published
    later as an event of its own, beside what there was of it before.
  - Inputs of one source that begin with the same line, such as the head of a table, count as one:
    a line that both have at the same place is stored once. Tell them apart with --source or
    --topic. Name a --source also where the name of the host changes, as in containers.
  - What comes through a pipe has to begin where it began before: cat or zcat, not tail.
  - A line of more than 131072 bytes is published in parts: {"line": "…", "part": 2} and so on; the
    hash of such a part is that of its bytes, a line feed, and its number.
  - In a line that is not UTF-8, U+FFFD stands for what is no text, and {"base64": "…"} holds the
    bytes of the line.

NDJSON
  Each line is an event, as for POST /publish. What it leaves out is filled in: topic and source
  from the options, event_id as for a line, timestamp as the time of reading. Blank lines are
  skipped. The format auto takes an input for NDJSON if its first line is an object that has no
  members but those of an event, and an event_id or a payload.

Outcome
  A line that is no event, is refused or conflicts is told with its place, and the others are
  published. Exit codes: 0 all is acknowledged; 1 something failed; 2 the command line is wrong;
  3 an id is known with other content; 130 Ctrl-C, which sends what was read, for up to 5 s.`,
  examples: [
    "sekali publish /var/log/syslog",
    "sekali publish --topic shop.web --source web-1 access.log access.log.1",
    "zcat access.log.2.gz | sekali publish --topic shop.web --source web-1",
    `echo '{"topic":"shop.orders","event_id":"order-7","payload":{"total":19.9}}' | sekali publish`,
    `${urlVariable}=https://logs.example sekali publish --give-up-after 60 app.log || echo "not all is there"`
  ],
  run: (options, files) =>
    Effect.flatMap(
      Effect.promise(() => import("./Publish.ts")),
      ({ publish }) => publish({ ...options, files })
    )
})

const stats = make({
  name: "stats",
  summary: "show the books of a service",
  usage: "[options]",
  options: Options.all({
    url: urlOption,
    json: Options.boolean("json").pipe(Options.withDescription("as GET /stats answers, one line of JSON"))
  }),
  args: Args.none,
  text: "",
  examples: [
    "sekali stats",
    "sekali stats --url https://logs.example",
    `sekali stats --json | jq .duplicate_rate`
  ],
  run: (options) =>
    Effect.flatMap(
      Effect.promise(() => import("./Stats.ts")),
      ({ stats }) => stats(options)
    )
})

const mirror = make({
  name: "mirror",
  summary: "copy the events of one service to another, and go on with what comes",
  usage: "[options] --from URL --to URL",
  options: Options.all({
    from: option("from", "URL", "the service whose events are copied").pipe(
      readAs("--from", addressRule, readAddress)
    ),
    to: option("to", "URL", "the service that they are published to").pipe(
      readAs("--to", addressRule, readAddress)
    ),
    once: Options.boolean("once").pipe(Options.withDescription("end when all that is there is copied")),
    state: option(
      "state",
      "FILE",
      "where the cursor is kept; $XDG_STATE_HOME/sekali/mirror-<hash of both addresses>.json"
    ).pipe(Options.withDefault(undefined)),
    pauseSeconds: option("pause", "SECONDS", "how long at most to wait before asking for more; 0.25").pipe(
      readAs("--pause", "a number of seconds from 0.001 to 3600", (text) => {
        const seconds = /^\d{1,4}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN
        return seconds >= 0.001 && seconds <= 3600 ? seconds : undefined
      }),
      Options.withDefault(0.25)
    )
  }),
  args: Args.none,
  text: `An event keeps its id, topic, source, payload, time and sequence, and says in "origin" which store first took it; it is
not sent back there. Two mirrors, one each way, make two services equal, and a ring of mirrors any number of them. They
may run at once, and be killed and started again at any time: what is known is a duplicate, and is dropped.

Where a key is known with other content, each service keeps the first one it had, and lists the conflict. While a service
does not answer, it is tried again. An event that is refused, such as one over the limits of the other service, ends the
mirror, so that none is left out unseen.

How far it has come, the cursor, is kept about every second, once all up to it is acknowledged. Without it, or when
another store, such as a restored one, stands at an address, everything is read again from the start; what is known is a
duplicate then. The default file is in ~/.local/state/sekali where XDG_STATE_HOME is not set.

Exit codes: 0 stopped by Ctrl-C or SIGTERM, or all is copied with --once; 1 something failed; 2 the command line is
wrong; 130, 143 with --once: stopped before all was copied.`,
  examples: [
    "sekali mirror --from http://a.example:8080 --to http://b.example:8080",
    "sekali mirror --from http://b.example:8080 --to http://a.example:8080",
    "sekali mirror --once --state /var/lib/sekali/a-to-b.json --from http://a.example:8080 --to http://b.example:8080"
  ],
  run: (options) =>
    Effect.flatMap(
      Effect.promise(() => import("./Mirror.ts")),
      ({ mirror }) => mirror(options)
    )
})

const backup = make({
  name: "backup",
  summary: "make a backup of a service while it goes on, or of a database at rest",
  usage: "[options] FILE",
  options: Options.all({
    url: urlOption,
    database: option("database", "FILE", "a database that no service holds, instead of --url").pipe(
      Options.withDefault(undefined)
    ),
    keep: option("keep", "N", "put the time into the name, and keep the newest N only").pipe(
      readAs("--keep", "a whole number from 1 to 100000", (text) =>
        /^[1-9]\d{0,4}$|^100000$/.test(text) ? Number(text) : undefined
      ),
      Options.withDefault(undefined)
    ),
    overwrite: Options.boolean("overwrite").pipe(Options.withDescription("replace FILE if it is there"))
  }),
  args: Args.text({ name: "FILE" }).pipe(Args.withDescription("the backup")),
  text: `FILE appears when it is whole and on disk, and never stands for half of a backup. With --keep 7,
sekali.db becomes sekali-20261123T030000000Z.db, and of all that have such names the seven newest
stay. What was done is printed; nothing else is, so that a time table has only errors to send.

To restore one: stop the service, put the backup in the place of its database, remove what lies
beside it (-wal, -shm), and start the service. It begins a new epoch: offsets go on beyond any that
can have been given out since the backup, and readers whose cursor was lost are told so.`,
  examples: [
    "sekali backup sekali-backup.db",
    "sekali backup --url https://logs.example --keep 7 /var/backups/sekali.db",
    "sekali backup --database /var/lib/sekali/sekali.db --overwrite copy.db",
    "0 3 * * *  sekali backup --keep 7 /var/backups/sekali.db >/dev/null    (a line of crontab)"
  ],
  run: (options, file) =>
    Effect.flatMap(
      Effect.promise(() => import("./Backup.ts")),
      ({ backup }) => backup({ ...options, file })
    )
})

const check = make({
  name: "check",
  summary: "check whether a database, or a backup, is sound",
  usage: "FILE",
  options: Options.none,
  args: Args.text({ name: "FILE" }).pipe(
    Args.withDescription("a database that no service holds; it is left as it is")
  ),
  text: `Looks for damage, at the schema, and counts the books again from the events. Each finding is a
line; the exit code is 1 if one of them is a fault.`,
  examples: ["sekali check sekali-backup.db", "sekali check /var/lib/sekali/sekali.db && sekali serve"],
  run: (_options, file) =>
    Effect.flatMap(
      Effect.promise(() => import("./Check.ts")),
      ({ check }) => check(file)
    )
})

const wholeFrom = (least: number) => (text: string) => {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
  return Number.isSafeInteger(value) && value >= least ? value : undefined
}

const tail = make({
  name: "tail",
  summary: "print events as they come",
  usage: "[options] [PATTERN]",
  options: Options.all({
    url: urlOption,
    after: option("after", "N", "begin behind this offset; 0 is the beginning").pipe(
      readAs("--after", "an offset, a whole number from 0", wholeFrom(0)),
      Options.withDefault(undefined)
    ),
    since: option("since", "TIME", "begin with what was stored since then: a time, or 30s, 10m, 2h, 7d").pipe(
      readAs("--since", `${timestampRule}, or how long ago, such as 10m`, readSince),
      Options.withDefault(undefined)
    ),
    source: option("source", "NAME", "only events of this source").pipe(Options.withDefault(undefined)),
    format: option("format", "FORMAT", "pretty, ndjson, or auto: pretty on a terminal; auto").pipe(
      Options.withDefault("auto"),
      readAs("--format", "one of auto, pretty, ndjson", (text) =>
        text === "auto" || text === "pretty" || text === "ndjson" ? text : undefined
      )
    ),
    limit: option("limit", "N", "end after so many events").pipe(
      readAs("--limit", "a whole number from 1", wholeFrom(1)),
      Options.withDefault(undefined)
    )
  }),
  args: Args.text({ name: "PATTERN" }).pipe(
    Args.withDescription(
      "a topic, in which * stands for one segment and a last > for one or more; all topics"
    ),
    Args.withDefault(undefined)
  ),
  text: `Without --after or --since it begins now. It goes on over restarts of the service, and no event is lost or printed twice;
what happens to the connection is told on the standard error. Ctrl-C ends it, and tells the offset to go on from.

A line of ndjson is an event as GET /events gives it. A pretty line has the offset, the time of the event, topic, source,
event_id, and the payload, or the line that sekali publish made it of; what would move a terminal's cursor is escaped.

Exit codes: 0 ended by Ctrl-C or SIGTERM, or after --limit events; 1 something failed; 2 the command line is wrong;
130, 143 with --limit: stopped before so many had come.`,
  examples: [
    "sekali tail",
    "sekali tail 'shop.>' --since 10m",
    "sekali tail shop.orders --after 0 --limit 100 --format ndjson | jq .payload",
    "sekali tail --source web-1 --since 2026-11-22T10:00:00Z"
  ],
  run: (options, pattern) =>
    Effect.flatMap(
      Effect.promise(() => import("./Tail.ts")),
      ({ tail }) => tail({ ...options, pattern })
    )
})

/** The commands, in the order of the help. */
export const commands: ReadonlyArray<Command> = [serve, publish, tail, stats, mirror, backup, check]
