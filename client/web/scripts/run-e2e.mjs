//! `npm run e2e`: the browser tests against a real gateway (HAWSER_GATEWAY=path of the binary), or, with `-- --mock`,
//! against the mock. Installs nothing: Chromium is the system's (HAWSER_CHROMIUM, else /usr/bin/chromium).

import { existsSync } from "node:fs";
import { chdir } from "node:process";
import { fileURLToPath } from "node:url";
import { runnerImport } from "vite";

const root = fileURLToPath(new URL("..", import.meta.url));
const chromium = process.env["HAWSER_CHROMIUM"] ?? "/usr/bin/chromium";
const gateway = process.env["HAWSER_GATEWAY"];

function refuse(text) {
  console.error(text);
  process.exit(2);
}

if (!existsSync(chromium)) refuse(`no browser at ${chromium}: install chromium, or name one in HAWSER_CHROMIUM`);
if (!process.argv.includes("--mock")) {
  if (gateway === undefined) refuse("HAWSER_GATEWAY must name the gateway's binary (or run against the mock: npm run e2e -- --mock)");
  if (!existsSync(gateway)) refuse(`HAWSER_GATEWAY: there is no ${gateway}`);
}
chdir(root);
await runnerImport(`${root}e2e/chat.ts`, { configFile: false, logLevel: "warn" });
