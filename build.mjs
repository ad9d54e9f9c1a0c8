/**
 * Bundles the command line, which `tsc` has put into `dist` file by file: a process of one command loads a few files
 * instead of hundreds, and is there in a third of the time. This is what counts after a crash. The library for publishers
 * stays as `tsc` makes it. Only the driver of SQLite stays outside, because it loads a binary that lies beside it.
 */
import { readdirSync, rmSync } from "node:fs"
import { basename } from "node:path"
import { build } from "esbuild"

const folder = "dist/bundle"

const { metafile } = await build({
  entryPoints: ["src/main.ts"],
  outdir: "dist",
  // Two folders below package.json, as the sources are, which is where the version is read.
  chunkNames: "bundle/[name]-[hash]",
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node20",
  external: ["better-sqlite3"],
  // Some packages are CommonJS, and ask for Node's own modules in its way.
  banner: {
    js: 'import { createRequire as requireFrom } from "node:module"; const require = requireFrom(import.meta.url);'
  },
  sourcemap: true,
  sourcesContent: false,
  metafile: true,
  logLevel: "warning"
})

// What is left of earlier builds. It goes last, so that a process that starts meanwhile finds all it needs.
const made = new Set(Object.keys(metafile.outputs).map((path) => basename(path)))
for (const name of readdirSync(folder)) if (!made.has(name)) rmSync(`${folder}/${name}`)
