/**
 * A line that anyone may leave at any time, in constant time. It is used where things come and go with every request: a
 * `Set` or `Map` of those makes a new table every few of them, and V8 links each old table to the next one, so that once
 * one of them counts as old, all that was in any later one, requests with their answers and all, is kept until the whole
 * heap is looked at.
 */

/** A place in a line. */
export interface Place<A> {
  readonly value: A
  before: Place<A> | undefined
  behind: Place<A> | undefined
  isLeft: boolean
}

/** Values in the order in which they came. */
export class Line<A> {
  private head: Place<A> | undefined
  private tail: Place<A> | undefined

  /** Adds a value at the end. */
  join(value: A): Place<A> {
    const place: Place<A> = { value, before: this.tail, behind: undefined, isLeft: false }
    if (this.tail === undefined) this.head = place
    else this.tail.behind = place
    this.tail = place
    return place
  }

  /** Takes a place of this line out of it; false where it was taken out before. */
  leave(place: Place<A>): boolean {
    if (place.isLeft) return false
    const { before, behind } = place
    if (before === undefined) this.head = behind
    else before.behind = behind
    if (behind === undefined) this.tail = before
    else behind.before = before
    // Who has left leads nowhere: it must not keep those who come later.
    place.before = undefined
    place.behind = undefined
    place.isLeft = true
    return true
  }

  get first(): Place<A> | undefined {
    return this.head
  }

  get last(): Place<A> | undefined {
    return this.tail
  }

  /** All values, from the first. */
  all(): ReadonlyArray<A> {
    const values: Array<A> = []
    for (let place = this.head; place !== undefined; place = place.behind) values.push(place.value)
    return values
  }
}
