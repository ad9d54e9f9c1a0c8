import { describe, expect, it } from "vitest"
import { Choices, type Deviation } from "../../sim/Choices.ts"
import { Counters } from "../../sim/Counters.ts"
import { Disk, type DiskFaults, noDiskFaults } from "../../sim/Disk.ts"
import { DiskFailure, type Handle, type Mount } from "../../sim/Mount.ts"

const make = (faults: Partial<DiskFaults> = {}, choices = Choices.seeded(1)) => {
  const clock = { now: 0 }
  const counters = new Counters()
  const disk = new Disk("disk", choices, counters, () => clock.now, { ...noDiskFaults, ...faults })
  return { clock, counters, disk, mount: disk.mount("program") }
}

/** One deviation of a kind about a file. */
const exactly = (...deviations: ReadonlyArray<Deviation>) => Choices.replay(deviations)

const open = (mount: Mount, name = "file", syncsEntry = false) =>
  mount.open(name, { create: true, syncsEntry })
const bytes = (text: string) => new TextEncoder().encode(text)
const block = (fill: string, size = 2048) => bytes(fill.repeat(size))
const text = (handle: Handle, length = handle.size) => {
  const target = new Uint8Array(length)
  handle.read(target, 0)
  return new TextDecoder().decode(target)
}
const reread = (disk: Disk, name = "file") => text(open(disk.mount("later"), name))
const failure = (action: () => unknown) => {
  try {
    action()
    return "none"
  } catch (error) {
    return error instanceof DiskFailure ? error.reason : error
  }
}

describe("what was synced", () => {
  it("survives every power cut, whole and in place", () => {
    for (let seed = 0; seed < 50; seed++) {
      const cruel = { lostWrite: 0.5, tornWrite: 0.5, lostTruncate: 1, lostEntry: 1, undoneDelete: 1 }
      const { disk, mount } = make(cruel, Choices.seeded(seed))
      const handle = open(mount, "file", true)
      handle.write(bytes("safe"), 0)
      handle.sync()
      handle.write(bytes("and more"), 4)
      disk.powerCut()
      expect(reread(disk).slice(0, 4)).toBe("safe")
    }
  })
})

describe("a power cut", () => {
  it("loses, tears or keeps each unsynced write by itself, and says which", () => {
    const choices = exactly(
      ["disk-power/file", 1, 1],
      ["disk-power/file", 2, 2],
      ["disk-sector/file", 1, 1],
      ["disk-sector/file", 3, 1]
    )
    const { counters, disk, mount } = make({}, choices)
    const handle = open(mount)
    handle.write(block("."), 0)
    handle.write(block("L", 512), 0)
    handle.write(block("T"), 0)
    expect(disk.powerCut()).toEqual(["file@0+512 lost", "file@0+2048 torn"])
    const sectors = (reread(disk).match(/.{512}/g) ?? []).map((sector) => sector[0])
    expect(sectors).toEqual(["T", ".", "T", "."])
    expect([...counters.counts.keys()].sort()).toEqual([
      "disk: lostWrite",
      "disk: power cut",
      "disk: power cut lost something",
      "disk: tornWrite"
    ])
  })

  it("keeps everything if the choices are harmless", () => {
    const { disk, mount } = make({}, exactly())
    open(mount).write(bytes("kept"), 0)
    expect(disk.powerCut()).toEqual([])
    expect(reread(disk)).toBe("kept")
  })

  it("may undo an unsynced truncation, creation and deletion", () => {
    const { disk, mount } = make({ lostTruncate: 1, lostEntry: 1, undoneDelete: 1 })
    const kept = open(mount, "kept", true)
    kept.write(bytes("content"), 0)
    kept.sync()
    const gone = open(mount, "gone", true)
    gone.write(bytes("back"), 0)
    gone.sync()
    kept.truncate(0)
    expect(mount.delete("gone", false)).toBe(true)
    open(mount, "new").sync()
    expect([...disk.files()]).toEqual([
      ["kept", 0],
      ["new", 0]
    ])
    expect(disk.powerCut()).toEqual(["gone deletion undone", "new entry lost", "kept truncation to 0 lost"])
    expect([...disk.files()]).toEqual([
      ["kept", 7],
      ["gone", 4]
    ])
  })

  it("leaves a deletion and a creation alone once the directory is synced", () => {
    const { disk, mount } = make({ lostEntry: 1, undoneDelete: 1 })
    open(mount, "a")
    mount.delete("a", true)
    open(mount, "b")
    open(mount, "journal", true).sync()
    disk.powerCut()
    expect([...disk.files().keys()]).toEqual(["b", "journal"])
  })

  it("takes what a killed process wrote and did not sync", () => {
    const { disk, mount } = make({ lostWrite: 1 })
    const handle = open(mount, "file", true)
    handle.write(bytes("old"), 0)
    handle.sync()
    handle.write(bytes("new"), 0)
    mount.fence()
    expect(reread(disk)).toBe("new")
    disk.powerCut()
    expect(reread(disk)).toBe("old")
  })
})

