import { defineConfig } from "vitest/config"
import { simulated } from "./sim/loader/vitest.ts"

const common = { testTimeout: 60_000, hookTimeout: 60_000 }

// The simulator's tests see a simulated database driver, all others the real one.
export default defineConfig({
  test: {
    // Most tests wait for processes and disks; a core kept free for the runner itself would stand idle.
    maxWorkers: "100%",
    projects: [
      {
        test: {
          ...common,
          name: "service",
          include: ["test/**/*.test.ts"],
          exclude: ["test/sim/**"],
          globalSetup: "test/support/build.ts"
        }
      },
      { plugins: [simulated()], test: { ...common, name: "simulator", include: ["test/sim/**/*.test.ts"] } }
    ]
  }
})
