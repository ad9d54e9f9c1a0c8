/**
 * G9, between aggregators that exchange their events: at the end each has the same keys; a key that was never used with
 * two contents has the same content everywhere; where it was, each keeps its first, and of two that exchange and differ
 * at least one lists the conflict. What a mirror brought bears the id of the store that first took it, where it stands
 * with the same content, event time and sequence; and nothing is sent back to where it came from.
 */
import type { Entry } from "../History.ts"
import { callsOf, type Sent } from "./Calls.ts"
import { type Query, type Row, readHoldings } from "./Holdings.ts"
import { nameOf, Report, type Violation } from "./Report.ts"
import { getOrMake } from "./Rising.ts"

/** An aggregator at the end of a run. */
export interface Member {
  readonly name: string
  readonly history: ReadonlyArray<Entry>
  readonly read: <A>(ask: (query: Query) => A) => A
}

/** A mirror, by the places of the members that it reads and publishes to. */
export interface Link {
  /** The process that mirrors; a number follows where it was started again. */
  readonly mirror: string
  readonly from: number
  readonly to: number
}

interface Store {
  readonly name: string
  readonly id: string
  readonly rows: ReadonlyMap<string, Row>
  /** What publishers sent, and what mirrors did, by the name of the mirror. */
  readonly published: ReadonlyArray<Sent>
  readonly mirrored: ReadonlyArray<readonly [mirror: string, sent: Sent]>
}

/** Checks that the members have converged. Each has been found to keep its own guarantees before. */
export const checkConvergence = (
  members: ReadonlyArray<Member>,
  links: ReadonlyArray<Link>
): ReadonlyArray<Violation> => {
  const report = new Report([])
  const wrong = (detail: string): void => report.add("G9", detail)
  const stores = members.map((member) => storeOf(member, links, report))
  checkSets(stores, wrong)
  checkContents(stores, links, wrong)
  for (const store of stores) {
    checkOrigins(store, stores, wrong)
    for (const [mirror, sent] of store.mirrored) {
      if (sent.origin === null)
        wrong(`${mirror} sent ${nameOf(sent.key)} to ${store.name} without its origin`)
      if (sent.origin === store.id) {
        wrong(`${mirror} sent ${nameOf(sent.key)} back to ${store.name}, where it came from`)
      }
    }
  }
  return report.violations
}

const storeOf = ({ name, history, read }: Member, links: ReadonlyArray<Link>, report: Report): Store =>
  read((query) => {
    const holdings = readHoldings(query, report)
    const mirrors = new Set(links.map(({ mirror }) => mirror))
    const published: Array<Sent> = []
    const mirrored: Array<readonly [string, Sent]> = []
    for (const { call, sent } of callsOf(history, report).publishes) {
      const process = call.process.replace(/#\d+$/, "")
      if (mirrors.has(process)) for (const each of sent) mirrored.push([process, each])
      else published.push(...sent)
    }
    const [identity] = query("SELECT store_id FROM store")
    const id = String(identity?.["store_id"])
    return { name, id, rows: holdings?.byKey ?? new Map(), published, mirrored }
  })

const checkSets = (stores: ReadonlyArray<Store>, wrong: (detail: string) => void): void => {
  const holders = new Map<string, Array<Store>>()
  for (const store of stores)
    for (const key of store.rows.keys()) getOrMake(holders, key, () => []).push(store)
  for (const [key, having] of holders) {
    if (having.length === stores.length) continue
    const lacking = stores.filter((store) => !having.includes(store)).map(({ name }) => name)
    wrong(
      `${nameOf(key)} is at ${having.map(({ name }) => name).join(", ")}, and not at ${lacking.join(", ")}`
    )
  }
}

const checkContents = (
  stores: ReadonlyArray<Store>,
  links: ReadonlyArray<Link>,
  wrong: (detail: string) => void
): void => {
  const contents = new Map<string, Set<string>>()
  for (const { published } of stores) {
    for (const { key, content } of published) getOrMake(contents, key, () => new Set()).add(content)
  }
  for (const { from, to } of links) {
    const [left, right] = [stores[from], stores[to]]
    if (left === undefined || right === undefined) continue
    for (const [key, row] of left.rows) {
      const other = right.rows.get(key)
      if (other === undefined || other.content === row.content) continue
      if ((contents.get(key)?.size ?? 0) < 2) {
        wrong(`${nameOf(key)} was used with one content, and differs between ${left.name} and ${right.name}`)
      } else if ((row.redelivery?.conflicts ?? 0) + (other.redelivery?.conflicts ?? 0) === 0) {
        wrong(`${nameOf(key)} differs between ${left.name} and ${right.name}, and neither lists a conflict`)
      }
    }
  }
}

// A row with an origin is a copy of the row at that store, which was there before it.
const checkOrigins = (
  { name, id, rows }: Store,
  stores: ReadonlyArray<Store>,
  wrong: (detail: string) => void
): void => {
  for (const row of rows.values()) {
    if (row.origin === null) continue
    if (row.origin === id) wrong(`${nameOf(row.key)} at ${name} has ${name} itself for its origin`)
    const origin = stores.find((store) => store.id === row.origin)
    const first = origin?.rows.get(row.key)
    if (origin === undefined || first === undefined) {
      wrong(`${nameOf(row.key)} at ${name} has an origin where it is not: ${row.origin}`)
    } else if (first.origin !== null) {
      wrong(
        `${nameOf(row.key)} at ${name} has ${origin.name} for its origin, which was not the first to take it`
      )
    } else if (
      first.content !== row.content ||
      first.timestamp !== row.timestamp ||
      first.sequence !== row.sequence
    ) {
      wrong(`${nameOf(row.key)} at ${name} is not what it is at its origin ${origin.name}`)
    }
  }
}
