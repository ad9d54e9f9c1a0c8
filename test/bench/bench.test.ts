/**
 * The benchmark in a tiny form: that each part of it runs and what its results are made of, never how fast anything was.
 */
import { spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterEach, describe, expect, it } from "vitest"
import { cleanUp, temporaryFolder } from "../support/process.ts"
import { against } from "./against.ts"
import { features } from "./features.ts"
import { latency } from "./latency.ts"
import { help, type Options, readArguments } from "./options.ts"
import { overload } from "./overload.ts"

const options = (...words: ReadonlyArray<string>): Options => readArguments(words).options

const bench = (...words: ReadonlyArray<string>) =>
  new Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }>(
    (resolve, reject) => {
      const main = fileURLToPath(new URL("./main.ts", import.meta.url))
      const child = spawn(process.execPath, ["--import", "tsx", main, ...words])
      let stdout = ""
      let stderr = ""
      child.stdout.on("data", (text) => {
        stdout += text
      })
      child.stderr.on("data", (text) => {
        stderr += text
      })
      child.on("error", reject)
      child.on("close", (code) => resolve({ code, stdout, stderr }))
    }
  )

const positive = expect.toSatisfy((value: unknown) => typeof value === "number" && value > 0)
const spread = { median: positive, min: positive, max: positive }

const nobodyListens = () => {}

afterEach(cleanUp)

describe("the benchmark", () => {
  it("compares the service with its peers, for machines and for people", async () => {
    const told: Array<string> = []
    const findings = await against("single")(options("--events", "200", "--rounds", "1"), (text) =>
      told.push(text)
    )
    expect(told).toHaveLength(3)
    const round = {
      received: 200,
      unique: 160,
      dropped: 40,
      accuracy: 1,
      latencyP99: positive,
      peakMebibytes: positive,
      bytesPerEvent: positive
    }
    const rounds = [expect.objectContaining(round)]
    expect(findings.json).toMatchObject({
      rounds: { sekali: rounds, floor: rounds, handwritten: rounds },
      eventsPerSecond: { sekali: spread, floor: spread, handwritten: spread },
      ratios: { floor: spread, handwritten: spread }
    })
    expect(findings.text).toMatch(
      /^single events: 200 events .*\n +sekali +floor +handwritten +course report\n/
    )
    expect(findings.text).toMatch(/events\/s, sekali to floor +[\d.]+\n/)
  })

  it("lets a database grow, starts with it, and draws what was", async () => {
    const plot = join(temporaryFolder(), "plots", "growth.svg")
    const { code, stdout, stderr } = await bench("growth", "--keys", "3000", "--plot", plot, "--json")
    expect([code, stderr]).toEqual([0, expect.not.stringContaining("bench:")])
    const found = JSON.parse(stdout)
    expect(found.machine).toMatchObject({ node: process.version, cpus: positive })
    expect(found.courseReport).toMatchObject({ eventsPerSecond: 735 })
    const [round] = found.growth.rounds.sekali
    const keys: ReadonlyArray<number> = round.intervals.map((interval: { keys: number }) => interval.keys)
    expect(keys).toEqual([...keys].sort((left, right) => left - right))
    expect(keys.at(-1)).toBeGreaterThanOrEqual(3000)
    expect(round).toMatchObject({
      early: positive,
      late: positive,
      lateToEarly: positive,
      longestMilliseconds: positive,
      peakMebibytes: positive,
      afterKill: { milliseconds: positive, mebibytes: positive },
      afterStop: { milliseconds: positive, mebibytes: positive },
      bytesBeyondContent: positive
    })
    expect(readFileSync(plot, "utf8")).toMatch(/^<svg [\s\S]*sekali[\s\S]*<\/svg>\n$/)
  })

  it("offers half of the highest load by a schedule", async () => {
    const { json } = await latency(options("latency", "--seconds", "1"), nobodyListens)
    expect(json).toMatchObject({
      highestPerSecond: positive,
      offeredPerSecond: Number(json["highestPerSecond"]) / 2,
      answered: positive,
      latency: { mean: positive, median: positive, p99: positive, max: positive }
    })
  })

  it("offers more than the service takes", async () => {
    const { json } = await overload(["singleSmallQueue"])(
      options("overload", "--seconds", "1"),
      nobodyListens
    )
    expect(json["singleSmallQueue"]).toMatchObject({
      bestPerSecond: spread,
      committedPerSecond: spread,
      committedToBest: spread,
      withoutRetryAfter: 0,
      otherwise: {},
      lost: 0,
      mebibytesPeak: positive
    })
  })

  it("tells what features cost", async () => {
    const found = await features(["batch"])(options("--events", "200", "--rounds", "1"), nobodyListens)
    const ratios = { sequences: spread, subscribers: spread, tracing: spread, scrapes: spread }
    expect(found.json).toMatchObject({ batch: { ratios }, collectorBytes: positive })
  })

  it("says what is wrong with a call", () => {
    const wrong = (...words: ReadonlyArray<string>) => expect(() => readArguments(words))
    wrong("speed").toThrow(
      'there is no benchmark "speed"; there are single, batch, random, growth, latency, overload, features'
    )
    wrong("single", "--rounds", "0").toThrow("--rounds is 0, but must be a whole number from 1 on")
    wrong("single", "--plot", "x.svg").toThrow("--plot means something only for growth")
    wrong("--fast").toThrow("Unknown option '--fast'")
    expect(readArguments([]).chosen).toEqual(["single", "batch", "random"])
    expect(help).toContain("npm run bench -- growth --keys")
  })
})
