/**
 * Event time: a timestamp names an instant only if its date and time exist, and instants are ordered to the
 * nanosecond. `Date` is the oracle as far as it reaches, which is to the millisecond.
 */
import { Option } from "effect"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import {
  compareInstants,
  isoTime,
  parseAnyTimestamp,
  parseTimestamp,
  plainInstant
} from "../../src/domain/Timestamp.ts"
import { anyTimestamp, instant } from "../support/events.ts"

const exists = (text: string) => Option.isSome(parseTimestamp(text))

describe("a timestamp", () => {
  it.each([
    ["2026-11-22T10:00:00.123Z", Date.UTC(2026, 10, 22, 10, 0, 0, 123), 0],
    ["2026-11-22t10:00:00z", Date.UTC(2026, 10, 22, 10), 0],
    ["2026-11-22T10:00Z", Date.UTC(2026, 10, 22, 10), 0],
    ["2026-11-22T10:00:00,5Z", Date.UTC(2026, 10, 22, 10, 0, 0, 500), 0],
    ["2026-11-22T10:00:00.123456789Z", Date.UTC(2026, 10, 22, 10, 0, 0, 123), 456_789],
    ["2026-11-22T10:00:00.000000001Z", Date.UTC(2026, 10, 22, 10), 1],
    ["2026-11-22T17:00:00+07:00", Date.UTC(2026, 10, 22, 10), 0],
    ["2026-11-22T17:00:00+0700", Date.UTC(2026, 10, 22, 10), 0],
    ["2026-11-22T17:00:00+07", Date.UTC(2026, 10, 22, 10), 0],
    ["2026-11-22T00:30:00-09:30", Date.UTC(2026, 10, 22, 10), 0],
    ["2026-11-22T10:00:00-00:00", Date.UTC(2026, 10, 22, 10), 0],
    ["1969-12-31T23:59:59.9999Z", -1, 900_000],
    ["1970-01-01T00:00:00Z", 0, 0],
    ["0000-01-01T00:00:00Z", -62_167_219_200_000, 0],
    ["0099-12-31T00:00:00Z", -59_011_545_600_000, 0],
    ["9999-12-31T23:59:59.999999999Z", 253_402_300_799_999, 999_999]
  ])("%s names an instant", (text, milliseconds, nanoseconds) => {
    expect(instant(text)).toEqual({ milliseconds, nanoseconds })
  })

  it.each([
    "2024-02-29T00:00:00Z",
    "2000-02-29T00:00:00Z",
    "0000-02-29T00:00:00Z",
    "2026-01-31T00:00:00Z",
    "2026-04-30T23:59:59Z"
  ])("%s is a date that exists", (text) => {
    expect(exists(text)).toBe(true)
  })

  it.each([
    "2026-02-29T00:00:00Z",
    "1900-02-29T00:00:00Z",
    "2024-02-30T00:00:00Z",
    "2026-04-31T00:00:00Z",
    "2026-06-31T00:00:00Z",
    "2026-09-31T00:00:00Z",
    "2026-11-31T00:00:00Z",
    "2026-01-32T00:00:00Z",
    "2026-00-01T00:00:00Z",
    "2026-13-01T00:00:00Z",
    "2026-01-00T00:00:00Z",
    "2026-11-22T24:00:00Z",
    "2026-11-22T10:60:00Z",
    "2026-11-22T10:00:61Z",
    "2026-11-22T10:00:00+24:00",
    "2026-11-22T10:00:00+07:60",
    "2026-11-22T10:00:00",
    "2026-11-22 10:00:00Z",
    "2026-11-22",
    "2026-11-22T10Z",
    "2026-11-22T10:00:00.Z",
    "2026-11-22T10:00:00.1234567890Z",
    "2026-11-22T10:00.5Z",
    "26-11-22T10:00:00Z",
    "+002026-11-22T10:00:00Z",
    "2026-1-22T10:00:00Z",
    "2026-11-22T1:00:00Z",
    "2026-326T10:00:00Z",
    "20261122T100000Z",
    "2026-11-22T10:00:00 Z",
    " 2026-11-22T10:00:00Z",
    "2026-11-22T10:00:00Z\n",
    "٢٠٢٦-11-22T10:00:00Z",
    "now",
    ""
  ])("%j names none", (text) => {
    expect(exists(text)).toBe(false)
  })

  it("may name a leap second only where a UTC day ends, in any zone; it is the first instant of the next day", () => {
    const next = Date.UTC(2017, 0, 1)
    expect(instant("2016-12-31T23:59:60Z")).toEqual({ milliseconds: next, nanoseconds: 0 })
    expect(instant("2017-01-01T06:59:60+07:00")).toEqual({ milliseconds: next, nanoseconds: 0 })
    expect(instant("2016-12-31T19:59:60.25-04:00")).toEqual({ milliseconds: next + 250, nanoseconds: 0 })
    expect(instant("1969-12-31T23:59:60Z")).toEqual({ milliseconds: 0, nanoseconds: 0 })
    expect(instant("1960-12-31T23:59:60Z")).toEqual({ milliseconds: Date.UTC(1961, 0, 1), nanoseconds: 0 })
    expect(exists("2016-12-31T22:59:60Z")).toBe(false)
    expect(exists("2016-12-31T23:59:60+07:00")).toBe(false)
    expect(exists("2016-12-31T23:59:61Z")).toBe(false)
  })

  it("names the instant that Date gives it, to the millisecond", () => {
    fc.assert(
      fc.property(anyTimestamp, (text) => {
        // Date reads at most three digits of a fraction, and needs the seconds.
        const known = text.replace(/\.(\d{1,3})\d*/, ".$1")
        expect(instant(text).milliseconds).toBe(new Date(known).getTime())
      }),
      { numRuns: 500 }
    )
  })

  it("exists exactly where Date gives the same fields back", () => {
    const field = (most: number) =>
      fc.integer({ min: 0, max: most }).map((value) => String(value).padStart(2, "0"))
    const year = fc.integer({ min: 0, max: 9999 }).map((value) => String(value).padStart(4, "0"))
    // Second 60 is left out: Date knows no leap seconds.
    const secondOrMore = field(63).filter((second) => second !== "60")
    const text = fc
      .tuple(year, field(14), field(33), field(25), field(61), secondOrMore)
      .map(
        ([year, month, day, hour, minute, second]) => `${year}-${month}-${day}T${hour}:${minute}:${second}Z`
      )
    fc.assert(
      fc.property(text, (text) => {
        const date = new Date(text)
        const same = !Number.isNaN(date.getTime()) && date.toISOString() === text.replace("Z", ".000Z")
        expect(exists(text)).toBe(same)
      }),
      { numRuns: 1000 }
    )
  })
})

