/**
 * JSON as text. A payload is kept as the text that was sent, less insignificant white space, so that it comes back as
 * an equal value: no number is rounded to what JavaScript can hold, no member is lost. What needs to look into such a
 * text (where its members lie, whether two texts say the same) is here. Except where said otherwise these functions
 * are given text that `JSON.parse` has accepted, and do not check it again.
 */

/** The deepest nesting that is taken, counted in arrays and objects; deeper text is refused, not recursed into. */
export const jsonDepthMax = 500

/** Where a value lies in its text: from `start` up to, not including, `end`. */
export interface Extent {
  readonly start: number
  readonly end: number
  /** The most arrays and objects that lie inside each other. */
  readonly depth: number
  /** Whether there is white space in it outside of strings. */
  readonly spaced: boolean
}

/** A member of an object: its name, and where its value lies. */
export interface Member {
  readonly name: string
  readonly value: Extent
}

const quote = 0x22
const backslash = 0x5c
const comma = 0x2c
const openBracket = 0x5b
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d
const zero = 0x30

/** Whether a character is white space of JSON. */
export const isSpace = (code: number): boolean =>
  code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09

/** The first position from `at` on that is not white space, or `end`. */
export const skipSpace = (text: string, at: number, end = text.length): number => {
  let position = at
  while (position < end && isSpace(text.charCodeAt(position))) position++
  return position
}

// The position after the string that opens at `at`. A quote ends it unless an odd number of backslashes precedes it.
const skipString = (text: string, at: number): number => {
  let end = text.indexOf('"', at + 1)
  for (;;) {
    let slashes = 0
    while (text.charCodeAt(end - 1 - slashes) === backslash) slashes++
    if (slashes % 2 === 0) return end + 1
    end = text.indexOf('"', end + 1)
  }
}

/** The value that begins at `at`, which must not be white space. */
export const extentAt = (text: string, at: number): Extent => {
  const first = text.charCodeAt(at)
  if (first === quote) return { start: at, end: skipString(text, at), depth: 0, spaced: false }
  let position = at
  let open = 0
  let depth = 0
  let spaced = false
  do {
    const code = text.charCodeAt(position)
    if (code === quote) {
      position = skipString(text, position)
      continue
    }
    if (code === openBrace || code === openBracket) depth = Math.max(depth, ++open)
    else if (code === closeBrace || code === closeBracket) open--
    else if (isSpace(code)) spaced = true
    position++
  } while (open > 0)
  if (first !== openBrace && first !== openBracket) {
    while (position < text.length && !endsScalar(text.charCodeAt(position))) position++
  }
  return { start: at, end: position, depth, spaced }
}

const endsScalar = (code: number): boolean =>
  code === comma || code === closeBrace || code === closeBracket || isSpace(code)

/**
 * The members of the object that begins at `at`, in the order of the text, a repeated name each time it stands there;
 * no more than the first `membersMax`.
 */
export const membersAt = (
  text: string,
  at: number,
  membersMax = Number.POSITIVE_INFINITY
): ReadonlyArray<Member> => {
  const members: Array<Member> = []
  let position = skipSpace(text, at + 1)
  while (members.length < membersMax && text.charCodeAt(position) !== closeBrace) {
    const { name, valueAt } = nameAt(text, position)
    const value = extentAt(text, valueAt)
    members.push({ name, value })
    position = nextItem(text, value.end)
  }
  return members
}

// The name of the member that begins at `at`, and where its value begins.
const nameAt = (text: string, at: number): { readonly name: string; readonly valueAt: number } => {
  const end = skipString(text, at)
  const raw = text.slice(at + 1, end - 1)
  const name = raw.includes("\\") ? (JSON.parse(`"${raw}"`) as string) : raw
  return { name, valueAt: skipSpace(text, skipSpace(text, end) + 1) }
}

