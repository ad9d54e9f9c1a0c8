/**
 * Every decision of a run that could have gone another way. A choice has a name (`quantum/server`,
 * `net-answer-lost/publisher-1`) and an occurrence: the third time that name is asked is the same decision in
 * every run, whatever other names were asked in between. Its value is computed from seed, name and occurrence
 * alone, so that leaving one deviation out of a replay does not reshuffle the rest; minimising a failure
 * depends on it. Value 0 is always the harmless one: first in line, no fault, write kept.
 *
 * Choices that came out other than 0 are recorded. A replay is given that list and answers 0 to all else. A
 * draw at rate zero still counts as an occurrence, so that a replay without the rates stays aligned.
 */
import { hashText, scramble, type Trace } from "./Trace.ts"

/** A choice that was not the harmless one: replayable as it stands, and JSON. */
export type Deviation = readonly [name: string, occurrence: number, value: number]

/** How often a kind of choice (the part of the name before the first `/`) deviates at all: 0 to 1. */
export type Rates = Readonly<Record<string, number>>

export interface SeededOptions {
  readonly rates?: Rates
  /** The rate of kinds that `rates` does not name: 1, a uniform pick, unless told otherwise. */
  readonly defaultRate?: number
}

type Plan = ReadonlyMap<string, ReadonlyMap<number, number>>

export class Choices {
  readonly deviations: Array<Deviation> = []
  /** From here on nothing strikes, whatever the rates; a replay has none, and needs to be told. */
  isCalm = false
  /** Set by the world that uses these choices: every answer is part of the run's digest. */
  trace: Trace | undefined
  private readonly streams = new Map<string, ChoiceStream>()

  readonly seed: number
  private readonly rates: Rates
  private readonly defaultRate: number
  private readonly plan: Plan | undefined

  private constructor(seed: number, rates: Rates, defaultRate: number, plan: Plan | undefined) {
    this.seed = seed
    this.rates = rates
    this.defaultRate = defaultRate
    this.plan = plan
  }

  /** Answers drawn from a seed (any integer). */
  static seeded(seed: number, options: SeededOptions = {}): Choices {
    return new Choices(seed, options.rates ?? {}, options.defaultRate ?? 1, undefined)
  }

  /** Exactly these deviations, and the harmless answer everywhere else. */
  static replay(deviations: ReadonlyArray<Deviation>): Choices {
    const plan = new Map<string, Map<number, number>>()
    for (const [name, occurrence, value] of deviations) {
      const occurrences = plan.get(name) ?? new Map<number, number>()
      plan.set(name, occurrences.set(occurrence, value))
    }
    return new Choices(0, {}, 0, plan)
  }

  /** The stream of one name, for callers that ask it often. */
  of(name: string): ChoiceStream {
    const known = this.streams.get(name)
    if (known !== undefined) return known
    const slash = name.indexOf("/")
    const rate = this.rates[slash < 0 ? name : name.slice(0, slash)] ?? this.defaultRate
    const stream = new ChoiceStream(this, name, rate, this.plan?.get(name), this.plan !== undefined)
    this.streams.set(name, stream)
    return stream
  }

  /** 0 to n-1. With the kind's rate it is uniform (0 included), else 0. */
  pick(name: string, n: number): number {
    return this.of(name).pick(n)
  }

  /** True with this probability. False is the harmless answer, so phrase the question accordingly. */
  chance(name: string, rate: number): boolean {
    return this.of(name).chance(rate)
  }

  /** `min` to `max`, both included; `min` is the harmless answer. */
  int(name: string, min: number, max: number): number {
    return min + this.of(name).pick(max - min + 1)
  }

  /** One of the values; the first is the harmless one. */
  oneOf<A>(name: string, values: readonly [A, ...ReadonlyArray<A>]): A {
    return values[this.of(name).pick(values.length)] ?? values[0]
  }

  /** An index, each with its weight, whatever the kind's rate; index 0 is the harmless one. */
  weighted(name: string, weights: ReadonlyArray<number>): number {
    return this.of(name).weighted(weights)
  }
}

/** The occurrences of one name. */
export class ChoiceStream {
  private occurrence = 0
  private readonly key: number
  private readonly nameHash: number

  private readonly choices: Choices
  readonly name: string
  private readonly rate: number
  private readonly planned: ReadonlyMap<number, number> | undefined
  private readonly replaying: boolean

  constructor(
    choices: Choices,
    name: string,
    rate: number,
    planned: ReadonlyMap<number, number> | undefined,
    replaying: boolean
  ) {
    this.choices = choices
    this.name = name
    this.rate = rate
    this.planned = planned
    this.replaying = replaying
    this.nameHash = hashText(name)
    this.key = scramble(this.nameHash ^ scramble(choices.seed)) ^ scramble(choices.seed / 0x1_0000_0000)
  }

  pick(n: number): number {
    const at = this.occurrence++
    if (this.replaying) return this.settle(at, n, this.planned?.get(at) ?? 0)
    if (n <= 1 || (this.rate < 1 && this.unit(at, 0) >= this.rate)) return this.settle(at, n, 0)
    return this.settle(at, n, Math.floor(this.unit(at, 1) * n))
  }

  chance(rate: number): boolean {
    const at = this.occurrence++
    const drawn = this.replaying ? this.planned?.get(at) === 1 : this.unit(at, 0) < rate
    return this.settle(at, 2, drawn && !this.choices.isCalm ? 1 : 0) === 1
  }

  weighted(weights: ReadonlyArray<number>): number {
    const at = this.occurrence++
    if (this.replaying) return this.settle(at, weights.length, this.planned?.get(at) ?? 0)
    let total = 0
    for (const weight of weights) total += weight
    let left = this.unit(at, 0) * total
    let index = 0
    for (; index < weights.length - 1; index++) {
      left -= weights[index] ?? 0
      if (left < 0) break
    }
    return this.settle(at, weights.length, index)
  }

  private settle(at: number, n: number, wanted: number): number {
    // A replay of a shrunken workload may offer fewer alternatives than the run that was recorded.
    const value = wanted < n ? wanted : wanted % Math.max(n, 1)
    if (value !== 0) this.choices.deviations.push([this.name, at, value])
    const trace = this.choices.trace
    if (trace !== undefined) {
      trace.add(this.nameHash)
      trace.add((at << 8) ^ value)
    }
    return value
  }

  /** A number in [0, 1) that depends on seed, name, occurrence and lane only. */
  private unit(at: number, lane: number): number {
    return scramble(this.key ^ Math.imul(at * 2 + lane + 1, 0x9e3779b1)) / 0x1_0000_0000
  }
}

/**
 * Swarm testing: rates that are themselves drawn from the seed, each from its own short menu, whose first
 * entry should be the harmless one. Aggressive rates find more and shrink badly; a mixture does both.
 */
export const drawRates = <K extends string>(
  choices: Choices,
  menu: Readonly<Record<K, readonly [number, ...ReadonlyArray<number>]>>
): Record<K, number> => {
  const rates = {} as Record<K, number>
  for (const kind of Object.keys(menu) as Array<K>) rates[kind] = choices.oneOf(`rate/${kind}`, menu[kind])
  return rates
}
