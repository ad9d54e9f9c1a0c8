/**
 * The figures of the process on Node, under the names that Prometheus' client libraries give them: processor, memory,
 * file descriptors, and how late the event loop runs what is due. One scrape takes nothing away from the next.
 */
import { readdirSync, readFileSync } from "node:fs"
import { Effect, Layer, MetricBoundaries } from "effect"
import { type Figures, makeFigures } from "../telemetry/Figures.ts"
import { ProcessFigures } from "../telemetry/ProcessFigures.ts"

/** How often the event loop is looked at. */
const lookMilliseconds = 100

const delays = MetricBoundaries.fromIterable([0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5])

const descriptors = ({ gauge }: Figures): void => {
  try {
    const open = readdirSync("/proc/self/fd").length
    const limit = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1]
    gauge("process_open_fds", "Number of open file descriptors.").update(open)
    if (limit !== undefined) {
      gauge("process_max_fds", "Maximum number of open file descriptors.").update(Number(limit))
    }
  } catch {
    // Only Linux tells.
  }
}

const now = (): Figures => {
  const figures = makeFigures()
  const { counter, gauge } = figures
  const { user, system } = process.cpuUsage()
  const { rss, heapTotal, heapUsed, external } = process.memoryUsage()
  counter("process_cpu_user_seconds_total", "User CPU time spent in seconds.").update(user / 1e6)
  counter("process_cpu_system_seconds_total", "System CPU time spent in seconds.").update(system / 1e6)
  counter("process_cpu_seconds_total", "User and system CPU time spent in seconds.").update(
    (user + system) / 1e6
  )
  gauge("process_start_time_seconds", "Start time of the process since the Unix epoch in seconds.").update(
    performance.timeOrigin / 1000
  )
  gauge("process_resident_memory_bytes", "Resident memory size in bytes.").update(rss)
  gauge("nodejs_heap_size_total_bytes", "Size of the heap of JavaScript in bytes.").update(heapTotal)
  gauge("nodejs_heap_size_used_bytes", "What of that heap is in use, in bytes.").update(heapUsed)
  gauge("nodejs_external_memory_bytes", "Memory outside of that heap that it holds, in bytes.").update(
    external
  )
  gauge("nodejs_version_info", "The version of Node.", { version: process.version }).update(1)
  descriptors(figures)
  return figures
}

/** The figures of this process, while the scope lives. */
export const layer: Layer.Layer<never> = Layer.scoped(
  ProcessFigures,
  Effect.gen(function* () {
    const lasting = makeFigures()
    const delay = lasting.histogram(
      "nodejs_eventloop_delay_seconds",
      "How late the event loop ran what was due, looked at ten times a second.",
      delays
    )
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        let due = performance.now() + lookMilliseconds
        return setInterval(() => {
          const at = performance.now()
          delay.update(Math.max(0, at - due) / 1000)
          due = at + lookMilliseconds
        }, lookMilliseconds).unref()
      }),
      (timer) => Effect.sync(() => clearInterval(timer))
    )
    return {
      figures: Effect.sync(() => [...now().snapshot(), ...lasting.snapshot()]),
      age: Effect.sync(() => performance.now() / 1000)
    }
  })
) as Layer.Layer<never>
