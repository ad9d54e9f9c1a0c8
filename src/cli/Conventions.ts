/**
 * What all commands have in common: their exit codes, the failure that ends one with a sentence, and the variable that
 * says where the service is.
 */
import { Data } from "effect"

/** The exit codes. Those of signals are 128 and the signal's number, as shells have it. */
export const exitCodes = {
  done: 0,
  failed: 1,
  usage: 2,
  conflict: 3,
  SIGINT: 130,
  SIGTERM: 143
} as const

/** A command cannot do what it was asked for: `sentence` says why, and what can be done about it. */
export class Failure extends Data.TaggedError("Failure")<{ readonly sentence: string }> {
  override get message(): string {
    return this.sentence
  }
}

/** The environment variable that names the service, where `--url` does not. */
export const urlVariable = "SEKALI_URL"
