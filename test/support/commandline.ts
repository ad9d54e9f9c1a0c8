/**
 * The command line's own code, run in the process of the tests: what is printed is caught, and the exit code given back.
 * For all that does not need a process, such as a command line that is wrong; it costs a fraction of one.
 */
import { Effect } from "effect"
import { vi } from "vitest"
import { commandLine } from "../../src/cli/Main.ts"
import type { CommandOptions } from "./command.ts"
import type { Ended } from "./process.ts"

const signals = ["SIGINT", "SIGTERM"] as const

/** Runs a command to its end. Only one at a time, and none that reads the standard input. */
export const runHere = async (
  words: ReadonlyArray<string>,
  { url, environment = {} }: Pick<CommandOptions, "url" | "environment"> = {}
): Promise<Ended> => {
  const printed = { stdout: "", stderr: "" }
  const variables = url === undefined ? environment : { SEKALI_URL: url, ...environment }
  for (const [name, value] of Object.entries(variables)) vi.stubEnv(name, value)
  const before = signals.map((signal) => process.listeners(signal))
  const spies = (["stdout", "stderr"] as const).map((name) =>
    vi.spyOn(process[name], "write").mockImplementation((text) => {
      printed[name] += text
      return true
    })
  )
  try {
    const code = await Effect.runPromise(commandLine(words))
    return { code, signal: null, ...printed }
  } finally {
    for (const spy of spies) spy.mockRestore()
    vi.unstubAllEnvs()
    // A command listens for signals until its process ends.
    for (const [index, signal] of signals.entries()) {
      const added = process.listeners(signal).filter((listener) => !before[index]?.includes(listener))
      for (const listener of added) process.removeListener(signal, listener)
    }
  }
}
