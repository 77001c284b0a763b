//! Messages that another device of this user, in this browser, could not send before its tab was closed: they are
//! sent as that device, so that one that was accepted before is recognised by its id.

import type { Saved } from "../session/types";

/** A device at work, without a page. */
export interface Worker {
  /** Messages that still wait for an answer. */
  pending(): Promise<number>;
  stop(): void;
}

const LOOK_MS = 500;
/** Given up for this visit, milliseconds; the next page tries again. */
const PATIENCE_MS = 120_000;

/** Whether a device has something left to send. */
export function hasLeftovers(saved: Saved): boolean {
  return saved.pending.some((send) => send.failed === undefined);
}

/** Lets a device work until it has nothing left to send. */
export async function finishSending(worker: Worker, sleep: (ms: number) => Promise<void>): Promise<boolean> {
  for (let waited = 0; waited < PATIENCE_MS; waited += LOOK_MS) {
    if ((await worker.pending()) === 0) {
      worker.stop();
      return true;
    }
    await sleep(LOOK_MS);
  }
  worker.stop();
  return false;
}
