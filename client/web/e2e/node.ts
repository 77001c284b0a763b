//! The server under test: a real gateway binary (HAWSER_GATEWAY), or the mock (`--mock`), in a process of its own
//! that can be killed like a power cut and started again on the same data.

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createWriteStream, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const READY_MS = 30_000;
/** Further arguments for the gateway, separated by blanks: `--set log.kind=kafka ...`. */
const EXTRA = (process.env["HAWSER_GATEWAY_ARGS"] ?? "").split(" ").filter((word) => word !== "");

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export class Node {
  private child: ChildProcess | undefined;
  private readonly folder = mkdtempSync(join(tmpdir(), "hawser-e2e-"));
  private constructor(
    private readonly ports: readonly [number, number, number],
    private readonly gateway: string | undefined,
  ) {}

  static async start(): Promise<Node> {
    const gateway = process.argv.includes("--mock") ? undefined : process.env["HAWSER_GATEWAY"];
    const ports = [await freePort(), await freePort(), await freePort()] as const;
    const node = new Node(ports, gateway);
    process.once("exit", () => node.child?.kill("SIGKILL")); // also when a test throws where nobody listens
    await node.up();
    return node;
  }

  get url(): string {
    return `http://127.0.0.1:${this.ports[0]}/`;
  }

  /** Whether it is the mock. */
  get mock(): boolean {
    return this.gateway === undefined;
  }

  async up(): Promise<void> {
    const [http, wss, admin] = this.ports;
    const at = (port: number): string => `127.0.0.1:${port}`;
    const [program, args] =
      this.gateway !== undefined
        ? [this.gateway, ["--embedded", "--listen", at(http), "--wss", at(wss), "--admin", at(admin), "--data-dir", join(this.folder, "data"), ...EXTRA]]
        : [process.execPath, ["scripts/run-ts.mjs", "test/mock/main.ts", "--port", String(http), "--journal", join(this.folder, "journal")]];
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.child = child;
    const log = createWriteStream(join(this.folder, "log"), { flags: "a" });
    let said = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.pipe(log, { end: false });
      stream.on("data", (data: Buffer) => (said = (said + String(data)).slice(-4_000)));
    }
    const end = Date.now() + READY_MS;
    while (Date.now() < end && child.exitCode === null) {
      const answer = await fetch(`${this.url}v1/demo/users`).catch(() => undefined);
      if (answer?.ok) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`the server did not come up (exit ${String(child.exitCode)}):\n${said}`);
  }

  /** SIGKILL: nothing is flushed, nobody is told. */
  async kill(): Promise<void> {
    await this.end("SIGKILL");
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    const { child } = this;
    this.child = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await ended;
  }

  async stop(): Promise<void> {
    await this.end("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }
}
