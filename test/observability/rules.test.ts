/**
 * The alerts and the board: Prometheus' own tool accepts the rules and finds that they fire as they should, and every
 * figure that a rule or a panel asks for, or that the page explains, is one that the service tells.
 */
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { expect, it } from "vitest"
import { event, get, publish } from "../http/client.ts"
import { missingTools, promtool } from "../support/prometheus.ts"
import { withServer } from "../support/server.ts"

const path = (name: string): string =>
  fileURLToPath(new URL(`../../docs/observability/${name}`, import.meta.url))

it("promtool accepts the alerts, the configuration's form, and the tests of the alerts", ({ skip }) => {
  const missing = missingTools()
  if (missing !== undefined) return skip(missing)
  expect(promtool(["check", "rules", path("alerts.yml")])).toMatchObject({ code: 0 })
  expect(promtool(["check", "config", "--syntax-only", path("prometheus.yml")])).toMatchObject({ code: 0 })
  expect(promtool(["test", "rules", path("alerts.test.yml")])).toMatchObject({ code: 0 })
})

const namesIn = (text: string): ReadonlySet<string> =>
  new Set(text.match(/\b(?:sekali|process|nodejs)_[a-z_]+\b/g)?.map((name) => name.replace(/_bucket$/, "")))

it("asks only for figures that there are, and the page explains each of the service's own", async () => {
  await withServer({}, async (server) => {
    await publish(server, event("1"))
    const { text } = await get(server, "/metrics")
    const told = new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name = ""]) => name))
    const own = [...told].filter((name) => name.startsWith("sekali_"))
    expect(own.length).toBeGreaterThan(25)
    for (const file of ["alerts.yml", "grafana/sekali.json", "README.md"]) {
      const asked = [...namesIn(readFileSync(path(file), "utf8"))]
      expect(asked.length).toBeGreaterThan(10)
      expect([file, asked.filter((name) => !told.has(name))]).toEqual([file, []])
    }
    const page = readFileSync(path("README.md"), "utf8")
    expect(own.filter((name) => !page.includes(`\`${name}\``))).toEqual([])
    const alerts = [...readFileSync(path("alerts.yml"), "utf8").matchAll(/alert: (\w+)/g)].map(
      ([, name]) => name
    )
    expect(alerts.filter((name) => !page.includes(`\`${name}\``))).toEqual([])
  })
})
