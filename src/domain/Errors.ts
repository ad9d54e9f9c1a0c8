/**
 * What can go wrong with a call, as values. Each error knows the HTTP status and the problem type it is answered with,
 * so that a publisher's retry logic does the right thing by itself: 4xx is the caller's to mend, 503 means "send it
 * again", and 500 is left for bugs.
 */
import { Data } from "effect"

/** One fault of the input: a JSON pointer into the body, or the name of a query parameter, and what is wrong there. */
export interface Fault {
  readonly pointer: string
  readonly detail: string
}

/** What every error says of itself when it is answered as `application/problem+json` (RFC 9457). */
export interface Problem {
  readonly status: number
  /** The last part of the problem's type, `urn:sekali:problem:<type>`. */
  readonly type: string
  readonly title: string
  readonly detail: string
  readonly errors?: ReadonlyArray<Fault>
  /** Members of its own. */
  readonly members?: Readonly<Record<string, number | string>>
  /** When to try again, in whole seconds; sent as `Retry-After`. */
  readonly retryAfterSeconds?: number
  /** Further headers of the answer. */
  readonly headers?: Readonly<Record<string, string>>
}

const unavailable = (type: string, title: string, detail: string, retryAfterSeconds: number): Problem => ({
  status: 503,
  type,
  title,
  detail,
  retryAfterSeconds
})

/** The body is no text, no JSON, or not there. */
export class MalformedBody extends Data.TaggedError("MalformedBody")<{ readonly detail: string }> {
  get problem(): Problem {
    return { status: 400, type: "malformed-body", title: "The body cannot be read", detail: this.detail }
  }
}

/** No more faults than this are looked for and told: an answer must not outgrow its request. */
export const faultsMax = 1000

/** Members or query parameters that are missing, wrong or unknown: every one of them, up to `faultsMax`. */
export class InvalidInput extends Data.TaggedError("InvalidInput")<{
  readonly errors: ReadonlyArray<Fault>
}> {
  get problem(): Problem {
    const count = this.errors.length
    const more = count >= faultsMax ? " or more" : ""
    return {
      status: 422,
      type: "invalid-input",
      title: "The input is not valid",
      detail: `${count === 1 ? "1 fault" : `${count}${more} faults`}; nothing was stored.`,
      errors: this.errors
    }
  }
}

/** A reader's cursor names an offset that this store has not given out. */
export class CursorAhead extends Data.TaggedError("CursorAhead")<{
  readonly after: number
  readonly lastOffset: number
}> {
  get problem(): Problem {
    const detail = `is ahead of the store, whose last offset is ${this.lastOffset}`
    return {
      status: 422,
      type: "cursor-ahead",
      title: "The cursor is ahead of the store",
      detail: `The offset ${this.after} ${detail}: it comes from another store, or from one that was restored since.`,
      errors: [{ pointer: "after", detail }]
    }
  }
}

/**
 * A reader's cursor names an offset that was given out after the backup from which the store was restored: the events
 * up to there are lost, as far as they are not published again.
 */
export class CursorLost extends Data.TaggedError("CursorLost")<{
  readonly after: number
  /** The epoch that began with the restored backup. */
  readonly epoch: number
  /** The last offset that survived. */
  readonly lastOffset: number
  /** The new epoch's offsets are greater than this one. */
  readonly baseOffset: number
}> {
  get problem(): Problem {
    const { after, epoch, lastOffset, baseOffset } = this
    return {
      status: 410,
      type: "cursor-lost",
      title: "The cursor is from a future that was lost",
      detail:
        `The offset ${after} was given out after the backup from which this store was restored. Of what is older, the ` +
        `offsets to ${lastOffset} survived; what came since has offsets greater than ${baseOffset}. ` +
        `Go on after ${lastOffset}.`,
      members: { after, epoch, last_offset: lastOffset, base_offset: baseOffset }
    }
  }
}

/** A cursor of a reading in sequence names no event of that reading. */
export class CursorOutside extends Data.TaggedError("CursorOutside")<{ readonly after: number }> {
  get problem(): Problem {
    const detail = "names no event of this topic and source with a sequence"
    return {
      status: 422,
      type: "cursor-outside",
      title: "The cursor is outside of what is read",
      detail: `The offset ${this.after} ${detail}: pass \`next\` of a page of the same reading, or begin without one.`,
      errors: [{ pointer: "after", detail }]
    }
  }
}

/** Why a reader's cursor cannot be followed. */
export type CursorError = CursorAhead | CursorLost | CursorOutside

/** The body's type or encoding is not one that is read here. */
export class UnsupportedBody extends Data.TaggedError("UnsupportedBody")<{ readonly detail: string }> {
  get problem(): Problem {
    return {
      status: 415,
      type: "unsupported-body",
      title: "The body's type is not supported",
      detail: this.detail
    }
  }
}

/** A body, an event or a batch is over its limit. */
export class TooLarge extends Data.TaggedError("TooLarge")<{ readonly detail: string }> {
  get problem(): Problem {
    return { status: 413, type: "too-large", title: "The body is too large", detail: this.detail }
  }
}

/** There is no such thing. */
export class NotFound extends Data.TaggedError("NotFound")<{ readonly detail: string }> {
  get problem(): Problem {
    return { status: 404, type: "not-found", title: "Not found", detail: this.detail }
  }
}

/** The path exists, but not with this method. */
export class MethodNotAllowed extends Data.TaggedError("MethodNotAllowed")<{
  readonly method: string
  readonly allowed: ReadonlyArray<string>
}> {
  get problem(): Problem {
    return {
      status: 405,
      type: "method-not-allowed",
      title: "Method not allowed",
      detail: `${this.method} is not allowed here; allowed: ${this.allowed.join(", ")}.`,
      headers: { allow: this.allowed.join(", ") }
    }
  }
}

