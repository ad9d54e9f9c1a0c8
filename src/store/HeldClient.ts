/**
 * A SQL client for who holds its only connection. The driver's client looks for a free connection before each statement,
 * opens a span around it and asks a cache for it, which costs ten times as much as the statement itself; here a
 * statement goes straight to the connection. Who uses it has to see to it that nobody else does meanwhile.
 */
import type { SqlClient } from "@effect/sql"
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import type { Statement } from "@effect/sql/Statement"
import { Effect } from "effect"

type Execute = Connection["execute"]

/** More texts than the store has: with so many kept, all are given up and prepared anew. */
const statementsMax = 300

/** A statement that is prepared: `run` binds what is in `parameters` by then. */
interface Prepared {
  readonly parameters: Array<unknown>
  readonly run: ReturnType<Execute>
}

/**
 * Runs the statements of a connection, each prepared once for as long as that lives: what the driver gives back for a
 * text can be run any number of times. A statement is taken out while it runs, so that nobody's parameters get between
 * another's; who comes meanwhile, or after one that was interrupted, prepares it again.
 */
const prepared = (connection: Connection): Execute => {
  const free = new Map<string, Prepared>()
  const prepare = (text: string): Prepared => {
    const parameters: Array<unknown> = []
    const giveBack = () => {
      // They may be large, and the statement may not run again for long.
      parameters.length = 0
      if (free.size >= statementsMax) free.clear()
      free.set(text, statement)
    }
    const run = Effect.matchCauseEffect(connection.executeUnprepared(text, parameters, undefined), {
      onFailure: (cause) => {
        giveBack()
        return Effect.failCause(cause)
      },
      onSuccess: (rows) => {
        giveBack()
        return Effect.succeed(rows)
      }
    })
    const statement = { parameters, run }
    return statement
  }
  return (text, values) =>
    Effect.suspend(() => {
      // The driver throws where a text cannot be compiled, for instance because the disk does not give the schema.
      try {
        const { parameters, run } = free.get(text) ?? prepare(text)
        free.delete(text)
        for (const value of values) parameters.push(value)
        return run
      } catch (cause) {
        return new SqlError({ cause, message: "Failed to prepare statement" })
      }
    })
}

/** The same client, whose statements run at once on its connection. */
export const held = (client: SqlClient.SqlClient): Effect.Effect<SqlClient.SqlClient, SqlError> =>
  Effect.map(Effect.scoped(client.reserve), (reserved) => {
    const connection: Connection = { ...reserved, execute: prepared(reserved) }
    const direct = <A>(statement: Statement<A>): Statement<A> =>
      Object.assign(statement, { commit: () => connection.execute(...statement.compile(), undefined) })
    const construct = (text: string | TemplateStringsArray, ...values: ReadonlyArray<unknown>) =>
      typeof text === "string" ? client(text) : direct(client(text, ...values))
    return Object.assign(construct, client, {
      reserve: Effect.succeed(connection),
      unsafe: <A extends object>(text: string, parameters?: ReadonlyArray<unknown>) =>
        direct(client.unsafe<A>(text, parameters))
    }) as SqlClient.SqlClient
  })
