/**
 * `sekali stats`: the books of a service, as a table or as they come.
 */
import { Effect } from "effect"
import { StatsAnswer } from "../http/Api.ts"
import { exitCodes, type Failure } from "./Conventions.ts"
import { fetchAnswer, networkLayer } from "./Service.ts"

/** The options of the command. */
export interface StatsOptions {
  readonly url: string
  readonly json: boolean
}

/** Prints the books, and gives the exit code. */
export const stats = ({ url, json }: StatsOptions): Effect.Effect<number, Failure> =>
  Effect.map(fetchAnswer(url, "/stats", StatsAnswer), ({ text, answer }) => {
    process.stdout.write(json ? `${text.trimEnd()}\n` : table(answer))
    return exitCodes.done
  }).pipe(Effect.provide(networkLayer))

const topicsShown = 20

const table = (stats: typeof StatsAnswer.Type): string => {
  const number = (value: number) => value.toLocaleString("en-US")
  const share = (part: number, whole: number) => `${((whole === 0 ? 0 : part / whole) * 100).toFixed(1)} %`
  // Rounded down: what was not available all the time does not show as 100 %.
  const percent = (share: number) => `${(Math.floor(share * 100_000) / 1000).toFixed(3)} %`
  const { queue, publishes, sequences, availability } = stats
  const figures: ReadonlyArray<readonly [string, string, string?]> = [
    ["received", number(stats.received)],
    ["unique", number(stats.unique_processed)],
    ["duplicates", number(stats.duplicate_dropped), share(stats.duplicate_dropped, stats.received)],
    ["conflicts", number(stats.conflicts), "among the duplicates"],
    ["last offset", number(stats.last_offset)],
    ["queue, events", number(queue.events), `${share(queue.events, queue.events_max)} of its room`],
    ["queue, bytes", number(queue.bytes), `${share(queue.bytes, queue.bytes_max)} of its room`],
    ["requests", number(publishes.attempts), "to publish, since it started"],
    ["retries", number(publishes.retries), "among them"],
    ["sources", number(sequences.sources), "that number their events"],
    ["gaps open", number(sequences.gaps_open), "in their sequences"],
    [
      "missing",
      number(sequences.missing),
      `of ${number(sequences.declared_missing)} numbers declared missing`
    ],
    ["late", number(sequences.late), "came after that"],
    ["reused", number(sequences.sequence_reused), "numbers that came again with another event"],
    ["uptime", duration(stats.uptime)],
    ["available", percent(availability.last_24_hours.share), "of the last 24 hours"],
    ["", percent(availability.last_30_days.share), "of the last 30 days"],
    ["last start", `${availability.recovery_seconds.toFixed(2)} s`],
    ["topics", number(stats.topics_total)]
  ]
  const width = Math.max(...figures.map(([, figure]) => figure.length))
  const rows = figures.map(([name, figure, note = ""]) =>
    `${name.padEnd(15)}${figure.padStart(width)}  ${note}`.trimEnd()
  )
  const topics = stats.topics.slice(0, topicsShown).map((topic) => `  ${topic}`)
  const more = stats.topics_total - topics.length
  return [...rows, ...topics, ...(more > 0 ? [`  and ${number(more)} more`] : []), ""].join("\n")
}

const duration = (seconds: number): string => {
  const whole = Math.floor(seconds)
  const [days, hours, minutes] = [whole / 86_400, (whole / 3600) % 24, (whole / 60) % 60].map(Math.floor)
  const clock = [hours, minutes, whole % 60].map((part) => String(part).padStart(2, "0")).join(":")
  return `${days === 0 ? "" : `${days} d `}${clock}`
}
