//! What was delivered: per chat how far it is known, where messages are missing, and what offset
//! that holds back.

import type { MessageRecord } from "../protocol/layout";
import { SYNC_LIMIT_DEFAULT, SYNC_LIMIT_MAX } from "../protocol/limits";
import type { Sync } from "../protocol/schema";
import type { CursorLine } from "./cursor";
import type { Track } from "./types";

/** Messages missing below some that have come already. */
interface Gap {
  /** The highest that has come: the chat is known up to it once the gap is filled. */
  high: Track;
  /** Ordinals below this are missing, or may be. */
  belowOrdinal: number;
  /** As it was when the page under way was asked for. */
  askedBelow: number;
  releases: (() => void)[];
}

/** A Sync that fills a gap. */
export type GapRequest = Partial<Omit<Sync, "syncId">> & { chat: string };

export class Inbox {
  private readonly gaps = new Map<string, Gap>();

  constructor(
    readonly tracks: Map<string, Track>,
    readonly line: CursorLine,
  ) {}

  /** A frame that holds no message has come at an offset (0: at none). */
  other(offset: bigint): void {
    if (offset !== 0n) this.line.arrive(offset, false);
  }

  /**
   * A message has come, at a delivery offset or (undefined) at none. Returns what to ask for when
   * messages before it are missing. `held`: its body is here; otherwise it is missing itself.
   */
  message(
    offset: bigint | undefined,
    record: Pick<MessageRecord, "chat" | "seq" | "prevSeq" | "ordinal">,
    held = true,
  ): GapRequest | undefined {
    const { chat, seq, prevSeq, ordinal } = record;
    const track = this.tracks.get(chat);
    const gap = this.gaps.get(chat);
    const known = track !== undefined && seq <= track.seq;
    const follows = held && prevSeq <= (track?.seq ?? 0n);
    if (known || (!gap && follows)) {
      if (!known) this.tracks.set(chat, { seq, ordinal });
      if (offset !== undefined) this.line.arrive(offset, false);
      return undefined;
    }
    const release = offset === undefined ? () => {} : this.line.arrive(offset, true);
    const belowOrdinal = held ? ordinal : ordinal + 1;
    if (gap) {
      gap.releases.push(release);
      const hole = !held || prevSeq > gap.high.seq;
      if (hole) gap.belowOrdinal = Math.max(gap.belowOrdinal, belowOrdinal);
      if (seq > gap.high.seq) gap.high = { seq, ordinal };
      return undefined;
    }
    this.gaps.set(chat, { high: { seq, ordinal }, belowOrdinal, askedBelow: 0, releases: [release] });
    return this.request(chat);
  }

  /** The Sync that fills the chat's gap from where it is known. */
  private request(chat: string): GapRequest | undefined {
    const gap = this.gaps.get(chat);
    if (!gap) return undefined;
    gap.askedBelow = gap.belowOrdinal;
    const track = this.tracks.get(chat);
    if (!track) {
      const afterOrdinal = gap.belowOrdinal;
      return { chat, afterOrdinal, limit: SYNC_LIMIT_DEFAULT, backwards: true };
    }
    const missing = Math.max(1, gap.belowOrdinal - 1 - track.ordinal);
    return { chat, afterOrdinal: track.ordinal, limit: Math.min(missing, SYNC_LIMIT_MAX) };
  }

  /**
   * A page of the gap is in the batch. Returns the next request, or undefined when the gap is
   * closed: filled, or its rest is not ours to see. A hole that came up since the page was asked
   * for is asked for now.
   */
  gapPage(chat: string, records: MessageRecord[], more: boolean): GapRequest | undefined {
    const gap = this.gaps.get(chat);
    if (!gap) return undefined;
    const last = records.at(-1);
    const track = this.tracks.get(chat);
    const ends = last !== undefined && last.ordinal + 1 >= gap.belowOrdinal;
    const rises = last !== undefined && track !== undefined && last.ordinal > track.ordinal;
    const grown = gap.belowOrdinal > gap.askedBelow;
    if (!ends && (grown || (more && rises))) {
      if (last && (!track || rises)) this.tracks.set(chat, { seq: last.seq, ordinal: last.ordinal });
      return this.request(chat);
    }
    this.gaps.delete(chat);
    const high = last && last.seq > gap.high.seq ? last : gap.high;
    this.tracks.set(chat, { seq: high.seq, ordinal: high.ordinal });
    for (const release of gap.releases) release();
    return undefined;
  }

  /** A page of a sync upward or of the newest: the chat is known up to its last message. */
  known(chat: string, records: MessageRecord[]): void {
    for (const { seq, ordinal } of records) {
      const track = this.tracks.get(chat);
      if (!track || seq > track.seq) this.tracks.set(chat, { seq, ordinal });
    }
  }

  /** The connection is gone: the replay on the next finds the same gaps again. */
  disconnected(): void {
    this.gaps.clear();
    this.line.restart();
  }
}
