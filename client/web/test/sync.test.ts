//! What ChatSync does with pages about history that one was not there for.

import { describe, expect, it } from "vitest";
import type { SyncPage } from "../src/protocol/schema";
import { CursorLine } from "../src/session/cursor";
import { Inbox } from "../src/session/inbox";
import { ChatSync } from "../src/session/sync";

const CHAT = "g:x";

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
    const inbox = new Inbox(new Map([[CHAT, { seq: 5n, ordinal: 5 }]]), new CursorLine(0n));
    const sync = new ChatSync(inbox);
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
    const sync = new ChatSync(new Inbox(new Map(), new CursorLine(0n)));
    sync.history(CHAT, 900, 60);
    const [asked] = sync.takeDue(0);
    const outcome = sync.handlePage(page({ syncId: asked?.syncId ?? 0, error: 31 }), 0);
    expect(outcome?.history).toMatchObject({ atStart: true, error: 31 });
    expect(sync.takeDue(0)).toEqual([]);
  });
});
