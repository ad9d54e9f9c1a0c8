/**
 * What was known at which point of a history. "Before" is always real-time precedence: something that had been told
 * before something else was asked.
 */

/** A quantity that never falls, as it becomes known along a history. */
export class Rising {
  private readonly indexes: Array<number> = []
  private readonly values: Array<number> = []
  private highest: number

  constructor(initial = 0) {
    this.highest = initial
    this.initial = initial
  }

  private readonly initial: number

  /** From this index on at least this value is known. Indexes come in their order. */
  note(index: number, value: number): void {
    if (value <= this.highest) return
    this.highest = value
    this.indexes.push(index)
    this.values.push(value)
  }

  /** What is known from this index on is so much more. */
  add(index: number, more: number): void {
    this.note(index, this.highest + more)
  }

  /** The value that was known before this index. */
  before(index: number): number {
    return this.values[countBelow(this.indexes, index) - 1] ?? this.initial
  }

  /** What is known at the end. */
  get last(): number {
    return this.highest
  }
}

/** How many of the sorted numbers are smaller than a limit. */
export const countBelow = (sorted: ReadonlyArray<number>, limit: number): number => {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((sorted[middle] as number) < limit) low = middle + 1
    else high = middle
  }
  return low
}

/** A value for each key, made when the key is first met. */
export const getOrMake = <K, V>(map: Map<K, V>, key: K, make: () => V): V => {
  const known = map.get(key)
  if (known !== undefined) return known
  const made = make()
  map.set(key, made)
  return made
}
