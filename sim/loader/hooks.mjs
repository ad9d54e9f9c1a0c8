/**
 * Module hooks for Node, in the thread that Node keeps for them: the database driver's import of better-sqlite3
 * finds the simulated one, and files that mutants are meant for are changed as they are read. TypeScript as
 * such is left to tsx, but for mutated files, whose text tsx would read from the disk.
 */
import { readFile } from "node:fs/promises"
import { createRequire } from "node:module"
import { fileURLToPath, pathToFileURL } from "node:url"
import { applyMutants, facade, isSimulatedImport } from "./mutate.mjs"

let mutants = []

export const initialize = (data) => {
  mutants = data.mutants
}

export const resolve = (specifier, context, next) =>
  isSimulatedImport(specifier, context.parentURL)
    ? { url: pathToFileURL(facade).href, shortCircuit: true, format: "module" }
    : next(specifier, context)

export const load = async (url, context, next) => {
  if (mutants.length === 0 || !url.startsWith("file:")) return next(url, context)
  const path = fileURLToPath(url)
  const mutated = applyMutants(path, await readSource(path, mutants), mutants)
  if (mutated === undefined) return next(url, context)
  // esbuild is what tsx itself uses, and is found from there.
  const esbuild = createRequire(createRequire(import.meta.url).resolve("tsx"))("esbuild")
  const { code } = await esbuild.transform(mutated, {
    loader: "ts",
    format: "esm",
    target: "node20",
    sourcefile: path,
    sourcemap: "inline"
  })
  return { format: "module", source: code, shortCircuit: true }
}

/** Reads only what some mutant is meant for. */
const readSource = (path, mutants) =>
  mutants.some((mutant) => path.endsWith(mutant.file)) ? readFile(path, "utf8") : ""
