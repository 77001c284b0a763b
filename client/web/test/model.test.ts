//! The model over a real store and a session without a connection.

import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { Groups } from "../src/api/api";
import { Model } from "../src/app/model";
import { hex } from "../src/protocol/ids";
import type { MessageRecord } from "../src/protocol/layout";
import { encodeText } from "../src/protocol/proto";
import { Session } from "../src/session/session";
import { emptyBatch } from "../src/session/types";
import type { Batch } from "../src/session/types";
import { Store } from "../src/store/store";

globalThis.IDBKeyRange = IDBKeyRange;
const CHAT = "dm:alice:bob";
const CHANCE = { unit: () => 0.5, bytes: (n: number) => crypto.getRandomValues(new Uint8Array(n)) };

function record(n: number, sender = "bob", body = String(n), chat = CHAT): MessageRecord {
  return {
    seq: BigInt(n),
    prevSeq: BigInt(n - 1),
    ordinal: n,
    messageId: new Uint8Array(16),
    clientMsgId: Uint8Array.from({ length: 16 }, () => n),
    sendTsMs: n,
    storedTsMs: n,
    messageType: 1,
    flags: 0,
    chat,
    sender,
    senderDevice: "x",
    body: encodeText(body),
  };
}

class Bench {
  readonly model = new Model("alice", "web-1");
  readonly reads: bigint[] = [];
  readonly readIn: string[] = [];
  private constructor(
    readonly store: Store,
    readonly session: Session,
  ) {}

  static async open(factory: IDBFactory): Promise<Bench> {
    const store = await Store.open(factory, "alice", "web-1");
    const loaded = await store.load();
    const config = { user: "alice", device: "web-1", url: "ws://home/", client: "test", acceptsUrl: () => true };
    const bench = new Bench(store, new Session(config, CHANCE, loaded.saved));
    const read = bench.session.read.bind(bench.session);
    bench.session.read = (chat, seq, now) => {
      bench.reads.push(seq);
      bench.readIn.push(chat);
      read(chat, seq, now);
    };
    bench.model.attach(
      {
        input: (run) => run(bench.session, { ms: 0, wallMs: 1_000 }),
        store,
        groups: new Groups(async () => ""),
        nowMs: () => 1_000,
        later: () => {},
      },
      loaded,
    );
    return bench;
  }

  /** What the driver does with a batch. */
  async write(part: Partial<Batch>): Promise<void> {
    const batch = { ...emptyBatch(), ...part };
    this.model.written(batch, await this.store.write(batch));
  }
}

let factory: IDBFactory;
let bench: Bench;

beforeEach(async () => {
  vi.stubGlobal("fetch", async () => new Response('{"users":[]}'));
  factory = new IDBFactory();
  bench = await Bench.open(factory);
});

