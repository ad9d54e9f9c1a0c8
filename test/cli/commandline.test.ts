/**
 * The command line as a whole: its pages of help, how it takes what it does not understand, and `stats`.
 */
import { spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { afterEach, describe, expect, it } from "vitest"
import { nobody } from "../support/answering.ts"
import { eventNumbers, publish, stats } from "../support/client.ts"
import { endCommands, run } from "../support/command.ts"
import { runHere } from "../support/commandline.ts"
import { cleanUp, mainPath, serve, temporaryFolder } from "../support/process.ts"

afterEach(async () => {
  await endCommands()
  await cleanUp()
})

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  readonly version: string
}

describe("help", () => {
  it("names every command, with examples and exit codes", async () => {
    const { code, stdout, stderr } = await run(["--help"])
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    expect(stdout).toMatch(new RegExp(`^sekali ${version.replaceAll(".", "\\.")}: `))
    expect(stdout).toMatch(/\nExamples\n {2}sekali /)
    expect(stdout).toMatch(/\nExit codes\n {2}0 /)
    expect(await runHere(["-h"])).toEqual({ code: 0, signal: null, stdout, stderr: "" })
    for (const command of commands) expect(stdout).toMatch(new RegExp(`\n {2}sekali ${command} {2,}\\S`))
  })

  it.each(
    Object.entries({
      serve: ["SEKALI_HOST", "SEKALI_LOG_FORMAT"],
      publish: [
        "--url URL",
        "--topic TOPIC",
        "--source NAME",
        "--format FORMAT",
        "--give-up-after SECONDS",
        "<FILE>\\.\\.\\."
      ],
      stats: ["--url URL", "--json"],
      mirror: ["--from URL", "--to URL", "--once"],
      backup: ["--url URL", "--database FILE", "--keep N", "--overwrite"],
      check: ["<FILE>"]
    })
  )("has a page for %s, with its options and examples", async (command, options) => {
    const { code, stdout, stderr } = await runHere([command, "--help"])
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    expect(stdout).toMatch(new RegExp(`^sekali ${command}: .*\n\nUsage\n {2}sekali ${command}`))
    expect(stdout).toMatch(new RegExp(`\nExamples\n(.*\n)* {2}.*sekali ${command}`))
    for (const option of options) expect(stdout).toMatch(new RegExp(`\n {2}${option} +\\S`))
    expect(stdout).not.toContain("\u001b")
    // Also where other words stand before it.
    expect((await runHere([command, "--bogus", "-h"])).stdout).toBe(stdout)
  })

  it("is not needed to know the version", async () => {
    expect(await run(["--version"])).toMatchObject({ code: 0, stdout: `${version}\n`, stderr: "" })
    expect(await runHere(["-v"])).toMatchObject({ code: 0, stdout: `${version}\n`, stderr: "" })
  })

  it("is no reason to fail if nobody reads it", () => {
    const words = ["-c", `set -o pipefail; "$0" "$1" publish --help | true`, process.execPath, mainPath]
    expect(spawnSync("bash", words, { encoding: "utf8" })).toMatchObject({ status: 0, stderr: "" })
  })
})

const commands = ["serve", "publish", "tail", "stats", "mirror", "backup", "check"]

