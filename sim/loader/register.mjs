/**
 * Prepares Node to run the simulator: `node --import ./sim/loader/register.mjs sim/….ts`. TypeScript is
 * compiled as it is loaded, the database driver finds the simulated disk, and the mutants of SEKALI_SIM_MUTANTS (a JSON
 * array of {file, find, replace}) are applied to the modules they name. A mutant that does not apply stops the
 * process before anything is run.
 */
import { register } from "node:module"
import { mutantsFromEnvironment } from "./mutate.mjs"

const mutants = mutantsFromEnvironment()
register("./hooks.mjs", import.meta.url, { data: { mutants } })
