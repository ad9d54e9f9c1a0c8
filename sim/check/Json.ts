/**
 * JSON as the checker reads it: strictly, and without rounding what matters. The value of every member called `payload`
 * is given as its canonical text, which is the same for two texts exactly if they are the same JSON value: strings by
 * code point, numbers by their exact decimal value, members in any order. Everything else is given as plain values.
 */

/** A JSON object, whose members may bear any name. */
export type JsonObject = ReadonlyMap<string, Json>

/** A JSON value. */
export type Json = null | boolean | number | string | ReadonlyArray<Json> | JsonObject

/** The text is not JSON. */
export class NotJson extends Error {
  override readonly name = "NotJson"
}

/** Reads a whole text. */
export const readJson = (text: string): Json => {
  const reader = new Reader(text)
  const value = reader.value()
  reader.end()
  return value
}

/** The canonical text of a JSON text. An object that repeats a name keeps all of them, in their order. */
export const canonicalJson = (text: string): string => {
  const reader = new Reader(text)
  const value = reader.canonical()
  reader.end()
  return value
}

const numberShape = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const spaceShape = /[ \t\n\r]*/y

class Reader {
  private readonly text: string
  private at = 0

  constructor(text: string) {
    this.text = text
  }

  value(): Json {
    switch (this.next()) {
      case "{": {
        const members = new Map<string, Json>()
        this.members((name) => {
          members.set(name, name === "payload" ? this.canonical() : this.value())
        })
        return members
      }
      case "[": {
        const elements: Array<Json> = []
        this.elements(() => elements.push(this.value()))
        return elements
      }
      case '"':
        return this.string()
      case "t":
        return this.word("true", true)
      case "f":
        return this.word("false", false)
      case "n":
        return this.word("null", null)
      default:
        return Number(this.number())
    }
  }

  canonical(): string {
    switch (this.next()) {
      case "{": {
        const members: Array<readonly [string, string]> = []
        this.members((name) => members.push([name, this.canonical()]))
        members.sort(([left], [right]) => (left < right ? -1 : left > right ? 1 : 0))
        return `{${members.map(([name, value]) => `${JSON.stringify(name)}:${value}`).join()}}`
      }
      case "[": {
        const elements: Array<string> = []
        this.elements(() => elements.push(this.canonical()))
        return `[${elements.join()}]`
      }
      case '"':
        return JSON.stringify(this.string())
      case "t":
        return this.word("true", "true")
      case "f":
        return this.word("false", "false")
      case "n":
        return this.word("null", "null")
      default:
        return canonicalNumber(this.number())
    }
  }

  end(): void {
    if (this.next() !== "") this.fail()
  }

  /** Skips white space; the character that follows, or nothing at the end. */
  private next(): string {
    const code = this.text.charCodeAt(this.at)
    if (code <= 0x20) {
      spaceShape.lastIndex = this.at
      spaceShape.exec(this.text)
      this.at = spaceShape.lastIndex
    }
    return this.text.charAt(this.at)
  }

  private members(member: (name: string) => void): void {
    this.at++
    if (this.next() === "}") {
      this.at++
      return
    }
    for (;;) {
      if (this.next() !== '"') this.fail()
      const name = this.string()
      if (this.next() !== ":") this.fail()
      this.at++
      member(name)
      if (this.closes("}")) return
    }
  }

  private elements(element: () => void): void {
    this.at++
    if (this.next() === "]") {
      this.at++
      return
    }
    for (;;) {
      element()
      if (this.closes("]")) return
    }
  }

  private closes(bracket: string): boolean {
    const next = this.next()
    if (next !== bracket && next !== ",") this.fail()
    this.at++
    return next === bracket
  }

  private string(): string {
    const start = this.at
    for (let at = start + 1; ; at++) {
      const code = this.text.charCodeAt(at)
      if (code === 0x22) {
        this.at = at + 1
        return this.text.slice(start + 1, at)
      }
      if (code === 0x5c) return this.escapedString(start)
      // Not a number at the end of the text.
      if (!(code >= 0x20)) this.fail()
    }
  }

  private escapedString(start: number): string {
    let at = start + 1
    while (at < this.text.length && this.text[at] !== '"') at += this.text[at] === "\\" ? 2 : 1
    this.at = at + 1
    try {
      return JSON.parse(this.text.slice(start, this.at)) as string
    } catch {
      return this.fail()
    }
  }

  private word<A>(word: string, value: A): A {
    if (!this.text.startsWith(word, this.at)) this.fail()
    this.at += word.length
    return value
  }

  private number(): string {
    numberShape.lastIndex = this.at
    const found = numberShape.exec(this.text)
    if (found === null) return this.fail()
    this.at = numberShape.lastIndex
    return found[0]
  }

  private fail(): never {
    throw new NotJson(`not JSON at ${this.at}: ${this.text.slice(this.at, this.at + 20)}`)
  }
}

/** Integers of so many digits are written out; everything else as digits and a power of ten. */
const plainDigitsMax = 15

const canonicalNumber = (text: string): string => {
  if (text.length <= plainDigitsMax && /^-?\d+$/.test(text)) return text === "-0" ? "0" : text
  const negative = text.startsWith("-")
  const [mantissa = "", exponent = "0"] = text.slice(negative ? 1 : 0).split(/[eE]/)
  const [whole = "", fraction = ""] = mantissa.split(".")
  const digits = `${whole}${fraction}`.replace(/^0+/, "")
  const significant = digits.replace(/0+$/, "")
  if (significant === "") return "0"
  // The exponent may be longer than any number of JavaScript's.
  const power = BigInt(exponent) + BigInt(digits.length - significant.length - fraction.length)
  const sign = negative ? "-" : ""
  return power >= 0n && power + BigInt(significant.length) < plainDigitsMax
    ? `${sign}${significant}${"0".repeat(Number(power))}`
    : `${sign}${significant}e${power}`
}
