/**
 * JSON as text, with JSON.parse as the oracle: where values and members lie, what remains without white space, and when
 * two texts say the same, however they are spelled. Spellings are made up: white space, escapes and ways to write a
 * number, in every place where JSON allows them.
 */
import { isDeepStrictEqual } from "node:util"
import { Script } from "node:vm"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { type Event, sameContent } from "../../src/domain/Event.ts"
import { compactAt, elementsAt, extentAt, membersAt, sameJson, skipSpace } from "../../src/domain/Json.ts"
import { anyJsonText, anyNumberText, makeEvent } from "../support/events.ts"

/** Makes the choices of a spelling out of a list that fast-check shrinks. */
type Choose = (below: number) => number

const anyChoices: fc.Arbitrary<ReadonlyArray<number>> = fc.array(fc.nat(999), { minLength: 1, maxLength: 40 })

const chooser = (choices: ReadonlyArray<number>): Choose => {
  let next = 0
  return (below) => (choices[next++ % choices.length] ?? 0) % below
}

const space = (choose: Choose): string => ["", "", "", " ", "\n", "\r\n", "\t", "  \t"][choose(8)] ?? ""

const spellString = (text: string, choose: Choose): string => {
  const short: Readonly<Record<string, string>> = {
    '"': '\\"',
    "\\": "\\\\",
    "/": "\\/",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t"
  }
  const units = text.split("").map((unit) => {
    const code = unit.charCodeAt(0)
    const raw = code >= 0x20 && unit !== '"' && unit !== "\\"
    const hex = code.toString(16).padStart(4, "0")
    const ways = [
      `\\u${hex}`,
      `\\u${hex.toUpperCase()}`,
      ...(short[unit] === undefined ? [] : [short[unit]]),
      ...(raw ? [unit, unit, unit] : [])
    ]
    return ways[choose(ways.length)] ?? ""
  })
  return `"${units.join("")}"`
}

// Only ways that leave the value as it is.
const spellNumber = (text: string, choose: Choose): string => {
  const fraction = text.includes(".") || /e/i.test(text) ? "" : ".0"
  const ways = [
    text,
    text,
    ...(/e/i.test(text) ? [] : [`${text}${fraction}`, `${text}e0`, `${text}${fraction}E-00`])
  ]
  return ways[choose(ways.length)] ?? text
}

// Spells a value; with `shuffle`, the members of its objects come in another order too.
const spell = (value: unknown, choose: Choose, shuffle = false): string => {
  const inner = (): string => {
    if (typeof value === "string") return spellString(value, choose)
    if (typeof value === "number") return spellNumber(JSON.stringify(value), choose)
    if (Array.isArray(value)) {
      const items = value.map((item) => spell(item, choose, shuffle))
      return `[${items.length === 0 ? space(choose) : items.join(",")}]`
    }
    if (typeof value === "object" && value !== null) {
      const members = Object.entries(value).map(
        ([name, member]) =>
          `${space(choose)}${spellString(name, choose)}${space(choose)}:${spell(member, choose, shuffle)}`
      )
      if (shuffle) members.sort(() => choose(3) - 1)
      return `{${members.length === 0 ? space(choose) : members.join(",")}}`
    }
    return String(value)
  }
  return `${space(choose)}${inner()}${space(choose)}`
}

/** A value that JSON.parse gives, so that what JSON cannot tell apart (-0) is not told apart. */
const anyValue: fc.Arbitrary<unknown> = fc
  .oneof(fc.jsonValue({ maxDepth: 4 }), fc.jsonValue({ maxDepth: 2, stringUnit: "binary" }))
  .map((value) => JSON.parse(JSON.stringify(value)) as unknown)

/** A value, and a text that spells it. */
const anySpelling = fc
  .tuple(anyValue, anyChoices)
  .map(([value, choices]) => ({ value, text: spell(value, chooser(choices)) }))

/** Any JSON text: of fast-check, with JavaScript's spelling; of our spelling; and with numbers that are exact. */
const anyText: fc.Arbitrary<string> = fc.oneof(
  fc.json(),
  anySpelling.map(({ text }) => text),
  anyJsonText
)

