//! The queue to the disk. One transaction at a time; what comes meanwhile goes together in the next, so that a slow
//! disk makes larger transactions, not a longer queue.

import { mergeBatches } from "../session/types";
import type { Batch } from "../session/types";

/** Batches in one transaction. */
const TOGETHER_MAX = 256;

type Entry = { ticket: number; batch: Batch } | { then: () => void };

export class Writer {
  private queue: Entry[] = [];
  private working: Promise<void> | undefined;
  /** A write has failed: nothing later may be written, it would leave a hole. */
  private broken = false;

  constructor(
    private readonly write: (batch: Batch) => Promise<void>,
    private readonly stored: (tickets: number[]) => void,
    private readonly failed: (error: unknown) => void,
  ) {}

  add(ticket: number, batch: Batch): void {
    this.queue.push({ ticket, batch });
    this.work();
  }

  /** Runs when everything added so far is on the disk. */
  then(run: () => void): void {
    this.queue.push({ then: run });
    this.work();
  }

  /** Ends when the queue is empty. */
  async flushed(): Promise<void> {
    while (this.working) await this.working;
  }

  private work(): void {
    this.working ??= this.loop().finally(() => {
      this.working = undefined;
    });
  }

  private async loop(): Promise<void> {
    await undefined; // what the same turn adds goes along
    while (this.queue.length > 0 && !this.broken) {
      const first = this.queue[0];
      if (first && "then" in first) {
        this.queue.shift();
        first.then();
        continue;
      }
      const end = this.queue.findIndex((entry) => "then" in entry);
      const count = Math.min(end < 0 ? this.queue.length : end, TOGETHER_MAX);
      const taken = this.queue.splice(0, count).filter((entry) => "batch" in entry);
      try {
        await this.write(taken.map((entry) => entry.batch).reduce(mergeBatches));
      } catch (error) {
        this.broken = true;
        this.failed(error);
        return;
      }
      this.stored(taken.map((entry) => entry.ticket));
    }
  }
}
