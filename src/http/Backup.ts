/**
 * `GET /backup`: the whole store as one file. It is copied first and sent then, so that its length is known, and a
 * client that is cut off notices.
 */
import { HttpServerResponse } from "@effect/platform"
import { Effect } from "effect"
import { Backups, backupName } from "../store/Backups.ts"
import { backupContentType } from "./Api.ts"
import { handlersOf } from "./Routes.ts"

const backup = Effect.gen(function* () {
  const { take } = yield* Backups
  const { storeId, at, bytes, content } = yield* take
  return HttpServerResponse.stream(content, {
    contentType: backupContentType,
    contentLength: bytes,
    headers: {
      "content-disposition": `attachment; filename="${backupName(`sekali-${storeId}`, at)}"`,
      "cache-control": "no-store",
      // Should the copy break off, the client is to notice at once, and not wait for the rest.
      connection: "close"
    }
  })
})

/** The handlers of the group `backup`. */
export const handlers = handlersOf("backup", {
  backup: ({ request }) =>
    // Who asks for the headers alone does not want a copy made.
    request.method === "HEAD"
      ? Effect.succeed(
          HttpServerResponse.empty({ status: 200, headers: { "content-type": backupContentType } })
        )
      : backup
})
