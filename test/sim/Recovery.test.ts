/**
 * What is left of a service that was killed in the middle of a commit, on a disk whose next sync of the log fails and
 * throws away what was not yet written: whichever sync that is, the next start finds a sound database, and publishing
 * goes on (G1, G7).
 */
import { Effect } from "effect"
import { describe, expect, it } from "vitest"
import { Choices } from "../../sim/Choices.ts"
import { planOf } from "../../sim/Plan.ts"
import { databaseFile, firstSite, Supervisor } from "../../sim/Service.ts"
import { simulate } from "../../sim/World.ts"

const limits = { ...planOf(1).limits, checkpointPages: 4, publishSecondsMax: 5 }

const body = (n: number) =>
  JSON.stringify({
    topic: "a",
    event_id: `${n}`,
    timestamp: "2026-11-22T10:00:00Z",
    source: "s",
    payload: {}
  })

/** Kills the service in its n-th sync after it is ready, has the k-th sync of the log fail, and tells what came of it. */
const recovered = (killed: number, failing: number) =>
  simulate(
    {
      choices: Choices.replay([
        [`disk-syncError/${databaseFile}-wal`, failing, 1],
        [`disk-syncDropsDirty/${databaseFile}-wal`, 0, 1],
        [`disk-evicted/${databaseFile}-wal`, 0, 1]
      ]),
      seed: 1
    },
    (world) => {
      const supervisor = new Supervisor(world, firstSite, limits, () => {})
      const run = (until: () => boolean) =>
        world.run(
          () => {
            supervisor.look()
            return until()
          },
          { millisMax: 600_000 }
        )
      run(() => supervisor.isReady)
      world.crashInOperation(supervisor.current(), "kill", killed, {
        kinds: ["sync"],
        happened: () => supervisor.noteCrash("kill")
      })
      const publish = (n: number) => {
        const request = { method: "POST", url: "/publish", headers: {}, body: body(n) } as const
        const sent = world.network.send("publisher", firstSite.address, request, { timeoutMillis: 1000 })
        return Effect.gen(function* () {
          for (;;) {
            const answer = yield* Effect.either(sent)
            if (answer._tag === "Right" && answer.right.status === 202) return
            yield* Effect.sleep("100 millis")
          }
        })
      }
      const publisher = world.start("publisher", () => Effect.forEach([1, 2, 3, 4, 5], publish))
      const outcome = run(() => publisher.exit !== undefined)
      world.heal()
      world.crash(supervisor.current(), "kill")
      return world.readDatabase(supervisor.current().machine, databaseFile, (database) => {
        database.exec("PRAGMA locking_mode = EXCLUSIVE")
        return {
          outcome: outcome._tag,
          starts: supervisor.starts(),
          failing: world.counters.get("disk: syncDropsDirty"),
          integrity: database.all("PRAGMA integrity_check"),
          events: database.all("SELECT event_id FROM event ORDER BY event_id").length
        }
      })
    }
  )

describe("a service that was killed, on a disk whose next sync of the log fails", () => {
  it("starts again with a sound database, whichever sync it was", () => {
    let struck = 0
    for (let killed = 1; killed <= 8; killed++) {
      for (let failing = 2; failing <= 14; failing++) {
        const { starts, failing: failed, ...found } = recovered(killed, failing)
        expect(found, `killed in sync ${killed}, sync ${failing} of the log fails`).toEqual({
          outcome: "Done",
          integrity: [{ integrity_check: "ok" }],
          events: 5
        })
        if (starts > 2 && failed > 0) struck++
      }
    }
    expect(struck).toBeGreaterThan(0)
  })
})
