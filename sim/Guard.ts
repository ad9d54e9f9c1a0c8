/**
 * What the simulated code may not touch, because the simulation could not then drive or repeat it: the real
 * clock, real timers, promises, and real chance. While a run is under guard, each use of one is recorded with
 * the place that did it, and the run fails. The real thing is not done: timers never fire, `Date` answers
 * virtual time, chance answers a constant. A promise's `then` goes through, for breaking it could break the
 * program that runs the simulation; what it would have woken is refused by the scheduler.
 *
 * Effect itself reads two of these on its way, harmlessly: `FiberId` stamps each fiber with `Date.now()`
 * (recognised because the fiber counter has just moved by one), and `Hash.random` and the tracer draw from
 * `Math.random` (recognised by their file). They get virtual time and a constant, and are no violation. The
 * constant makes objects collide in Effect's hash maps, which then keep the order of insertion: an order that
 * is the same in every process, where random hashes would not be.
 *
 * Fibers that end are timed by Effect's runtime metrics, with `Date.now()`; the world switches these off.
 *
 * Not guarded: `await` on a native promise (it calls no `then`; the fiber that waits is reported as stuck), and
 * functions that a module stored in a variable of its own before the run.
 */
import { createRequire, syncBuiltinESMExports } from "node:module"
import * as nodePath from "node:path"
import { fileURLToPath } from "node:url"
import { GlobalValue, MutableRef } from "effect"

/** A use of something real during a run. */
export interface Violation {
  readonly what: string
  /** The fiber that did it. */
  readonly who: string
  readonly stack: string
}

export interface Guard {
  readonly violations: ReadonlyArray<Violation>
  readonly restore: () => void
}

/** Replaces the real world until `restore` is called. `millis` is what `Date` says meanwhile, `who` names culprits. */
export const guard = (millis: () => number, who: () => string = () => "somebody"): Guard => {
  const violations: Array<Violation> = []
  const undo: Array<() => void> = []
  const hit = (what: string): void => {
    // One culprit in a loop should not fill the memory.
    if (violations.length < 100) violations.push({ what, who: who(), stack: trimmedStack() })
  }
  const replace = (target: object, key: string, value: unknown): void => {
    const descriptor = Object.getOwnPropertyDescriptor(target, key)
    const inherited = descriptor === undefined
    undo.push(() => {
      if (inherited) Reflect.deleteProperty(target, key)
      else Object.defineProperty(target, key, descriptor)
    })
    Object.defineProperty(target, key, { value, configurable: true, writable: true, enumerable: true })
  }
  const forbid = (target: object, key: string, what: string, answer: () => unknown): void =>
    replace(target, key, () => {
      hit(what)
      return answer()
    })

  const restore = () => {
    for (const step of undo.splice(0).reverse()) step()
    syncBuiltinESMExports()
  }

  try {
    for (const key of ["setTimeout", "setInterval", "setImmediate"]) {
      for (const target of [globalThis, nodeTimers]) forbid(target, key, key, inertTimer)
      forbid(nodeTimersPromises, key, key, () => new Promise(() => undefined))
    }
    forbid(nodeTimersPromises.scheduler, "wait", "scheduler.wait", () => new Promise(() => undefined))
    forbid(AbortSignal, "timeout", "AbortSignal.timeout", () => new AbortController().signal)
    replace(globalThis, "MessageChannel", function MessageChannel() {
      hit("MessageChannel")
      return { port1: inertPort, port2: inertPort }
    })
    forbid(globalThis, "queueMicrotask", "queueMicrotask", () => undefined)
    forbid(process, "nextTick", "process.nextTick", () => undefined)
    forbid(performance, "now", "performance.now", millis)
    forbid(process, "hrtime", "process.hrtime", () => [0, 0])
    forbid(process, "uptime", "process.uptime", () => millis() / 1000)
    forbid(process.hrtime, "bigint", "process.hrtime.bigint", () => 0n)
    forbid(globalThis.crypto, "randomUUID", "crypto.randomUUID", () => someUuid)
    replace(globalThis.crypto, "getRandomValues", <A>(array: A): A => {
      hit("crypto.getRandomValues")
      return array
    })
    forbid(nodeCrypto, "randomUUID", "crypto.randomUUID", () => someUuid)
    forbid(nodeCrypto, "randomBytes", "crypto.randomBytes", () => Buffer.alloc(16))
    replace(nodeCrypto, "randomFillSync", <A>(array: A): A => {
      hit("crypto.randomFillSync")
      return array
    })
    forbid(globalThis.crypto.subtle, "digest", "crypto.subtle", () => new Promise(() => undefined))
    forbid(nodeCrypto, "randomInt", "crypto.randomInt", () => 0)
    replace(Math, "random", () => {
      if (!calledByEffect(["Hash", "tracer"])) hit("Math.random")
      return 0.5
    })
    guardDate(replace, hit, millis)
    // What modules imported by name from Node's own follows the change.
    syncBuiltinESMExports()
    const prototype = Promise.prototype as unknown as Record<string, (...args: Array<unknown>) => unknown>
    for (const key of ["then", "catch", "finally"]) {
      const original = prototype[key] as (...args: Array<unknown>) => unknown
      replace(prototype, key, function (this: unknown, ...args: Array<unknown>) {
        hit(`Promise.prototype.${key}`)
        return original.apply(this, args)
      })
    }
  } catch (error) {
    restore()
    throw error
  }
  return { violations, restore }
}

