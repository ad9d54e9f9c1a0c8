/**
 * Loaded into the service before it starts (`node --import`): as long as the file named by BALLAST is there, its
 * database may not grow beyond a few pages, as on a disk that is full. For machines where no small disk can be mounted.
 */
import { existsSync } from "node:fs"
import { createRequire } from "node:module"

const Database = createRequire(process.argv[1])("better-sqlite3")
const ballast = process.env.BALLAST
const { prepare } = Database.prototype
const limited = new WeakSet()

Database.prototype.prepare = function (...args) {
  if (!limited.has(this)) {
    limited.add(this)
    this.pragma("max_page_count = 500")
    const timer = setInterval(() => {
      if (existsSync(ballast)) return
      clearInterval(timer)
      if (this.open) this.pragma("max_page_count = 1000000")
    }, 10)
    timer.unref()
  }
  return prepare.apply(this, args)
}
