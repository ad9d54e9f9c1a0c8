/**
 * The client library, `sekali/client`: `Publisher.make` for those who use Effect, `createPublisher` for those who do
 * not, and the errors and types of both.
 */
export * from "./Errors.ts"
export * as EventIds from "./EventIds.ts"
export { type EventToPublish, JsonText } from "./EventToPublish.ts"
export type { BaseOptions, GiveUp, PublisherOptions, Retry } from "./Options.ts"
export type { PublisherStats, PublishOutcome } from "./Publisher.ts"
export * as Publisher from "./Publisher.ts"
export {
  type CallOptions,
  createPublisher,
  type PromisePublisher,
  type PromisePublisherOptions
} from "./promises.ts"
