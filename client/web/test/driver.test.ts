//! The driver against the test world: sockets that open and close, a disk that takes its time or fails.

import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ApiError } from "../src/api/api";
import { decodeClientFrames } from "../src/protocol/frames";
import { decodeText, encodeText } from "../src/protocol/proto";
import type { Batch, Effect } from "../src/session/types";
import { Store } from "../src/store/store";
import { Driver } from "../src/transport/driver";
import type { Ground, Socket } from "../src/transport/driver";
import { World } from "./mock/world";
import type { Conn } from "./mock/world";

globalThis.IDBKeyRange = IDBKeyRange;
const CHAT = "dm:alice:bob";

/** A WebSocket whose other end is the world. */
class TestSocket implements Socket {
  binaryType = "blob";
  readyState = 0;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  readonly protocol: string;
  private conn: Conn | undefined;

  constructor(
    private readonly bench: Bench,
    readonly url: string,
    protocol: string,
  ) {
    this.protocol = protocol;
    queueMicrotask(() => {
      if (bench.unreachable) return this.end(1006);
      this.conn = bench.world.connect(
        (bytes) => this.onmessage?.({ data: bytes.slice().buffer }),
        (code) => this.end(code),
      );
      this.readyState = 1;
      this.onopen?.();
    });
  }

  end(code: number): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    if (this.conn) this.bench.world.disconnect(this.conn);
    queueMicrotask(() => this.onclose?.({ code, reason: "" }));
  }
  send(bytes: Uint8Array): void {
    this.bench.log.push(...decodeClientFrames(bytes).map((f) => f.type));
    if (this.conn) this.bench.world.receive(this.conn, bytes);
  }
  close(): void {
    this.end(1000);
  }
}

class Bench {
  readonly world = new World(() => Date.now());
  readonly log: string[] = [];
  readonly effects: Effect[] = [];
  readonly sockets: TestSocket[] = [];
  readonly timers = new Set<ReturnType<typeof setTimeout>>();
  unreachable = false;
  failLogin: Error | undefined;
  failDisk = false;
  diskLost = 0;
  /** Awaited before each write. */
  hold: Promise<void> = Promise.resolve();

  async driver(store: Store, user = "alice"): Promise<Driver> {
    const { saved } = await store.load();
    const ground: Ground = {
      now: () => ({ ms: performance.now(), wallMs: Date.now() }),
      chance: { unit: () => 0.01, bytes: (n) => crypto.getRandomValues(new Uint8Array(n)) },
      socket: (url, protocol) => {
        const socket = new TestSocket(this, url, protocol);
        this.sockets.push(socket);
        return socket;
      },
      write: async (batch: Batch) => {
        await this.hold;
        if (this.failDisk) throw new Error("QuotaExceededError");
        await store.write(batch);
        this.log.push("disk");
      },
      login: async () => {
        if (this.failLogin) throw this.failLogin;
        return { token: `${user}/web-1`, expiresAtMs: 0 };
      },
      after: (ms, run) => {
        const timer = setTimeout(run, ms);
        this.timers.add(timer);
        return timer;
      },
      cancel: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
    };
    const config = { user, device: "web-1", url: "ws://home/", client: "test", acceptsUrl: () => true };
    return new Driver(config, saved, ground, {
      effect: (effect) => this.effects.push(effect),
      diskFailed: () => (this.diskLost += 1),
    });
  }

  get phase(): string {
    const phases = this.effects.filter((e) => e.do === "phase");
    return phases.at(-1)?.phase.kind ?? "";
  }
}

async function until(holds: () => boolean): Promise<void> {
  for (let i = 0; i < 400 && !holds(); i += 1) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(holds()).toBe(true);
}

let bench: Bench;
let store: Store;
let factory: IDBFactory;

beforeEach(async () => {
  bench = new Bench();
  for (const user of ["alice", "bob"]) bench.world.commit({ op: "user", user, name: user });
  factory = new IDBFactory();
  store = await Store.open(factory, "alice", "web-1");
});
afterEach(() => {
  for (const timer of bench.timers) clearTimeout(timer);
});

function arrive(text: string): void {
  const clientMsgId = crypto.getRandomValues(new Uint8Array(16));
  const send = { clientMsgId, sendTsMs: 1, messageType: 1, retry: false, chat: CHAT, body: encodeText(text) };
  bench.world.commit({ op: "send", user: "bob", device: "x", send, at: Date.now() });
}

