//! The cumulative cursor: offsets advance in order, and not past one that waits for a gap fill.

/** An offset that has come; `waits` while messages before it are still missing. */
interface Entry {
  offset: bigint;
  waits: boolean;
}

export class CursorLine {
  private entries: Entry[] = [];

  /** `reach`: everything below is in a batch given to the disk. `persisted`: it is on the disk. */
  constructor(
    public reach: bigint,
    public persisted: bigint = reach,
  ) {}

  /** A frame of this offset has come; returns a release for one that waits. */
  arrive(offset: bigint, waits: boolean): () => void {
    const entry = { offset, waits };
    if (offset >= this.reach) this.entries.push(entry);
    this.advance();
    return () => {
      entry.waits = false;
      this.advance();
    };
  }

  /** The disk has everything below `next`. */
  stored(next: bigint): void {
    if (next > this.persisted) this.persisted = next;
  }

  /** A new connection replays from what is persisted. */
  restart(): void {
    this.entries = [];
    this.reach = this.persisted;
  }

  /** Adopts the head of a sync. */
  adopt(head: bigint): void {
    this.entries = [];
    this.reach = head;
  }

  private advance(): void {
    let first = this.entries[0];
    while (first !== undefined && !first.waits) {
      this.entries.shift();
      if (first.offset >= this.reach) this.reach = first.offset + 1n;
      first = this.entries[0];
    }
  }
}
