//! Gaps, and how far may be acknowledged, as the inbox sees them.

import { describe, expect, it } from "vitest";
import type { MessageRecord } from "../src/protocol/layout";
import { CursorLine } from "../src/session/cursor";
import { Inbox } from "../src/session/inbox";

const CHAT = "g:x";

function record(n: number): MessageRecord {
  return {
    seq: BigInt(n),
    prevSeq: BigInt(n - 1),
    ordinal: n,
    messageId: new Uint8Array(16),
    clientMsgId: new Uint8Array(16),
    sendTsMs: 0,
    storedTsMs: 0,
    messageType: 1,
    flags: 0,
    chat: CHAT,
    sender: "bob",
    senderDevice: "x",
    body: new Uint8Array(),
  };
}

/** An inbox that knows the chat's first message; the n-th comes at offset n. */
function inbox(): Inbox {
  return new Inbox(new Map([[CHAT, { seq: 1n, ordinal: 1 }]]), new CursorLine(2n));
}

describe("a gap", () => {
  it("in which a second hole comes up is asked for again, up to that hole", () => {
    const box = inbox();
    expect(box.message(3n, record(3))).toMatchObject({ afterOrdinal: 1, limit: 1 });
    expect(box.message(5n, record(5))).toBeUndefined();
    expect(box.gapPage(CHAT, [record(2)], true)).toMatchObject({ afterOrdinal: 2, limit: 2 });
    expect(box.line.reach).toBe(2n);
    expect(box.gapPage(CHAT, [record(3), record(4)], true)).toBeUndefined();
    expect(box.tracks.get(CHAT)).toEqual({ seq: 5n, ordinal: 5 });
    expect(box.line.reach).toBe(6n);
  });

  it("that grew is asked for again even when the page says that there is no more", () => {
    const box = inbox();
    box.message(3n, record(3));
    box.message(5n, record(5));
    expect(box.gapPage(CHAT, [record(2)], false)).toMatchObject({ afterOrdinal: 2, limit: 2 });
    expect(box.gapPage(CHAT, [record(3)], false)).toBeUndefined();
    expect(box.line.reach).toBe(6n);
  });

  it("of a chat that nothing is known of, too", () => {
    const box = new Inbox(new Map(), new CursorLine(0n));
    expect(box.message(3n, record(3))).toMatchObject({ afterOrdinal: 3, backwards: true });
    box.message(5n, record(5));
    expect(box.gapPage(CHAT, [record(1), record(2)], false)).toMatchObject({ afterOrdinal: 2, limit: 2 });
  });

  it("behind which all follows is asked for once", () => {
    const box = inbox();
    box.message(3n, record(3));
    box.message(4n, record(4));
    expect(box.gapPage(CHAT, [record(2)], true)).toBeUndefined();
    expect(box.tracks.get(CHAT)).toEqual({ seq: 4n, ordinal: 4 });
  });
});

describe("the line of offsets", () => {
  it("acknowledges what an earlier connection brought once it came again", () => {
    const line = new CursorLine(3n);
    line.arrive(3n, false);
    line.restart();
    line.stored(4n);
    expect([line.persisted, line.reach, line.acknowledgeable]).toEqual([4n, 4n, 0n]);
    line.arrive(3n, false);
    expect(line.acknowledgeable).toBe(4n);
  });
});
