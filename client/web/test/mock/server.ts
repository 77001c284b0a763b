//! The test world behind HTTP and WebSocket, with its journal in a file: enough of a gateway to work on the page and
//! to try its browser tests before there is one.

import { appendFileSync, existsSync, fsyncSync, openSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import { WebSocketServer } from "ws";
import { journalLine, journalOp } from "./journal";
import { World } from "./world";
import type { GroupOp } from "./world";

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};
const SEEDED = [
  ["alice", "Alice Archer"],
  ["bob", "Bob Baker"],
  ["carol", "Carol Carter"],
  ["dave", "Dave Dyer"],
] as const;

export interface MockOptions {
  port: number;
  /** The built page. */
  dist: string;
  /** Every change is written here first; undefined: nothing is kept. */
  journal: string | undefined;
}

type Json = Record<string, unknown>;

class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    text: string,
  ) {
    super(text);
  }
}

/** Starts the server; resolves with its port. */
export async function startMock(options: MockOptions): Promise<{ server: Server; world: World; port: number }> {
  const world = new World(() => Date.now());
  replay(world, options.journal);
  for (const [user, name] of SEEDED) if (!world.users.has(user)) world.commit({ op: "user", user, name });
  const server = createServer((request, response) => {
    void answer(world, options.dist, request, response).catch((error: unknown) => {
      const refusal = error instanceof Refusal ? error : new Refusal(500, "internal", String(error));
      send(response, refusal.status, { error: { code: 0, name: refusal.code, message: refusal.message, retry_after_ms: 0 } });
    });
  });
  const sockets = new WebSocketServer({ server, path: "/v1/ws", handleProtocols: (offered) => (offered.has("hawser.v1") ? "hawser.v1" : false) });
  sockets.on("connection", (socket) => {
    const conn = world.connect(
      (bytes) => socket.readyState === socket.OPEN && socket.send(bytes),
      (code, reason) => socket.close(code === 1006 ? 1011 : code, reason),
    );
    socket.on("message", (data: Buffer) => world.receive(conn, new Uint8Array(data)));
    socket.on("close", () => world.disconnect(conn));
  });
  await new Promise<void>((resolve) => server.listen(options.port, "127.0.0.1", resolve));
  return { server, world, port: (server.address() as AddressInfo).port };
}

function replay(world: World, journal: string | undefined): void {
  if (journal === undefined) return;
  if (existsSync(journal)) {
    const lines = readFileSync(journal, "utf8").split("\n");
    for (const line of lines.slice(0, -1)) world.apply(journalOp(line)); // a cut last line was never answered
  }
  const file = openSync(journal, "a");
  world.journal = (op) => {
    appendFileSync(file, `${journalLine(op)}\n`);
    fsyncSync(file);
  };
}

function send(response: ServerResponse, status: number, json: Json): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(json));
}

async function readJson(request: IncomingMessage): Promise<Json> {
  let text = "";
  for await (const chunk of request) text += String(chunk);
  return text === "" ? {} : (JSON.parse(text) as Json);
}

async function answer(world: World, dist: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname } = new URL(request.url ?? "/", "http://localhost");
  const parts = pathname.split("/").slice(1).map(decodeURIComponent);
  if (parts[0] !== "v1") return page(dist, pathname, response);
  const body = await readJson(request);
  if (pathname === "/v1/demo/users") {
    return send(response, 200, { users: [...world.users].map(([user, name]) => ({ user, name, status: "", profile_pic: "" })) });
  }
  if (pathname === "/v1/demo/login") {
    const user = String(body["user"]);
    const device = String(body["device"]);
    if (!world.users.has(user)) world.commit({ op: "user", user, name: user });
    return send(response, 200, { token: `${user}/${device}`, expires_at_ms: Date.now() + 86_400_000, user, device });
  }
  if (parts[1] !== "groups") throw new Refusal(404, "not_found", "There is no such thing.");
  const user = (request.headers.authorization ?? "").replace("Bearer ", "").split("/")[0] ?? "";
  if (!world.users.has(user)) throw new Refusal(401, "unauthenticated", "Sign in first.");
  const chat = groupOperation(world, user, request.method ?? "", parts.slice(2), body);
  send(response, 200, { chat });
}

function groupOperation(world: World, user: string, method: string, parts: string[], body: Json): string {
  const [id, room, member] = parts;
  const users = (list: unknown): string[] => {
    const found = Array.isArray(list) ? list.map(String) : [];
    if (found.some((u) => !world.users.has(u))) throw new Refusal(404, "not_found", "There is no such user.");
    return found;
  };
  if (id === undefined) {
    const chat = `g:${crypto.randomUUID()}`;
    return commit(world, user, chat, { op: "create", name: String(body["name"]), users: users(body["members"]) });
  }
  const change = (): GroupOp => {
    if (room === "members" && method === "POST") return { op: "add", users: users(body["users"]) };
    if (room === "members" && method === "DELETE") return { op: "remove", users: users([member]) };
    if (room === "leave") return { op: "leave" };
    if (room === "order") return { op: "order", lanes: Number(body["lanes"]) };
    if (room === "admins") return { op: "admin", users: users([member]), admin: method === "PUT" };
    if (room === undefined && method === "PATCH") return { op: "update", name: String(body["name"]) };
    throw new Refusal(404, "not_found", "There is no such thing.");
  };
  return commit(world, user, id, change());
}

function commit(world: World, user: string, chat: string, change: GroupOp): string {
  const code = world.commit({ op: "group", user, chat, change, at: Date.now() });
  if (code !== undefined) throw new Refusal(code === "forbidden" ? 403 : 404, code, `That is refused: ${code}.`);
  return chat;
}

async function page(dist: string, pathname: string, response: ServerResponse): Promise<void> {
  const path = normalize(join(dist, pathname === "/" ? "index.html" : pathname));
  const found = path.startsWith(dist) ? await readFile(path).catch(() => undefined) : undefined;
  if (!found) throw new Refusal(404, "not_found", "There is no such page.");
  response.writeHead(200, {
    "content-type": TYPES[extname(path)] ?? "application/octet-stream",
    "content-security-policy": "default-src 'self'; connect-src 'self'; frame-ancestors 'none'",
  });
  response.end(found);
}
