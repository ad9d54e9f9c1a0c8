/**
 * How V8 runs the service.
 *
 * It may find that what is made at some place in the program lives long, and makes it among old objects from then on. The
 * arrays of a commit are such to it: from then on each of them keeps the young requests that it holds until the whole
 * heap is looked at, they are copied about until then, and its measure is confirmed for good.
 *
 * And it optimizes a function when that has run through a budget of bytecode, twice as much by default as here. A
 * service does the same few things from its first second on, and is faster sooner by a smaller one.
 */
import { setFlagsFromString } from "node:v8"

/** To be called before anything is made that counts. */
export const tune = (): void => {
  setFlagsFromString("--no-allocation-site-pretenuring")
  setFlagsFromString("--interrupt-budget=33000")
}
