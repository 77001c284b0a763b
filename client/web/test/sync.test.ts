//! What ChatSync does with pages about history that one was not there for.

import { describe, expect, it } from "vitest";
import type { SyncPage } from "../src/protocol/schema";
import { CursorLine } from "../src/session/cursor";
import { Inbox } from "../src/session/inbox";
import { Outbox } from "../src/session/outbox";
import { ChatSync } from "../src/session/sync";
import type { PendingSend, Track } from "../src/session/types";

const CHAT = "g:x";

function chatSync(tracks: [string, Track][] = [], pending: PendingSend[] = []): ChatSync {
  const outbox = new Outbox(pending, { unit: () => 0.5, bytes: (n) => new Uint8Array(n) });
  return new ChatSync(new Inbox(new Map(tracks), new CursorLine(0n)), outbox);
}

function page(part: Partial<SyncPage>): SyncPage {
  return {
    syncId: 1,
    chat: CHAT,
    records: [],
    more: false,
    nextOrdinal: 0,
    truncatedBefore: 0,
    watermarks: [],
    chats: [],
    nextCursor: "",
    error: 0,
    text: "",
    ...part,
  };
}

describe("history that is not visible", () => {
  it("is passed over upwards and downwards to where it goes on", () => {
    const sync = chatSync([[CHAT, { seq: 5n, ordinal: 5 }]]);
    sync.history(CHAT, 900, 60);
    sync.gap({ chat: CHAT, afterOrdinal: 5, limit: 256 });
    const [down, up] = sync.takeDue(0);
    expect(sync.handlePage(page({ syncId: down?.syncId ?? 0, error: 31, more: true, nextOrdinal: 101 }), 0)).toBeUndefined();
    expect(sync.handlePage(page({ syncId: up?.syncId ?? 0, error: 31, more: true, nextOrdinal: 800 }), 0)).toBeUndefined();
    const again = sync.takeDue(0);
    expect(again.map((s) => [s.afterOrdinal, s.backwards])).toEqual([
      [101, true],
      [800, false],
    ]);
    const outcome = sync.handlePage(page({ syncId: again[0]?.syncId ?? 0 }), 0);
    expect(outcome?.history).toEqual({ chat: CHAT, beforeOrdinal: 900, atStart: true, error: 0 });
  });

  it("to its end is its end", () => {
    const sync = chatSync();
    sync.history(CHAT, 900, 60);
    const [asked] = sync.takeDue(0);
    const outcome = sync.handlePage(page({ syncId: asked?.syncId ?? 0, error: 31 }), 0);
    expect(outcome?.history).toMatchObject({ atStart: true, error: 31 });
    expect(sync.takeDue(0)).toEqual([]);
  });
});

describe("the sync of a chat", () => {
  const send = { id: new Uint8Array(16), chat: CHAT, messageType: 1, body: new Uint8Array(), sendTsMs: 0 };
  const known: [string, Track] = [CHAT, { seq: 5n, ordinal: 5 }];

  /** What is asked of a chat whose last ordinal is 9,000. */
  function asked(sync: ChatSync): { afterOrdinal: number; backwards: boolean; syncId: number } {
    sync.begin(0n);
    const [list] = sync.takeDue(0);
    const summary = {
      chat: CHAT,
      name: "",
      lastSeq: 9_000n,
      lastOrdinal: 9_000,
      readSeq: 0n,
      members: [],
      memberCount: 0,
      visibleAfterOrdinal: 0,
    };
    sync.handlePage(page({ syncId: list?.syncId ?? 0, chat: "", chats: [summary] }), 0);
    const [request] = sync.takeDue(0);
    if (!request) throw new Error("nothing was asked");
    return request;
  }

  it("of which much is missing takes its newest page", () => {
    expect(asked(chatSync([known]))).toMatchObject({ afterOrdinal: 0, backwards: true });
  });

  it("to which Sends are unanswered walks all of it, since they may be among what is missing", () => {
    expect(asked(chatSync([known], [send]))).toMatchObject({ afterOrdinal: 5, backwards: false });
    expect(asked(chatSync([], [send]))).toMatchObject({ afterOrdinal: 0, backwards: false });
    const other = { ...send, chat: "g:y" };
    expect(asked(chatSync([known], [other]))).toMatchObject({ backwards: true });
  });

  it.each([
    ["upwards", [send], 7_000],
    ["downwards", [], 101],
  ] as const)("%s passes over what is not visible", (_way, pending, nextOrdinal) => {
    const sync = chatSync([known], [...pending]);
    const { syncId, backwards } = asked(sync);
    expect(sync.handlePage(page({ syncId, error: 31, more: true, nextOrdinal }), 0)).toBeUndefined();
    const [again] = sync.takeDue(0);
    expect(again).toMatchObject({ afterOrdinal: nextOrdinal, backwards });
    expect(sync.handlePage(page({ syncId: again?.syncId ?? 0 }), 0)?.adopt).toBe(0n);
  });
});
