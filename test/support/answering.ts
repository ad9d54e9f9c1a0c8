/**
 * Services of another kind: such as answer in their own way, and addresses where nobody does.
 */
import { createServer, type RequestListener, type Server } from "node:http"
import type { AddressInfo } from "node:net"

const servers = new Set<Server>()

/** A server that answers in its own way. */
export interface Answering {
  readonly url: string
  readonly server: Server
}

/** Starts a server of another kind. It lasts until `closeAnswering`. */
export const answering = async (listener: RequestListener): Promise<Answering> => {
  const server = createServer(listener)
  servers.add(server)
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server }
}

/** An address where nobody answers now. */
export const nobody = async (): Promise<{ readonly url: string; readonly port: string }> => {
  const { url, server } = await answering(() => {})
  servers.delete(server)
  await new Promise((resolve) => server.close(resolve))
  return { url, port: new URL(url).port }
}

/** Closes every server that was started here. */
export const closeAnswering = (): void => {
  for (const server of servers) server.close().closeAllConnections()
  servers.clear()
}
