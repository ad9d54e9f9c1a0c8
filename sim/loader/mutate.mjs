/**
 * Mutants: small textual changes to modules as they are loaded, to see whether the simulation notices. A mutant
 * names a file, a text that occurs in it exactly once, and what to put in its place. If the text is not there,
 * or there twice, that is an error: a mutant that changes nothing, or not what was meant, would be counted as
 * one that nobody noticed.
 */
import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import { fileURLToPath } from "node:url"

/** The root of the project; the files of mutants are relative to it. */
export const root = fileURLToPath(new URL("../..", import.meta.url))

/** Where the simulated driver lies. */
export const facade = fileURLToPath(new URL("../BetterSqlite3.ts", import.meta.url))

/** Whether a module asks for the driver that the simulation replaces. */
export const isSimulatedImport = (specifier, importer) =>
  specifier === "better-sqlite3" && importer !== undefined && importer.includes("@effect/sql-sqlite-node")

/** The mutants of the environment variable SEKALI_SIM_MUTANTS, a JSON array of {file, find, replace}. */
export const mutantsFromEnvironment = () => checkMutants(JSON.parse(process.env.SEKALI_SIM_MUTANTS ?? "[]"))

/** Fails unless every mutant applies to its file as it lies on the disk; answers the mutants. */
export const checkMutants = (mutants) => {
  const sources = new Map()
  for (const { file } of mutants) sources.set(file, readFileSync(resolve(root, file), "utf8"))
  for (const [file, source] of sources) applyMutants(resolve(root, file), source, mutants)
  return mutants
}

/** The source of a module with the mutants applied that are meant for it; `undefined` if none is. */
export const applyMutants = (path, source, mutants) => {
  let mutated
  for (const { file, find, replace } of mutants) {
    if (resolve(root, file) !== path) continue
    const text = mutated ?? source
    const pieces = text.split(find)
    if (find === "" || pieces.length !== 2) {
      const times = find === "" ? "is empty" : `occurs ${pieces.length - 1} times`
      throw new Error(`mutant of ${file}: the text to replace ${times}, not once: ${JSON.stringify(find)}`)
    }
    mutated = pieces.join(replace)
  }
  return mutated
}
