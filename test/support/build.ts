/**
 * Builds `dist` once before the tests run, if it is not newer than what it is made from: the tests that start real
 * processes run what a user runs.
 */
import { spawnSync } from "node:child_process"
import { readdirSync, statSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../..", import.meta.url))

const changedAt = (path: string): number => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0

/** Called by vitest, before any test file is loaded. */
export default function setup(): void {
  const sources = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" }).map((name) =>
    join(root, "src", name)
  )
  const settings = ["build.mjs", "tsconfig.json", "tsconfig.build.json"].map((name) => join(root, name))
  const inputs = [...sources, ...settings]
  if (changedAt(join(root, "dist", "main.js")) > Math.max(...inputs.map(changedAt))) return
  // Types that are wrong stop `npm test` before this, and are no reason not to run the tests of what was emitted.
  spawnSync("npm", ["run", "--silent", "build"], { cwd: root, stdio: "inherit" })
}
