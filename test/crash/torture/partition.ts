/**
 * Partitions: two aggregators with a mirror each way, both published to; the mirrors are cut off and killed, and so are
 * servers and publishers. Healed, both come to hold the same events, once each (G9).
 */
import type { Violation } from "../../../sim/Checker.ts"
import { checkConvergence } from "../../../sim/check/Convergence.ts"
import { defaults } from "../../../src/Config.ts"
import { allEvents, keyOf } from "../../support/client.ts"
import { run as runCommand } from "../../support/command.ts"
import type { Aggregator } from "./aggregator.ts"
import { drawLogs, drawOrders, growWhileRough } from "./cargos.ts"
import { type Cut, Mirror } from "./mirror.ts"
import { momentToStrike, strikePublishers, strikeServer } from "./outages.ts"
import { lastLook, observe, Reader } from "./reader.ts"
import { Broken, type Run } from "./run.ts"
import { Shipper } from "./shipper.ts"
import type { Scenario, Stage } from "./stage.ts"
import { checkAgain, checkBooks, checkSeen, checkShipped, storedIn } from "./verify.ts"

/** Many outages of every kind, while files are shipped to both; one of them to both. */
export const partition: Scenario = async (stage) => {
  const { run, fronts, extent } = stage
  const chance = run.chance.of("partition")
  const pair = await startPair(stage)
  const { a, b, mirrors } = pair
  const logs = drawLogs(run, extent, "web", 1)
  const [ordersOfA, ordersOfB] = [drawOrders(run, extent, "shop-a"), drawOrders(run, extent, "shop-b")]
  const cargos = [logs, ordersOfA, ordersOfB]
  const shippers = [
    new Shipper(run, fronts, a, "publisher-web-a", logs),
    new Shipper(run, fronts, b, "publisher-web-b", logs),
    new Shipper(run, fronts, a, "publisher-shop-a", ordersOfA),
    new Shipper(run, fronts, b, "publisher-shop-b", ordersOfB)
  ]
  let isPublished = false
  const readers = [a, b].map((each) => new Reader(run, fronts, each, `reader-${each.name}`))
  for (const reader of readers) {
    stage.begin(reader.follow(() => isPublished))
    stage.begin(observe(run, fronts, reader.aggregator, `observer-${reader.aggregator.name}`, reader))
  }
  const rough = shippers.map((shipper) => shipper.shipWhileRough())
  for (const shipping of rough) stage.begin(shipping)
  stage.begin(growWhileRough(run, cargos))

  for (let outage = 0; outage < extent.outages; outage++) {
    await momentToStrike(run, chance)
    const mirror = chance.one(mirrors)
    const what =
      outage === 0 ? "partition" : chance.one(["partition", "mirror", "mirror", "server", "publishers"])
    if (what === "partition" && mirror.isCut) mirror.heal()
    else if (what === "partition") mirror.cut({ fault: chance.one(faults), sides: chance.one(sides) })
    else if (what === "mirror") await restart(mirror, chance.happens(0.3))
    else if (what === "server") await strikeServer(run, chance.of(`server ${outage}`), chance.one([a, b]))
    else await strikePublishers(run, chance, shippers)
    run.count("outages")
  }
  for (const mirror of mirrors) mirror.heal()
  await stage.calm()

  await run.within("the end of what is being shipped", Promise.all(rough))
  await Promise.all(shippers.map((shipper) => shipper.shipAll()))
  await converged(run, pair)
  const again = await Promise.all(shippers.map((shipper) => shipper.shipAll()))
  isPublished = true
  await stage.finished()
  const books = await Promise.all([a, b].map((each) => lastLook(run, fronts, each)))
  await stopPair(pair)

  return () => {
    const stored = [a, b].map(storedIn)
    run.count("events stored", stored[0]?.length ?? 0)
    return [
      ...checkAgain(again),
      ...checkPair(pair),
      ...[a, b].flatMap((each, index) => [
        ...checkShipped(each, stored[index] ?? [], cargos),
        ...checkBooks(each, stored[index] ?? [], books[index] ?? ""),
        ...checkSeen(readers[index]?.name ?? "", readers[index]?.seen ?? [], stored[index] ?? [])
      ])
    ]
  }
}

/**
 * One aggregator misses evt-002, heals, converges: what is published to either while they are cut off from each other is
 * on that side alone, also after a server and a mirror were killed; healed, both have all of it.
 */