describe("model", () => {
  it("messages come into the open chat and count as unread until they are read", async () => {
    const { model } = bench;
    await bench.write({ records: [record(1), record(2)] });
    expect(model.listed().map((e) => [e.row.chat, e.unread, e.newest?.ordinal])).toEqual([[CHAT, 2, 2]]);
    await model.open(CHAT);
    expect(model.unreadAfter).toEqual(new Map([[CHAT, 0n]]));
    expect(model.timeline?.rows.map((r) => r.ordinal)).toEqual([1, 2]);
    await model.readAll();
    expect([model.listed()[0]?.unread, bench.reads]).toEqual([0, [2n]]);
    await model.readAll();
    expect(bench.reads).toEqual([2n]);
    await bench.write({ records: [record(3)] });
    expect(model.timeline?.rows.map((r) => r.ordinal)).toEqual([1, 2, 3]);
  });

  it("what is said is shown at once, and is replaced by what the server stored", async () => {
    const { model } = bench;
    expect(model.say(CHAT, "  ")).toBe(false);
    expect(model.say(CHAT, "hello")).toBe(true);
    const [entry] = model.outgoing.get(CHAT) ?? [];
    expect(entry?.accepted).toBe(false);
    model.effect({ do: "queued", id: entry?.id ?? "" });
    expect(model.outgoing.get(CHAT)?.[0]?.accepted).toBe(true);
    const own = { ...record(1, "alice", "hello"), clientMsgId: entry?.send.id ?? new Uint8Array() };
    await model.open(CHAT);
    await bench.write({ records: [own], pendingDelete: [entry?.id ?? ""] });
    expect(model.outgoing.get(CHAT)).toEqual([]);
    expect(model.timeline?.rows).toHaveLength(1);
    expect(model.listed()[0]?.unread).toBe(0);
  });

  it("what was refused stays, can be tried again as a new message, or be given up", async () => {
    const { model } = bench;
    model.say(CHAT, "hello");
    const send = model.outgoing.get(CHAT)?.[0]?.send;
    if (!send) throw new Error("nothing is outgoing");
    await bench.write({ pendingPut: [{ ...send, failed: { code: 30, text: "" } }] });
    const [failed] = model.outgoing.get(CHAT) ?? [];
    expect(failed?.send.failed?.code).toBe(30);
    model.again(failed as NonNullable<typeof failed>);
    const list = model.outgoing.get(CHAT) ?? [];
    expect(list.map((o) => [o.id === hex(send.id), o.send.failed])).toEqual([[false, undefined]]);
    model.discard(list[0] as (typeof list)[0]);
    expect(model.outgoing.get(CHAT)).toEqual([]);
  });

  it("a text that is too long is not taken, and the person is told", () => {
    expect(bench.model.say(CHAT, "ä".repeat(40_000))).toBe(false);
    expect(bench.model.notices.map((n) => n.text)).toEqual(["The message is too long."]);
  });

  it("unsent messages are there again after the program starts again", async () => {
    bench.model.say(CHAT, "one");
    const send = bench.model.outgoing.get(CHAT)?.[0]?.send;
    await bench.write({ pendingPut: send ? [send] : [] });
    const again = await Bench.open(factory);
    expect(again.model.outgoing.get(CHAT)?.map((o) => o.send.sendTsMs)).toEqual([1_000]);
    expect(again.model.listed().map((e) => e.row.chat)).toEqual([CHAT]);
  });

  it("typing ends with the message, and nobody is known to be online without a connection", async () => {
    const { model } = bench;
    model.effect({ do: "typing", update: { chat: CHAT, user: "bob", stopped: false, expiresInMs: 5_000 } });
    model.effect({ do: "presence", update: { user: "bob", state: 1, lastSeenMs: 0 } });
    expect([model.typingIn(CHAT), model.presence.get("bob")?.online]).toEqual([["bob"], true]);
    await bench.write({ records: [record(1)] });
    expect(model.typingIn(CHAT)).toEqual([]);
    model.effect({ do: "phase", phase: { kind: "waiting", retryAtMs: 5 } });
    expect(model.presence.size).toBe(0);
  });

  it("the lanes of a group are one conversation: one entry, one timeline, read in every lane", async () => {
    const { model } = bench;
    const said = (n: number, ordinal: number, chat: string): MessageRecord => ({ ...record(n, "bob", String(n), chat), ordinal });
    const told = (n: number, ordinal: number, chat: string): MessageRecord => ({ ...said(n, ordinal, chat), messageType: 3 });
    await bench.write({ records: [said(1, 1, "g:x"), told(2, 2, "g:x"), told(3, 1, "g:x#1"), said(4, 2, "g:x#1"), said(5, 3, "g:x")] });
    await bench.write({ records: [said(6, 1, "g:x#2"), told(7, 2, "g:x#2")] });
    expect(model.listed().map((e) => [e.row.chat, e.unread, e.newest?.storedTsMs])).toEqual([["g:x", 4, 6]]);
    expect(model.unreadChats()).toBe(1);
    await model.open("g:x");
    expect(model.timeline?.rows.map((r) => r.storedTsMs)).toEqual([1, 2, 3, 4, 5, 6, 7]);
    await model.readAll();
    expect(bench.readIn.map((chat, i) => [chat, bench.reads[i]])).toEqual([
      ["g:x", 5n],
      ["g:x#1", 4n],
      ["g:x#2", 7n],
    ]);
    expect(model.listed()[0]?.unread).toBe(0);
    // A lane that begins while the conversation is open.
    await bench.write({ records: [said(8, 1, "g:x#3")] });
    await vi.waitFor(() => expect(model.timeline?.rows.at(-1)?.storedTsMs).toBe(8));
    const marks = [{ chat: "g:x#1", user: "bob", deliveredSeq: 4n, readSeq: 4n }];
    await bench.write({ marks });
    expect([model.marksOf("g:x#1").get("bob")?.readSeq, model.marksOf("g:x").get("bob")]).toEqual([4n, undefined]);
  });

  it("a message to a group is shown once, whichever lane its answer names, and after a reload", async () => {
    bench.model.say("g:x", "hello");
    const send = bench.model.outgoing.get("g:x")?.[0]?.send;
    if (!send) throw new Error("nothing is outgoing");
    await bench.write({ pendingPut: [send] });
    bench = await Bench.open(factory);
    const { model } = bench;
    await model.open("g:x");
    expect([model.waiting().length, model.timeline?.rows.length]).toEqual([1, 0]);
    // The message is on the disk before its Send is taken off.
    const own = { ...record(1, "alice", "hello", "g:x#2"), clientMsgId: send.id };
    await bench.write({ records: [own] });
    await vi.waitFor(() => expect(model.timeline?.rows.length).toBe(1));
    expect(model.waiting()).toEqual([]);
    await bench.write({ records: [own], pendingDelete: [hex(send.id)] });
    bench = await Bench.open(factory);
    await bench.model.open("g:x");
    expect([bench.model.waiting().length, bench.model.timeline?.rows.map((r) => r.chat)]).toEqual([0, ["g:x#2"]]);
    expect(bench.model.listed().map((e) => e.row.chat)).toEqual(["g:x"]);
  });

  it("typing is of the group", () => {
    bench.model.effect({ do: "typing", update: { chat: "g:x", user: "bob", stopped: false, expiresInMs: 5_000 } });
    expect(bench.model.typingIn("g:x")).toEqual(["bob"]);
  });

  it("after the disk has failed nothing is taken any more", () => {
    bench.model.diskFailed();
    expect(bench.model.say(CHAT, "hello")).toBe(false);
  });
});
