/**
 * The settings of a publisher: what is refused, and how it is said.
 */
import { Effect, Exit } from "effect"
import { describe, expect, it } from "vitest"
import type { PublisherOptions } from "../../src/client/Publisher.ts"
import { accepted, withAnswers } from "../support/answers.ts"
import { event, live, quick } from "./publishing.ts"

const url = "http://127.0.0.1:8080"

const faultsOf = (options: PublisherOptions): Promise<ReadonlyArray<string>> =>
  live(
    quick(options).pipe(
      Effect.as([]),
      Effect.catchTag("InvalidOptions", ({ faults }) => Effect.succeed(faults))
    )
  )

describe("options", () => {
  it.each([
    ["", "url must be an address such as http://127.0.0.1:8080, not "],
    ["127.0.0.1:8080", "url must be an address such as http://127.0.0.1:8080, not 127.0.0.1:8080"],
    ["ftp://host", "url must be an address such as http://127.0.0.1:8080, not ftp://host"],
    ["http://user@host", "url must have neither a user, a query nor a fragment"],
    ["http://host/?a=b", "url must have neither a user, a query nor a fragment"],
    ["http://host/#a", "url must have neither a user, a query nor a fragment"]
  ])("refuse the address %s", async (url, sentence) => {
    expect(await faultsOf({ url })).toEqual([sentence])
  })

  it.each([
    [{ source: "" }, "source must be 1 to 255 characters without control characters"],
    [{ ids: "uuid" }, "ids must be ulid or counter, not uuid"],
    [{ batchEventsMax: 0 }, "batchEventsMax must be a whole number from 1 to 1000000, not 0"],
    [{ batchEventsMax: 1.5 }, "batchEventsMax must be a whole number from 1 to 1000000, not 1.5"],
    [{ batchBytesMax: -1 }, "batchBytesMax must be a whole number from 1 to 1073741824, not -1"],
    [{ bufferEventsMax: Number.NaN }, "bufferEventsMax must be a whole number from 1 to 10000000, not NaN"],
    [{ bufferBytesMax: "8 MiB" }, "bufferBytesMax must be a whole number from 1 to 1099511627776, not 8 MiB"],
    [{ lingerMillis: -1 }, "lingerMillis must be a number from 0 to 86400000, not -1"],
    [{ requestsMax: 0 }, "requestsMax must be a whole number from 1 to 1000, not 0"],
    [{ requestSecondsMax: 0 }, "requestSecondsMax must be a number from 0.001 to 86400, not 0"],
    [
      { closeSecondsMax: Number.POSITIVE_INFINITY },
      "closeSecondsMax must be a number from 0 to 86400, not Infinity"
    ],
    [{ giveUp: { attempts: 0 } }, "giveUp.attempts must be a whole number from 1 to 9007199254740991, not 0"],
    [{ giveUp: { seconds: -1 } }, "giveUp.seconds must be a number from 0 to 9007199254740991, not -1"]
  ])("refuse %o", async (wrong, sentence) => {
    expect(await faultsOf({ url, ...wrong } as PublisherOptions)).toEqual([sentence])
  })

  it("tell every fault", async () => {
    expect(await faultsOf({ url: "", lingerMillis: -1, requestsMax: 0 })).toHaveLength(3)
  })

  it.each([
    ["", "/publish"],
    ["/", "/publish"],
    ["/logs", "/logs/publish"],
    ["/logs/", "/logs/publish"]
  ])("keep the path %s of the address", async (path, wanted) => {
    await withAnswers(accepted, async ({ url, requests }) => {
      const exit = await live(
        Effect.flatMap(quick({ url: url + path }), (publisher) => Effect.exit(publisher.publish(event("1"))))
      )
      expect(Exit.isSuccess(exit)).toBe(true)
      expect(requests.map(({ path }) => path)).toEqual([wanted])
    })
  })
})