describe("a plain timestamp", () => {
  it("names the instant that it names among all others, if it is taken", () => {
    const harmed = fc
      .tuple(anyTimestamp, fc.nat(30), fc.nat(1), fc.constantFrom("", "Z", ".", "9", "0", "-", "+", " ", "é"))
      .map(([text, at, removed, added]) => text.slice(0, at) + added + text.slice(at + removed))
    let taken = 0
    fc.assert(
      fc.property(fc.oneof(anyTimestamp, harmed), (text) => {
        const plain = plainInstant(text)
        if (plain === undefined) return
        taken++
        expect(Option.some(plain)).toEqual(parseAnyTimestamp(text))
      }),
      { numRuns: 3000 }
    )
    expect(taken).toBeGreaterThan(100)
  })
})

describe("the order of instants", () => {
  it("is exact to the nanosecond, where milliseconds are equal and before 1970 too", () => {
    const ordered = [
      "1969-12-31T23:59:59.999999998Z",
      "1969-12-31T23:59:59.999999999Z",
      "1970-01-01T00:00:00Z",
      "1970-01-01T00:00:00.000000001Z",
      "2026-11-22T10:00:00.123456788Z",
      "2026-11-22T17:00:00.123456789+07:00",
      "2026-11-22T10:00:00.124Z"
    ].map(instant)
    for (const [left, one] of ordered.entries()) {
      for (const [right, other] of ordered.entries()) {
        expect(Math.sign(compareInstants(one, other))).toBe(Math.sign(left - right))
      }
    }
  })

  it("agrees with the nanoseconds counted as one big number", () => {
    const close = fc.tuple(anyTimestamp, anyTimestamp).chain(([left, right]) =>
      // Half of the pairs differ in their fraction alone.
      fc
        .boolean()
        .map((near) => [left, near ? left.replace(/(\.\d+)?(Z|[+-]\d\d:\d\d)$/, ".000000001$2") : right])
    )
    const nanoseconds = (text: string) => {
      const { milliseconds, nanoseconds } = instant(text)
      expect(nanoseconds).toBeGreaterThanOrEqual(0)
      expect(nanoseconds).toBeLessThan(1_000_000)
      return BigInt(milliseconds) * 1_000_000n + BigInt(nanoseconds)
    }
    fc.assert(
      fc.property(close, ([left = "", right = ""]) => {
        const difference = nanoseconds(left) - nanoseconds(right)
        const sign = difference < 0n ? -1 : difference > 0n ? 1 : 0
        expect(Math.sign(compareInstants(instant(left), instant(right)))).toBe(sign)
      })
    )
  })
})

it("a wall clock's time is written so that it is read back as the same instant", () => {
  expect(isoTime(0)).toBe("1970-01-01T00:00:00.000Z")
  fc.assert(
    fc.property(fc.integer({ min: Date.UTC(1, 0), max: Date.UTC(9999, 11, 31) }), (milliseconds) => {
      expect(instant(isoTime(milliseconds))).toEqual({ milliseconds, nanoseconds: 0 })
    })
  )
})
