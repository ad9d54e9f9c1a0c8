/**
 * Topics and topic patterns. A topic is the first half of an event's key, so it is normalised here, once, before
 * anything else sees it: two spellings of one topic are one topic.
 */
import { Option } from "effect"

/** The longest topic, in characters. */
export const topicCharactersMax = 255

const topicShape = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/

/** What a topic must look like, for people. */
export const topicRule = `1 to ${topicCharactersMax} characters: segments of a-z, 0-9, _ and -, joined by dots`

/**
 * The normalised (lower-case) form of a topic, or nothing where the text is not a topic. The shape is checked before
 * the case is folded: some characters outside ASCII have a lower case inside it.
 */
export const normaliseTopic = (text: string): Option.Option<string> =>
  text.length <= topicCharactersMax && topicShape.test(text) ? Option.some(text.toLowerCase()) : Option.none()

/** Whether a character may stand in a segment of a topic that is not normalised yet. */
export const isTopicCode = (code: number): boolean =>
  (code >= 0x61 && code <= 0x7a) ||
  (code >= 0x30 && code <= 0x39) ||
  (code >= 0x41 && code <= 0x5a) ||
  code === 0x5f ||
  code === 0x2d

/** A set of topics: one topic, or every topic of a shape. */
export type TopicPattern =
  | { readonly _tag: "Exact"; readonly topic: string }
  | { readonly _tag: "Wildcard"; readonly segments: ReadonlyArray<string>; readonly rest: boolean }

/** What a pattern must look like, for people. */
export const topicPatternRule = `a topic, in which * stands for one segment and a last > for one or more`

/**
 * Reads a pattern: an exact topic; `system.*` for every topic with exactly one more segment; `system.>` for every
 * topic with at least one more. `*` may stand for any segment, `>` only for the last.
 */
export const parseTopicPattern = (text: string): Option.Option<TopicPattern> => {
  if (text.length > topicCharactersMax) return Option.none()
  const segments = text.split(".")
  const rest = segments.at(-1) === ">"
  const named = rest ? segments.slice(0, -1) : segments
  if (!rest && !named.includes("*")) {
    return Option.map(normaliseTopic(text), (topic) => ({ _tag: "Exact", topic }))
  }
  return named.every((segment) => segment === "*" || topicShape.test(segment))
    ? Option.some({ _tag: "Wildcard", segments: named.map((segment) => segment.toLowerCase()), rest })
    : Option.none()
}

/** Whether a normalised topic belongs to a pattern. */
export const matchesTopic = (pattern: TopicPattern, topic: string): boolean => {
  if (pattern._tag === "Exact") return pattern.topic === topic
  const segments = topic.split(".")
  const wanted = pattern.segments.length
  if (pattern.rest ? segments.length <= wanted : segments.length !== wanted) return false
  return pattern.segments.every((segment, index) => segment === "*" || segment === segments[index])
}
