/**
 * Module hooks for Node, in the thread that Node keeps for them: the database driver's import of better-sqlite3
 * finds the simulated one, TypeScript becomes JavaScript, and files that mutants are meant for are changed before that.
 */
import { readFile } from "node:fs/promises"
import { fileURLToPath, pathToFileURL } from "node:url"
import { transform } from "esbuild"
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
  if (!url.startsWith("file:") || !url.endsWith(".ts")) return next(url, context)
  const path = fileURLToPath(url)
  const written = await readFile(path, "utf8")
  // Names of functions are not kept as they are written: to set them costs more than most functions take.
  const { code } = await transform(applyMutants(path, written, mutants) ?? written, {
    loader: "ts",
    format: "esm",
    target: "node20",
    sourcefile: path,
    sourcemap: "inline"
  })
  return { format: "module", source: code, shortCircuit: true }
}
