/**
 * Event time: an ISO 8601 date and time with a zone. The text is the publisher's and is given back as it was sent;
 * this file only decides whether it names an instant that exists, and orders instants for `since` and `until`.
 */
import { Option } from "effect"

/** An instant, exact to the nanosecond: whole milliseconds since 1970-01-01T00:00Z, and what is left of one. */
export interface Instant {
  readonly milliseconds: number
  /** 0..999999, counted forward from `milliseconds`, also before 1970. */
  readonly nanoseconds: number
}

/** What a timestamp must look like, for people. */
export const timestampRule =
  "an ISO 8601 date and time with a zone, such as 2026-11-22T10:00:00.123Z or 2026-11-22T17:00:00+07:00"

const shape =
  /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?(?:([Zz])|([+-])(\d{2})(?::?(\d{2}))?)$/

const daysInMonth = (year: number, month: number): number => {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31
}

// Date.UTC reads the years 0..99 as 1900..1999; the calendar repeats every 400 years of 146,097 days.
const daysSinceEpoch = (year: number, month: number, day: number): number =>
  Date.UTC(year + 400, month - 1, day) / 86_400_000 - 146_097

/** The day since 1970-01-01, if there is such a day. */
const dayOf = (year: number, month: number, day: number): number | undefined =>
  !(month >= 1 && month <= 12 && day >= 1 && day <= daysInMonth(year, month))
    ? undefined
    : daysSinceEpoch(year, month, day)

/**
 * The instant that a timestamp names, or nothing where it names none: a wrong shape, no zone, 30 February, hour 24. A
 * leap second (second 60 of the last minute of a UTC day) counts as the first instant of the next day.
 */
export const parseTimestamp = (text: string): Option.Option<Instant> => {
  const plain = plainInstant(text)
  return plain === undefined ? parseAnyTimestamp(text) : Option.some(plain)
}

/** What nearly all timestamps look like: `2026-11-22T10:00:00.123Z`, with any number of decimals or none. */
export const plainInstant = (text: string): Instant | undefined => {
  const zone = text.length - 1
  if (zone < 19 || zone > 29 || text.charCodeAt(zone) !== 0x5a) return undefined
  for (const [at, code] of separators) if (text.charCodeAt(at) !== code) return undefined
  const year = digits(text, 0, 4)
  const days = Number.isNaN(year) ? undefined : dayOf(year, digits(text, 5, 7), digits(text, 8, 10))
  const hour = digits(text, 11, 13)
  const minute = digits(text, 14, 16)
  const second = digits(text, 17, 19)
  if (days === undefined || !(hour < 24 && minute < 60 && second < 60)) return undefined
  const whole = ((days * 24 + hour) * 60 + minute) * 60 + second
  if (zone === 19) return { milliseconds: whole * 1000, nanoseconds: 0 }
  const decimals = zone - 20
  const fraction = digits(text, 20, zone) * 10 ** (9 - decimals)
  if (text.charCodeAt(19) !== 0x2e || decimals === 0 || Number.isNaN(fraction)) return undefined
  const milliseconds = Math.floor(fraction / 1_000_000)
  return { milliseconds: whole * 1000 + milliseconds, nanoseconds: fraction - milliseconds * 1_000_000 }
}

const separators = [
  [4, 0x2d],
  [7, 0x2d],
  [10, 0x54],
  [13, 0x3a],
  [16, 0x3a]
] as const

/** The number that these digits make; not a number where one of them is none. */
const digits = (text: string, from: number, to: number): number => {
  let number = 0
  for (let at = from; at < to; at++) {
    const digit = text.charCodeAt(at) - 0x30
    if (!(digit >= 0 && digit <= 9)) return Number.NaN
    number = number * 10 + digit
  }
  return number
}

/** The same of every timestamp that is taken. */
export const parseAnyTimestamp = (text: string): Option.Option<Instant> => {
  const found = shape.exec(text)
  if (found === null) return Option.none()
  const number = (index: number): number => Number(found[index] ?? 0)
  const [year, month, day, hour, minute, second] = [1, 2, 3, 4, 5, 6].map(number) as [
    number,
    number,
    number,
    number,
    number,
    number
  ]
  const zoneHour = number(10)
  const zoneMinute = number(11)
  const days = dayOf(year, month, day)
  if (days === undefined || hour > 23 || minute > 59 || second > 60 || zoneHour > 23 || zoneMinute > 59)
    return Option.none()
  const zone = (zoneHour * 60 + zoneMinute) * (found[9] === "-" ? -1 : 1)
  const minutes = days * 1440 + hour * 60 + minute - zone
  if (second === 60 && (((minutes + 1) % 1440) + 1440) % 1440 !== 0) return Option.none()
  const fraction = (found[7] ?? "").padEnd(9, "0")
  return Option.some({
    milliseconds: (minutes * 60 + second) * 1000 + Number(fraction.slice(0, 3)),
    nanoseconds: Number(fraction.slice(3))
  })
}

/** Negative, zero or positive as `left` is before, at or after `right`. */
export const compareInstants = (left: Instant, right: Instant): number =>
  left.milliseconds - right.milliseconds || left.nanoseconds - right.nanoseconds

/** An instant of the service's own clock, in milliseconds since 1970, as it is answered: ISO 8601 in UTC. */
export const isoTime = (milliseconds: number): string => new Date(milliseconds).toISOString()
