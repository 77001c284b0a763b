//! A group in relaxed order as one conversation: ids, order, paging of the timeline, the list, ticks.

import { describe, expect, it } from "vitest";
import { conversations, isShown } from "../src/app/conversations";
import { othersAt } from "../src/app/status";
import { mergeLanes, Timeline } from "../src/app/timeline";
import { seqKey } from "../src/protocol/ids";
import { baseOf, isChatId, laneOf, storedIn } from "../src/protocol/lanes";
import { decodeRecord, encodeRecord } from "../src/protocol/layout";
import { encodeText, WireError } from "../src/protocol/proto";
import { newChatRow } from "../src/store/rows";
import type { MessageRow } from "../src/store/rows";

const GROUP = "g:x";
const lane = (k: number): string => (k === 0 ? GROUP : `${GROUP}#${k}`);

function row(k: number, ordinal: number, storedTsMs: number, part: Partial<MessageRow> = {}): MessageRow {
  const seq = BigInt(ordinal * 10);
  return {
    chat: lane(k),
    key: seqKey(seq),
    seq,
    ordinal,
    clientMsgId: `${k}-${ordinal}`,
    sendTsMs: 0,
    storedTsMs,
    messageType: 1,
    sender: "bob",
    senderDevice: "x",
    body: new Uint8Array(),
    ...part,
  };
}

const change = (k: number, ordinal: number, at: number, body: object): MessageRow =>
  row(k, ordinal, at, { messageType: 3, sender: "alice", body: encodeText(JSON.stringify(body)) });

const ids = (rows: readonly MessageRow[]): string[] => rows.map((r) => r.clientMsgId);

describe("ids of lanes", () => {
  it.each(["g:x", "g:x#1", "g:x#9", "g:x#10", "g:x#63", "dm:a:b", "dm:a:a"])("%s is a chat", (id) => {
    expect(isChatId(id)).toBe(true);
  });

  it.each(["", "x", "g:", "g:x#", "g:x#0", "g:x#01", "g:x#+1", "g:x#1x", "g:x#64", "g:x#100", "g:x#1#2", "g:#1", "dm:b:a", "dm:a", "dm:a:b:c", "dm:a:b#1"])(
    "%s is none",
    (id) => {
      expect(isChatId(id)).toBe(false);
    },
  );

  it("a lane has a number and a group, any other chat is its own", () => {
    expect(["g:x", "g:x#7", "dm:a:b"].map((id) => [laneOf(id), baseOf(id)])).toEqual([
      [0, "g:x"],
      [7, "g:x"],
      [0, "dm:a:b"],
    ]);
  });

  it("the answer to a Send may name a lane of its group, and nothing else", () => {
    expect(["g:x#3", "g:x", "g:x#0", "g:y#3", ""].map((named) => storedIn("g:x", named))).toEqual(["g:x#3", "g:x", "g:x", "g:x", "g:x"]);
  });

  it("a record of a lane that cannot be is no record", () => {
    const record = { ...row(0, 1, 1), prevSeq: 0n, messageId: new Uint8Array(16), clientMsgId: new Uint8Array(16), flags: 0 };
    expect(decodeRecord(encodeRecord({ ...record, chat: "g:x#1" })).chat).toBe("g:x#1");
    for (const chat of ["g:x#0", "g:x#01", "g:x#64"]) expect(() => decodeRecord(encodeRecord({ ...record, chat }))).toThrow(WireError);
  });
});

describe("the order of a conversation", () => {
  it("is by the time of storing; of one time the lower lane is first, and a lane keeps its own order", () => {
    const lanes = [
      [row(0, 1, 5), row(0, 2, 9)],
      [row(1, 1, 5), row(1, 2, 4), row(1, 3, 9)], // the clock of the lane's node went back once
      [row(2, 1, 1)],
    ];
    expect(ids(mergeLanes(lanes).map((placed) => placed.row))).toEqual(["2-1", "0-1", "1-1", "1-2", "0-2", "1-3"]);
  });
});

/** A disk and a server with rows of lanes; what is asked of the server comes when the test says so. */
class Bench {
  readonly asked: [string, number][] = [];
  readonly timeline: Timeline;
  constructor(
    readonly disk: MessageRow[],
    readonly server: MessageRow[],
    lanes: number[],
  ) {
    const page = async (chat: string, below: string, limit: number): Promise<MessageRow[]> =>
      this.disk
        .filter((r) => r.chat === chat && (below === "" || r.key < below))
        .sort((a, b) => (a.key < b.key ? -1 : 1))
        .slice(-limit);
    const ask = (chat: string, before: number): void => void this.asked.push([chat, before]);
    const source = { pages: { page }, ask, visibleAfter: () => 0 };
    this.timeline = new Timeline(GROUP, lanes.map(lane), source, () => {});
  }

  /** The server answers what it was asked, until it is asked no more. */
  async answer(limit = 60): Promise<void> {
    for (let next = this.asked.shift(); next; next = this.asked.shift()) {
      const [chat, before] = next;
      const below = this.server.filter((r) => r.chat === chat && (before === 0 || r.ordinal < before));
      const told = below.slice(-limit);
      this.disk.push(...told.filter((r) => !this.disk.includes(r)));
      await this.timeline.answered(chat, told.length === below.length);
    }
  }
}

