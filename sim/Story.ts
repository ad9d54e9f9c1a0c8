/**
 * A failed run as a person reads it: what was broken, what little it takes, the timeline, and the command that plays
 * it again.
 */
import { type Case, replay, sizeOf } from "./Shrink.ts"

const outcomesOf = (body: string): string => {
  try {
    const answer: unknown = JSON.parse(body)
    if (typeof answer !== "object" || answer === null) return ""
    if ("results" in answer && Array.isArray(answer.results)) {
      return answer.results
        .map((result: { outcome: string; offset: number }) => `${result.outcome} ${result.offset}`)
        .join(", ")
    }
    if ("detail" in answer) return String(answer.detail)
    if ("received" in answer) {
      const { received, unique_processed, duplicate_dropped } = answer as unknown as Record<string, number>
      return `received ${received}, unique ${unique_processed}, dropped ${duplicate_dropped}`
    }
    if ("count" in answer) return `${answer.count} found, next ${"next" in answer ? answer.next : ""}`
    return ""
  } catch {
    return ""
  }
}

const keysOf = (events: ReadonlyArray<string>): string =>
  events
    .map((text) => {
      const { topic, event_id } = JSON.parse(text) as { readonly topic: string; readonly event_id: string }
      return `${topic}/${event_id}`
    })
    .join(", ")

/** Of the choices that remain, so many are named. */
const choicesTold = 60

/** The whole story, as lines. `file` is where the case is kept. */
export const tell = (kept: Case, file: string): ReadonlyArray<string> => {
  const result = replay(kept, true)
  const size = sizeOf(kept)
  const told = result.history.flatMap((entry) => {
    if (entry.kind === "invoked" && entry.operation.type === "publish") {
      return [{ micros: entry.at, text: `${entry.call} publishes ${keysOf(entry.operation.events)}` }]
    }
    if (entry.kind === "returned") {
      const outcomes = outcomesOf(entry.body)
      return [
        {
          micros: entry.at,
          text: `${entry.call} is told ${entry.status}${outcomes === "" ? "" : `: ${outcomes}`}`
        }
      ]
    }
    if (entry.kind === "unknown")
      return [{ micros: entry.at, text: `${entry.call} hears nothing (${entry.why})` }]
    return []
  })
  const lines = [...result.notes, ...told]
    .map((note, index) => ({ ...note, index }))
    .sort((left, right) => left.micros - right.micros || left.index - right.index)
    .map(({ micros, text }) => `  ${(micros / 1000).toFixed(3).padStart(10)} ms  ${text}`)
  return [
    `BROKEN  ${kept.guarantee}: ${kept.detail}`,
    `seed ${kept.seed}; what remains: ${size.operations} operations, ${size.outages} outages, ${size.deviations} choices`,
    "",
    ...lines,
    "",
    ...kept.deviations
      .slice(0, choicesTold)
      .map(([name, occurrence, value]) => `  choice ${name} #${occurrence} = ${value}`),
    ...(size.deviations > choicesTold ? [`  and ${size.deviations - choicesTold} choices more`] : []),
    "",
    ...result.violations.map(({ guarantee, detail }) => `${guarantee}: ${detail}`),
    "",
    `play it again:  npm run sim -- --replay ${/[^\w./-]/.test(file) ? `'${file}'` : file}`
  ]
}
