/**
 * The two layers of the port `EventStore`, in memory and over SQLite, held to the same promises by the same suite.
 */
import { Context, Effect, Layer } from "effect"
import { EventStore, layerMemory } from "../../src/store/EventStore.ts"
import { openStoreAt, temporaryFolder } from "../support/stores.ts"
import { availabilitySuite } from "./AvailabilitySuite.ts"
import { eventStoreSuite } from "./EventStoreSuite.ts"
import { sequencesSuite } from "./SequencesSuite.ts"

const inMemory = Effect.map(Layer.build(layerMemory), (context) => Context.get(context, EventStore))
const overSqlite = Effect.flatMap(temporaryFolder, (folder) => openStoreAt(`${folder}/sekali.db`))

for (const suite of [eventStoreSuite, sequencesSuite, availabilitySuite]) {
  suite("EventStore in memory", inMemory)
  suite("EventStore over SQLite", overSqlite)
}
