/**
 * Chance that follows from a seed. Each part of a run draws from chance of its own, so that what one of them draws does
 * not change with when the others do.
 */

const golden = 0x9e3779b9

// splitmix32
const mix = (value: number): number => {
  let mixed = value
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad)
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
  return (mixed ^ (mixed >>> 15)) >>> 0
}

/** A sequence of decisions. */
export class Chance {
  readonly seed: number
  #state: number

  constructor(seed: number) {
    this.seed = seed >>> 0
    this.#state = mix(this.seed)
  }

  /** Chance of its own for a part with this name. */
  of(part: string): Chance {
    let seed = mix(this.seed + golden)
    for (const character of part) seed = mix(seed + (character.codePointAt(0) ?? 0) + golden)
    return new Chance(seed)
  }

  /** A number from 0 on, below 1. */
  next(): number {
    this.#state = (this.#state + golden) >>> 0
    return mix(this.#state) / 2 ** 32
  }

  /** A whole number between two, both of them possible. */
  between(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1))
  }

  happens(probability: number): boolean {
    return this.next() < probability
  }

  one<A>(choices: readonly [A, ...ReadonlyArray<A>]): A {
    return choices[this.between(0, choices.length - 1)] ?? choices[0]
  }
}
