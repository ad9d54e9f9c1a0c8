/**
 * Real processes under torture, in a short form; the long one is `npm run torture`. What is killed when is drawn from a
 * seed that is new each time, and told where something breaks. The verdict does not depend on it, nor on how fast the
 * machine is: outages wait for what they are to strike, and the checker of the simulator judges what has happened.
 */
import { afterEach, describe, expect, it } from "vitest"
import { endCommands } from "../support/command.ts"
import { cleanUp } from "../support/process.ts"
import { crash } from "./torture/crash.ts"
import { evt002 } from "./torture/partition.ts"
import { waitSecondsMax } from "./torture/run.ts"
import { play, type Scenario } from "./torture/stage.ts"

afterEach(async () => {
  await endCommands()
  await cleanUp()
})

const extent = { outages: 3, sources: 1, linesMax: 300, withSilence: false }

const torture = async (scenario: Scenario) => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31)
  const { violations, counts, kept } = await play(scenario, seed, extent)
  expect(violations, `with SEED=${seed}; all there is of it is in ${kept}`).toEqual([])
  return counts
}

describe("torture", () => {
  it("kills the server and its publishers: each line is stored once, and again nothing (G1 to G8)", {
    timeout: 3 * waitSecondsMax * 1000
  }, async () => {
    const counts = await torture(crash)
    expect(counts["outages"]).toBe(extent.outages)
    expect(counts["events stored"]).toBeGreaterThan(100)
  })

  it("one aggregator misses evt-002, heals, converges (G9)", {
    timeout: 3 * waitSecondsMax * 1000
  }, async () => {
    const counts = await torture(evt002)
    expect(counts["partitions"]).toBe(2)
    expect(counts["events stored"]).toBe(3)
  })
})