const parse = (text: string): unknown => JSON.parse(text)
const within = (text: string, { start, end }: { readonly start: number; readonly end: number }) =>
  text.slice(start, end)

// What is left of a text when its strings are taken out.
const outsideStrings = (text: string) => text.replace(/"(?:[^"\\]|\\.)*"/gs, '""')
const withoutSpace = (text: string) =>
  text.replace(/("(?:[^"\\]|\\.)*")|\s+/gs, (_, string: string | undefined) => string ?? "")

const depthOf = (value: unknown): number =>
  typeof value === "object" && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0

describe("where values lie", () => {
  it("an extent is the value's own text, with its depth and whether it has white space", () => {
    fc.assert(
      fc.property(anyText, fc.constantFrom("", ",", "]", "}", " ]", "\n"), (text, behind) => {
        const start = skipSpace(text, 0)
        const extent = extentAt(text + behind, start)
        expect(within(text, extent)).toBe(text.slice(start).replace(/[ \n\r\t]+$/, ""))
        expect(extent.depth).toBe(depthOf(parse(text)))
        expect(extent.spaced).toBe(/\s/.test(outsideStrings(within(text, extent))))
      }),
      { numRuns: 500 }
    )
  })

  it("the elements of an array are its elements, in their order", () => {
    fc.assert(
      fc.property(fc.array(anyValue, { maxLength: 6 }), anyChoices, (values, choices) => {
        const text = spell(values, chooser(choices))
        const elements = elementsAt(text, skipSpace(text, 0))
        expect(elements.map((extent) => parse(within(text, extent)))).toEqual(values)
      })
    )
  })

  it("the members of an object are its members, in the order of the text", () => {
    const members = fc.array(
      fc.tuple(fc.oneof(fc.string({ unit: "binary" }), fc.constant("__proto__")), anyValue),
      {
        maxLength: 6
      }
    )
    fc.assert(
      fc.property(members, anyChoices, (members, choices) => {
        const choose = chooser(choices)
        const parts = members.map(
          ([name, value]) =>
            `${space(choose)}${spellString(name, choose)}${space(choose)}:${spell(value, choose)}`
        )
        const text = `${space(choose)}{${parts.length === 0 ? space(choose) : parts.join(",")}}`
        const found = membersAt(text, skipSpace(text, 0))
        expect(found.map(({ name, value }) => [name, parse(within(text, value))])).toEqual(members)
        // JSON.parse keeps the last of those that repeat a name.
        const parsed = parse(text) as Record<string, unknown>
        const last = new Map(found.map(({ name, value }) => [name, parse(within(text, value))]))
        expect(new Map(Object.entries(parsed))).toEqual(last)
      })
    )
  })

  it("a quote ends a string unless an odd number of backslashes stands before it", () => {
    for (const text of ['"\\""', '"\\\\"', '"\\\\\\""', '"\\\\\\\\"', '"a\\\\\\"b"']) {
      expect(extentAt(`${text},"x"`, 0).end).toBe(text.length)
    }
    expect(membersAt('{"a\\\\":1,"b\\"}":2}', 0).map(({ name }) => name)).toEqual(["a\\", 'b"}'])
  })
})

describe("a compact text", () => {
  it("is the same value without white space outside of strings, and nothing else is touched", () => {
    fc.assert(
      fc.property(anyText, (text) => {
        const compact = compactAt(text, extentAt(text, skipSpace(text, 0)))
        expect(outsideStrings(compact)).not.toMatch(/\s/)
        expect(compact).toBe(withoutSpace(text))
        expect(isDeepStrictEqual(parse(compact), parse(text))).toBe(true)
        expect(sameJson(compact, text)).toBe(true)
      }),
      { numRuns: 500 }
    )
  })

  it("keeps numbers as they were written, names that repeat, and white space in strings", () => {
    const text = ' { "a" : 12345678901234567890 ,\n "a" : 1.0 , " b\\" " : [ -0 , 1E+2 ] } '
    expect(compactAt(text, extentAt(text, 1))).toBe('{"a":12345678901234567890,"a":1.0," b\\" ":[-0,1E+2]}')
  })
})