/** So many messages, dealt out to lanes unevenly; one a millisecond. */
function dealt(count: number, lanes: number): MessageRow[] {
  const next = Array.from({ length: lanes }, () => 0);
  return Array.from({ length: count }, (_, at) => {
    const k = (at * at + 3 * at) % 7 % lanes;
    next[k] = (next[k] ?? 0) + 1;
    return row(k, next[k] ?? 0, at + 1);
  });
}

describe("the timeline of lanes", () => {
  it("shows no lane further down than all of them have been read, and pages down through every lane to the start", async () => {
    const all = dealt(1_000, 4);
    const bench = new Bench(all.slice(-400), all, [0, 1, 2, 3]);
    const { timeline } = bench;
    await timeline.open();
    for (let looks = 0; !timeline.atStart && looks < 100; looks += 1) {
      expect(ids(timeline.rows)).toEqual(ids(all.slice(-timeline.rows.length)));
      await timeline.older();
      await bench.answer();
    }
    expect(ids(timeline.rows)).toEqual(ids(all));
    expect(timeline).toMatchObject({ atStart: true, loading: false });
  });

  it("a message of a lane that begins meanwhile takes its place once, and nothing that is shown goes away", async () => {
    const old = Array.from({ length: 100 }, (_, i) => row(0, i + 1, i + 1));
    const bench = new Bench([...old], [...old, change(1, 1, 50, { op: "order" }), row(1, 2, 60), row(1, 3, 200)], [0]);
    const { timeline } = bench;
    await timeline.open();
    const shown = ids(timeline.rows);
    const fresh = row(1, 3, 200);
    bench.disk.push(fresh);
    timeline.add([fresh]);
    timeline.add([fresh, row(0, 101, 201)]);
    await new Promise((resolve) => setTimeout(resolve));
    expect(ids(timeline.rows)).toEqual([...shown, "1-3", "0-101"]);
    // What is missing between in the new lane is fetched without being scrolled to.
    await bench.answer();
    const whole = mergeLanes([old.slice(40), [change(1, 1, 50, {}), row(1, 2, 60)]]).map((placed) => placed.row);
    expect(ids(timeline.rows)).toEqual([...ids(whole), "1-3", "0-101"]);
  });

  it("a lane that waits for its first page hides nothing", async () => {
    const old = Array.from({ length: 10 }, (_, i) => row(0, i + 1, i + 1));
    const bench = new Bench([...old], [], [0, 5]);
    await bench.timeline.open();
    expect(ids(bench.timeline.rows)).toEqual(ids(old));
    expect(bench.asked).toEqual([[lane(5), 0]]);
    await bench.answer();
    expect(bench.timeline).toMatchObject({ atStart: true, loading: false });
  });

  it("who follows the newest keeps about the last 200 of all lanes together, and reads the others again", async () => {
    const all = dealt(1_000, 4);
    const bench = new Bench([], all, [0, 1, 2, 3]);
    const { timeline } = bench;
    await timeline.open();
    await bench.answer(0);
    for (const r of all) {
      bench.disk.push(r);
      timeline.add([r]);
    }
    expect(timeline.rows.length).toBeLessThanOrEqual(300);
    expect(ids(timeline.rows)).toEqual(ids(all.slice(-timeline.rows.length)));
    const kept = timeline.rows.length;
    await timeline.older();
    expect(timeline.rows.length).toBeGreaterThan(kept);
    expect(ids(timeline.rows)).toEqual(ids(all.slice(-timeline.rows.length)));
  });

  it("knows the newest of every lane, which reading acknowledges", async () => {
    const bench = new Bench([row(0, 1, 5), row(1, 1, 7), row(1, 2, 8), row(2, 1, 1)], [], [0, 1, 2]);
    await bench.timeline.open();
    expect(ids(bench.timeline.newest())).toEqual(["0-1", "1-2", "2-1"]);
  });
});

describe("the list of conversations", () => {
  it("has one entry for a group, with the newest of its lanes and the sum of what is unread", () => {
    const entry = (k: number, newest: MessageRow | undefined, unread: number) => ({ row: { ...newChatRow(lane(k)), name: `lane ${k}` }, newest, unread });
    const dm = { row: newChatRow("dm:a:b"), newest: undefined, unread: 1 };
    const list = conversations([entry(2, row(2, 4, 30), 3), entry(0, row(0, 9, 20), 2), dm, entry(1, change(1, 2, 40, { op: "add" }), 0)]);
    expect(list.map((e) => [e.row.chat, e.row.name, e.newest?.clientMsgId, e.unread])).toEqual([
      [GROUP, "lane 0", "2-4", 5],
      ["dm:a:b", "", undefined, 1],
    ]);
    expect(conversations([entry(1, undefined, 90), entry(2, undefined, 90)]).map((e) => [e.row.chat, e.unread])).toEqual([[GROUP, 100]]);
  });

  it("changes of the group are shown as lane 0 tells them", () => {
    expect([change(0, 1, 1, {}), change(1, 1, 1, {}), row(1, 2, 1)].map(isShown)).toEqual([true, false, true]);
  });
});

describe("ticks", () => {
  it("who was added to a lane after a message of it is not waited for there", () => {
    const add = { op: "add", users: ["carol"] };
    const rows = [row(0, 1, 1), change(0, 2, 2, add), row(0, 3, 3), row(1, 2, 3), change(1, 3, 4, add), row(1, 4, 5)];
    const carol = othersAt(rows, ["bob", "carol"]).map((users) => users.includes("carol"));
    expect(carol).toEqual([false, true, true, false, true, true]);
  });
});

