//! The cumulative cursor: offsets advance in order, and not past one that waits for a gap fill.

/** An offset that has come; `waits` while messages before it are still missing. */
interface Entry {
  offset: bigint;
  waits: boolean;
}

export class CursorLine {
  private entries: Entry[] = [];
  /** Behind the last offset that came on this connection. */
  private arrived = 0n;

  /** `reach`: everything below is in a batch given to the disk. `persisted`: it is on the disk. */
  constructor(
    public reach: bigint,
    public persisted: bigint = reach,
  ) {}

  /** A frame of this offset has come; returns a release for one that waits. */
  arrive(offset: bigint, waits: boolean): () => void {
    const entry = { offset, waits };
    if (offset >= this.arrived) this.arrived = offset + 1n;
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
    if (next > this.reach) this.reach = next;
  }

  /**
   * Everything below may be acknowledged: it is on the disk and came on this connection. What an
   * earlier connection brought and the disk finished later comes again in the replay; an ack before
   * that would run ahead of what this connection was sent.
   */
  get acknowledgeable(): bigint {
    return this.persisted < this.arrived ? this.persisted : this.arrived;
  }

  /** A new connection replays from what is persisted. */
  restart(): void {
    this.entries = [];
    this.reach = this.persisted;
    this.arrived = 0n;
  }

  /** Adopts the head of a sync, which the disk has. */
  adopt(head: bigint): void {
    this.entries = [];
    this.reach = head;
    this.persisted = head;
    this.arrived = 0n;
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
