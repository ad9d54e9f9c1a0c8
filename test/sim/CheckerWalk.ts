/**
 * Walks through a correct service at random: publishes, copies of them that arrive late or twice, commits, answers that
 * come, get lost or refuse, crashes, and readers all the while.
 */
import fc from "fast-check"
import type { Operation } from "../../sim/History.ts"
import { event, Model, payloads, publishing, type Request } from "./CheckerModel.ts"

const ids = ["a", "b", "c", "d", "e"] as const
const times = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:01.5Z", "2025-12-31T23:59:59Z"] as const

const anyEvent = fc
  .record({
    event_id: fc.constantFrom(...ids),
    topic: fc.constantFrom("t.a", "T.a", "t.b"),
    source: fc.constantFrom("s1", "s1", "s2"),
    payload: fc.constantFrom(...payloads.flat()),
    timestamp: fc.constantFrom(...times),
    sequence: fc.nat(3)
  })
  .map(({ event_id, ...rest }) => event(event_id, rest))

const anyParameters = fc.record(
  {
    topic: fc.constantFrom("t.a", "T.b", "t.*", "t.>"),
    event_id: fc.constantFrom(...ids),
    source: fc.constantFrom("s1", "s2"),
    since: fc.constantFrom(...times),
    until: fc.constantFrom(...times),
    limit: fc.integer({ min: 1, max: 4 }),
    order: fc.constantFrom("asc" as const, "desc" as const)
  },
  { requiredKeys: [] }
)

const anyRead: fc.Arbitrary<Operation> = fc.oneof(
  anyParameters.map((parameters) => ({ type: "page" as const, parameters })),
  anyParameters.map((parameters) => ({ type: "stream" as const, parameters })),
  fc.record({
    type: fc.constant("lookup" as const),
    topic: fc.constantFrom("t.a", "T.b"),
    event_id: fc.constantFrom(...ids)
  }),
  fc.constant({ type: "stats" as const }),
  fc.constant({ type: "metrics" as const }),
  fc.record({ type: fc.constant("topics" as const), limit: fc.constantFrom(1, 2) }),
  fc.record({ type: fc.constant("conflicts" as const), limit: fc.constantFrom(1, 5) })
)

type Step =
  | { readonly step: "publish"; readonly events: ReadonlyArray<string>; readonly minimal: boolean }
  | { readonly step: "read"; readonly operation: Operation }
  | { readonly step: "follow"; readonly reader: number }
  | {
      readonly step: "deliver" | "overload" | "answer" | "lose" | "retry" | "refuse" | "give up"
      readonly which: number
    }
  | { readonly step: "commit"; readonly submissions: number }
  | { readonly step: "crash"; readonly kind: "killed" | "power cut" }

const which = fc.nat(5)
export const anyStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      step: fc.constant("publish" as const),
      events: fc.array(anyEvent, { minLength: 1, maxLength: 4 }),
      minimal: fc.integer({ min: 0, max: 3 }).map((value) => value === 0)
    })
  },
  { weight: 3, arbitrary: fc.record({ step: fc.constant("read" as const), operation: anyRead }) },
  { weight: 2, arbitrary: fc.record({ step: fc.constant("follow" as const), reader: fc.nat(1) }) },
  { weight: 8, arbitrary: fc.record({ step: fc.constant("deliver" as const), which }) },
  { weight: 8, arbitrary: fc.record({ step: fc.constant("answer" as const), which }) },
  {
    weight: 4,
    arbitrary: fc.record({
      step: fc.constantFrom(
        "overload" as const,
        "lose" as const,
        "retry" as const,
        "refuse" as const,
        "give up" as const
      ),
      which
    })
  },
  {
    weight: 5,
    arbitrary: fc.record({
      step: fc.constant("commit" as const),
      submissions: fc.integer({ min: 1, max: 3 })
    })
  },
  {
    weight: 1,
    arbitrary: fc.record({
      step: fc.constant("crash" as const),
      kind: fc.constantFrom("killed" as const, "power cut" as const)
    })
  }
)

/** Walks a correct service through the steps, and then to a good end. */
export const walk = (steps: ReadonlyArray<Step>): Model => {
  const model = new Model()
  const requests: Array<Request> = []
  const attempts = new Map<
    string,
    { readonly operation: Operation & { type: "publish" }; last: Request; count: number; done: boolean }
  >()
  const cursors = new Map<string, number>()
  const open = () => requests.filter(({ settled }) => !settled)
  const publish = (submission: string, events: ReadonlyArray<string>, minimal: boolean) => {
    const operation = publishing(submission, events, 1, minimal) as Operation & { type: "publish" }
    const last = model.invoke(`p-${submission}`, operation)
    requests.push(last)
    attempts.set(submission, { operation, last, count: 1, done: false })
  }
  const retry = (attempt: typeof attempts extends Map<string, infer A> ? A : never) => {
    attempt.count++
    attempt.last = model.invoke(`p-${attempt.operation.submission}`, {
      ...attempt.operation,
      attempt: attempt.count
    })
    requests.push(attempt.last)
  }
  const isAnswered = ({ call }: Request) =>
    model.history.some((entry) => entry.kind === "returned" && entry.call === call && entry.status === 202)
  const unfinished = () =>
    [...attempts.values()].filter(({ last, done }) => !done && last.settled && !isAnswered(last))

  for (const step of steps) {
    switch (step.step) {
      case "publish":
        publish(`s${attempts.size}`, step.events, step.minimal)
        break
      case "read":
        requests.push(model.invoke("reader", step.operation))
        break
      case "follow": {
        const reader = `r${step.reader}`
        const request = model.page({ after: cursors.get(reader), limit: 2 }, reader)
        const returned = model.history.find(
          (entry) => entry.kind === "returned" && entry.call === request.call
        )
        if (returned?.kind === "returned")
          cursors.set(reader, (JSON.parse(returned.body) as { next: number }).next)
        break
      }
      case "commit":
        model.commit(step.submissions)
        break
      case "crash":
        model.crash(step.kind)
        break
      case "retry": {
        const waiting = unfinished()
        const attempt = waiting[step.which % waiting.length]
        if (attempt !== undefined) retry(attempt)
        break
      }
      case "give up": {
        const waiting = unfinished()
        const attempt = waiting[step.which % waiting.length]
        if (attempt === undefined) break
        attempt.done = true
        model.giveUp(attempt.operation.submission)
        break
      }
      case "deliver": {
        // Copies may arrive long after the client has turned away.
        const late = requests.slice(-6)
        const request = late[step.which % late.length]
        if (request !== undefined) model.deliver(request)
        break
      }
      default: {
        const requests = open()
        const request = requests[step.which % requests.length]
        if (request === undefined) break
        if (step.step === "answer") model.answer(request)
        else if (step.step === "lose") model.lose(request)
        else if (step.step === "refuse") model.refuse(request)
        else if (request.operation.type === "publish") model.overload(request)
      }
    }
  }

  model.calm()
  for (const request of open()) {
    model.deliver(request)
    model.commit()
    while (request.answers.length > 1 && request.answers[0]?.status === 503) request.answers.shift()
    model.answer(request)
  }
  for (const attempt of unfinished()) {
    retry(attempt)
    model.deliver(attempt.last)
    model.commit()
    model.answer(attempt.last)
  }
  model.call("c", { type: "stats" })
  model.end()
  return model
}
