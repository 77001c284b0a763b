//! The messages of one chat id that are in memory: the newest without a hole, and older ones as they are scrolled to,
//! first from the disk, then from the server. A conversation is one of these, or one per lane (timeline.ts).

import type { MessageRow } from "../store/rows";

/** The part of the store that is read. */
export interface Pages {
  page(chat: string, belowKey: string, limit: number): Promise<MessageRow[]>;
}

/** Where a timeline gets its messages. */
export interface Source {
  pages: Pages;
  /** Asks the server for messages of a chat below an ordinal. */
  ask(chat: string, beforeOrdinal: number): void;
  /** History of a chat up to this ordinal is not ours. */
  visibleAfter(chat: string): number;
}

export class LaneTimeline {
  rows: MessageRow[] = [];
  /** Nothing older exists for us. */
  atStart = false;
  /** The server has been asked for older ones. */
  loading = false;
  /** The first page has been read. */
  private ready = false;
  /** Stored while the first page was being read. */
  private early: MessageRow[] = [];

  constructor(
    readonly chat: string,
    private readonly source: Source,
    /** Messages read from the disk at a time. */
    private readonly pageRows: () => number,
  ) {}

  /** Reads the newest page. */
  async open(): Promise<void> {
    await this.readDown();
    this.ready = true;
    this.add(this.early.splice(0));
    if (this.rows.length === 0 && !this.atStart) await this.older();
  }

  /** Older messages are wanted; true when some came from the disk at once. */
  async older(): Promise<boolean> {
    if (this.loading || this.atStart) return false;
    this.loading = true;
    if (await this.readDown()) {
      this.loading = false;
      return true;
    }
    if (!this.atStart) this.source.ask(this.chat, this.rows[0]?.ordinal ?? 0);
    else this.loading = false;
    return false;
  }

  /** The server's answer to older() is on the disk. */
  async answered(atStart: boolean): Promise<void> {
    const came = await this.readDown(true);
    this.loading = false;
    if (!came && atStart) this.atStart = true;
  }

  /** Messages have been stored: those within reach take their place. True when any did. */
  add(fresh: MessageRow[]): boolean {
    const ours = fresh.filter((row) => row.chat === this.chat);
    if (!this.ready) this.early.push(...ours);
    const first = this.rows[0];
    const mine = this.ready ? ours.filter((row) => first === undefined || row.key > first.key) : [];
    if (mine.length === 0) return false;
    const have = new Set(this.rows.map((row) => row.key));
    const added = mine.filter((row) => !have.has(row.key));
    this.rows = [...this.rows, ...added].sort((a, b) => (a.key < b.key ? -1 : 1));
    this.findStart();
    return added.length > 0;
  }

  /** Keeps the newest so many in memory; the others are on the disk. */
  keep(count: number): void {
    if (this.rows.length <= count) return;
    this.rows = this.rows.slice(-count);
    this.atStart = false;
  }

  /**
   * Extends downward from the disk as far as no message is missing. `answered`: the server has just told what lies
   * next below, so a hole there is none for us (we were not in the group then, or it is no longer kept).
   */
  private async readDown(answered = false): Promise<boolean> {
    const first = this.rows[0];
    const page = await this.source.pages.page(this.chat, first?.key ?? "", this.pageRows());
    let above = this.rows[0];
    const joined: MessageRow[] = [];
    for (const row of page.reverse()) {
      if (above !== undefined && row.key >= above.key) continue;
      const hole = above !== undefined && row.ordinal + 1 < above.ordinal;
      if (hole && !(answered && joined.length === 0)) break;
      joined.unshift(row);
      above = row;
    }
    if (joined.length === 0) {
      this.findStart();
      return false;
    }
    this.rows = [...joined, ...this.rows];
    this.findStart();
    return true;
  }

  private findStart(): void {
    const first = this.rows[0];
    if (first && first.ordinal <= this.source.visibleAfter(this.chat) + 1) this.atStart = true;
  }
}
