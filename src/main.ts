#!/usr/bin/env node
/**
 * The command line's way in. `serve` is asked for by machines, again and again after every crash, and is loaded alone;
 * whatever else is asked for is read by the command line as a whole, which takes longer to load.
 */
const words = process.argv.slice(2)

if (words.length === 1 && words[0] === "serve") {
  const { start } = await import("./cli/Serve.ts")
  start()
} else {
  const { main } = await import("./cli/Main.ts")
  main(words)
}

export {}
