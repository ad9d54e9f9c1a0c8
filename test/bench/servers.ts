/**
 * The servers that are measured: the service itself and two peers that do the same durable work, each as a process of
 * its own on a fresh port. To whoever measures, all are started, asked and ended in the same way.
 */
import { fileURLToPath } from "node:url"
import { buildSync } from "esbuild"
import { type Serving, serve } from "../support/process.ts"

/** The service and its peers, in the order in which they take turns. */
export const serverNames = ["sekali", "floor", "handwritten"] as const

export type ServerName = (typeof serverNames)[number]

/** Starts a server on a database file and waits until it is ready. */
export const startServer = (
  name: ServerName,
  database: string,
  environment: Readonly<Record<string, string>> = {}
): Promise<Serving> => {
  const all = { NODE_ENV: "production", ...environment }
  return name === "sekali"
    ? serve({ database, environment: all })
    : serve({ database, environment: all, command: peerCommand(name) })
}

const peerCodes = new Map<ServerName, string>()

// A peer is given to Node as plain JavaScript: a loader for TypeScript would count in its memory. Its packages are
// looked for from the working folder, which `npm run` makes that of the project.
const peerCommand = (name: ServerName): readonly [string, ...ReadonlyArray<string>] => {
  const code = peerCodes.get(name) ?? bundled(name)
  peerCodes.set(name, code)
  return [process.execPath, "--input-type=module", "--eval", code]
}

const bundled = (name: ServerName): string => {
  const { outputFiles } = buildSync({
    entryPoints: [fileURLToPath(new URL(`./peers/${name}.ts`, import.meta.url))],
    bundle: true,
    packages: "external",
    platform: "node",
    format: "esm",
    target: "node20",
    write: false
  })
  return outputFiles[0]?.text ?? ""
}
