//! The HTTP API as the browser client uses it: log in to the demo, who there is, groups.

/** A user as a person sees one. */
export interface Person {
  user: string;
  name: string;
}

export interface Login {
  token: string;
  /** The server's clock, milliseconds; 0 when the token does not say. */
  expiresAtMs: number;
}

/** The server was reached and said no (`status` 4xx), is in trouble (5xx), or was not reached (0). */
export class ApiError extends Error {
  override name = "ApiError";
  constructor(
    readonly status: number,
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

type Json = Record<string, unknown>;

async function call(method: string, path: string, token?: string, body?: Json): Promise<Json> {
  const headers: Record<string, string> = { accept: "application/json" };
  if (token !== undefined) headers["authorization"] = `Bearer ${token}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers,
      cache: "no-store",
      signal: AbortSignal.timeout(ANSWER_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch {
    throw new ApiError(0, "unreachable", "The server cannot be reached.");
  }
  const text = await response.text().catch(() => "");
  let json: Json = {};
  try {
    json = text === "" ? {} : (JSON.parse(text) as Json);
  } catch {
    if (response.ok) throw new ApiError(502, "not_json", "The server's answer makes no sense.");
  }
  if (!response.ok) throw refusal(response.status, json);
  return json;
}

/** `{"error": {"code", "text"}}`, or nothing readable at all. */
function refusal(status: number, json: Json): ApiError {
  const error = typeof json["error"] === "object" && json["error"] !== null ? (json["error"] as Json) : json;
  const code = String(error["code"] ?? error["error"] ?? `http_${status}`);
  const said = error["text"] ?? error["message"] ?? error["detail"];
  return new ApiError(status, code, typeof said === "string" && said !== "" ? said : `The server said ${status}.`);
}

/** The expiry inside a JWT, milliseconds; 0 when there is none to be read. */
export function tokenExpiryMs(token: string): number {
  try {
    const payload = (token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/");
    const { exp } = JSON.parse(atob(payload)) as { exp?: unknown };
    return typeof exp === "number" ? exp * 1_000 : 0;
  } catch {
    return 0;
  }
}

export async function demoLogin(user: string, device: string): Promise<Login> {
  const json = await call("POST", "/v1/demo/login", undefined, { user, device });
  const token = json["token"];
  if (typeof token !== "string") throw new ApiError(502, "no_token", "The server's answer makes no sense.");
  return { token, expiresAtMs: tokenExpiryMs(token) };
}

export async function demoUsers(): Promise<Person[]> {
  const json = await call("GET", "/v1/demo/users");
  const list = Array.isArray(json["users"]) ? (json["users"] as Json[]) : [];
  return list
    .map((entry) => ({ user: String(entry["user"] ?? ""), name: String(entry["name"] ?? "") }))
    .filter((person) => person.user !== "");
}

/** Group operations of one signed-in user. */
export class Groups {
  constructor(private readonly token: () => Promise<string>) {}

  /** Returns the new group's chat id. */
  async create(name: string, members: string[]): Promise<string> {
    const json = await call("POST", "/v1/groups", await this.token(), { name, members });
    return String(json["chat"] ?? "");
  }

  async add(chat: string, users: string[]): Promise<void> {
    await call("POST", `${path(chat)}/members`, await this.token(), { users });
  }

  async remove(chat: string, user: string): Promise<void> {
    await call("DELETE", `${path(chat)}/members/${encodeURIComponent(user)}`, await this.token());
  }

  async leave(chat: string): Promise<void> {
    await call("POST", `${path(chat)}/leave`, await this.token());
  }

  async rename(chat: string, name: string): Promise<void> {
    await call("PATCH", path(chat), await this.token(), { name });
  }

  async setAdmin(chat: string, user: string, admin: boolean): Promise<void> {
    const method = admin ? "PUT" : "DELETE";
    await call(method, `${path(chat)}/admins/${encodeURIComponent(user)}`, await this.token());
  }
}

function path(chat: string): string {
  return `/v1/groups/${encodeURIComponent(chat)}`;
}
