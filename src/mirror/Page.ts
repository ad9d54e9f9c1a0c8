/**
 * A page of events as text, turned into events to publish. A payload is cut out of the text as it stands there, because
 * parsed and printed again it would not be what it was: numbers would lose digits, members their order.
 */
import { Option, Schema } from "effect"
import { type EventToPublish, JsonText } from "../client/EventToPublish.ts"
import { elementsAt, type Member, membersAt, skipSpace } from "../domain/Json.ts"
import { EventsAnswer } from "../http/Api.ts"

/** An event of a page, ready to be published as it is. */
export interface PageEvent {
  /** Its offset in the store that it was read from. */
  readonly offset: number
  readonly event: EventToPublish & { readonly event_id: string }
}

/** A page of events. */
export interface Page {
  readonly events: ReadonlyArray<PageEvent>
  /** The offset to go on behind. */
  readonly next: number
  readonly more: boolean
}

const decodePage = Schema.decodeUnknownOption(Schema.parseJson(EventsAnswer))

/** The page in the answer to a reading behind an offset; none if it is no such page. */
export const parsePage = (text: string, after: number): Option.Option<Page> =>
  Option.flatMap(decodePage(text), ({ events, next, more }) => {
    const payloads = payloadsOf(text)
    let last = after
    const pageEvents: Array<PageEvent> = []
    for (const [
      index,
      { offset, topic, event_id, timestamp, source, sequence, origin }
    ] of events.entries()) {
      const payload = payloads[index]
      if (payload === undefined || offset <= last) return Option.none()
      last = offset
      pageEvents.push({
        offset,
        event: { topic, event_id, timestamp, source, payload: new JsonText(payload), sequence, origin }
      })
    }
    // Whoever follows such pages gets on, and misses nothing.
    const getsOn = more ? next > after : true
    return next >= last && getsOn ? Option.some({ events: pageEvents, next, more }) : Option.none()
  })

// Of a name that stands twice the last one counts, as in `JSON.parse`.
const valueAt = (members: ReadonlyArray<Member>, wanted: string) =>
  members.findLast(({ name }) => name === wanted)?.value

/** The text of each event's payload. */
const payloadsOf = (text: string): ReadonlyArray<string | undefined> => {
  const events = valueAt(membersAt(text, skipSpace(text, 0)), "events")
  if (events === undefined) return []
  return elementsAt(text, events.start).map(({ start }) => {
    const payload = valueAt(membersAt(text, start), "payload")
    return payload === undefined ? undefined : text.slice(payload.start, payload.end)
  })
}
