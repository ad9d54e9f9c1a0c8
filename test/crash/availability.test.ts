/**
 * Availability across a kill: the time from the last heartbeat to the next start is downtime, which only the next
 * process can know, and that process says how long it took to start.
 */
import { join } from "node:path"
import { afterEach, expect, it } from "vitest"
import { eventNumber, publish, stats } from "../support/client.ts"
import { cleanUp, serve, temporaryFolder } from "../support/process.ts"

afterEach(cleanUp)

it("counts the time that a killed service was away, and how long its start took", async () => {
  const database = join(temporaryFolder(), "sekali.db")
  const startedAt = performance.now()
  const first = await serve({ database })
  await publish(first.url, [eventNumber(1)])
  const before = (await stats(first.url)).availability
  expect(before.last_24_hours).toEqual({ share: 1, downtime_seconds: 0 })
  first.kill("SIGKILL")
  await first.ended

  const second = await serve({ database })
  const { availability } = await stats(second.url)
  const most = (performance.now() - startedAt) / 1000
  const { share, downtime_seconds: downtime } = availability.last_24_hours
  expect(downtime).toBeGreaterThan(0)
  expect(downtime).toBeLessThan(most)
  expect(share).toBeGreaterThanOrEqual(0)
  expect(share).toBeLessThan(1)
  expect(availability.last_30_days.downtime_seconds).toBe(downtime)
  expect(availability.recovery_seconds).toBeGreaterThan(0)
  expect(availability.recovery_seconds).toBeLessThan(most)
  const metrics = await (await fetch(`${second.url}/metrics`)).text()
  expect(metrics).toContain(`\nsekali_downtime_seconds{window="24h"} ${downtime}\n`)
  expect(metrics).toContain(`\nsekali_recovery_seconds ${availability.recovery_seconds}\n`)
  second.kill("SIGTERM")
  await second.ended
})