describe("a command line that is wrong", () => {
  it.each<[words: string, sentence: string | RegExp, help?: string]>([
    ["", "No command was given."],
    ["publsh a.log", 'There is no command "publsh".'],
    ["--loud", 'There is no option "--loud".'],
    ["publish --topc a a.log", /^Unknown option '--topc'/, "publish "],
    ["publish --wizard", /^Unknown option '--wizard'/, "publish "],
    ["publish --log-level debug", /^Unknown option '--log-level'/, "publish "],
    ["publish a.log -x", /^Unknown option '-x'/, "publish "],
    ["publish a.log --url", "Option '--url <value>' argument missing", "publish "],
    ["publish --topic --url http://x", /^Option '--topic' argument is ambiguous/, "publish "],
    ["publish --topic a --topic=b", "--topic stands more than once.", "publish "],
    ["publish --topic a/b", /^--topic is "a\/b", but must be 1 to 255 characters: segments/, "publish "],
    ["publish --source=", /^--source is "", but must be 1 to 255 characters/, "publish "],
    ["publish --format csv", '--format is "csv", but must be one of auto, lines, ndjson.', "publish "],
    [
      "publish --give-up-after soon",
      /^--give-up-after is "soon", but must be a number of seconds/,
      "publish "
    ],
    [
      "publish --url localhost:8080",
      /^--url \(or SEKALI_URL\) is "localhost:8080", but must be an http/,
      "publish "
    ],
    ["publish --url http://a/?b", /^--url \(or SEKALI_URL\) is /, "publish "],
    ["backup", "Missing argument <FILE>", "backup "],
    ["backup a b", '"b" is one argument too many: sekali backup [options] FILE', "backup "],
    ["backup --keep 0 a", '--keep is "0", but must be a whole number from 1 to 100000.', "backup "],
    ["backup --keep 2 --overwrite a", /^--overwrite does not go with --keep/, "backup "],
    ["check", "Missing argument <FILE>", "check "],
    ["stats extra", '"extra" is one argument too many: sekali stats [options]', "stats "],
    ["stats --json=yes", /^Option '--json' does not take an argument/, "stats "],
    ["serve now", '"now" is one argument too many: sekali serve', "serve "],
    ["serve --port 1", /^Unknown option '--port'/, "serve "]
  ])("is: sekali %s", async (words, sentence, help = "") => {
    const { code, stdout, stderr } = await runHere(words === "" ? [] : words.split(" "))
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" })
    const lines = stderr.split("\n")
    expect(lines).toEqual([expect.stringMatching(/^sekali: /), `Try: sekali ${help}--help`, ""])
    const said = lines[0]?.slice("sekali: ".length)
    if (typeof sentence === "string") expect(said).toBe(sentence)
    else expect(said).toMatch(sentence)
  })

  it("ends a process of its own as well", async () => {
    for (const words of [[], ["publish", "--topc", "a"], ["backup"]]) {
      const ended = await run(words)
      expect(ended.code).toBe(2)
      expect(ended).toEqual(await runHere(words))
    }
  })

  it("is also one whose variable is wrong", async () => {
    const { code, stderr } = await runHere(["stats"], { url: "ftp://example.org" })
    expect(code).toBe(2)
    expect(stderr).toMatch(/^sekali: --url \(or SEKALI_URL\) is "ftp:\/\/example\.org", but must be an http/)
  })

  it("is none where a file has the name of an option or a command", async () => {
    const { code, stderr } = await runHere(["publish", "--", "--topic", "stats", "-h"], {
      url: "http://127.0.0.1:9"
    })
    expect(code).toBe(1)
    expect(stderr.match(/there is no such file/g)).toHaveLength(3)
  })
})

describe("stats", () => {
  it("shows the books of a service", async () => {
    const { url } = await serve({ database: join(temporaryFolder(), "sekali.db") })
    await publish(url, eventNumbers(1500))
    await publish(url, eventNumbers(500))
    const { code, stdout, stderr } = await run(["stats"], { url })
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
    expect(stdout).toMatch(/^received +2,000$/m)
    expect(stdout).toMatch(/^unique +1,500$/m)
    expect(stdout).toMatch(/^duplicates +500 {2}25\.0 %$/m)
    expect(stdout).toMatch(/^topics +10\n {2}topic-0\n {2}topic-1\n/m)

    // An address may have a slash at its end; the option comes before the variable.
    const json = await runHere(["stats", "--json", "--url", `${url}/`], { url: "http://127.0.0.1:9" })
    expect(json).toMatchObject({ code: 0, stderr: "" })
    expect(json.stdout).toMatch(/^\{.*\}\n$/)
    const { uptime: _, ...books } = JSON.parse(json.stdout) as Record<string, unknown>
    expect(await stats(url)).toMatchObject(books)
  })

  it("fails where there is no service", async () => {
    const { url, port } = await nobody()
    const { code, stdout, stderr } = await runHere(["stats"], { url })
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" })
    expect(stderr).toBe(`sekali: ${url} cannot be reached: connect ECONNREFUSED 127.0.0.1:${port}.\n`)
  })
})