describe("a process that is dead", () => {
  it("can do nothing more, and holds no lock", () => {
    const { disk, mount } = make()
    const handle = open(mount)
    expect(handle.tryLock(1)).toBe(true)
    expect(handle.tryLock(4)).toBe(true)
    const other = open(disk.mount("other"))
    expect(other.tryLock(1)).toBe(false)
    mount.fence()
    expect(other.tryLock(1)).toBe(true)
    const attempts = [
      () => handle.write(bytes("x"), 0),
      () => handle.read(new Uint8Array(1), 0),
      () => handle.sync(),
      () => handle.truncate(0),
      () => open(mount),
      () => mount.exists("file"),
      () => mount.delete("file", true)
    ]
    expect(attempts.map(failure)).toEqual(attempts.map(() => "DEAD"))
    expect([...disk.files()]).toEqual([["file", 0]])
  })

  it("may die before, after or in the middle of a call", () => {
    const contents = [0, 1, 2].map((point) => {
      const { disk, mount } = make({}, exactly(["disk-death/file", 0, point]))
      const handle = open(mount)
      handle.write(bytes("12345678"), 0)
      mount.deathIn = (operation) => {
        expect(operation).toEqual({ kind: "write", file: "file" })
        return () => mount.fence()
      }
      expect(failure(() => handle.write(bytes("abcdefgh"), 0))).toBe("DEAD")
      return reread(disk)
    })
    expect(contents).toEqual(["12345678", "abcdefgh", "abcd5678"])
  })
})

describe("calls", () => {
  it("fail at their rates, and count", () => {
    const { counters, disk, mount } = make({ readError: 1, writeError: 1, syncError: 1 })
    const handle = open(mount)
    expect(failure(() => handle.read(new Uint8Array(1), 0))).toBe("READ")
    expect(failure(() => handle.write(bytes("x"), 0))).toBe("WRITE")
    expect(failure(() => handle.sync())).toBe("FSYNC")
    disk.faults = { ...noDiskFaults, openError: 1 }
    expect(failure(() => open(mount))).toBe("CANTOPEN")
    for (const kind of ["openError", "readError", "writeError", "syncError"])
      expect(counters.get(`disk: ${kind}`)).toBe(1)
    disk.heal()
    handle.sync()
    expect(failure(() => mount.open("none", { create: false, syncsEntry: false }))).toBe("CANTOPEN")
  })

  it("drop the dirty pages with a sync that fails: seen until evicted, and never written", () => {
    for (const evicted of [0, 1]) {
      const { disk, mount } = make(
        {},
        exactly(
          ["disk-syncError/file", 1, 1],
          ["disk-syncDropsDirty/file", 0, 1],
          ["disk-evicted/file", 0, evicted]
        )
      )
      const handle = open(mount, "file", true)
      handle.write(bytes("old"), 0)
      handle.sync()
      handle.write(bytes("new"), 0)
      expect(failure(() => handle.sync())).toBe("FSYNC")
      expect(text(handle)).toBe(evicted === 1 ? "old" : "new")
      handle.sync()
      disk.powerCut()
      expect(reread(disk)).toBe("old")
    }
  })

  it("find the disk full, and later not", () => {
    const { clock, disk, mount } = make({}, exactly(["disk-full/file", 1, 1], ["disk-full-millis", 0, 9]))
    const handle = open(mount)
    handle.write(bytes("1234"), 0)
    expect(failure(() => handle.write(bytes("5"), 4))).toBe("FULL")
    handle.write(bytes("over"), 0)
    clock.now = 10_001
    handle.write(bytes("5"), 4)
    disk.spaceBytesMax = 6
    handle.write(bytes("6"), 5)
    expect(failure(() => handle.write(bytes("7"), 6))).toBe("FULL")
    disk.heal()
    handle.write(bytes("7"), 6)
    expect(text(handle)).toBe("over567")
  })

  it("read zeros beyond the end and in gaps", () => {
    const { mount } = make()
    const handle = open(mount)
    handle.write(bytes("a"), 3)
    const target = new Uint8Array(6).fill(9)
    expect(handle.read(target, 0)).toBe(false)
    expect([...target]).toEqual([0, 0, 0, 97, 0, 0])
    handle.write(block("x", 40_000), 0)
    handle.truncate(1)
    handle.write(bytes("b"), 4)
    expect(text(handle)).toBe("x\0\0\0b")
  })
})

describe("locks", () => {
  it("stand between handles as SQLite expects", () => {
    const { disk, mount } = make()
    const [one, two, three] = [open(mount), open(mount), open(disk.mount("other"))]
    expect([one.tryLock(1), two.tryLock(1), three.tryLock(1)]).toEqual([true, true, true])
    expect(one.tryLock(2)).toBe(true)
    expect(three.isReserved()).toBe(true)
    expect(two.tryLock(2)).toBe(false)
    expect(one.tryLock(4)).toBe(false)
    const late = open(mount)
    expect(late.tryLock(1)).toBe(false)
    two.unlock(0)
    three.unlock(0)
    expect(one.tryLock(4)).toBe(true)
    one.unlock(1)
    expect(late.tryLock(1)).toBe(true)
    expect(late.isReserved()).toBe(false)
  })
})
