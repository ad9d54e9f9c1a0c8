/**
 * Availability: for how much of the time the service could store events. While it can, it says so in the store every
 * few seconds; a stretch without such a heartbeat is an outage, whatever its cause: the process was gone, the disk was
 * full, the machine slept. So the next start knows how long the service was away, which no process can say of itself.
 */

/** How often the heart beats while the store is well. */
export const beatSeconds = 10

/** A longer stretch without a beat is an outage. Between a process's last beat and the next start any stretch is one. */
const stillMillisMax = 15_000

const hourMillis = 3_600_000
const dayMillis = 24 * hourMillis

/** How long an outage is remembered: a little longer than the longest window. */
export const outageMillisKept = 31 * dayMillis

/** How many outages are remembered, the latest ones. */
export const outagesKept = 10_000

/** A stretch without heartbeats, in milliseconds since 1970. */
export interface Outage {
  readonly beganAt: number
  readonly endedAt: number
}

/** What is stored of heartbeats. */
export interface Heartbeat {
  /** When the first one was stored. */
  readonly since: number
  /** When the last one was. */
  readonly at: number
}

/** What came of a stretch of time up to now. */
export interface Window {
  /** The share of it in which the service could store events, from 0 to 1. Time before the first heartbeat is no part. */
  readonly share: number
  readonly downtimeSeconds: number
}

/** For how much of the time the service could store events. */
export interface Availability {
  readonly day: Window
  readonly month: Window
}

/** The outage that ends with a beat, if one does; `starting` says that it is the first of a process. */
export const outageUntil = ({ at }: Heartbeat, now: number, starting: boolean): Outage | undefined =>
  now - at > (starting ? 0 : stillMillisMax) ? { beganAt: at, endedAt: now } : undefined

/** The heartbeat after a beat. A clock that was set back takes the beginning with it. */
export const beaten = (before: Heartbeat | undefined, now: number): Heartbeat => ({
  since: Math.min(before?.since ?? now, now),
  at: now
})

/** The availability up to now, of which the outages are known that ended within the last 30 days. */
export const availabilityOf = (
  heartbeat: Heartbeat | undefined,
  outages: ReadonlyArray<Outage>,
  now: number
): Availability => {
  const running = heartbeat && outageUntil(heartbeat, now, false)
  const all = running === undefined ? outages : [...outages, running]
  const over = (millis: number): Window => {
    const from = Math.max(now - millis, heartbeat?.since ?? now)
    const downtime = all.reduce(
      (sum, { beganAt, endedAt }) => sum + Math.max(0, Math.min(endedAt, now) - Math.max(beganAt, from)),
      0
    )
    return { share: now > from ? 1 - downtime / (now - from) : 1, downtimeSeconds: downtime / 1000 }
  }
  return { day: over(dayMillis), month: over(monthMillis) }
}

/** The longest window. */
export const monthMillis = 30 * dayMillis
