/**
 * Figures as text: Prometheus' exposition format 0.0.4. Series of one metric stand together, under the line that says
 * what it is and the line that gives its type.
 */
import { MetricState } from "effect"
import type { Figure } from "./Figures.ts"

const escaped = (text: string): string => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")

const numberText = (value: number): string => {
  if (Number.isNaN(value)) return "NaN"
  return Number.isFinite(value) ? String(value) : value > 0 ? "+Inf" : "-Inf"
}

const sample = (name: string, labels: ReadonlyArray<readonly [string, string]>, value: number): string => {
  const inside = labels.map(([key, text]) => `${key}="${escaped(text).replaceAll('"', '\\"')}"`).join(",")
  return `${name}${inside === "" ? "" : `{${inside}}`} ${numberText(value)}`
}

interface Family {
  readonly help: string
  readonly type: "counter" | "gauge" | "histogram"
  readonly samples: Array<string>
}

/** The text of figures, in the order in which their metrics appear first. */
export const exposition = (figures: ReadonlyArray<Figure>): string => {
  const families = new Map<string, Family>()
  for (const { metricKey, metricState } of figures) {
    const { name } = metricKey
    const labels = metricKey.tags.map(({ key, value }) => [key, value] as const)
    const into = (type: Family["type"]): Array<string> => {
      const known = families.get(name)
      if (known !== undefined) return known.samples
      const description = metricKey.description
      const help = description._tag === "Some" ? description.value : ""
      const samples: Array<string> = []
      families.set(name, { help, type, samples })
      return samples
    }
    if (MetricState.isCounterState(metricState)) {
      into("counter").push(sample(name, labels, Number(metricState.count)))
    } else if (MetricState.isGaugeState(metricState)) {
      into("gauge").push(sample(name, labels, Number(metricState.value)))
    } else if (MetricState.isHistogramState(metricState)) {
      const samples = into("histogram")
      for (const [boundary, count] of metricState.buckets) {
        samples.push(sample(`${name}_bucket`, [...labels, ["le", numberText(boundary)]], count))
      }
      samples.push(sample(`${name}_sum`, labels, metricState.sum))
      samples.push(sample(`${name}_count`, labels, metricState.count))
    }
  }
  const lines = [...families].flatMap(([name, { help, type, samples }]) => [
    `# HELP ${name} ${escaped(help)}`,
    `# TYPE ${name} ${type}`,
    ...samples
  ])
  return `${lines.join("\n")}\n`
}
