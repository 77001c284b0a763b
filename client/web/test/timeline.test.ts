import { describe, expect, it } from "vitest";
import { Timeline } from "../src/app/timeline";
import { seqKey } from "../src/protocol/ids";
import type { MessageRow } from "../src/store/rows";

const CHAT = "dm:alice:bob";

function row(ordinal: number): MessageRow {
  return {
    chat: CHAT,
    key: seqKey(BigInt(ordinal * 10)),
    seq: BigInt(ordinal * 10),
    ordinal,
    clientMsgId: String(ordinal),
    sendTsMs: 0,
    storedTsMs: ordinal,
    messageType: 1,
    sender: "bob",
    senderDevice: "x",
    body: new Uint8Array(),
  };
}

const span = (from: number, to: number): MessageRow[] => Array.from({ length: to - from + 1 }, (_, i) => row(from + i));

/** A disk with these ordinals; asks are answered by the test. */
function over(ordinals: MessageRow[], visibleAfter = 0): { timeline: Timeline; disk: MessageRow[]; asked: number[] } {
  const disk = [...ordinals];
  const asked: number[] = [];
  const page = async (_chat: string, below: string, limit: number): Promise<MessageRow[]> =>
    disk
      .filter((r) => below === "" || r.key < below)
      .sort((a, b) => (a.key < b.key ? -1 : 1))
      .slice(-limit);
  const source = { pages: { page }, ask: (_chat: string, before: number) => asked.push(before), visibleAfter: () => visibleAfter };
  const timeline = new Timeline(CHAT, [], source, () => {});
  return { timeline, disk, asked };
}

const ordinals = (timeline: Timeline): number[] => timeline.rows.map((r) => r.ordinal);

describe("timeline", () => {
  it("reads down page by page from the disk, then asks the server, then is at the start", async () => {
    const { timeline, disk, asked } = over(span(31, 150));
    await timeline.open();
    expect(ordinals(timeline)).toEqual(span(91, 150).map((r) => r.ordinal));
    await timeline.older();
    expect(ordinals(timeline)[0]).toBe(31);
    expect(asked).toEqual([]);
    await timeline.older();
    expect(asked).toEqual([31]);
    expect(timeline.loading).toBe(true);
    await timeline.older();
    expect(asked).toEqual([31]);
    disk.push(...span(1, 30));
    await timeline.answered(CHAT, true);
    expect(ordinals(timeline)).toEqual(span(1, 150).map((r) => r.ordinal));
    expect(timeline.atStart).toBe(true);
    await timeline.older();
    expect(asked).toEqual([31]);
  });

  it("stops at a hole and has it filled before it goes on", async () => {
    const { timeline, disk, asked } = over([...span(1, 10), ...span(21, 30)]);
    await timeline.open();
    expect(ordinals(timeline)).toEqual(span(21, 30).map((r) => r.ordinal));
    await timeline.older();
    expect(asked).toEqual([21]);
    disk.push(...span(11, 20));
    await timeline.answered(CHAT, false);
    expect(ordinals(timeline)).toEqual(span(1, 30).map((r) => r.ordinal));
    expect(timeline.atStart).toBe(true);
  });

  it("a hole that the server confirms (one was not in the group then) is passed over", async () => {
    const { timeline, asked } = over([...span(1, 10), ...span(21, 30)]);
    await timeline.open();
    await timeline.older();
    expect(asked).toEqual([21]);
    await timeline.answered(CHAT, false);
    expect(ordinals(timeline)).toEqual([...span(1, 10), ...span(21, 30)].map((r) => r.ordinal));
    expect(timeline).toMatchObject({ atStart: true, loading: false });
  });

  it("an empty chat asks once, and the answer that there is nothing is its start", async () => {
    const { timeline, asked } = over([]);
    await timeline.open();
    expect(asked).toEqual([0]);
    await timeline.answered(CHAT, true);
    expect(timeline).toMatchObject({ atStart: true, loading: false });
  });

  it("history before one's time in the group is not asked for", async () => {
    const { timeline, asked } = over(span(6, 9), 5);
    await timeline.open();
    expect(timeline.atStart).toBe(true);
    await timeline.older();
    expect(asked).toEqual([]);
  });

  it("new messages take their place once, also those stored while the first page was read", async () => {
    const { timeline } = over(span(1, 3));
    const opening = timeline.open();
    timeline.add([row(4)]);
    await opening;
    expect(ordinals(timeline)).toEqual([1, 2, 3, 4]);
    expect(timeline.add([row(6), row(4)])).toBe(true);
    expect(timeline.add([row(5)])).toBe(true);
    expect(timeline.add([row(5)])).toBe(false);
    expect(ordinals(timeline)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it("who follows the newest keeps about the last 200 in memory; who reads above keeps all", async () => {
    const { timeline, disk } = over([]);
    await timeline.open();
    await timeline.answered(CHAT, true);
    for (const r of span(1, 301)) {
      disk.push(r);
      timeline.add([r]);
    }
    expect([ordinals(timeline)[0], timeline.rows.length, timeline.atStart]).toEqual([101, 201, false]);
    await timeline.older();
    expect(ordinals(timeline)[0]).toBe(41);
    timeline.follows = false;
    for (const r of span(302, 400)) timeline.add([r]);
    expect(timeline.rows).toHaveLength(360);
  });

  it("what lies below the part in memory is not pulled in without what is between", async () => {
    const { timeline } = over(span(100, 110));
    await timeline.open();
    expect(timeline.add([row(50)])).toBe(false);
    expect(ordinals(timeline)[0]).toBe(100);
  });
});
