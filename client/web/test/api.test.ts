import { afterEach, describe, expect, it, vi } from "vitest";
import { ApiError, demoLogin, demoUsers, Groups } from "../src/api/api";

interface Asked {
  url: string;
  method: string;
  headers: Record<string, string>;
  body: string | undefined;
}

/** Answers fetch with these, in turn; an Error is a server that is not reached. */
function answers(...list: ({ status: number; text: string } | Error)[]): Asked[] {
  const asked: Asked[] = [];
  vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
    const headers = init.headers as Record<string, string>;
    asked.push({ url, method: init.method ?? "", headers, body: init.body as string | undefined });
    const answer = list.shift() ?? new Error("asked too often");
    if (answer instanceof Error) throw answer;
    return new Response(answer.status === 204 ? null : answer.text, { status: answer.status });
  });
  return asked;
}

const json = (status: number, value: unknown): { status: number; text: string } => ({ status, text: JSON.stringify(value) });
const refusal = (status: number, name: string, message: string): { status: number; text: string } =>
  json(status, { error: { code: 1, name, message, retry_after_ms: 0 } });
const groups = new Groups(async () => "token");

afterEach(() => vi.unstubAllGlobals());

describe("the HTTP API", () => {
  it("logs in and lists people", async () => {
    const asked = answers(
      json(200, { token: "t", expires_at_ms: 5, user: "alice", device: "d" }),
      json(200, { users: [{ user: "bob", name: "Bob", status: "here", profile_pic: "" }, { nonsense: 1 }] }),
    );
    expect(await demoLogin("alice", "d")).toEqual({ token: "t", expiresAtMs: 5 });
    expect(asked[0]).toMatchObject({ url: "/v1/demo/login", method: "POST", body: '{"user":"alice","device":"d"}' });
    expect(await demoUsers()).toEqual([{ user: "bob", name: "Bob", status: "here" }]);
  });

  it("says what the server said, as a sentence, and whether it may pass", async () => {
    answers(refusal(403, "forbidden", "for the group's admins only"));
    const refused = await groups.rename("g:x", "X").catch((error: unknown) => error);
    expect(refused).toMatchObject({ status: 403, code: "forbidden", message: "For the group's admins only.", mayPass: false });
    answers({ status: 500, text: "<html>" });
    const broken = await demoUsers().catch((error: unknown) => error);
    expect(broken).toMatchObject({ status: 500, code: "http_500", mayPass: true });
    answers({ status: 200, text: "<html>" });
    await expect(demoUsers()).rejects.toBeInstanceOf(ApiError);
  });

  it("a change that is not answered is asked for again with the same key", async () => {
    const asked = answers(new Error("reset"), refusal(504, "unknown_outcome", "ask again"), json(201, { chat: "g:1" }));
    expect(await groups.create("X", ["bob"])).toBe("g:1");
    expect(new Set(asked.map((a) => a.headers["idempotency-key"])).size).toBe(1);
    expect(asked[0]?.headers["idempotency-key"]).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(asked[0]?.headers["authorization"]).toBe("Bearer token");
  });

  it("ids in paths are escaped; an answer without a body is one", async () => {
    const asked = answers({ status: 204, text: "" }, json(200, {}));
    await groups.leave("g:x/y");
    await groups.setAdmin("g:x", "a+b@c", false);
    expect(asked.map((a) => `${a.method} ${a.url}`)).toEqual(["POST /v1/groups/g%3Ax%2Fy/leave", "DELETE /v1/groups/g%3Ax/admins/a%2Bb%40c"]);
  });
});
