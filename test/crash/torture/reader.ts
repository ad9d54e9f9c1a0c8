/**
 * Readers of a run, in this process, over the same bad network: one kind follows the offsets from the first on, and
 * must see in the end just what is stored; the other asks anything at any moment.
 */
import type { Aggregator } from "./aggregator.ts"
import type { Front, Fronts } from "./front.ts"
import type { Run } from "./run.ts"

/** How long a reader waits for an answer before it asks again, while there are faults and after. */
const patienceMillis = { rough: 2000, calm: 60_000 }

interface Answer {
  readonly status: number
  readonly body: string
}

// What is cut, swallowed or refused is no answer.
const ask = async (run: Run, front: Front, path: string, accept = "*/*"): Promise<Answer | undefined> => {
  const signal = AbortSignal.timeout(run.isCalm ? patienceMillis.calm : patienceMillis.rough)
  try {
    const response = await fetch(`${front.url}${path}`, { headers: { accept }, signal })
    return { status: response.status, body: await response.text() }
  } catch {
    return undefined
  }
}

/** A place where an event was seen. */
export interface Seen {
  readonly offset: number
  readonly topic: string
  readonly event_id: string
}

/** Follows the offsets. */
export class Reader {
  /** What it has seen, in that order. */
  readonly seen: Array<Seen> = []
  readonly name: string
  readonly #run: Run
  readonly aggregator: Aggregator
  readonly #fronts: Fronts
  #after = 0

  constructor(run: Run, fronts: Fronts, aggregator: Aggregator, name: string) {
    this.#run = run
    this.#fronts = fronts
    this.aggregator = aggregator
    this.name = name
  }

  /** Reads on until `isLast` says that nothing more will come, and then to the end. */
  async follow(isLast: () => boolean): Promise<void> {
    const run = this.#run
    const chance = run.chance.of(this.name)
    const front = await this.#fronts.open(this.aggregator, this.name)
    const limit = chance.one([10, 100, 1000])
    for (;;) {
      const wasLast = isLast()
      const answer = await ask(run, front, `/events?after=${this.#after}&limit=${limit}`)
      if (answer?.status === 200) {
        const { events, next, more } = JSON.parse(answer.body) as Page
        for (const { offset, topic, event_id } of events) this.seen.push({ offset, topic, event_id })
        this.#after = next
        run.count("pages read")
        if (more) continue
        if (wasLast) return
      }
      await run.pause(chance.between(20, 300))
    }
  }
}

interface Page {
  readonly events: ReadonlyArray<Seen>
  readonly next: number
  readonly more: boolean
}

/** Asks anything, now and then, until the faults stop. */
export const observe = async (
  run: Run,
  fronts: Fronts,
  aggregator: Aggregator,
  name: string,
  reader: Reader
): Promise<void> => {
  const chance = run.chance.of(name)
  const front = await fronts.open(aggregator, name)
  while (!run.isCalm) {
    const { topic, event_id, offset } = reader.seen[chance.between(0, reader.seen.length - 1)] ?? {
      topic: "none",
      event_id: "none",
      offset: 0
    }
    const [path, accept] = chance.one<readonly [string, string?]>([
      ["/stats"],
      ["/stats"],
      ["/topics?limit=2"],
      ["/conflicts?limit=50"],
      ["/events?limit=20&order=desc"],
      [`/events?after=${offset}`, "application/x-ndjson"],
      [`/events/${topic}/${encodeURIComponent(event_id)}`]
    ])
    const answer = await ask(run, front, path, accept)
    if (answer !== undefined) run.count("other questions answered")
    await run.pause(chance.between(20, 400), () => run.isCalm)
  }
}

/** Asks for the books once more, in the calm. */
export const lastLook = async (run: Run, fronts: Fronts, aggregator: Aggregator): Promise<string> => {
  const front = await fronts.open(aggregator, `closing-${aggregator.name}`)
  const answer = await ask(run, front, "/stats")
  if (answer?.status !== 200) throw new Error(`/stats is answered with ${answer?.status} in the calm`)
  return answer.body
}
