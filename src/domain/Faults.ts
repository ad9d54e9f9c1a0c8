/**
 * How faults of an input are told: each with a JSON pointer to where it lies and what is wrong there. The service tells
 * a publisher so, and the client tells it in the same words before it sends anything.
 */
import type { ParseResult } from "effect"
import type { Fault } from "./Errors.ts"

/** A JSON pointer (RFC 6901) to what a path leads to. */
export const pointerOf = (path: ReadonlyArray<PropertyKey>): string =>
  path.map((step) => `/${String(step).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("")

/** The faults that a schema found, each at the path where it lies. */
export const faultsOf = (
  issues: ReadonlyArray<ParseResult.ArrayFormatterIssue>,
  at: (path: ReadonlyArray<PropertyKey>) => string
): ReadonlyArray<Fault> =>
  issues.map(({ _tag, path, message }) => ({
    pointer: at(path),
    detail: _tag === "Missing" ? "is missing" : _tag === "Unexpected" ? "is not known here" : message
  }))
