/**
 * Prints the digests of some runs of the sample service, for the test that compares them with those of another
 * process: `node --import ./sim/loader/register.mjs test/sim/digest.ts 1 2 3`.
 */
import { Choices } from "../../sim/Choices.ts"
import { roughNetwork, run } from "./Scenario.ts"

/** A run with a bit of everything. */
export const digestOf = (seed: number): string =>
  run({
    choices: Choices.seeded(seed, { rates: { quantum: 0.3, delay: 0.2, cost: 0.3, sched: 0.5 } }),
    seed,
    crashes: 2,
    crashInOperations: seed % 2 === 0,
    network: roughNetwork,
    wallJumps: 0.02,
    events: 6
  }).digest

const seeds = process.argv.slice(2).map(Number)
if (seeds.length > 0 && process.argv[1]?.endsWith("digest.ts")) {
  process.stdout.write(`${seeds.map(digestOf).join(" ")}\n`)
}