describe("the same JSON", () => {
  it("is said by every spelling of a value, its members in any order", () => {
    fc.assert(
      fc.property(anyValue, anyChoices, anyChoices, (value, some, others) => {
        const left = spell(value, chooser(some))
        const right = spell(value, chooser(others), true)
        expect(sameJson(left, right)).toBe(true)
        expect(sameJson(right, left)).toBe(true)
      }),
      { numRuns: 500 }
    )
  })

  it("is said by two texts exactly where JSON.parse gives equal values, as far as doubles are exact", () => {
    // Few values, so that many pairs are equal, and many nearly.
    const value = fc.letrec<{ value: unknown }>((tie) => ({
      value: fc.oneof(
        { maxDepth: 3, depthSize: "small" },
        fc.constantFrom<unknown>(null, true, false, 0, 1, -1, 0.5, 100, "", "1", "a", "é", "e\u0301"),
        fc.array(tie("value"), { maxLength: 2 }),
        fc.dictionary(fc.constantFrom("a", "b", ""), tie("value"), { maxKeys: 2, noNullPrototype: true })
      )
    })).value
    fc.assert(
      fc.property(value, value, anyChoices, (left, right, choices) => {
        const choose = chooser(choices)
        const same = sameJson(spell(left, choose), spell(right, choose, true))
        expect(same).toBe(isDeepStrictEqual(left, right))
      }),
      { numRuns: 1000 }
    )
  })

  it("is an equivalence: reflexive, symmetric, transitive", () => {
    const few = fc.oneof(
      fc.constantFrom(
        "1",
        "1.0",
        "10e-1",
        "[1]",
        "[1.0]",
        '{"a":1,"b":2}',
        '{"b":2,"a":1}',
        '{"a":1}',
        "-0",
        "0"
      ),
      anyText
    )
    fc.assert(
      fc.property(few, few, few, (a, b, c) => {
        expect(sameJson(a, a)).toBe(true)
        expect(sameJson(a, ` ${a}`)).toBe(true)
        expect(sameJson(a, b)).toBe(sameJson(b, a))
        if (sameJson(a, b)) expect(sameJson(a, c)).toBe(sameJson(b, c))
      }),
      { numRuns: 500 }
    )
  })

  it("compares numbers by their exact decimal value", () => {
    const groups = [
      ["1", "1.0", "10e-1", "1e0", "0.1E1", "100e-2", "1E+00", "0.00001e5"],
      ["0.1", "1e-1", "0.10", "100e-3"],
      ["0.10000000000000001"],
      ["12345678901234567890", "1234567890123456789e1", "12345678901234567890.00"],
      ["12345678901234567891"],
      ["9007199254740993", "9007199254740993.0"],
      ["9007199254740992"],
      ["0", "-0", "0.0", "0e99", "-0.000e-7"],
      ["-1", "-1.0"],
      ["1e400", "10e399", "0.1e401"],
      ["1e401"],
      ["1e-400"],
      ["1e99999999999999999999", "10e99999999999999999998"],
      ["1e99999999999999999998"]
    ]
    for (const [left, group] of groups.entries()) {
      for (const [right, other] of groups.entries()) {
        for (const a of group)
          for (const b of other) expect([a, b, sameJson(a, b)]).toEqual([a, b, left === right])
      }
    }
  })

  it("compares numbers as integers of one power of ten would", () => {
    const number = fc.stringMatching(/^-?(0|[1-9]\d{0,5})(\.\d{1,5})?(e[+-]?\d)?$/)
    const scaled = (text: string): bigint => {
      const [, sign, whole = "", fraction = "", exponent = "0"] =
        /^(-?)(\d+)(?:\.(\d+))?(?:e(.+))?$/.exec(text) ?? []
      return BigInt(`${sign}${whole}${fraction}`) * 10n ** BigInt(20 + Number(exponent) - fraction.length)
    }
    const pair = fc
      .tuple(number, number)
      .chain(([left, right]) =>
        fc.constantFrom([left, right], [left, left.replace("e", "0e")], [left, spellNumber(left, () => 2)])
      )
    fc.assert(
      fc.property(pair, ([left = "", right = ""]) => {
        fc.pre(/^-?(0|[1-9])/.test(right) && !/^-?0\d/.test(right))
        expect(sameJson(left, right)).toBe(scaled(left) === scaled(right))
      }),
      { numRuns: 1000 }
    )
  })

  it("tells strings apart by code point, not by look, and sees through escapes", () => {
    expect(sameJson('"é"', '"\\u00e9"')).toBe(true)
    expect(sameJson('"é"', '"e\\u0301"')).toBe(false)
    expect(sameJson('"😀"', '"\\ud83d\\uDE00"')).toBe(true)
    expect(sameJson('"\\ud83d"', '"\\ud83d"')).toBe(true)
    expect(sameJson('"\\ud83d"', '"\\ud83c"')).toBe(false)
    expect(sameJson('"\\/"', '"/"')).toBe(true)
    expect(sameJson('"1"', "1")).toBe(false)
    expect(sameJson('"null"', "null")).toBe(false)
  })

  it("tells structures apart", () => {
    expect(sameJson("[]", "{}")).toBe(false)
    expect(sameJson("[1,2]", "[2,1]")).toBe(false)
    expect(sameJson("[[1],2]", "[1,[2]]")).toBe(false)
    expect(sameJson('{"a":null}', "{}")).toBe(false)
    expect(sameJson('["a,b"]', '["a","b"]')).toBe(false)
    expect(sameJson('{"a":1}', '{"\\u0061":1}')).toBe(true)
    expect(sameJson('{"__proto__":1}', "{}")).toBe(false)
    expect(sameJson('{"1":0,"a":0}', '{"a":0,"1":0}')).toBe(true)
  })

  it("of an object that repeats a name needs the same values in the same order", () => {
    expect(sameJson('{"a":1,"a":2}', '{"a":1.0,"a":2}')).toBe(true)
    expect(sameJson('{"a":1,"b":0,"a":2}', '{"b":0,"a":1,"a":2}')).toBe(true)
    expect(sameJson('{"a":1,"a":2}', '{"a":2,"a":1}')).toBe(false)
    expect(sameJson('{"a":1,"a":2}', '{"a":2}')).toBe(false)
  })

  it("is decided in one pass, however long a number and however deep a nesting is", () => {
    const zeros = "0".repeat(300_000)
    const [inner, deep] = [`1${",1".repeat(100_000)}`, 500]
    const nested = (text: string) => "[".repeat(deep) + text + "]".repeat(deep)
    const pairs = [
      [`1${zeros}1`, `1${zeros}1.0`],
      [`0.${zeros}1`, `0.${zeros}10`],
      [nested(inner), nested(`${inner}.0`)]
    ]
    // A second pass for each zero would take minutes and stop everything meanwhile; so the test has to be stopped.
    const decide = () => pairs.every(([left = "", right = ""]) => sameJson(left, right))
    expect(new Script("decide()").runInNewContext({ decide }, { timeout: 30_000 })).toBe(true)
  })
})

describe("the same content", () => {
  it("G8: is an equal source and an equal payload; time, sequence and origin do not count", () => {
    const first = makeEvent({ eventId: "1", source: "a", payload: '{"x":1,"y":[2]}', sequence: 1 })
    const again = (change: Partial<Omit<Event, "time">>) =>
      sameContent(first, makeEvent({ ...first, ...change }))
    expect(again({})).toBe(true)
    expect(again({ timestamp: "2030-01-01T00:00:00Z", sequence: 2, origin: "other" })).toBe(true)
    expect(again({ payload: '{"y":[2.0],"x":1}' })).toBe(true)
    expect(again({ payload: '{"y":[2],"x":"1"}' })).toBe(false)
    expect(again({ source: "A" })).toBe(false)
  })

  it("of any number is that number's, written again", () => {
    fc.assert(
      fc.property(anyNumberText, anyChoices, (number, choices) => {
        const right = spellNumber(number, chooser(choices))
        expect(sameContent({ source: "s", payload: number }, { source: "s", payload: right })).toBe(true)
      })
    )
  })
})
