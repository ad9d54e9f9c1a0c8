/**
 * What a command is: its options and arguments (of `@effect/cli`), its page of help, and what it does. Node's own
 * `parseArgs` goes over the words before `@effect/cli` reads them, because left to itself that takes a misspelt option,
 * or one that lacks its value, for a file to work on.
 */
import { parseArgs, stripVTControlCharacters } from "node:util"
import * as Args from "@effect/cli/Args"
import * as CliConfig from "@effect/cli/CliConfig"
import * as CommandDescriptor from "@effect/cli/CommandDescriptor"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as Options from "@effect/cli/Options"
import type * as Usage from "@effect/cli/Usage"
import * as ValidationError from "@effect/cli/ValidationError"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as NodeTerminal from "@effect/platform-node/NodeTerminal"
import { Data, Effect, Either, Layer, Option } from "effect"
import type { Failure } from "./Conventions.ts"

/** The command line is wrong: `sentence` says how. */
export class UsageError extends Data.TaggedError("UsageError")<{ readonly sentence: string }> {}

/** A command of the command line. */
export interface Command {
  readonly name: string
  /** What it does, in a few words. */
  readonly summary: string
  /** Its page of help. */
  readonly page: string
  /** Runs it with the words that stand behind its name, and gives its exit code. */
  readonly run: (words: ReadonlyArray<string>) => Effect.Effect<number, UsageError | Failure>
}

/** What a command is made from. */
export interface Definition<O, A> {
  readonly name: string
  readonly summary: string
  /** What stands behind the name, such as `[options] FILE`. */
  readonly usage: string
  readonly options: Options.Options<O>
  readonly args: Args.Args<A>
  /** The rest of the page: paragraphs and sections. */
  readonly text: string
  readonly examples: ReadonlyArray<string>
  readonly run: (options: O, args: A) => Effect.Effect<number, UsageError | Failure>
}

/** A command, with its page and its way to read the command line. */
export const make = <O, A>(definition: Definition<O, A>): Command => {
  const { name, summary, usage, options, args, run } = definition
  const descriptor = CommandDescriptor.make(name, options, args)
  const known = parseArgsOptions(Options.getUsage(options))
  return {
    name,
    summary,
    page: pageOf(definition),
    run: (words) =>
      Effect.gen(function* () {
        const sorted = yield* sort(known, words)
        const directive = yield* CommandDescriptor.parse(
          descriptor,
          [name, ...sorted],
          CliConfig.defaultConfig
        ).pipe(
          Effect.mapError(({ error }) => new UsageError({ sentence: textOf(error) })),
          Effect.provide(Layer.mergeAll(NodeFileSystem.layer, NodePath.layer, NodeTerminal.layer))
        )
        if (directive._tag === "BuiltIn") return yield* Effect.dieMessage("a built-in option came through")
        const [extra] = directive.leftover
        if (extra !== undefined) {
          const sentence = `"${extra}" is one argument too many: sekali ${`${name} ${usage}`.trim()}`
          return yield* new UsageError({ sentence })
        }
        return yield* run(directive.value.options, directive.value.args)
      })
  }
}

// ---------- options ----------

/** An option with a value, as a text. */
export const option = (name: string, value: string, description: string): Options.Options<string> =>
  Options.text(name).pipe(Options.withPseudoName(value), Options.withDescription(description))

/** Reads an option's text; `read` gives undefined for what is not allowed. */
export const readAs =
  <A>(what: string, allowed: string, read: (text: string) => A | undefined) =>
  (options: Options.Options<string>): Options.Options<A> =>
    Options.mapEffect(options, (text) => {
      const value = read(text)
      if (value !== undefined) return Effect.succeed(value)
      const sentence = `${what} is ${JSON.stringify(text)}, but must be ${allowed}.`
      return Effect.fail(ValidationError.invalidValue(HelpDoc.p(sentence)))
    })

// ---------- the words of a command line ----------

type ParseArgsOptions = Record<string, { readonly type: "string" | "boolean" }>

const parseArgsOptions = (usage: Usage.Usage): ParseArgsOptions => {
  switch (usage._tag) {
    case "Named": {
      const type = Option.isSome(usage.acceptedValues) ? "string" : "boolean"
      return Object.fromEntries(usage.names.map((name) => [name.replace(/^--/, ""), { type }]))
    }
    case "Optional":
    case "Repeated":
      return parseArgsOptions(usage.usage)
    case "Alternation":
    case "Concat":
      return { ...parseArgsOptions(usage.left), ...parseArgsOptions(usage.right) }
    case "Empty":
    case "Mixed":
      return {}
  }
}

/** The same words with the options first, then `--` and the arguments. */
const sort = (
  options: ParseArgsOptions,
  words: ReadonlyArray<string>
): Either.Either<ReadonlyArray<string>, UsageError> =>
  Either.gen(function* () {
    const { tokens, positionals } = yield* Either.try({
      try: () => parseArgs({ args: [...words], options, allowPositionals: true, tokens: true }),
      catch: (error) => new UsageError({ sentence: (error as Error).message.replaceAll("\n", " ") })
    })
    const given = tokens.filter((token) => token.kind === "option")
    const again = given.find(({ name }, index) => given.findIndex((other) => other.name === name) < index)
    if (again !== undefined) {
      return yield* Either.left(new UsageError({ sentence: `${again.rawName} stands more than once.` }))
    }
    return [
      // With "=" any value is one, but for an empty one.
      ...given.flatMap(({ name, value }) =>
        value === undefined ? [`--${name}`] : value === "" ? [`--${name}`, ""] : [`--${name}=${value}`]
      ),
      "--",
      ...positionals
    ]
  })

// ---------- the page ----------

const textOf = (doc: HelpDoc.HelpDoc): string => stripVTControlCharacters(HelpDoc.toAnsiText(doc)).trim()

const flat = (doc: HelpDoc.HelpDoc): ReadonlyArray<HelpDoc.HelpDoc> =>
  HelpDoc.isSequence(doc) ? [...flat(doc.left), ...flat(doc.right)] : HelpDoc.isEmpty(doc) ? [] : [doc]

// `@effect/cli` says of each option what its type is, then its description, then whether it is optional.
const optionRows = (doc: HelpDoc.HelpDoc): ReadonlyArray<readonly [string, string]> =>
  flat(doc)
    .filter(HelpDoc.isDescriptionList)
    .flatMap(({ definitions }) =>
      definitions.map(([span, block]) => {
        const [, description] = flat(block)
        return [textOf(HelpDoc.p(span)), description === undefined ? "" : textOf(description)] as const
      })
    )

/** Rows of two columns, indented. */
export const rows = (pairs: ReadonlyArray<readonly [string, string]>): string => {
  const width = Math.max(...pairs.map(([left]) => left.length))
  return pairs.map(([left, right]) => `  ${left.padEnd(width + 2)}${right}`.trimEnd()).join("\n")
}

const pageOf = <O, A>({ name, summary, usage, options, args, text, examples }: Definition<O, A>): string =>
  [
    `sekali ${name}: ${summary}`,
    `Usage\n  ${`sekali ${name} ${usage}`.trim()}`,
    `Options\n${rows([
      ...optionRows(Options.getHelp(options)),
      ...optionRows(Args.getHelp(args)),
      ["-h, --help", "this page"]
    ])}`,
    text,
    `Examples\n${examples.map((example) => `  ${example}`).join("\n")}`
  ]
    .filter((section) => section !== "")
    .join("\n\n")
    .concat("\n")