export const evt002: Scenario = async (stage) => {
  const { run } = stage
  const pair = await startPair(stage)
  const { a, b, mirrors } = pair
  const [first, second, third] = ["evt-001", "evt-002", "evt-003"] as const
  const have = async (at: Aggregator) => (await allEvents(at.url)).map(({ event_id }) => event_id).sort()
  const expectAt = async (at: Aggregator, ...wanted: ReadonlyArray<string>) => {
    const found = await have(at)
    if (found.join() === wanted.join()) return
    throw new Broken("G9", `${at.name} has ${found.join()} where it should have ${wanted.join()}`)
  }

  await publishEvent(stage, a, first)
  await converged(run, pair)
  await expectAt(b, first)

  for (const mirror of mirrors) mirror.cut({ fault: { kind: "refuse" }, sides: ["from", "to"] })
  await publishEvent(stage, a, second)
  await publishEvent(stage, b, third)
  await b.kill()
  await b.start()
  for (const mirror of mirrors) await restart(mirror, false)
  // Both have asked again, and in vain.
  const refused = mirrors.map(({ refused }) => refused)
  await run.until("a mirror that asks in vain", () =>
    mirrors.every((each, i) => each.refused > (refused[i] ?? 0))
  )
  await expectAt(a, first, second)
  await expectAt(b, first, third)

  for (const mirror of mirrors) mirror.heal()
  await stage.calm()
  await converged(run, pair)
  await stage.finished()
  await stopPair(pair)
  return () => {
    run.count("events stored", storedIn(a).length)
    return [a, b]
      .flatMap((each): ReadonlyArray<Violation> => {
        const found = storedIn(each).map(({ event_id }) => event_id)
        const isAll = [...found].sort().join() === [first, second, third].join()
        return isAll ? [] : [{ guarantee: "G9", detail: `${each.name} has ${found.join()} in the end` }]
      })
      .concat(checkPair(pair))
  }
}

// ---------- two aggregators ----------

/** Two aggregators, and a mirror from each to the other. */
interface Pair {
  readonly a: Aggregator
  readonly b: Aggregator
  readonly mirrors: readonly [Mirror, Mirror]
}

const faults: readonly [Cut["fault"], Cut["fault"]] = [{ kind: "refuse" }, { kind: "swallow-answer" }]

const sides: readonly [Cut["sides"], ...ReadonlyArray<Cut["sides"]>] = [["from", "to"], ["from"], ["to"]]

const startPair = async (stage: Stage): Promise<Pair> => {
  const limits = { queueEventsMax: defaults.queueEventsMax }
  const [a, b] = [stage.aggregator("a", limits), stage.aggregator("b", limits)]
  const mirrors = [new Mirror(stage, "mirror-0", a, b), new Mirror(stage, "mirror-1", b, a)] as const
  await Promise.all([a, b, ...mirrors].map((each) => each.start()))
  return { a, b, mirrors: [mirrors[0], mirrors[1]] }
}

const restart = async (mirror: Mirror, losesPlace: boolean): Promise<void> => {
  await mirror.kill(losesPlace)
  await mirror.start()
}

/** Waits until both have the same events. Mirrors go on asking: whenever one was answered, it may be so. */
const converged = async (run: Run, { a, b }: Pair): Promise<void> => {
  const keys = async (at: Aggregator) => (await allEvents(at.url)).map(keyOf).sort().join("\n")
  const areEqual = async () => (await keys(a)) === (await keys(b))
  const asking = async () => {
    for (;;) {
      const entries = () => a.history.entries.length + b.history.entries.length
      const before = entries()
      if (await areEqual()) return
      await run.until("a mirror that asks", () => entries() > before)
    }
  }
  await run.within("an equal set of events", asking())
}

const stopPair = async ({ a, b, mirrors }: Pair): Promise<void> => {
  await Promise.all(mirrors.map((mirror) => mirror.stop()))
  await Promise.all([a.stop(), b.stop()])
}

const checkPair = ({ a, b, mirrors: [there, back] }: Pair): ReadonlyArray<Violation> =>
  checkConvergence(
    [a, b].map((each) => ({ name: each.name, history: each.history.entries, read: (ask) => each.read(ask) })),
    [
      { mirror: there.name, from: 0, to: 1 },
      { mirror: back.name, from: 1, to: 0 }
    ]
  )

/** Publishes one event with this id. */
const publishEvent = async ({ fronts, run }: Stage, to: Aggregator, id: string): Promise<void> => {
  const front = await fronts.open(to, `publisher-${id}`)
  const input = `${JSON.stringify({ topic: "report", event_id: id, source: "publisher", payload: { id } })}\n`
  const { code, stderr } = await run.within(
    `the end of the publisher of ${id}`,
    runCommand(["publish"], { url: front.url, input })
  )
  if (code !== 0) throw new Broken("G7", `${id} was not published: ${stderr}`)
}
