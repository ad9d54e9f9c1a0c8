/**
 * The database that a service has left which was started for the first time and stopped, in peace, an hour before the
 * run. Most runs begin with it: a first start creates the schema, which takes as long as twenty publishes, and is struck
 * by most of the early faults where it belongs to the run. It is made once for each site, by the very service.
 */
import { Choices } from "./Choices.ts"
import { easyLimits } from "./Plan.ts"
import { databaseFile, type Site, Supervisor } from "./Service.ts"
import { hashText } from "./Trace.ts"
import { simulate } from "./World.ts"

/** By the names of their sites: each has a store id of its own. */
const made = new Map<string, Uint8Array>()

const agoMillis = 3_600_000

/** The bytes of the file, the same in every process. No run may be under way. */
export const emptyDatabase = (site: Site): Uint8Array => {
  const known = made.get(site.name)
  if (known !== undefined) return known
  const bytes = simulate({ choices: Choices.replay([]), seed: hashText(site.name) }, (world) => {
    const { disk, wall } = world.machine(site.name)
    wall.jump(-agoMillis)
    const supervisor = new Supervisor(world, site, easyLimits, () => undefined)
    const drive = (until: () => boolean) =>
      world.run(() => {
        supervisor.look()
        return until()
      })
    drive(() => supervisor.isReady)
    supervisor.release()
    supervisor.stop()
    drive(() => !supervisor.current().sim.alive)
    return disk.content(databaseFile)
  })
  made.set(site.name, bytes)
  return bytes
}
