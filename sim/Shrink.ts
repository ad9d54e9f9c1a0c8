/**
 * From a run that failed to the smallest one that still does: the few operations and the few faults that it takes. The
 * plan shrinks first, as fast-check shrinks what it drew, under the same seed; then the choices: whole kinds of them are
 * left out, then names, then stretches (delta debugging); and then whatever of the plan those few choices do not need.
 * A step counts only if the same guarantee is broken after it.
 */
import { performance } from "node:perf_hooks"
import fc from "fast-check"
import { Choices, type Deviation } from "./Choices.ts"
import { type Plan, planArbitrary } from "./Plan.ts"
import { type RunResult, runPlan } from "./Run.ts"
import { choicesOf, swarmOf } from "./Swarm.ts"

/** A run that can be carried out again anywhere: everything it is made of. */
export interface Case {
  /** The guarantee that the run broke when it was found. */
  readonly guarantee: string
  readonly detail: string
  readonly seed: number
  readonly plan: Plan
  readonly deviations: ReadonlyArray<Deviation>
  /** Of a kept case: the planted bug that is the mistake it was found with, so that it can be seen to break again. */
  readonly bug?: string
}

/** How much may be spent on making a failure small. */
export interface Budget {
  readonly executionsMax: number
  readonly secondsMax: number
}

/** Carries a case out again. */
export const replay = (
  { plan, seed, deviations }: Omit<Case, "guarantee" | "detail">,
  verbose = false
): RunResult => runPlan({ plan, seed, choices: Choices.replay(deviations), verbose })

/** Carries out the run of a seed. */
export const runSeed = (seed: number, plan: Plan, verbose = false): RunResult => {
  const swarm = swarmOf(seed)
  return runPlan({ plan, seed, swarm, choices: choicesOf(seed, swarm), verbose })
}

/** The smallest case that was found within the budget, from a seed whose run breaks a guarantee. */
export const shrink = (seed: number, found: RunResult, plan: Plan, budget: Budget): Case => {
  const violation = found.violations[0]
  if (violation === undefined) throw new Error(`the run of seed ${seed} breaks nothing`)
  const spending = new Spending(budget)
  const breaks = (result: RunResult) =>
    result.violations.some(({ guarantee }) => guarantee === violation.guarantee)

  let best = { plan, result: found }
  const third = { executionsMax: budget.executionsMax / 3, secondsMax: budget.secondsMax / 3 }
  const smaller = shrinkPlan(seed, new Spending(third), breaks)
  if (smaller !== undefined) best = smaller

  let small: Candidate = { seed, plan: best.plan, deviations: best.result.deviations }
  const stillBreaks = (candidate: Candidate) => spending.allows() && breaks(replay(candidate))
  // Where a replay does not break it, chance alone does not make it: the case is then kept as it was drawn.
  if (stillBreaks(small)) {
    small = withFewerDeviations(small, stillBreaks)
    small = withLessPlan(small, stillBreaks)
    small = withFewerDeviations(small, stillBreaks)
  }
  const result = replay(small)
  const last = result.violations.find(({ guarantee }) => guarantee === violation.guarantee) ?? violation
  return { guarantee: violation.guarantee, detail: last.detail, ...small }
}

type Candidate = Omit<Case, "guarantee" | "detail">

class Spending {
  private executions = 0
  private readonly startedAt = performance.now()
  private readonly budget: Budget

  constructor(budget: Budget) {
    this.budget = budget
  }

  allows(): boolean {
    const { executionsMax, secondsMax } = this.budget
    return ++this.executions <= executionsMax && performance.now() - this.startedAt < secondsMax * 1000
  }
}

const shrinkPlan = (seed: number, spending: Spending, breaks: (result: RunResult) => boolean) => {
  let best: { readonly plan: Plan; readonly result: RunResult } | undefined
  const property = fc.property(planArbitrary, (plan) => {
    if (!spending.allows()) return
    const result = runSeed(seed, plan)
    if (!breaks(result)) return
    best = { plan, result }
    throw new Error("broken")
  })
  fc.check(property, { seed, numRuns: 1 })
  return best
}

