/**
 * What must have happened at least once in a batch of runs of the default workload. A fault that is declared and never
 * fires proves nothing, and a branch that is never reached is not tested: a batch in which one of these stayed at zero
 * fails, however green its runs are.
 */

/** Each, by the name it is counted under. */
export const sometimes: ReadonlyArray<string> = [
  "process: killed",
  "process: power cut",
  "process: stopped",
  "process: crashed in a write",
  "process: crashed in a sync",
  "process: crashed as it answered",
  "process: crashed while starting",
  "process: crashed in the log of a service that was ready",
  "disk: power cut lost something",
  "disk: lostWrite",
  "disk: tornWrite",
  "disk: lostTruncate",
  "disk: lostEntry",
  "disk: undoneDelete",
  "disk: openError",
  "disk: readError",
  "disk: writeError",
  "disk: syncError",
  "disk: syncDropsDirty",
  "disk: full",
  "disk: rollbackError",
  "disk: commitRefused",
  "network: requestLost",
  "network: answerLost",
  "network: duplicated",
  "network: delayed",
  "network: connectionBroken",
  "network: bodyInPieces",
  "network: disconnectUnseen",
  "network: client gone",
  "network: refused",
  "network: reset by a crash",
  "network: answerDiesWithServer",
  "network: cut off",
  "observer: stats told 200",
  "observer: topics told 200",
  "observer: conflicts told 200",
  "observer: newest told 200",
  "observer: lines told 200",
  "observer: lookup told 200",
  "observer: lookup told 404",
  "network: timed out",
  "mirror: stored",
  "mirror: duplicate",
  "mirror: conflict",
  "mirror: killed, cursor kept",
  "mirror: killed, cursor older",
  "mirror: killed, cursor lost",
  "clock: jumped back",
  "clock: jumped ahead",
  "sequence: gap opened",
  "sequence: gap filled",
  "sequence: declared missing",
  "sequence: late",
  "sequence: reused",
  "client: sent again",
  "client: gave up",
  "client: more to read",
  "service: duplicates dropped",
  "service: conflict",
  "service: queue full",
  "service: commit failed",
  "service: store well again",
  "service: connection rebuilt",
  "service: drained what waited",
  "service: refused while draining",
  "service: waited too long",
  "service: stopped gracefully",
  "service: failed to start or go on"
]

/** A batch of fewer runs may miss what is rare by luck. */
export const runsForSometimes = 1000

/** What a batch with these counts never saw. */
export const neverHappened = (counts: Readonly<Record<string, number>>): ReadonlyArray<string> =>
  sometimes.filter((name) => (counts[name] ?? 0) === 0)
