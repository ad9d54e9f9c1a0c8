/**
 * Topics: every spelling of a topic is one topic, what is no topic is refused whatever its lower case looks like, and a
 * pattern means what its segments say.
 */
import { Option } from "effect"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import {
  matchesTopic,
  normaliseTopic,
  parseTopicPattern,
  topicCharactersMax
} from "../../src/domain/Topic.ts"
import { anyTopic } from "../support/events.ts"

const normalised = (text: string) => Option.getOrNull(normaliseTopic(text))

const matches = (pattern: string, topic: string) =>
  matchesTopic(Option.getOrThrow(parseTopicPattern(pattern)), topic)

// Writes some letters in upper case.
const respelled = (text: string): fc.Arbitrary<string> =>
  fc
    .infiniteStream(fc.boolean())
    .map((upper) => [...text].map((letter) => (upper.next().value ? letter.toUpperCase() : letter)).join(""))

describe("a topic", () => {
  it("is segments of letters, digits, _ and -, joined by dots, folded to lower case", () => {
    expect(normalised("system.metrics.cpu")).toBe("system.metrics.cpu")
    expect(normalised("System.METRICS.Cpu-0_1")).toBe("system.metrics.cpu-0_1")
    expect(normalised("a")).toBe("a")
    expect(normalised("-")).toBe("-")
  })

  it.each([
    ["empty", ""],
    ["an empty segment", "a..b"],
    ["an empty first segment", ".a"],
    ["an empty last segment", "a."],
    ["a space", "a b"],
    ["a space around", " a"],
    ["a line feed at the end", "a\n"],
    ["a slash", "a/b"],
    ["a wildcard", "a.*"],
    ["a wildcard for the rest", "a.>"],
    ["an accent", "café"],
    ["the Kelvin sign, whose lower case is an ASCII k", "\u212Aelvin"],
    ["a capital I with a dot, whose lower case begins with an ASCII i", "\u0130stanbul"],
    ["a long s, whose upper case is an ASCII S", "\u017Fystem"],
    ["a full-width letter", "\uFF41"],
    ["a NUL", "a\0"]
  ])("is not text with %s", (_, text) => {
    expect(normalised(text)).toBeNull()
    expect(Option.isNone(parseTopicPattern(text)) || text.includes("*") || text.includes(">")).toBe(true)
  })

  it(`has at most ${topicCharactersMax} characters`, () => {
    const longest = "a".repeat(topicCharactersMax)
    expect(normalised(longest)).toBe(longest)
    expect(normalised(`${longest}a`)).toBeNull()
    expect(Option.isNone(parseTopicPattern(`${longest.slice(0, -1)}.>`))).toBe(true)
  })

  it("G2: every spelling of a topic is the same topic, and its normal form is its own", () => {
    fc.assert(
      fc.property(
        anyTopic.chain((topic) => fc.tuple(fc.constant(topic), respelled(topic))),
        ([topic, spelling]) => {
          expect(normalised(spelling)).toBe(topic)
          expect(normalised(topic)).toBe(topic)
        }
      )
    )
  })

  it("is pure ASCII and in lower case, whatever text it came from", () => {
    const text = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.string({ unit: fc.constantFrom(..."aK\u212A\u0130.") })
    )
    fc.assert(
      fc.property(text, (text) => {
        const topic = normalised(text)
        if (topic !== null) expect(topic).toMatch(/^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/)
        if (topic !== null) expect(topic).toHaveLength(text.length)
      })
    )
  })
})

describe("a topic pattern", () => {
  it("is a topic, in any spelling, for that topic alone", () => {
    expect(matches("System.CPU", "system.cpu")).toBe(true)
    expect(matches("system.cpu", "system.cpu.0")).toBe(false)
    expect(matches("system.cpu", "system")).toBe(false)
  })

  it("holds * for exactly one segment, anywhere", () => {
    expect(matches("system.*", "system.cpu")).toBe(true)
    expect(matches("SYSTEM.*", "system.cpu")).toBe(true)
    expect(matches("system.*", "system")).toBe(false)
    expect(matches("system.*", "system.cpu.0")).toBe(false)
    expect(matches("*.cpu", "system.cpu")).toBe(true)
    expect(matches("*.cpu", "cpu")).toBe(false)
    expect(matches("a.*.c", "a.b.c")).toBe(true)
    expect(matches("a.*.c", "a.b.d")).toBe(false)
    expect(matches("*", "a")).toBe(true)
    expect(matches("*", "a.b")).toBe(false)
  })

  it("ends in > for one segment or more", () => {
    expect(matches("system.>", "system.cpu")).toBe(true)
    expect(matches("system.>", "system.cpu.0")).toBe(true)
    expect(matches("system.>", "system")).toBe(false)
    expect(matches("system.>", "systems.cpu")).toBe(false)
    expect(matches(">", "a")).toBe(true)
    expect(matches(">", "a.b.c")).toBe(true)
    expect(matches("*.>", "a")).toBe(false)
    expect(matches("*.>", "a.b.c")).toBe(true)
  })

  it.each([
    "",
    ".",
    "a..*",
    "*.",
    ".>",
    ">.a",
    "a.>.b",
    "a*",
    "a.b*",
    ">>",
    "**",
    "\u212A.*",
    "a .*",
    "a.*\n"
  ])("is not %j", (text) => {
    expect(Option.isNone(parseTopicPattern(text))).toBe(true)
  })

  it("made out of a topic by replacing segments matches that topic", () => {
    const pattern = anyTopic.chain((topic) => {
      const segments = topic.split(".")
      return fc.record({
        topic: fc.constant(topic),
        stars: fc.array(fc.boolean(), { minLength: segments.length, maxLength: segments.length }),
        cut: fc.option(fc.nat(segments.length - 1))
      })
    })
    fc.assert(
      fc.property(pattern, ({ topic, stars, cut }) => {
        const segments = topic.split(".").map((segment, index) => (stars[index] ? "*" : segment))
        const text = (cut === null ? segments : [...segments.slice(0, cut), ">"]).join(".")
        expect(matches(text, topic)).toBe(true)
        // One segment more belongs to it only where the rest was left open.
        expect(matches(text, `${topic}.more`)).toBe(cut !== null)
      })
    )
  })
})
