/**
 * Loaded into `sekali check` before it starts (`node --import`): SQLite's own check of the file has no end, and holds the
 * thread like that of a large database.
 */
import { writeSync } from "node:fs"
import { createRequire } from "node:module"

const Database = createRequire(process.argv[1])("better-sqlite3")
const { prepare } = Database.prototype

Database.prototype.prepare = function (sql, ...args) {
  if (/integrity_check|quick_check/.test(sql)) {
    writeSync(2, "checking\n")
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  }
  return prepare.call(this, sql, ...args)
}
