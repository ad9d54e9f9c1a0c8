/**
 * An operating-system process of the simulation: what it is made of, and what its effects find around them
 * instead of the real world.
 */
import {
  Clock,
  ConfigProvider,
  Context,
  DefaultServices,
  Effect,
  type Exit,
  type Fiber,
  FiberRef,
  GlobalValue,
  HashSet,
  Layer,
  Logger,
  Random,
  Runtime,
  RuntimeFlags
} from "effect"
import type { WallClock } from "./Clock.ts"
import type { Disk } from "./Disk.ts"
import type { Mount } from "./Mount.ts"
import { SimProcess } from "./Scheduler.ts"

export type CrashKind = "kill" | "power cut"

export interface Machine {
  readonly name: string
  readonly disk: Disk
  readonly wall: WallClock
}

/** A process, running or over. */
export interface Process {
  readonly name: string
  readonly machine: Machine
  readonly sim: SimProcess
  readonly mount: Mount
  /** How its main effect ended, once it has; a crashed process has none. */
  exit: Exit.Exit<unknown, unknown> | undefined
  main: Fiber.RuntimeFiber<unknown, unknown> | undefined
}

/**
 * Builds a layer and keeps it until the process ends, as `Layer.launch` does; only that one waits by
 * `Effect.never`, which holds a timer of the real world.
 */
export const launch = <A, E>(layer: Layer.Layer<A, E>): Effect.Effect<never, E> =>
  Effect.scoped(
    Effect.zipRight(
      Layer.build(layer),
      Effect.async<never>(() => undefined)
    )
  )

/** Effect's default runtime, but for its metrics, which time every fiber by the real clock. */
const bare = Runtime.disableRuntimeFlag(Runtime.defaultRuntime, RuntimeFlags.RuntimeMetrics)

/** Begins an effect in a process, at one of its next steps. */
export const fork = <A, E>(
  effect: Effect.Effect<A, E>,
  process: SimProcess,
  runtime: Runtime.Runtime<never> = bare
): Fiber.RuntimeFiber<A, E> => Runtime.runFork(runtime)(effect, { scheduler: process, immediate: false })

/** What effects find around them: clock, chance, environment and log; without a log, what is logged is dropped. */
export const surroundings = (around: {
  readonly clock: Clock.Clock
  readonly random: string
  readonly env: Readonly<Record<string, string>>
  readonly log: ((line: string) => void) | undefined
}): Runtime.Runtime<never> => {
  const services = DefaultServices.liveServices.pipe(
    Context.add(Clock.Clock, around.clock),
    Context.add(Random.Random, Random.make(around.random)),
    Context.add(ConfigProvider.ConfigProvider, ConfigProvider.fromMap(new Map(Object.entries(around.env))))
  )
  const loggers = around.log === undefined ? [] : [loggerTo(around.log)]
  return bare.pipe(
    Runtime.setFiberRef(DefaultServices.currentServices, services),
    Runtime.setFiberRef(FiberRef.currentTracerEnabled, false),
    Runtime.setFiberRef(FiberRef.currentLoggers, HashSet.fromIterable(loggers))
  )
}

/** Effect keeps every root fiber until it ends, and a crashed one never does: its whole world would stay. */
export const forgetRoots = (): void => {
  const scope = GlobalValue.globalValue<{ readonly roots?: Set<Fiber.RuntimeFiber<unknown, unknown>> }>(
    Symbol.for("effect/FiberScope/Global"),
    () => ({})
  )
  for (const fiber of scope.roots ?? []) {
    if (fiber.currentScheduler instanceof SimProcess) scope.roots?.delete(fiber)
  }
}

const loggerTo = (log: (line: string) => void): Logger.Logger<unknown, void> =>
  Logger.make(({ annotations, logLevel, message }) => {
    const text = (Array.isArray(message) ? message : [message]).map(String).join(" ")
    const details = [...annotations].map(([key, value]) => ` ${key}=${JSON.stringify(value)}`).join("")
    log(`${logLevel.label} ${text}${details}`)
  })
