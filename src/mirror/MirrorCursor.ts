/**
 * The cursor of a mirror, kept over its restarts: a promise that all events of one store up to an offset are
 * acknowledged by another. It is kept, and not worked out anew from the stores, because an acknowledgement leaves nothing
 * in them to work it out from: of a duplicate nothing is stored, and who else has sent an event is not told.
 *
 * A cursor that is lost, old, or of other stores only makes the mirror read again from the start: the events are
 * duplicates then. One that promises too much would leave events out; how that is ruled out is said in `Session.ts`.
 */
import { Context, Effect, Either, Schema } from "effect"
import { CursorTrouble } from "./Errors.ts"

/** Keeps one text. */
export class MirrorCursor extends Context.Tag("sekali/MirrorCursor")<
  MirrorCursor,
  {
    /** What was saved last; an older one or nothing at all, if that is lost. */
    readonly load: Effect.Effect<string | undefined, CursorTrouble>
    /** Keeps this instead. A crash leaves the one or the other, and no mixture. */
    readonly save: (text: string) => Effect.Effect<void, CursorTrouble>
  }
>() {}

/** All events of the store `from` up to the offset `after` are acknowledged by the store `to`. */
export interface Cursor {
  /** The id of the store that is read. */
  readonly from: string
  /** The id of the store that is written to. */
  readonly to: string
  readonly after: number
}

const CursorText = Schema.parseJson(
  Schema.Struct({
    from: Schema.String,
    to: Schema.String,
    after: Schema.NonNegativeInt
  })
)

/** The cursor of one mirror while it runs. */
export interface CursorKeeper {
  /** What is kept now. */
  readonly kept: () => Cursor | undefined
  /** Keeps another one. Where that fails the mirror goes on, and would read more again after a restart. */
  readonly keep: (cursor: Cursor) => Effect.Effect<void>
}

/** The cursor that was kept before, and how to keep others. */
export const makeKeeper: Effect.Effect<CursorKeeper, CursorTrouble, MirrorCursor> = Effect.gen(function* () {
  const { load, save } = yield* MirrorCursor
  const text = yield* load
  let kept = text === undefined ? undefined : yield* decode(text)
  let isTroubled = false
  return {
    kept: () => kept,
    keep: (cursor) =>
      Effect.gen(function* () {
        kept = cursor
        const saved = yield* Effect.either(save(JSON.stringify(cursor)))
        const wasTroubled = isTroubled
        isTroubled = Either.isLeft(saved)
        if (Either.isLeft(saved) && !wasTroubled) {
          yield* Effect.logWarning("the cursor cannot be kept; a restart would go on from an older one").pipe(
            Effect.annotateLogs({ trouble: saved.left.message })
          )
        }
      })
  }
})

const decode = (text: string): Either.Either<Cursor, CursorTrouble> =>
  Either.mapLeft(
    Schema.decodeEither(CursorText)(text),
    () => new CursorTrouble({ sentence: "What is kept there is no cursor of a mirror, and is left alone." })
  )
