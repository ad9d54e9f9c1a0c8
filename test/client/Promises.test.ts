/**
 * The face of the client for those without Effect: used as they would, from a plain JavaScript process on the built
 * library, against the real service through a proxy that swallows its first answer.
 */
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { expect, it } from "vitest"
import { get, stats } from "../http/client.ts"
import { scripted, startProxy } from "../support/proxy.ts"
import { withServer } from "../support/server.ts"

const script = fileURLToPath(new URL("plain.mjs", import.meta.url))

it("publishes, retries, refuses, flushes and ends, from plain JavaScript", async () => {
  await withServer({}, async (server) => {
    const proxy = await startProxy(() => server, scripted({ kind: "swallow-answer" }))
    try {
      const { stdout, stderr } = await promisify(execFile)(process.execPath, [script, proxy.url])
      expect(stderr).toBe("")
      const [told, cutShort] = stdout.split("\n").map((line) => (line === "" ? undefined : JSON.parse(line)))
      const ids = told.outcomes.map(({ event_id }: { event_id: string }) => event_id)
      expect(told).toMatchObject({
        outcomes: [1, 2, 3, 4, 5].map((offset) => ({
          outcome: "duplicate",
          offset,
          attempt: 2,
          topic: "plain"
        })),
        invalid: ["InvalidEvent", true],
        aborted: ["AbortError", true],
        flushed: { outcome: "stored", event_id: "flushed", attempt: 1 },
        closed: ["PublisherClosed", true],
        options: ["InvalidOptions", true],
        stats: { events: 6, attempts: 3, retries: 1, stored: 1, duplicates: 5, bufferedEvents: 0 },
        retries: [[1, 5, "network"]]
      })
      expect(ids).toEqual([...new Set(ids)].sort())
      for (const id of ids) expect(id).toMatch(/^plain-[0-9A-Z]{26}$/)
      expect(cutShort).toEqual([
        ["TimeoutError", true],
        ["OutcomeUnknown", true]
      ])
      const { text } = await get(server, "/events")
      for (const payload of ['{"n":1}', "[2]", '"three"', "4.00000000000000000001", "{}"]) {
        expect(text).toContain(`"payload":${payload},`)
      }
      expect(await stats(server)).toMatchObject({ received: 11, unique_processed: 6 })
    } finally {
      await proxy.close()
    }
  })
})