describe("driver", () => {
  it("connects with the subprotocol and in binary, and is live", async () => {
    const driver = await bench.driver(store);
    driver.input((s, now) => s.start(now));
    await until(() => bench.phase === "live");
    expect(bench.sockets[0]).toMatchObject({ url: "ws://home/", protocol: "hawser.v1", binaryType: "arraybuffer" });
  });

  it("a message leaves only when the disk has it", async () => {
    const driver = await bench.driver(store);
    driver.input((s, now) => s.start(now));
    await until(() => bench.phase === "live");
    await driver.flushed();
    let release = (): void => {};
    bench.hold = new Promise((resolve) => (release = resolve));
    driver.input((s, now) => s.submit(CHAT, 1, encodeText("hi"), now));
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(bench.log).not.toContain("send");
    expect(bench.world.texts(CHAT)).toEqual([]);
    release();
    await until(() => bench.world.texts(CHAT).length === 1);
  });

  it("a message is acknowledged only when the disk has it", async () => {
    const driver = await bench.driver(store);
    driver.input((s, now) => s.start(now));
    await until(() => bench.phase === "live");
    await driver.flushed();
    let release = (): void => {};
    bench.hold = new Promise((resolve) => (release = resolve));
    const acks = (): number => bench.log.filter((type) => type === "ack").length;
    const before = acks();
    arrive("hi");
    await new Promise((resolve) => setTimeout(resolve, 120));
    expect(acks()).toBe(before);
    release();
    await until(() => acks() > before);
    expect((await store.page(CHAT, "", 9)).map((row) => decodeText(row.body))).toEqual(["hi"]);
  });

  it("a disk that fails ends the session: nothing is acknowledged past it", async () => {
    const driver = await bench.driver(store);
    driver.input((s, now) => s.start(now));
    await until(() => bench.phase === "live");
    await driver.flushed();
    bench.failDisk = true;
    const acks = bench.log.filter((type) => type === "ack").length;
    arrive("lost?");
    await until(() => bench.phase === "stopped");
    bench.failDisk = false;
    arrive("later");
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(bench.diskLost).toBe(1);
    expect(bench.log.filter((type) => type === "ack")).toHaveLength(acks);
    const again = await bench.driver(store);
    again.input((s, now) => s.start(now));
    await until(() => bench.phase === "live");
    await again.flushed();
    expect((await store.page(CHAT, "", 9)).map((row) => decodeText(row.body))).toEqual(["lost?", "later"]);
  });

  it("what was written without a connection leaves after the program starts again", async () => {
    bench.unreachable = true;
    const driver = await bench.driver(store);
    driver.input((s, now) => s.start(now));
    driver.input((s, now) => s.submit(CHAT, 1, encodeText("one"), now));
    driver.input((s, now) => s.submit(CHAT, 1, encodeText("two"), now));
    await driver.flushed();
    driver.input((s, now) => s.stop(now));
    bench.unreachable = false;
    const again = await bench.driver(await Store.open(factory, "alice", "web-1"));
    again.input((s, now) => s.start(now));
    await until(() => bench.world.texts(CHAT).length === 2);
    expect(bench.world.texts(CHAT)).toEqual(["one", "two"]);
  });

  it("a login that is refused ends it; one that cannot be reached is tried again", async () => {
    bench.failLogin = new ApiError(0, "unreachable", "not reached");
    const driver = await bench.driver(store);
    driver.input((s, now) => s.start(now));
    await until(() => bench.phase === "waiting");
    bench.failLogin = undefined;
    driver.input((s, now) => s.nudge(now));
    await until(() => bench.phase === "live");
    bench.failLogin = new ApiError(403, "forbidden", "You are blocked.");
    bench.world.drop("alice", 4100);
    await until(() => bench.phase === "refused");
    const refused = bench.effects.findLast((e) => e.do === "phase");
    expect(refused).toMatchObject({ phase: { text: "You are blocked." } });
  });

  it("history is told of when its messages can be read", async () => {
    for (let i = 0; i < 100; i += 1) arrive(String(i));
    const driver = await bench.driver(store);
    driver.input((s, now) => s.start(now));
    await until(() => bench.phase === "live");
    await driver.flushed();
    const first = (await store.page(CHAT, "", 500))[0];
    expect(first?.ordinal).toBe(37);
    driver.input((s, now) => s.history(CHAT, 37, 20, now));
    await until(() => bench.effects.some((e) => e.do === "history"));
    expect((await store.page(CHAT, "", 500))[0]?.ordinal).toBe(17);
  });
});
