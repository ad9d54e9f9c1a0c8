/**
 * What passes between the service and the thread of its store comes out as it went in, after it was copied as a message
 * is.
 */
import { SqlError } from "@effect/sql/SqlError"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import {
  BackupFailed,
  BackupUnderWay,
  BackupUnsupported,
  CursorAhead,
  CursorLost,
  CursorOutside,
  StoreDamaged,
  StoreRefused,
  StoreUnavailable
} from "../../src/domain/Errors.ts"
import type { Outcome } from "../../src/domain/Event.ts"
import {
  packError,
  packEvents,
  packOutcomes,
  packStored,
  type StoreFailure,
  unpackError,
  unpackEvents,
  unpackOutcomes,
  unpackStored
} from "../../src/node/StoreMessages.ts"
import { anyEvent } from "../support/events.ts"

const sent = <A>(message: A): A => structuredClone(message)

const offset = fc.integer({ min: 1, max: 2 ** 52 })

describe("a message", () => {
  it("brings events as they were", () => {
    const events = fc.array(
      fc
        .tuple(anyEvent, fc.option(fc.nat()), fc.option(fc.constantFrom("store-1", "ß")))
        .map(([event, sequence, origin]) => ({ ...event, sequence, origin }))
    )
    fc.assert(
      fc.property(events, (list) => {
        expect(unpackEvents(sent(packEvents(list)))).toEqual(list)
      })
    )
  })

  it("brings stored events as they were", () => {
    const stored = fc
      .tuple(anyEvent, offset, fc.nat(), fc.boolean())
      .map(([event, offset, processedAt, late]) => ({ ...event, offset, processedAt, late }))
    fc.assert(
      fc.property(fc.array(stored), (list) => {
        expect(unpackStored(sent(packStored(list)))).toEqual(list)
      })
    )
  })

  it("brings outcomes as they were", () => {
    const outcome: fc.Arbitrary<Outcome> = fc.record({
      outcome: fc.constantFrom("stored" as const, "duplicate" as const, "conflict" as const),
      offset
    })
    fc.assert(
      fc.property(fc.array(outcome), (list) => {
        expect(unpackOutcomes(sent(packOutcomes(list)))).toEqual(list)
      })
    )
  })

  const driversOwn = Object.assign(new Error("disk I/O error"), { code: "SQLITE_IOERR_FSYNC" })
  const cause = new SqlError({ cause: driversOwn, message: "Failed to execute statement" })
  const failures: ReadonlyArray<StoreFailure> = [
    new StoreUnavailable({ trouble: "io", cause }),
    new StoreUnavailable({ trouble: "closed", cause: "the service is stopping" }),
    new StoreDamaged({ cause }),
    new StoreRefused({ reason: "in use", sentence: "The database x is in use by another process.", cause }),
    new CursorAhead({ after: 9, lastOffset: 7 }),
    new CursorLost({ after: 9, epoch: 2, lastOffset: 7, baseOffset: 2 ** 50 }),
    new CursorOutside({ after: 9 }),
    new BackupUnderWay(),
    new BackupFailed({ trouble: "full", cause }),
    new BackupUnsupported(),
    cause
  ]

  it.each(failures.map((failure) => [failure._tag, failure] as const))(
    "brings the error %s",
    (_, failure) => {
      const found = unpackError(sent(packError(failure)))
      expect(found).toBeInstanceOf(failure.constructor)
      expect(found.message).toBe(failure.message)
      if ("problem" in failure) expect(found).toHaveProperty("problem", failure.problem)
      expect(causesOf(found)).toEqual(causesOf(failure))
    }
  )
})

const causesOf = (error: unknown): ReadonlyArray<unknown> => {
  const cause = typeof error === "object" && error !== null && "cause" in error ? error.cause : undefined
  if (cause === undefined) return []
  const { code } = cause as { readonly code?: unknown }
  return [[cause instanceof Error ? cause.message : cause, code], ...causesOf(cause)]
}
