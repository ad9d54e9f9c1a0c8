/**
 * The two layers of the port `EventStore`, in memory and over SQLite, held to the same promises by the same suite.
 */
import { Context, Effect, Layer } from "effect"
import { EventStore, layerMemory } from "../../src/store/EventStore.ts"
import { openStoreAt, temporaryFolder } from "../support/stores.ts"
import { eventStoreSuite } from "./EventStoreSuite.ts"

eventStoreSuite(
  "EventStore in memory",
  Effect.map(Layer.build(layerMemory), (context) => Context.get(context, EventStore))
)

eventStoreSuite(
  "EventStore over SQLite",
  Effect.flatMap(temporaryFolder, (folder) => openStoreAt(`${folder}/sekali.db`))
)
