/** A small textual change to a module; `file` is relative to the project's root, `find` occurs in it once. */
export interface Mutant {
  readonly file: string
  readonly find: string
  readonly replace: string
}

export declare const root: string
export declare const facade: string
export declare const isSimulatedImport: (specifier: string, importer: string | undefined) => boolean
export declare const mutantsFromEnvironment: () => ReadonlyArray<Mutant>
export declare const checkMutants: (mutants: ReadonlyArray<Mutant>) => ReadonlyArray<Mutant>
export declare const applyMutants: (
  path: string,
  source: string,
  mutants: ReadonlyArray<Mutant>
) => string | undefined