/** Delta debugging: leaves out ever smaller stretches of the list as long as the rest still breaks it. */
const withFewer = <A>(
  list: ReadonlyArray<A>,
  stillBreaks: (fewer: ReadonlyArray<A>) => boolean
): ReadonlyArray<A> => {
  let kept = list
  for (let size = Math.ceil(kept.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let from = 0; from < kept.length; ) {
      const fewer = [...kept.slice(0, from), ...kept.slice(from + size)]
      if (stillBreaks(fewer)) kept = fewer
      else from += size
    }
  }
  return kept
}

const withFewerDeviations = (
  candidate: Candidate,
  stillBreaks: (candidate: Candidate) => boolean
): Candidate => {
  let { deviations } = candidate
  const attempt = (fewer: Candidate["deviations"]): boolean => {
    if (fewer.length === deviations.length || !stillBreaks({ ...candidate, deviations: fewer })) return false
    deviations = fewer
    return true
  }
  const kindOf = (name: string): string => name.split("/", 1)[0] ?? name
  for (const part of [kindOf, (name: string) => name]) {
    for (const each of new Set(deviations.map(([name]) => part(name)))) {
      attempt(deviations.filter(([name]) => part(name) !== each))
    }
  }
  withFewer(deviations, attempt)
  return { ...candidate, deviations }
}

/** Leaves out of the plan what is not needed: publishers, requests, events, readers, observers, outages. */
const withLessPlan = (candidate: Candidate, stillBreaks: (candidate: Candidate) => boolean): Candidate => {
  let plan = candidate.plan
  const attempt = (change: Partial<Plan>): boolean => {
    const less = { ...plan, ...change }
    if (!stillBreaks({ ...candidate, plan: less })) return false
    plan = less
    return true
  }
  if (plan.peers.length > 0) attempt({ peers: [], mirrorOutages: [], partitions: [] })
  withFewer(plan.mirrorOutages, (mirrorOutages) => attempt({ mirrorOutages }))
  withFewer(plan.partitions, (partitions) => attempt({ partitions }))
  withFewer(plan.outages, (outages) => attempt({ outages }))
  withFewer(plan.readers, (readers) => attempt({ readers }))
  withFewer(plan.observers, (observers) => attempt({ observers }))
  withFewer(plan.subscribers, (subscribers) => attempt({ subscribers }))
  // A publisher keeps its place, by which its choices are known, and only loses what it sends.
  plan.publishers.forEach((_, index) => {
    const replaced = (submissions: Plan["publishers"][number]["submissions"]) =>
      plan.publishers.map((publisher, at) => (at === index ? { ...publisher, submissions } : publisher))
    const own = plan.publishers[index]?.submissions ?? []
    const kept = withFewer(own, (submissions) => attempt({ publishers: replaced(submissions) }))
    kept.forEach((submission, at) => {
      if (submission.shape === "one") return
      withFewer(submission.events, (events) => {
        if (events.length === 0) return false
        const less = (plan.publishers[index]?.submissions ?? []).map((each, i) =>
          i === at ? { ...each, events } : each
        )
        return attempt({ publishers: replaced(less) })
      })
    })
  })
  return { ...candidate, plan }
}

/** How much of a case is left: requests in its plan, and choices that are not the harmless ones. */
export const sizeOf = ({ plan, deviations }: Pick<Case, "plan" | "deviations">) => ({
  operations:
    plan.publishers.reduce((sum, { submissions }) => sum + submissions.length, 0) +
    plan.observers.reduce((sum, { calls }) => sum + calls.length, 0) +
    plan.readers.length +
    plan.subscribers.length,
  outages: plan.outages.length,
  deviations: deviations.length
})
