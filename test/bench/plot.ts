/**
 * A plot of lines as an SVG file. By hand, because it is one plot: libraries that draw without a browser bring dozens of
 * packages (Vega), a simulated browser (Observable Plot) or tens of megabytes (ECharts) for it.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { dirname } from "node:path"

/** Lines over one axis each way, both of which begin at 0. */
export interface Plot {
  readonly title: string
  readonly x: string
  readonly lines: ReadonlyArray<{
    readonly name: string
    readonly points: ReadonlyArray<readonly [x: number, y: number]>
  }>
}

/** Writes a plot into a file, and makes the folder that it lies in. */
export const writePlot = (path: string, plot: Plot): void => {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, svgOf(plot))
}

const width = 720
const height = 360
const edge = { left: 72, right: 110, top: 40, bottom: 48 }
const colours = ["#0b62a4", "#c4572b", "#4f7f3a"]

/** Round numbers from 0 to beyond the greatest value, about five of them. */
const ticksUpTo = (greatest: number): ReadonlyArray<number> => {
  const rough = Math.max(greatest, 1) / 5
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10)
  return Array.from({ length: Math.ceil(Math.max(greatest, 1) / step) + 1 }, (_, n) => n * step)
}

const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")

const text = (x: number, y: number, anchor: string, content: string): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${escaped(content)}</text>`

const svgOf = ({ title, x, lines }: Plot): string => {
  const points = lines.flatMap((line) => line.points)
  const xTicks = ticksUpTo(Math.max(...points.map(([x]) => x)))
  const yTicks = ticksUpTo(Math.max(...points.map(([, y]) => y)))
  const right = width - edge.right
  const bottom = height - edge.bottom
  const xOf = (value: number) => edge.left + (value / (xTicks.at(-1) ?? 1)) * (right - edge.left)
  const yOf = (value: number) => bottom - (value / (yTicks.at(-1) ?? 1)) * (bottom - edge.top)
  const shown = (value: number) => value.toLocaleString("en-US")
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    `<title>${escaped(title)} over ${escaped(x)}</title>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    text(edge.left, 22, "start", title),
    text((edge.left + right) / 2, height - 10, "middle", x),
    ...yTicks.flatMap((tick) => [
      `<path d="M${edge.left} ${yOf(tick).toFixed(1)}H${right}" stroke="#dddddd"/>`,
      text(edge.left - 8, yOf(tick) + 4, "end", shown(tick))
    ]),
    ...xTicks.map((tick) => text(xOf(tick), bottom + 18, "middle", shown(tick))),
    ...lines.flatMap(({ name, points }, index) => {
      const colour = colours[index % colours.length]
      const path = points.map(([x, y]) => `${xOf(x).toFixed(1)} ${yOf(y).toFixed(1)}`).join("L")
      const [, last] = points.at(-1) ?? [0, 0]
      return [
        `<path d="M${path}" fill="none" stroke="${colour}" stroke-width="2"/>`,
        `<g fill="${colour}">${text(right + 8, yOf(last) + 4, "start", name)}</g>`
      ]
    }),
    "</svg>",
    ""
  ].join("\n")
}
