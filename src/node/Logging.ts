/**
 * How the service logs: lines for people on a terminal, else JSON.
 */
import { Layer, Logger } from "effect"
import type { SettingsShape } from "../Config.ts"

/** Whether the log is for a person on a terminal. */
export const isPretty = ({ logFormat }: Pick<SettingsShape, "logFormat">): boolean =>
  logFormat === "pretty" || (logFormat === "auto" && process.stdout.isTTY === true)

/** The logger of the settings. */
export const logging = ({ logLevel }: Pick<SettingsShape, "logLevel">, pretty: boolean): Layer.Layer<never> =>
  Layer.merge(pretty ? Logger.pretty : Logger.json, Logger.minimumLogLevel(logLevel))
