/**
 * The history of a run: what clients asked and were told, what reached a server, what befell the servers, each with its
 * virtual time. It is all that the checker knows of a run, next to the database that the run left behind. The order of
 * the list is the order in which things happened; times never fall along it, and entries of one time keep their order.
 *
 * A history says nothing of what a server did inside, so every conclusion from it is one that any client could draw.
 * It is kept as JSON lines, one entry a line.
 */

/** What restricts and pages a reading of events; the names are those of the query parameters. */
export interface PageParameters {
  /** A topic or a pattern. */
  readonly topic?: string | undefined
  readonly event_id?: string | undefined
  readonly source?: string | undefined
  /** Event time, inclusive. */
  readonly since?: string | undefined
  /** Event time, exclusive. */
  readonly until?: string | undefined
  readonly limit?: number | undefined
  readonly order?: "asc" | "desc" | undefined
  readonly after?: number | undefined
}

/** What a client asks of the service. */
export type Operation =
  | {
      readonly type: "publish"
      /** Common to all attempts at the same submission, which all carry the same events. */
      readonly submission: string
      /** 1 for the first attempt. */
      readonly attempt: number
      /** Each event as the JSON text that was sent, whatever envelope it travelled in. */
      readonly events: ReadonlyArray<string>
      /** Whether `Prefer: return=minimal` was sent. */
      readonly minimal?: boolean | undefined
    }
  | {
      readonly type: "page"
      readonly parameters: PageParameters
      /** A reader that follows offsets: each of its pages begins at the `next` of the page that it got before. */
      readonly reader?: string | undefined
    }
  /** All that matches, as lines. */
  | { readonly type: "stream"; readonly parameters: PageParameters }
  /** Events as they come; how it ends is no answer, and what comes is told event by event. */
  | {
      readonly type: "subscribe"
      readonly topic?: string | undefined
      readonly after?: number | undefined
    }
  | { readonly type: "lookup"; readonly topic: string; readonly event_id: string }
  | { readonly type: "stats" }
  | { readonly type: "metrics" }
  | { readonly type: "topics"; readonly limit?: number | undefined; readonly after?: string | undefined }
  | { readonly type: "conflicts"; readonly limit?: number | undefined; readonly after?: number | undefined }

/** A client begins one request; `call` names it, and no other. */
export interface Invoked {
  readonly kind: "invoked"
  readonly at: number
  readonly process: string
  readonly call: string
  readonly operation: Operation
  /** Whether the contract forbids this request, so that a refusal (4xx) is the only right answer. */
  readonly invalid?: boolean | undefined
}

/** One copy of a request has reached a server: once for most, more often where the network repeats it. */
export interface Delivered {
  readonly kind: "delivered"
  readonly at: number
  readonly call: string
  readonly server: string
}

/** A server's answer to one copy of a request has left; it may yet be lost. */
export interface Answered {
  readonly kind: "answered"
  readonly at: number
  readonly call: string
  readonly server: string
}

/** The client has its answer. */
export interface Returned {
  readonly kind: "returned"
  readonly at: number
  readonly call: string
  readonly status: number
  /** By their names in lower case. */
  readonly headers: Readonly<Record<string, string>>
  /** As it came: numbers in it may be more exact than JavaScript is. */
  readonly body: string
}

/** The client stops to wait for this request without an answer: it may have been carried out, or may be yet. */
export interface Unknown {
  readonly kind: "unknown"
  readonly at: number
  readonly call: string
  readonly why: string
}

/**
 * The client was told that nobody listens. Copies of the request may have reached a server all the same: whether it
 * can have been carried out is told by the deliveries alone.
 */
export interface Refused {
  readonly kind: "refused"
  readonly at: number
  readonly call: string
}

/** A subscriber begins; its name stays the same however often it is started again. */
export interface Subscribes {
  readonly kind: "subscribes"
  readonly at: number
  readonly subscriber: string
  /** A topic or a pattern; nothing for all. */
  readonly topic: string | null
  readonly from: "the beginning" | "now"
}

/** A subscriber has seen an event, as the JSON text that came. */
export interface Followed {
  readonly kind: "followed"
  readonly at: number
  readonly subscriber: string
  readonly event: string
}

/** A publisher will not try this submission again. */
export interface GaveUp {
  readonly kind: "gave up"
  readonly at: number
  readonly submission: string
}

/**
 * What befalls a server: a process is started, which includes the recovery of its store, and gets ready or fails to; it
 * is asked to stop and has stopped; it is killed, or its machine loses power.
 */
export interface ServerChange {
  readonly kind: "server"
  readonly at: number
  readonly server: string
  readonly change: "started" | "ready" | "failed" | "stopping" | "stopped" | "killed" | "power cut"
  readonly detail?: string | undefined
}

/** No more faults from here on. */
export interface Calm {
  readonly kind: "calm"
  readonly at: number
}

/** The last entry: whether the run came to its end, or else what waits for what. */
export interface End {
  readonly kind: "end"
  readonly at: number
  readonly outcome: "done" | "stuck" | "exhausted"
  readonly waiting?: ReadonlyArray<string> | undefined
}

/** Something that happened. `at` is virtual time in microseconds. */
export type Entry =
  | Invoked
  | Delivered
  | Answered
  | Returned
  | Unknown
  | Refused
  | Subscribes
  | Followed
  | GaveUp
  | ServerChange
  | Calm
  | End

/** A history as JSON lines. */
export const writeHistory = (history: ReadonlyArray<Entry>): string =>
  history.map((entry) => `${JSON.stringify(entry)}\n`).join("")

/** Reads what `writeHistory` wrote; blank lines are skipped. */
export const parseHistory = (text: string): ReadonlyArray<Entry> =>
  text.split("\n").flatMap((line, index) => {
    if (line.trim() === "") return []
    const value: unknown = JSON.parse(line)
    if (typeof value !== "object" || value === null || !("kind" in value) || !("at" in value)) {
      throw new Error(`line ${index + 1} is not an entry of a history`)
    }
    return [value as Entry]
  })
