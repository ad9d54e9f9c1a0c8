/**
 * How often each fault happens in a run. The rates themselves are drawn from the seed (swarm testing): in most runs
 * most faults are off, so that each run is rough in its own way. Rates that are always aggressive find races but hide
 * what needs a quiet spell, and their failures are hard to make small.
 *
 * The rates decide about a run as it is drawn. A replay does not need them: it is given the choices that came out.
 */
import { Choices, drawRates } from "./Choices.ts"
import type { DiskFaults } from "./Disk.ts"
import type { NetworkFaults } from "./Network.ts"

/** Everything about a run's luck that is not one of its choices. */
export interface Swarm {
  readonly disk: DiskFaults
  readonly network: NetworkFaults
  /** How often the scheduler does something else than the first in line, by kind of choice. */
  readonly scheduler: {
    readonly sched: number
    readonly quantum: number
    readonly delay: number
    readonly cost: number
    readonly pause: number
  }
  readonly wallJumps: number
}

/** The rates of a seed. */
export const swarmOf = (seed: number): Swarm => {
  const choices = Choices.seeded(seed)
  const disk = drawRates(choices, {
    openError: [0, 0, 0, 0, 0.02],
    readError: [0, 0, 0, 0, 0.002],
    writeError: [0, 0, 0, 0.005, 0.02],
    syncError: [0, 0, 0, 0.04, 0.15],
    syncDropsDirty: [0, 0, 0.5, 1],
    full: [0, 0, 0, 0.003, 0.015],
    rollbackError: [0, 0, 0.1, 0.5],
    commitRefused: [0, 0, 0.05, 0.15, 0.35],
    lostWrite: [0, 0.3, 0.5, 0.9, 1],
    tornWrite: [0, 0, 0.1, 0.3],
    lostTruncate: [0, 0.5],
    lostEntry: [0, 0.5, 1],
    undoneDelete: [0, 0.5, 1]
  })
  const network = drawRates(choices, {
    requestLost: [0, 0, 0, 0.05, 0.2],
    answerLost: [0, 0, 0, 0.05, 0.2],
    duplicated: [0, 0, 0, 0.1, 0.3],
    connectionBroken: [0, 0, 0, 0.05, 0.2],
    delayed: [0, 0, 0.2, 0.5],
    bodyInPieces: [0, 0, 0, 0.3],
    disconnectUnseen: [0, 0.5],
    answerDiesWithServer: [0, 0.5],
    streamCut: [0, 0, 0.05, 0.2]
  })
  const scheduler = drawRates(choices, {
    sched: [0, 0.2, 0.6, 1],
    quantum: [0, 0.1, 0.5, 1, 1],
    delay: [0, 0.05, 0.2, 0.5],
    cost: [0.2, 0.5, 1],
    pause: [0, 0.1, 0.5, 1]
  })
  return { disk, network, scheduler, wallJumps: choices.oneOf("rate/wallJumps", [0, 0, 0.01, 0.05]) }
}

/** The choices of a seed under these rates. */
export const choicesOf = (seed: number, swarm: Swarm): Choices =>
  Choices.seeded(seed, { rates: swarm.scheduler })

/** The rates that are not zero, in a line. */
export const describeSwarm = (swarm: Swarm): string => {
  const groups = [
    ["disk", swarm.disk],
    ["network", swarm.network],
    ["scheduler", swarm.scheduler]
  ] as const
  const rates = groups.flatMap(([group, rates]) =>
    Object.entries(rates).flatMap(([name, rate]) => (rate === 0 ? [] : [`${group}.${name} ${rate}`]))
  )
  if (swarm.wallJumps > 0) rates.push(`wall clock jumps ${swarm.wallJumps}`)
  return rates.join(", ")
}
