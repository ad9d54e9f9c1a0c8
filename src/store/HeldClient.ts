/**
 * A SQL client for who holds its only connection. The driver's client looks for a free connection before each statement
 * and opens a span around it, which costs seven times as much as the statement itself; here a statement goes straight
 * to the connection. Who uses it has to see to it that nobody else does meanwhile.
 */
import type { SqlClient } from "@effect/sql"
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import type { Statement } from "@effect/sql/Statement"
import { Effect } from "effect"

const heldThrough =
  (change: (connection: Connection) => Connection) =>
  (client: SqlClient.SqlClient): Effect.Effect<SqlClient.SqlClient, SqlError> =>
    Effect.map(Effect.scoped(client.reserve), (reserved) => {
      const connection = change(reserved)
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

/** The same client, whose statements run at once on its connection. */
export const held = heldThrough((connection) => connection)

/** A held client for statements that are run once: none is kept for the next time. */
export const once = heldThrough((connection) => ({
  ...connection,
  execute: (...call) =>
    Effect.suspend(() => {
      // The driver throws where a text cannot be compiled, for instance because the disk does not give the schema.
      try {
        return connection.executeUnprepared(...call)
      } catch (cause) {
        return new SqlError({ cause, message: "Failed to prepare statement" })
      }
    })
}))