/** The caller's stack without the simulator's own frames and without the noise of absolute paths. */
export const trimmedStack = (): string => {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 20
  const stack = new Error().stack ?? ""
  Error.stackTraceLimit = limit
  return stack
    .split("\n")
    .slice(1)
    .map((line) => line.trim().replace(root, "").replace("file://", ""))
    .filter((line) => !ownFrame.test(line))
    .slice(0, 8)
    .join("\n")
}

/** Effect's counter of fiber ids. Runs start it at the same value, so that the ids of a run repeat. */
export const fiberCounter: MutableRef.MutableRef<number> = GlobalValue.globalValue(
  Symbol.for("effect/Fiber/Id/_fiberCounter"),
  () => MutableRef.make(0)
)

const root = new RegExp(
  `(file://)?${nodePath.dirname(fileURLToPath(import.meta.url)).replace(/[\\/]sim$/, "")}/`
)
const ownFrame = /^at .*\bsim\/(Guard|Scheduler)\.ts\b|^at .*\bsim\/Guard\.ts\b/

const require = createRequire(import.meta.url)
const nodeCrypto = require("node:crypto") as object
const nodeTimers = require("node:timers") as object
const nodeTimersPromises = require("node:timers/promises") as { readonly scheduler: object }
const someUuid = "00000000-0000-4000-8000-000000000000"

const inertTimer = () => ({ ref: () => undefined, unref: () => undefined, hasRef: () => false })

const inertPort = { postMessage: () => undefined, close: () => undefined, unref: () => undefined }

type Replace = (target: object, key: string, value: unknown) => void

const guardDate = (replace: Replace, hit: (what: string) => void, millis: () => number): void => {
  const RealDate = Date
  let fibersSeen = MutableRef.get(fiberCounter)
  replace(RealDate, "now", () => {
    const fibers = MutableRef.get(fiberCounter)
    if (fibers > fibersSeen) fibersSeen = fibers
    else hit("Date.now")
    return millis()
  })
  replace(
    globalThis,
    "Date",
    new Proxy(RealDate, {
      apply: () => {
        hit("Date()")
        return new RealDate(millis()).toString()
      },
      construct: (target, args: Array<unknown>, newTarget) => {
        if (args.length > 0) return Reflect.construct(target, args, newTarget) as object
        hit("new Date()")
        return Reflect.construct(target, [millis()], newTarget) as object
      }
    })
  )
}

/** Whether the function two calls up the stack lives in one of these modules of `effect`. */
const calledByEffect = (modules: ReadonlyArray<string>): boolean => {
  const { prepareStackTrace, stackTraceLimit } = Error
  // Call sites instead of text: the text would be mapped to sources first, which costs a hundred times as much.
  Error.stackTraceLimit = 3
  Error.prepareStackTrace = (_error, sites) => sites
  const sites = new Error().stack as unknown as ReadonlyArray<NodeJS.CallSite>
  Error.stackTraceLimit = stackTraceLimit
  Error.prepareStackTrace = prepareStackTrace
  const file = sites[2]?.getFileName() ?? ""
  const module = /\/effect\/(?:dist|src)\/.*?(\w+)\.[jt]s$/.exec(file)?.[1]
  return module !== undefined && modules.includes(module)
}
