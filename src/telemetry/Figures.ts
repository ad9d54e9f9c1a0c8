/**
 * Figures: Effect's own metrics, in a registry of one's own. The registry that Effect's `Metric` writes to is one for
 * the whole JavaScript process, where the figures of several services (in tests, in a simulated world) would run
 * together; here each service has its own, and each figure is its hook, so that to count is a plain function call.
 */
import {
  type MetricBoundaries,
  type MetricHook,
  MetricKey,
  MetricLabel,
  type MetricPair,
  MetricRegistry
} from "effect"

/** What tells the series of one metric apart, by name. */
export type Labels = Readonly<Record<string, string>>

/** A metric and its value at one moment. */
export type Figure = MetricPair.MetricPair.Untyped

/** Makes figures; the same name and labels give the same figure. Names, units and types follow Prometheus' conventions. */
export interface Figures {
  readonly counter: (name: string, help: string, labels?: Labels) => MetricHook.MetricHook.Counter<number>
  readonly gauge: (name: string, help: string, labels?: Labels) => MetricHook.MetricHook.Gauge<number>
  readonly histogram: (
    name: string,
    help: string,
    boundaries: MetricBoundaries.MetricBoundaries
  ) => MetricHook.MetricHook.Histogram
  readonly snapshot: () => ReadonlyArray<Figure>
}

const labelled = <Key extends MetricKey.MetricKey.Untyped>(key: Key, labels: Labels = {}): Key =>
  MetricKey.taggedWithLabels(
    key,
    Object.entries(labels).map(([name, value]) => MetricLabel.make(name, value))
  ) as Key

/** A registry without figures. */
export const makeFigures = (): Figures => {
  const registry = MetricRegistry.make()
  return {
    counter: (name, help, labels) =>
      registry.get(labelled(MetricKey.counter(name, { description: help, incremental: true }), labels)),
    gauge: (name, help, labels) =>
      registry.get(labelled(MetricKey.gauge(name, { description: help }), labels)),
    histogram: (name, help, boundaries) => registry.get(MetricKey.histogram(name, boundaries, help)),
    snapshot: () => registry.snapshot()
  }
}
