/**
 * A publisher in plain JavaScript, without Effect, on the built library: what it is told goes out as one line of JSON.
 * The process has to end by itself once the publisher is closed.
 */
import { createPublisher, JsonText } from "../../dist/client/index.js"

const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`)
const [url] = process.argv.slice(2)
const tagOf = (promise) =>
  promise.then(
    () => "nothing",
    (error) => [error._tag ?? error.name, error instanceof Error]
  )

const retries = []
const publisher = await createPublisher({
  url,
  source: "plain",
  lingerMillis: 20,
  backoffMillisFirst: 1,
  onRetry: ({ attempts, events, trouble }) => retries.push([attempts, events, trouble.kind])
})

const outcomes = await Promise.all(
  [{ n: 1 }, [2], "three", new JsonText("4.00000000000000000001"), undefined].map((payload) =>
    publisher.publish({ topic: "plain", payload })
  )
)
const invalid = await tagOf(publisher.publish({ topic: "no topic" }))
const later = await publisher.submit({ topic: "plain", event_id: "flushed" })
const aborted = await tagOf(publisher.publish({ topic: "plain" }, { signal: AbortSignal.abort() }))
await publisher.close()

print({
  outcomes,
  invalid,
  aborted,
  flushed: await later(),
  closed: await tagOf(publisher.publish({ topic: "plain" })),
  options: await tagOf(createPublisher({ url: "nowhere", batchEventsMax: 0 })),
  stats: publisher.stats(),
  retries
})

// Cut short, `close` leaves what was not answered yet with an unknown outcome.
const nobody = await createPublisher({ url: "http://127.0.0.1:1", source: "plain", lingerMillis: 0 })
const unknown = (await nobody.submit({ topic: "plain" }))()
print([await tagOf(nobody.close({ signal: AbortSignal.timeout(50) })), await tagOf(unknown)])
