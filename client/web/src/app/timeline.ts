//! The messages of the open conversation: those of all its lanes, by the time they were stored. Each lane keeps its own
//! order, and of two messages of one time the one of the lower lane stands first. What lies below the part that every
//! lane has been read down to is not shown yet, so that nothing comes in between later.

import { baseOf, laneOf } from "../protocol/lanes";
import type { MessageRow } from "../store/rows";
import { LaneTimeline } from "./lane-timeline";
import type { Source } from "./lane-timeline";

/** Messages that one look at older ones brings. */
export const PAGE_ROWS = 60;
/** Of each lane of many at least so many are read from the disk at a time. */
const LANE_ROWS_MIN = 8;
/** More than this are not kept in memory while the reader follows the newest; the oldest go, to be read again. */
const ROWS_MAX = 300;
const ROWS_KEPT = 200;

interface Placed {
  row: MessageRow;
  /** When it was stored; within a lane never earlier than the one before. */
  atMs: number;
}

/** The rows of lanes, each in its order, as one list. */
export function mergeLanes(lanes: readonly (readonly MessageRow[])[]): Placed[] {
  const placed = lanes.flatMap((rows) => {
    let atMs = 0;
    return rows.map((row) => ({ row, atMs: (atMs = Math.max(atMs, row.storedTsMs)) }));
  });
  return placed.sort((a, b) => a.atMs - b.atMs); // stable: lower lanes first, each lane in its order
}

export class Timeline {
  rows: MessageRow[] = [];
  /** The first pages have been read. */
  ready = false;
  /** The reader is at the end. */
  follows = true;
  private lanes: LaneTimeline[] = [];
  /** What was stored before is not shown yet. */
  private floorMs = Infinity;
  private pulling = false;

  constructor(
    readonly chat: string,
    /** The chat's lanes, as far as they are known. */
    known: Iterable<string>,
    private readonly source: Source,
    /** Something came without having been waited for. */
    private readonly changed: () => void,
  ) {
    for (const lane of new Set([chat, ...known])) this.addLane(lane);
  }

  /** Nothing older exists for us. */
  get atStart(): boolean {
    return this.lanes.every((lane) => lane.atStart);
  }

  /** Nobody has written here: there is no history to ask for. */
  begins(): void {
    for (const lane of this.lanes) lane.atStart = true;
  }

  get loading(): boolean {
    return this.lanes.some((lane) => lane.loading);
  }

  /** The newest message of each lane. */
  newest(): MessageRow[] {
    return this.lanes.flatMap((lane) => lane.rows.at(-1) ?? []);
  }

  /** Reads the newest pages. */
  async open(): Promise<void> {
    await Promise.all(this.lanes.map((lane) => lane.open()));
    this.ready = true;
    this.merge();
    await this.fill();
  }

  /** Older messages are wanted; true when some came from the disk at once. */
  async older(): Promise<boolean> {
    if (this.pulling) return false;
    this.pulling = true;
    const before = this.rows.length;
    while (this.rows.length < before + PAGE_ROWS) {
      const lane = this.shortest();
      if (!lane || lane.loading) break;
      await lane.older();
      this.merge();
    }
    this.pulling = false;
    return this.rows.length > before;
  }

  /** The server's answer about a chat is on the disk. */
  async answered(chat: string, atStart: boolean): Promise<void> {
    const lane = this.lanes.find((l) => l.chat === chat);
    if (!lane) return;
    const [shown, had] = [this.rows.length, lane.rows.length];
    await lane.answered(atStart);
    this.merge();
    await this.fill();
    const grew = lane.atStart || lane.rows.length > had;
    // Another lane still hides what came.
    if (this.ready && grew && this.rows.length === shown) await this.older();
  }

  /** Messages have been stored: those within reach take their place. True when any did. */
  add(fresh: MessageRow[]): boolean {
    const ours = fresh.filter((row) => baseOf(row.chat) === this.chat);
    const unknown = new Set(ours.map((row) => row.chat));
    for (const lane of this.lanes) unknown.delete(lane.chat);
    for (const chat of unknown) void this.begin(chat);
    let added = false;
    for (const lane of this.lanes) added = lane.add(ours) || added;
    if (!added) return false;
    this.merge();
    this.trim();
    return true;
  }

  /** A lane has begun meanwhile. */
  private async begin(chat: string): Promise<void> {
    await this.addLane(chat).open();
    this.merge();
    await this.fill();
    this.changed();
  }

  private addLane(chat: string): LaneTimeline {
    const rows = (): number => Math.max(LANE_ROWS_MIN, Math.ceil(PAGE_ROWS / this.lanes.length));
    const lane = new LaneTimeline(chat, this.source, rows);
    this.lanes = [...this.lanes, lane].sort((a, b) => laneOf(a.chat) - laneOf(b.chat));
    return lane;
  }

  /** The lane that has been read down the least: what the others have below it is not shown. */
  private shortest(): LaneTimeline | undefined {
    // One that waits for its first message from the server hides nothing meanwhile.
    const open = this.lanes.filter((l) => !l.atStart && (l.rows.length > 0 || !l.loading));
    const reach = (lane: LaneTimeline): number => lane.rows[0]?.storedTsMs ?? Infinity;
    return open.sort((a, b) => reach(b) - reach(a))[0];
  }

  /** Reads each lane down to where the others are shown already. */
  private async fill(): Promise<void> {
    const behind = (lane: LaneTimeline): boolean => !lane.atStart && !lane.loading && (lane.rows[0]?.storedTsMs ?? 0) > this.floorMs;
    for (const lane of this.lanes) while (behind(lane) && (await lane.older()));
    this.merge();
  }

  private merge(): void {
    const placed = mergeLanes(this.lanes.map((lane) => lane.rows));
    const reach = this.lanes.map((lane) => (lane.atStart ? -Infinity : (lane.rows[0]?.storedTsMs ?? -Infinity)));
    // Never up again: what has been shown stays.
    if (placed.length > 0) this.floorMs = Math.min(this.floorMs, Math.max(...reach));
    this.rows = placed.filter(({ atMs }) => atMs >= this.floorMs).map(({ row }) => row);
  }

  private trim(): void {
    if (!this.follows || this.rows.length <= ROWS_MAX || this.loading || this.pulling) return;
    const count = new Map<string, number>();
    for (const { chat } of this.rows.slice(-ROWS_KEPT)) count.set(chat, (count.get(chat) ?? 0) + 1);
    // One more of each lane: it says that there is none between.
    for (const lane of this.lanes) lane.keep((count.get(lane.chat) ?? 0) + 1);
    this.floorMs = Infinity;
    this.merge();
  }
}
