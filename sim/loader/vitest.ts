/**
 * The simulator's modules under vitest. The database driver must see the simulated better-sqlite3, and only in
 * the tests of the simulator, since others want the real one; so these tests are a project of their own:
 *
 * ```ts
 * // vitest.config.ts
 * import { defineConfig } from "vitest/config"
 * import { simulated } from "./sim/loader/vitest.ts"
 *
 * export default defineConfig({
 *   test: {
 *     projects: [
 *       { test: { name: "unit", include: ["test/**\/*.test.ts"], exclude: ["test/sim/**"] } },
 *       { plugins: [simulated()], test: { name: "sim", include: ["test/sim/**\/*.test.ts"], testTimeout: 60_000 } }
 *     ]
 *   }
 * })
 * ```
 *
 * The plugin makes vitest process `@effect/sql-sqlite-node` itself (`server.deps.inline`), for else Node would
 * load it and its import of better-sqlite3 would pass unseen. Mutants come from the caller, or from
 * SEKALI_SIM_MUTANTS as with `register.mjs`.
 */
import type { Plugin } from "vitest/config"
import {
  applyMutants,
  checkMutants,
  facade,
  isSimulatedImport,
  type Mutant,
  mutantsFromEnvironment
} from "./mutate.mjs"

export type { Mutant }

export const simulated = (mutants: ReadonlyArray<Mutant> = mutantsFromEnvironment()): Plugin => {
  checkMutants(mutants)
  return {
    name: "sekali:simulated",
    enforce: "pre",
    config: () => ({ test: { server: { deps: { inline: [/@effect\/sql-sqlite-node/] } } } }),
    resolveId: (source, importer) => (isSimulatedImport(source, importer) ? facade : undefined),
    transform: (code, id) => applyMutants(id.split("?")[0] ?? id, code, mutants)
  }
}
