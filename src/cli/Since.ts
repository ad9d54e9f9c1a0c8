/**
 * A time as it is typed: an instant, or how long ago it was.
 */
import { Option } from "effect"
import { type Instant, parseTimestamp } from "../domain/Timestamp.ts"

/** Where to begin: a time by the service's clock, or so many milliseconds before now. */
export type Since = { readonly at: Instant } | { readonly millisAgo: number }

/** Reads a time, or how long ago it was, as in `10m`; undefined for what is neither. */
export const readSince = (text: string): Since | undefined => {
  const [, count, unit = "s"] = /^(\d{1,6})([smhd])$/.exec(text) ?? []
  const seconds = { s: 1, m: 60, h: 3600, d: 86_400 }[unit] ?? 0
  if (count !== undefined) return { millisAgo: Number(count) * seconds * 1000 }
  return Option.getOrUndefined(Option.map(parseTimestamp(text), (at) => ({ at })))
}
