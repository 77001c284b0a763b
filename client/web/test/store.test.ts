import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { beforeEach, describe, expect, it } from "vitest";
import { hex, unhex } from "../src/protocol/ids";
import type { MessageRecord } from "../src/protocol/layout";
import { encodeText } from "../src/protocol/proto";
import { emptyBatch } from "../src/session/types";
import type { Batch } from "../src/session/types";
import { Store } from "../src/store/store";

globalThis.IDBKeyRange = IDBKeyRange;
const CHAT = "dm:alice:bob";
let factory: IDBFactory;
let store: Store;

function record(n: number, sender = "bob", chat = CHAT, body = String(n), messageType = 1): MessageRecord {
  return {
    seq: BigInt(n),
    prevSeq: BigInt(n - 1),
    ordinal: n,
    messageId: new Uint8Array(16),
    clientMsgId: Uint8Array.from({ length: 16 }, () => n),
    sendTsMs: n,
    storedTsMs: n,
    messageType,
    flags: 0,
    chat,
    sender,
    senderDevice: "web-1",
    body: encodeText(body),
  };
}

function batch(part: Partial<Batch>): Batch {
  return { ...emptyBatch(), ...part };
}

const change = (n: number, body: object): MessageRecord => record(n, "bob", "g:x", JSON.stringify(body), 3);

beforeEach(async () => {
  factory = new IDBFactory();
  store = await Store.open(factory, "alice", "web-1");
});

describe("store", () => {
  it("a message is fresh once; unread counts only others' messages", async () => {
    const first = await store.write(batch({ records: [record(1), record(2, "alice"), record(3)] }));
    expect(first.fresh).toHaveLength(3);
    expect(first.unread.get(CHAT)).toBe(2);
    const again = await store.write(batch({ records: [record(3), record(4)] }));
    expect(again.fresh.map((row) => row.ordinal)).toEqual([4]);
    expect(await store.setRead(CHAT, 3n)).toBe(1);
    const marks = [{ chat: CHAT, user: "alice", deliveredSeq: 4n, readSeq: 4n }];
    expect((await store.write(batch({ marks }))).unread.get(CHAT)).toBe(0);
  });

  it("everything is there after the program starts again", async () => {
    const send = { id: unhex("00112233445566778899aabbccddeeff"), chat: CHAT, messageType: 1, body: encodeText("hi"), sendTsMs: 5 };
    await store.write(
      batch({
        records: [record(1)],
        tracks: new Map([[CHAT, { seq: 1n, ordinal: 1 }]]),
        cursor: { next: (1n << 60n) + 1n, resumeToken: Uint8Array.of(9) },
        pendingPut: [send],
        skewMs: -7,
      }),
    );
    await store.setRead(CHAT, 1n);
    store.close();
    const { saved, newest, unread } = await (await Store.open(factory, "alice", "web-1")).load();
    expect(saved.cursor).toEqual({ next: (1n << 60n) + 1n, resumeToken: Uint8Array.of(9) });
    expect(saved.tracks.get(CHAT)).toEqual({ seq: 1n, ordinal: 1 });
    expect(saved.pending).toEqual([send]);
    expect(saved.unconfirmedReads).toEqual(new Map([[CHAT, 1n]]));
    expect(saved.skewMs).toBe(-7);
    expect(newest.get(CHAT)?.ordinal).toBe(1);
    expect(unread.get(CHAT)).toBe(0);
  });

  it("pending sends keep their order, are replaced in place and removed by id", async () => {
    const send = (n: number) => ({ id: Uint8Array.from({ length: 16 }, () => n), chat: CHAT, messageType: 1, body: encodeText(String(n)), sendTsMs: n });
    await store.write(batch({ pendingPut: [send(1), send(2), send(3)] }));
    await store.write(batch({ pendingPut: [{ ...send(2), failed: { code: 30, text: "no" } }] }));
    await store.write(batch({ pendingDelete: [hex(send(1).id)] }));
    const { saved } = await store.load();
    expect(saved.pending.map((p) => [p.sendTsMs, p.failed?.code])).toEqual([
      [2, 30],
      [3, undefined],
    ]);
  });

  it("a forgotten cursor stays forgotten", async () => {
    await store.write(batch({ cursor: { next: 5n, resumeToken: new Uint8Array() } }));
    await store.write(batch({ cursor: null }));
    expect((await store.load()).saved.cursor).toBeUndefined();
  });

  it("pages go down by seq and keep to their chat", async () => {
    const records = Array.from({ length: 30 }, (_, i) => record(i + 1));
    await store.write(batch({ records: [...records, record(31, "bob", "dm:alice:bobby")] }));
    const newest = await store.page(CHAT, "", 10);
    expect(newest.map((row) => row.ordinal)).toEqual([21, 22, 23, 24, 25, 26, 27, 28, 29, 30]);
    const older = await store.page(CHAT, newest[0]?.key ?? "", 50);
    expect(older).toHaveLength(20);
  });

  it("membership messages make and change the group, also out of order and repeated", async () => {
    const create = change(1, { op: "create", users: ["alice", "carol"], name: "X" });
    const admin = change(2, { op: "admin", users: ["alice"], admin: true });
    const remove = change(3, { op: "remove", users: ["carol"] });
    await store.write(batch({ records: [create, admin] }));
    const { chats } = await store.write(batch({ records: [remove, create] }));
    expect(chats[0]).toMatchObject({ name: "X", gone: false, memberCount: 2 });
    expect(chats[0]?.members).toEqual([
      { user: "bob", admin: true },
      { user: "alice", admin: true },
    ]);
    const removed = await store.write(batch({ records: [change(4, { op: "remove", users: ["alice"] })] }));
    expect(removed.chats[0]?.gone).toBe(true);
    const added = await store.write(batch({ records: [change(9, { op: "add", users: ["alice"] })] }));
    expect(added.chats[0]?.gone).toBe(false);
  });

  it("the server's list wins, and a group not in it is gone", async () => {
    const summary = {
      chat: "g:x",
      name: "Server's",
      lastSeq: 5n,
      lastOrdinal: 5,
      readSeq: 4n,
      members: [{ user: "alice", admin: true }],
      memberCount: 1,
      visibleAfterOrdinal: 2,
    };
    const written = await store.write(batch({ chats: [summary], chatListComplete: ["g:x"] }));
    expect(written.chats[0]).toMatchObject({ name: "Server's", visibleAfterOrdinal: 2, gone: false });
    await store.write(batch({ records: [change(3, { op: "add", users: ["eve"] })] }));
    const { chats, marks } = await store.load();
    expect(chats[0]?.members).toEqual([{ user: "alice", admin: true }]);
    expect(marks).toEqual([{ chat: "g:x", user: "alice", deliveredSeq: 0n, readSeq: 4n }]);
    const gone = await store.write(batch({ chatListComplete: [] }));
    expect(gone.chats[0]?.gone).toBe(true);
    const again = await store.write(batch({ chats: [summary] }));
    expect(again.chats[0]?.gone).toBe(false);
    const removed = change(6, { op: "remove", users: ["alice"] });
    const late = await store.write(batch({ records: [removed], chats: [summary] }));
    expect(late.chats[0]?.gone).toBe(true); // the list is older than the removal
    await store.write(batch({ records: [change(7, { op: "add", users: ["alice"] })] }));
    const left = await store.write(batch({ chats: [{ ...summary, lastSeq: 8n, members: [], memberCount: 0 }] }));
    expect(left.chats[0]?.gone).toBe(true);
  });
});
