/**
 * Many publishers that connect at once while the process has no time for them, as after a restart: each gets its
 * connection, and its answer (G7).
 */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { afterEach, expect, it } from "vitest"
import { eventNumber, stats } from "../support/client.ts"
import { connect, publishBytes } from "../support/connection.ts"
import { cleanUp, serve, temporaryFolder } from "../support/process.ts"

afterEach(cleanUp)

const crowd = 1000

// The system may allow fewer to wait than the service asks for.
const allowed = Number(readFileSync("/proc/sys/net/core/somaxconn", "utf8"))

it.skipIf(allowed < crowd && process.env["CI"] !== "true")(
  `takes ${crowd} connections that come while it does not run, and answers them all (G1, G7)`,
  async () => {
    const service = await serve({ database: join(temporaryFolder(), "sekali.db") })
    service.kill("SIGSTOP")
    const connections = await Promise.all(Array.from({ length: crowd }, () => connect(service.port)))
    service.kill("SIGCONT")
    const answers = await Promise.all(
      connections.map(({ request }, n) => request(publishBytes([eventNumber(n)])))
    )
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 202))
    expect(await stats(service.url)).toMatchObject({ received: crowd, unique_processed: crowd })
    for (const { close } of connections) close()
  }
)
