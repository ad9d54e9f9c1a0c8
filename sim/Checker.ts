/**
 * The checker: from the history of a run and the database that it left behind to the guarantees that were broken. It is
 * a pure function that knows nothing of how the service is built, and shares no code with it: what it says is what any
 * client could say who kept a record of everything, with SQL of its own for what stands at the end.
 *
 * It is exact about what it can know. Order is concluded only from real-time precedence: something that was answered
 * before something else was invoked. A request without an answer may have been carried out, or may be later, once for
 * each copy of it that reached a server. A request that never reached one was not.
 *
 * Each guarantee, or group of checks, has a file of its own in `check/`.
 */
import { checkBooks } from "./check/Books.ts"
import { callsOf } from "./check/Calls.ts"
import { checkDurable } from "./check/Durable.ts"
import { evidenceOf } from "./check/Evidence.ts"
import { type Query, readHoldings } from "./check/Holdings.ts"
import { checkListings } from "./check/Listings.ts"
import { checkMetrics } from "./check/Metrics.ts"
import { checkOnce } from "./check/Once.ts"
import { checkOrder } from "./check/Order.ts"
import { checkOutcomes, checkStatuses } from "./check/Outcomes.ts"
import { checkPages } from "./check/Pages.ts"
import { checkProgress, type ProgressBounds } from "./check/Progress.ts"
import { type QueueBounds, QueueCheck } from "./check/Queue.ts"
import { Report, type Violation } from "./check/Report.ts"
import { checkSent } from "./check/Sent.ts"
import { checkStats } from "./check/Stats.ts"
import { checkSubscribers } from "./check/Subscribers.ts"
import type { Entry } from "./History.ts"

export type { Query } from "./check/Holdings.ts"
export type { Guarantee, Violation } from "./check/Report.ts"

/** What the checker must be told about the run. */
export interface Options extends ProgressBounds, QueueBounds {}

/**
 * The guarantees that were broken, none if all is well. Throws if the history contradicts itself (an answer to what was
 * never asked, a reader that does not follow its cursor): then the run was recorded wrongly, and says nothing.
 */
export const check = (
  history: ReadonlyArray<Entry>,
  database: Query,
  options: Options
): ReadonlyArray<Violation> => {
  const report = new Report(history)
  const calls = callsOf(history, report)
  const holdings = readHoldings(database, report)
  const evidence = holdings === undefined ? undefined : evidenceOf(calls, holdings)
  checkStatuses(calls, evidence, report)
  checkProgress(history, calls, options, report)
  if (holdings === undefined || evidence === undefined) return report.violations
  checkDurable(calls, holdings, evidence, report)
  checkOnce(holdings, evidence, report)
  checkSent(holdings, evidence, report)
  checkBooks(calls, holdings, evidence, report)
  const queue = new QueueCheck(history, calls.publishes, options, report)
  checkStats(calls, holdings, evidence, queue, report)
  checkMetrics(calls, holdings, evidence, queue, report)
  checkListings(calls, holdings, evidence, report)
  checkOrder(calls, holdings, evidence, report)
  checkPages(history, calls, holdings, evidence, report)
  checkSubscribers(history, holdings, evidence, report)
  checkOutcomes(calls, holdings, evidence, report)
  return report.violations
}
