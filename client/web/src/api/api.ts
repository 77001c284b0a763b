//! The HTTP API as the browser client uses it (docs/openapi.json): log in to the demo, who there is, groups.

import { uuidText, uuidV7 } from "../protocol/ids";

/** A user as a person sees one. */
export interface Person {
  user: string;
  name: string;
  /** What they say of themselves. */
  status: string;
}

export interface Login {
  token: string;
  /** The server's clock, milliseconds; 0 when it does not say. */
  expiresAtMs: number;
}

/** The server was reached and said no (`status` 4xx), is in trouble (5xx), or was not reached (0). */
export class ApiError extends Error {
  override name = "ApiError";
  constructor(
    readonly status: number,
    /** Name of the code, as docs/errors.md has it. */
    readonly code: string,
    message: string,
  ) {
    super(message);
  }

  /** Asking the same again may help. */
  get mayPass(): boolean {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

const ANSWER_MS = 10_000;
/** A change that was not answered is asked for again, with the same key, this often. */
const CHANGE_TRIES = 4;
const CHANGE_PAUSE_MS = 700;

type Json = Record<string, unknown>;

interface Call {
  token?: string;
  body?: Json;
  /** Makes a change that is asked for twice happen once. */
  key?: string;
}

async function call(method: string, path: string, { token, body, key }: Call = {}): Promise<Json> {
  const headers: Record<string, string> = { accept: "application/json" };
  if (token !== undefined) headers["authorization"] = `Bearer ${token}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  if (key !== undefined) headers["idempotency-key"] = key;
  let response: Response;
  let text: string;
  try {
    response = await fetch(path, {
      method,
      headers,
      cache: "no-store",
      signal: AbortSignal.timeout(ANSWER_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    text = await response.text();
  } catch {
    throw new ApiError(0, "unreachable", "The server cannot be reached.");
  }
  const json = parse(text);
  if (!response.ok) throw refusal(response.status, json ?? {});
  if (!json) throw new ApiError(502, "not_json", "The server's answer makes no sense.");
  return json;
}

function parse(text: string): Json | undefined {
  if (text === "") return {};
  try {
    const json = JSON.parse(text) as unknown;
    return typeof json === "object" && json !== null ? (json as Json) : undefined;
  } catch {
    return undefined;
  }
}

/** `{"error": {"code": 33, "name": "not_found", "message": "…", "retry_after_ms": 0}}`, or nothing readable. */
function refusal(status: number, json: Json): ApiError {
  const error = (typeof json["error"] === "object" ? json["error"] : undefined) as Json | null | undefined;
  const name = typeof error?.["name"] === "string" ? error["name"] : `http_${status}`;
  const said = error?.["message"];
  const words = typeof said === "string" && said !== "" ? sentence(said) : `The server said ${status}.`;
  return new ApiError(status, name, words);
}

function sentence(words: string): string {
  const first = words.slice(0, 1).toUpperCase() + words.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

export async function demoLogin(user: string, device: string): Promise<Login> {
  const { token, expires_at_ms: expiry } = await call("POST", "/v1/demo/login", { body: { user, device } });
  if (typeof token !== "string") throw new ApiError(502, "no_token", "The server's answer makes no sense.");
  return { token, expiresAtMs: typeof expiry === "number" ? expiry : 0 };
}

export async function demoUsers(): Promise<Person[]> {
  const { users } = await call("GET", "/v1/demo/users");
  const text = (value: unknown): string => (typeof value === "string" ? value : "");
  return (Array.isArray(users) ? (users as Json[]) : [])
    .map((entry) => ({ user: text(entry["user"]), name: text(entry["name"]), status: text(entry["status"]) }))
    .filter((person) => person.user !== "");
}

/** Group operations of one signed-in user. */
export class Groups {
  constructor(private readonly token: () => Promise<string>) {}

  /** Returns the new group's chat id. */
  async create(name: string, members: string[]): Promise<string> {
    const { chat } = await this.change("POST", "/v1/groups", { name, members });
    if (typeof chat !== "string") throw new ApiError(502, "no_chat", "The server's answer makes no sense.");
    return chat;
  }

  async add(chat: string, users: string[]): Promise<void> {
    await this.change("POST", `${path(chat)}/members`, { users });
  }

  async remove(chat: string, user: string): Promise<void> {
    await this.change("DELETE", `${path(chat)}/members/${encodeURIComponent(user)}`);
  }

  async leave(chat: string): Promise<void> {
    await this.change("POST", `${path(chat)}/leave`);
  }

  async rename(chat: string, name: string): Promise<void> {
    await this.change("PATCH", path(chat), { name });
  }

  async setAdmin(chat: string, user: string, admin: boolean): Promise<void> {
    await this.change(admin ? "PUT" : "DELETE", `${path(chat)}/admins/${encodeURIComponent(user)}`);
  }

  /** One change, once: what was not answered is asked for again with the same key. */
  private async change(method: string, where: string, body?: Json): Promise<Json> {
    const key = uuidText(uuidV7(Date.now(), crypto.getRandomValues(new Uint8Array(10))));
    for (let tries = 1; ; tries += 1) {
      try {
        const token = await this.token();
        return await call(method, where, { token, key, ...(body ? { body } : {}) });
      } catch (error) {
        if (!(error instanceof ApiError) || !error.mayPass || tries >= CHANGE_TRIES) throw error;
        await new Promise((resolve) => setTimeout(resolve, CHANGE_PAUSE_MS * tries));
      }
    }
  }
}

function path(chat: string): string {
  return `/v1/groups/${encodeURIComponent(chat)}`;
}
