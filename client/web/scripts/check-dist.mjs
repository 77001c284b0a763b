//! Says whether the committed dist/ is what a fresh build of these sources gives, byte by byte.

import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";

const root = fileURLToPath(new URL("..", import.meta.url));
const committed = join(root, "dist");

async function files(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const paths = entries.filter((e) => e.isFile()).map((e) => relative(folder, join(e.parentPath, e.name)));
  return paths.sort();
}

const fresh = await mkdtemp(join(tmpdir(), "hawser-dist-"));
try {
  await build({ root, logLevel: "warn", build: { outDir: fresh, emptyOutDir: true } });
  const names = new Set([...(await files(committed)), ...(await files(fresh))]);
  const differing = [];
  for (const name of [...names].sort()) {
    const [a, b] = await Promise.all([committed, fresh].map((f) => readFile(join(f, name)).catch(() => undefined)));
    if (a === undefined) differing.push(`${name}: not committed`);
    else if (b === undefined) differing.push(`${name}: no longer built`);
    else if (!a.equals(b)) differing.push(`${name}: differs`);
  }
  if (differing.length > 0) {
    console.error(`dist/ is not a build of these sources; run "npm run build" and commit it:\n${differing.join("\n")}`);
    process.exitCode = 1;
  } else {
    console.log(`dist/ is a build of these sources (${names.size} files)`);
  }
} finally {
  await rm(fresh, { recursive: true, force: true });
}
