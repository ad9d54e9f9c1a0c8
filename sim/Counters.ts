/**
 * How often each thing happened that a batch of runs should see at least once: every kind of fault, every
 * branch that matters. A fault that is declared and never fires proves nothing, and only a count tells.
 */
export class Counters {
  readonly counts = new Map<string, number>()

  count(name: string, by = 1): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + by)
  }

  get(name: string): number {
    return this.counts.get(name) ?? 0
  }

  /** Adds what another run saw. */
  merge(other: Counters): void {
    for (const [name, times] of other.counts) this.count(name, times)
  }
}
