/**
 * The tools of Prometheus for tests: `promtool`, and a real server that scrapes a service. Where they are not installed
 * a test is skipped, and says so; where everything has to be there (CI=true), it fails.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"

/** Why the tools cannot be used here, if they cannot; an error where they have to be there. */
export const missingTools = (): string | undefined => {
  const missing = ["prometheus", "promtool"].filter(
    (tool) => spawnSync(tool, ["--version"]).error !== undefined
  )
  if (missing.length === 0) return undefined
  const sentence = `${missing.join(" and ")} cannot be run: Debian's package "prometheus" has both`
  if (process.env["CI"] === "true") throw new Error(sentence)
  return sentence
}

/** Runs promtool, and gives its exit code and all that it printed. */
export const promtool = (args: ReadonlyArray<string>, input = ""): { code: number | null; text: string } => {
  const { status, stdout, stderr } = spawnSync("promtool", args, { input, encoding: "utf8" })
  return { code: status, text: stdout + stderr }
}

/** A Prometheus that runs. */
export interface Prometheus {
  readonly url: string
  /** The value of each series that an expression gives now, by its labels. */
  readonly query: (expression: string) => Promise<ReadonlyArray<readonly [Record<string, string>, number]>>
  /** Asks again until an expression has this one value. */
  readonly until: (expression: string, value: number) => Promise<void>
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer()
    server.on("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
    })
  })

/** Runs a test with a Prometheus that scrapes `host:port` each second, under rules if there are any. */
export const withPrometheus = async <A>(
  target: string,
  use: (prometheus: Prometheus) => Promise<A>,
  rules: ReadonlyArray<string> = []
): Promise<A> => {
  const folder = mkdtempSync(join(tmpdir(), "sekali-prometheus-"))
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const config = {
    global: { scrape_interval: "1s", evaluation_interval: "1s" },
    rule_files: rules,
    scrape_configs: [{ job_name: "sekali", static_configs: [{ targets: [target] }] }]
  }
  // JSON is YAML.
  writeFileSync(join(folder, "prometheus.yml"), JSON.stringify(config))
  const child: ChildProcess = spawn(
    "prometheus",
    [
      `--config.file=${folder}/prometheus.yml`,
      `--storage.tsdb.path=${folder}/data`,
      `--web.listen-address=127.0.0.1:${port}`
    ],
    { stdio: "ignore" }
  )
  const ended = new Promise<void>((resolve) => child.on("close", () => resolve()))
  const query: Prometheus["query"] = async (expression) => {
    const response = await fetch(`${url}/api/v1/query?${new URLSearchParams({ query: expression })}`)
    const { data } = (await response.json()) as {
      data: { result: ReadonlyArray<{ metric: Record<string, string>; value: readonly [number, string] }> }
    }
    return data.result.map(({ metric, value }) => [metric, Number(value[1])] as const)
  }
  const wellAgain = async (condition: () => Promise<boolean>): Promise<void> => {
    while (!(await condition().catch(() => false))) {
      if (child.exitCode !== null) throw new Error("prometheus ended")
      await pause(50)
    }
  }
  try {
    await wellAgain(async () => (await fetch(`${url}/-/ready`)).status === 200)
    return await use({
      url,
      query,
      until: (expression, value) => wellAgain(async () => (await query(expression))[0]?.[1] === value)
    })
  } finally {
    child.kill("SIGKILL")
    await ended
    rmSync(folder, { recursive: true, force: true })
  }
}
