/**
 * Availability over its windows: what lies before one, or before the first heartbeat, is no part of it.
 */
import { expect, it } from "vitest"
import { availabilityOf, beaten } from "../../src/store/Availability.ts"

const hour = 3_600_000
const day = 24 * hour
const now = Date.UTC(2026, 10, 23)

it("leaves out of a window what came before it", () => {
  const heartbeat = { since: now - 40 * day, at: now - 1000 }
  const outages = [
    { beganAt: now - 31 * day, endedAt: now - 29 * day },
    { beganAt: now - 25 * hour, endedAt: now - 23 * hour }
  ]
  expect(availabilityOf(heartbeat, outages, now)).toEqual({
    day: { share: 1 - 1 / 24, downtimeSeconds: 3600 },
    month: { share: 1 - 26 / (30 * 24), downtimeSeconds: 26 * 3600 }
  })
})

it("begins with the first heartbeat", () => {
  const outages = [{ beganAt: now - 2 * hour, endedAt: now - hour }]
  const { day, month } = availabilityOf({ since: now - 4 * hour, at: now }, outages, now)
  expect([day, month]).toEqual([
    { share: 0.75, downtimeSeconds: 3600 },
    { share: 0.75, downtimeSeconds: 3600 }
  ])
})

it("keeps its sense when the clock is set back between two starts", () => {
  const heartbeat = beaten({ since: now, at: now + day }, now - hour)
  expect(heartbeat).toEqual({ since: now - hour, at: now - hour })
  const { day: window } = availabilityOf(heartbeat, [{ beganAt: now, endedAt: now + day }], now)
  expect(window).toEqual({ share: 0, downtimeSeconds: 3600 })
})
