/**
 * Log files as servers write them, made up from a number, and a look at what came of them.
 */
import { allEvents, type ReadEvent } from "../support/client.ts"

const messages = [
  (n: number) => `[notice] jk2_init() Found child ${1000 + (n % 900)} in scoreboard slot ${n % 11}`,
  (n: number) => `[error] mod_jk child workerEnv in error state ${n % 8}`,
  (n: number) =>
    `sshd[${20_000 + n}]: Failed password for invalid user "web\\${n % 7}" from 10.0.${n % 256}.7 port ${n}`,
  (n: number) =>
    `INFO dfs.FSNamesystem: BLOCK* NameSystem.addStoredBlock: blk_-${n * 7919} size 67108864\tök`,
  () => "    at org.example.Worker.run(Worker.java:42)",
  () => ""
]

/** A line. Some of them stand in a file again and again. */
export const logLine = (n: number): string => {
  const text = messages[n % messages.length]?.(n) ?? ""
  return n % messages.length < 4 ? `[Sun Dec 04 04:47:${String(n % 60).padStart(2, "0")} 2005] ${text}` : text
}

/** So many lines, from this one on. */
export const logLines = (count: number, from = 0): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, index) => logLine(from + index))

/** A file of these lines, each with its end. */
export const fileOf = (lines: ReadonlyArray<string>): string => lines.map((line) => `${line}\n`).join("")

/** The lines that are stored in a topic, in their order. */
export const storedLines = async (url: string, topic: string): Promise<ReadonlyArray<string>> =>
  (await eventsOf(url, topic)).map(({ payload }) => (payload as { readonly line: string }).line)

/** The events of a topic, in their order. */
export const eventsOf = async (url: string, topic: string): Promise<ReadonlyArray<ReadEvent>> =>
  (await allEvents(url)).filter((event) => event.topic === topic)