/** The queue is full, in events or in bytes: nothing of this submission was taken (G6). */
export class Overloaded extends Data.TaggedError("Overloaded")<{ readonly bound: "events" | "bytes" }> {
  get problem(): Problem {
    const detail = `The queue is full, counted in ${this.bound}. Nothing of this request was stored; send it again.`
    return unavailable("overloaded", "The queue is full", detail, 1)
  }
}

/** Too many bytes of answers to readers are under way (G6). */
export class ReadersOverloaded extends Data.TaggedError("ReadersOverloaded") {
  get problem(): Problem {
    const detail = "Too many answers to readers are under way; ask again."
    return unavailable("readers-overloaded", "Too many answers under way", detail, 1)
  }
}

/** As many subscribers as the settings allow are here already (G6). */
export class TooManySubscribers extends Data.TaggedError("TooManySubscribers")<{
  readonly subscribersMax: number
}> {
  get problem(): Problem {
    const detail = `${this.subscribersMax} subscribers are here already, and that is all this service takes; ask again.`
    return unavailable("too-many-subscribers", "Too many subscribers", detail, 5)
  }
}

/** The service is shutting down and takes nothing new. */
export class Draining extends Data.TaggedError("Draining") {
  get problem(): Problem {
    const detail = "The service is shutting down. Nothing of this request was stored; send it again."
    return unavailable("draining", "Shutting down", detail, 1)
  }
}

/** The answer could not be waited for any longer: the events may be stored yet. */
export class WaitedTooLong extends Data.TaggedError("WaitedTooLong")<{ readonly seconds: number }> {
  get problem(): Problem {
    const detail = `The events were not on disk after ${this.seconds} s. They may be stored yet; send them again.`
    return unavailable("waited-too-long", "Waited too long", detail, 1)
  }
}

/**
 * Why the store could not do its work: no room on the disk, an I/O error, held by another process, closed as the
 * service stops, anything else.
 */
export type StoreTrouble = "full" | "io" | "busy" | "closed" | "unexpected"

/** The store could not do it now. Where it was a write, the outcome is unknown: it may be on disk or not. */
export class StoreUnavailable extends Data.TaggedError("StoreUnavailable")<{
  readonly trouble: StoreTrouble
  readonly cause: unknown
}> {
  get problem(): Problem {
    const reason = {
      full: "The disk is full",
      io: "The disk reported an error",
      busy: "The database is held by another process",
      closed: "The database is closed",
      unexpected: "The store reported an unexpected error"
    }[this.trouble]
    return unavailable(
      "store-unavailable",
      reason,
      `${reason}. What was sent may be stored or not; send it again.`,
      2
    )
  }
}

/** The database was found to be damaged: nothing is written to it any more. */
export class StoreDamaged extends Data.TaggedError("StoreDamaged")<{ readonly cause: unknown }> {
  get problem(): Problem {
    const detail =
      "The database is damaged. Nothing more is written to it until it is restored and restarted."
    return unavailable("store-damaged", "The database is damaged", detail, 30)
  }
}

/** Whatever keeps the store from answering. */
export type StoreError = StoreUnavailable | StoreDamaged

/** One backup is made at a time, and is under way until it was fetched. */
export class BackupUnderWay extends Data.TaggedError("BackupUnderWay") {
  get problem(): Problem {
    const detail = "A backup is being made or fetched, and there is one at a time; ask again."
    return unavailable("backup-under-way", "A backup is under way", detail, 5)
  }
}

/** No backup could be made. The store is not affected. */
export class BackupFailed extends Data.TaggedError("BackupFailed")<{
  readonly trouble: StoreTrouble
  readonly cause: unknown
}> {
  get problem(): Problem {
    const reason = {
      full: "the disk has too little room for a copy of the database",
      io: "the disk reported an error",
      busy: "the copy is held by another process",
      closed: "the database was closed meanwhile",
      unexpected: "an unexpected error was reported"
    }[this.trouble]
    const detail = `No backup was made: ${reason}. The service goes on without it; ask again.`
    return unavailable("backup-failed", "The backup failed", detail, 60)
  }
}

/** The database of this service cannot be copied while it is in use. */
export class BackupUnsupported extends Data.TaggedError("BackupUnsupported") {
  get problem(): Problem {
    const detail = "The database of this service cannot be copied while it is in use."
    return { status: 501, type: "backup-unsupported", title: "Backups are not supported", detail }
  }
}

/** Why there is no backup. */
export type BackupError = BackupUnderWay | BackupFailed | BackupUnsupported

/**
 * Why a database is not opened: it is foreign, newer than this program, damaged, held by another process, or cannot be
 * opened at all. `sentence` says so for a person. Nothing was written to it.
 */
export class StoreRefused extends Data.TaggedError("StoreRefused")<{
  readonly reason: "foreign" | "newer" | "damaged" | "in use" | "cannot be opened" | "not durable"
  readonly sentence: string
  readonly cause?: unknown
}> {
  override get message(): string {
    return this.sentence
  }
}

/** Every error that a call can be answered with. */
export type CallError =
  | MalformedBody
  | InvalidInput
  | CursorError
  | BackupError
  | UnsupportedBody
  | TooLarge
  | NotFound
  | MethodNotAllowed
  | Overloaded
  | ReadersOverloaded
  | TooManySubscribers
  | Draining
  | WaitedTooLong
  | StoreError
