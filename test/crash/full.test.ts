/**
 * A disk that fills. What no longer fits is refused as a whole, with 503; what was answered stays, and is read; and once
 * there is room the service finds out by itself (G1, G6, G7). Shown on a real file system that is small, where one can
 * be mounted, and everywhere on a database whose pages are limited.
 */
import { spawnSync } from "node:child_process"
import { rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterEach, expect, it } from "vitest"
import {
  allEvents,
  eventNumber,
  keyOf,
  type Problem,
  publish,
  publishRequest,
  stats,
  until
} from "../support/client.ts"
import { cleanUp, serve, temporaryFolder } from "../support/process.ts"

const mebibyte = 1024 * 1024

afterEach(cleanUp)

const padding = "x".repeat(10_000)
const paddedEvent = (n: number) => eventNumber(n, "service-a", padding)

const showRefusalAndRecovery = async (
  database: string,
  ballast: string,
  environment: Readonly<Record<string, string>> = {}
) => {
  const service = await serve({ database, environment })
  const ready = async () => {
    const response = await fetch(`${service.url}/health/ready`)
    return { status: response.status, body: (await response.json()) as Problem }
  }
  const isFull = { status: 503, type: "urn:sekali:problem:store-unavailable", title: "The disk is full" }

  const stored: Array<string> = []
  let refused = paddedEvent(0)
  while (true) {
    const response = await publishRequest(service.url, [refused])
    if (response.status !== 202) {
      expect(response.status).toBe(503)
      expect(response.headers.get("retry-after")).toMatch(/^\d+$/)
      expect(await response.json()).toMatchObject(isFull)
      break
    }
    await response.arrayBuffer()
    stored.push(keyOf(refused))
    refused = paddedEvent(stored.length)
  }
  expect(stored.length).toBeGreaterThan(10)

  // It says so, and does not take it back as long as nothing has changed: the service looks several times meanwhile.
  const failures = () => service.log().filter(({ message }) => message.startsWith("commits fail"))
  for (let attempt = 0; attempt < 5; attempt++) {
    expect(await ready()).toMatchObject({ status: 503, body: isFull })
    const again = await publishRequest(service.url, [refused])
    expect(again.status).toBe(503)
    await again.arrayBuffer()
  }
  expect(failures()).toHaveLength(1)
  expect((await fetch(`${service.url}/health/live`)).status).toBe(200)
  expect((await allEvents(service.url)).map(keyOf)).toEqual(stored)
  expect((await stats(service.url)).received).toBe(stored.length)

  rmSync(ballast)
  await until(ready, ({ status }) => status === 200)
  expect(service.log().at(-1)?.message).toBe("the store is well again")
  expect(failures()).toHaveLength(1)
  expect((await publish(service.url, [refused])).stored).toBe(1)
  service.kill("SIGKILL")
  await service.ended

  const again = await serve({ database })
  expect((await allEvents(again.url)).map(keyOf)).toEqual([...stored, keyOf(refused)])
  expect(await stats(again.url)).toMatchObject({ received: stored.length + 1, duplicate_dropped: 0 })
  again.kill("SIGTERM")
  await again.ended
}

it("refuses what does not fit on a full disk, and recovers by itself once there is room", async ({
  skip
}) => {
  const folder = temporaryFolder()
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], { encoding: "utf8" })
  if (mounted.status !== 0) {
    return skip(`no small disk can be mounted here: ${mounted.stderr ?? mounted.error?.message}`)
  }
  try {
    const ballast = join(folder, "ballast")
    writeFileSync(ballast, Buffer.alloc(6 * mebibyte))
    await showRefusalAndRecovery(join(folder, "sekali.db"), ballast)
  } finally {
    spawnSync("umount", ["--lazy", folder])
  }
})

it("does the same where the database itself may not grow", async () => {
  const folder = temporaryFolder()
  const ballast = join(folder, "ballast")
  writeFileSync(ballast, "")
  const limit = new URL("../support/page-limit.mjs", import.meta.url).href
  await showRefusalAndRecovery(join(folder, "sekali.db"), ballast, {
    NODE_OPTIONS: `--import=${limit}`,
    BALLAST: ballast
  })
})
