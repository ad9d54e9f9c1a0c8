/**
 * What befalls services, publishers and mirrors, and when: each outage waits for so many requests or answers from here
 * on, so that it falls between the arrival of one and its answer, or between the answer and the publisher's knowing of
 * it; or only for a while.
 */
import type { Aggregator } from "./aggregator.ts"
import type { Chance } from "./chance.ts"
import type { Run } from "./run.ts"
import type { Shipper } from "./shipper.ts"

/** Waits for the moment in which an outage is to strike: what it waits for comes while publishers go on. */
export const momentToStrike = async (run: Run, chance: Chance): Promise<void> => {
  const what = chance.one(["requests to publish", "answers to publish", "time"])
  if (what === "time") return run.pause(chance.between(0, 2000))
  const count = run.counted(what) + chance.one([1, 3, 10, 40])
  return run.until(`more ${what}`, () => run.counted(what) >= count)
}

/** Kills a server and starts it again: after a while, and perhaps killed once more while it starts. */
export const strikeServer = async (run: Run, chance: Chance, aggregator: Aggregator): Promise<void> => {
  await aggregator.kill()
  await run.pause(chance.one([0, 0, 100, 1000]))
  if (chance.happens(0.3)) {
    const killing = run.pause(chance.between(0, 1000)).then(() => {
      if (aggregator.serving === undefined) run.count("kills of a server that starts")
      return aggregator.kill()
    })
    await Promise.all([aggregator.start(), killing])
  }
  await aggregator.start()
}

/** Kills some of the publishers, or one at least; they begin again by themselves. */
export const strikePublishers = async (
  run: Run,
  chance: Chance,
  shippers: ReadonlyArray<Shipper>
): Promise<void> => {
  const certain = chance.between(0, shippers.length - 1)
  const struck = shippers.filter((_, index) => index === certain || chance.happens(0.5))
  await Promise.all(struck.map((shipper) => shipper.kill()))
  run.happened()
}
