/**
 * Kills: one aggregator, publishers that ship files to it over a bad network, and SIGKILL for the server, for publishers
 * and for both, in the middle of whatever they do. In the end all is shipped once more, and nothing of it is new.
 */
import type { Violation } from "../../../sim/Checker.ts"
import { defaults } from "../../../src/Config.ts"
import { drawLogs, drawOrders, growWhileRough } from "./cargos.ts"
import { momentToStrike, strikePublishers, strikeServer } from "./outages.ts"
import { lastLook, observe, Reader } from "./reader.ts"
import { Shipper } from "./shipper.ts"
import type { Scenario } from "./stage.ts"
import { checkAgain, checkBooks, checkSeen, checkShipped, storedIn } from "./verify.ts"

export const crash: Scenario = async (stage) => {
  const { run, fronts, extent } = stage
  const chance = run.chance.of("crash")
  const server = stage.aggregator("server", { queueEventsMax: chance.one([1200, defaults.queueEventsMax]) })
  const logs = Array.from({ length: extent.logs === undefined ? extent.sources : 1 }, (_, index) =>
    drawLogs(run, extent, `web-${index}`, 1 + (index % 2))
  )
  const cargos = [...logs, drawOrders(run, extent, "shop")]
  const shippers = cargos.map((cargo) => new Shipper(run, fronts, server, `publisher-${cargo.source}`, cargo))
  const [first] = logs
  // Two hosts that ship the same files.
  const twin = first && chance.happens(0.5) ? [new Shipper(run, fronts, server, "publisher-twin", first)] : []

  await server.start()
  let isPublished = false
  const readers = ["reader-0", "reader-1"].map((name) => new Reader(run, fronts, server, name))
  for (const reader of readers) stage.begin(reader.follow(() => isPublished))
  for (const reader of readers.slice(0, 1)) stage.begin(observe(run, fronts, server, "observer", reader))
  const rough = [...shippers, ...twin].map((shipper) => shipper.shipWhileRough())
  for (const shipping of rough) stage.begin(shipping)
  stage.begin(growWhileRough(run, cargos))

  for (let outage = 0; outage < extent.outages; outage++) {
    await momentToStrike(run, chance)
    const victim = chance.one(["server", "publishers", "both"])
    await Promise.all([
      victim === "publishers" ? undefined : strikeServer(run, chance.of(`server ${outage}`), server),
      victim === "server" ? undefined : strikePublishers(run, chance, [...shippers, ...twin])
    ])
    run.count("outages")
  }
  await stage.calm()

  await run.within("the end of what is being shipped", Promise.all(rough))
  await Promise.all(shippers.map((shipper) => shipper.shipAll()))
  const again = await Promise.all(shippers.map((shipper) => shipper.shipAll()))
  isPublished = true
  await stage.finished()
  const books = await lastLook(run, fronts, server)
  await server.stop()

  return (): ReadonlyArray<Violation> => {
    const stored = storedIn(server)
    run.count("events stored", stored.length)
    return [
      ...checkAgain(again),
      ...checkShipped(server, stored, cargos),
      ...checkBooks(server, stored, books),
      ...readers.flatMap(({ name, seen }) => checkSeen(name, seen, stored))
    ]
  }
}
