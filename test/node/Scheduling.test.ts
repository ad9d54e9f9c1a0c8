/**
 * Fibers run once per turn of the event loop, and let a crowd of connections in before they go on.
 */
import { once } from "node:events"
import { type AddressInfo, connect, createServer } from "node:net"
import { expect, it } from "vitest"
import { connectionTaken, oncePerTurn } from "../../src/node/Scheduling.ts"

const crowd = 200

it("lets a crowd in before fibers that are always busy have run as many times (G7)", async () => {
  let taken = 0
  const server = createServer(() => {
    taken++
    connectionTaken()
  })
  server.listen({ port: 0, host: "127.0.0.1", backlog: crowd })
  await once(server, "listening")
  const { port } = server.address() as AddressInfo
  // The system takes them at once; the event loop has not turned yet.
  const clients = Array.from({ length: crowd }, () => connect(port, "127.0.0.1"))
  let runs = 0
  await new Promise<void>((resolve) => {
    const task = () => {
      runs++
      if (taken === crowd) resolve()
      else oncePerTurn.scheduleTask(task, 0)
    }
    oncePerTurn.scheduleTask(task, 0)
  })
  expect(runs).toBeLessThan(crowd / 2)
  for (const client of clients) client.destroy()
  server.close()
})

it("goes on where connections never cease", async () => {
  let ceased = false
  const come = () => {
    connectionTaken()
    if (!ceased) setImmediate(come)
  }
  come()
  for (let times = 0; times < 5; times++) {
    let runs = 0
    await new Promise<void>((resolve) => {
      oncePerTurn.scheduleTask(() => {
        runs++
        resolve()
      }, 0)
    })
    expect(runs).toBe(1)
  }
  ceased = true
})
