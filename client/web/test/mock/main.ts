//! `npm run mock -- [--port 8080] [--journal FILE]`: the page against the test world.

import { resolve } from "node:path";
import { startMock } from "./server";

const argument = (name: string): string | undefined => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? undefined : process.argv[at + 1];
};
const journal = argument("journal");
const { port } = await startMock({ port: Number(argument("port") ?? 8_080), dist: resolve("dist"), journal });
console.log(`http://127.0.0.1:${port}/`);