/** Where the elements of the array that begins at `at` lie. */
export const elementsAt = (text: string, at: number): ReadonlyArray<Extent> => {
  const elements: Array<Extent> = []
  let position = skipSpace(text, at + 1)
  while (text.charCodeAt(position) !== closeBracket) {
    const element = extentAt(text, position)
    elements.push(element)
    position = nextItem(text, element.end)
  }
  return elements
}

const nextItem = (text: string, end: number): number => {
  const position = skipSpace(text, end)
  return text.charCodeAt(position) === comma ? skipSpace(text, position + 1) : position
}

/** The value at an extent without insignificant white space: one line, the same members in the same order. */
export const compactAt = (text: string, extent: Extent): string => {
  if (!extent.spaced) return text.slice(extent.start, extent.end)
  const parts: Array<string> = []
  let from = extent.start
  let position = extent.start
  while (position < extent.end) {
    const code = text.charCodeAt(position)
    if (code === quote) {
      position = skipString(text, position)
    } else if (isSpace(code)) {
      parts.push(text.slice(from, position))
      position = skipSpace(text, position)
      from = position
    } else {
      position++
    }
  }
  parts.push(text.slice(from, extent.end))
  return parts.join("")
}

/**
 * Whether two texts are the same JSON value: strings by code point, numbers by exact decimal value, members in any
 * order. An object that repeats a name equals only one that repeats it with the same values in the same order.
 */
export const sameJson = (left: string, right: string): boolean =>
  left === right ||
  canonicalAt(left, skipSpace(left, 0)).text === canonicalAt(right, skipSpace(right, 0)).text

interface Canonical {
  readonly text: string
  /** Where the value ends in the text that it was read from. */
  readonly end: number
}

// One pass, however deep the value is nested.
const canonicalAt = (text: string, at: number): Canonical => {
  const first = text.charCodeAt(at)
  if (first === openBracket) {
    const elements: Array<string> = []
    let position = skipSpace(text, at + 1)
    while (text.charCodeAt(position) !== closeBracket) {
      const element = canonicalAt(text, position)
      elements.push(element.text)
      position = nextItem(text, element.end)
    }
    return { text: `[${elements.join(",")}]`, end: position + 1 }
  }
  if (first === openBrace) {
    const members: Array<readonly [name: string, value: string]> = []
    let position = skipSpace(text, at + 1)
    while (text.charCodeAt(position) !== closeBrace) {
      const { name, valueAt } = nameAt(text, position)
      const value = canonicalAt(text, valueAt)
      members.push([name, value.text])
      position = nextItem(text, value.end)
    }
    members.sort(([left], [right]) => (left < right ? -1 : left > right ? 1 : 0))
    const parts = members.map(([name, value]) => `${JSON.stringify(name)}:${value}`)
    return { text: `{${parts.join(",")}}`, end: position + 1 }
  }
  const { end } = extentAt(text, at)
  const scalar = text.slice(at, end)
  if (first === quote) return { text: JSON.stringify(JSON.parse(scalar)), end }
  return { text: /^[tfn]/.test(scalar) ? scalar : canonicalNumber(scalar), end }
}

// One text for each decimal value: the significant digits without leading or trailing zeros, and a power of ten. The
// exponent is as long as the publisher pleases, hence the big integers.
const canonicalNumber = (text: string): string => {
  const [, sign = "", whole = "", fraction = "", exponent = "0"] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text) ?? []
  const digits = (whole + fraction).replace(/^0+/, "")
  const significant = digits.slice(0, digitsEnd(digits))
  if (significant === "") return "0"
  const power = BigInt(exponent) - BigInt(fraction.length) + BigInt(digits.length - significant.length)
  return `${sign}${significant}e${power}`
}

// Where the trailing zeros begin. A pattern such as /0+$/ would try every zero inside a long number again and again.
const digitsEnd = (digits: string): number => {
  let end = digits.length
  while (digits.charCodeAt(end - 1) === zero) end--
  return end
}
