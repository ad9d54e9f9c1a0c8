/**
 * The client library, `sekali/client`: `Publisher.make` and `Follower.events` for those who use Effect, `createPublisher`
 * and `followEvents` for those who do not, and the errors and types of both.
 */
export * from "./Errors.ts"
export * as EventIds from "./EventIds.ts"
export { type EventToPublish, JsonText } from "./EventToPublish.ts"
export type {
  BaseFollowOptions,
  FollowedEvent,
  FollowOptions,
  FollowRetry,
  SequenceOptions
} from "./Follower.ts"
export * as Follower from "./Follower.ts"
export type { BaseOptions, GiveUp, PublisherOptions, Retry } from "./Options.ts"
export type { PublisherStats, PublishOutcome } from "./Publisher.ts"
export * as Publisher from "./Publisher.ts"
export {
  type CallOptions,
  createPublisher,
  followEvents,
  followInSequence,
  type PromiseFollowOptions,
  type PromisePublisher,
  type PromisePublisherOptions
} from "./promises.ts"
export type { Delivery } from "./Sequence.ts"
