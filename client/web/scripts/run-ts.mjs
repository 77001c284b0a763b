//! Runs a TypeScript file with this Node, through Vite's module runner: `node scripts/run-ts.mjs FILE [ARGUMENT ...]`.

import { resolve } from "node:path";
import { runnerImport } from "vite";

const [file, ...rest] = process.argv.slice(2);
if (file === undefined) {
  console.error("usage: node scripts/run-ts.mjs FILE [ARGUMENT ...]");
  process.exit(2);
}
process.argv = [process.argv[0], resolve(file), ...rest];
await runnerImport(resolve(file), { configFile: false, logLevel: "warn" });
