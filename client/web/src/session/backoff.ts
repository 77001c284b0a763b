//! Full-jitter backoff: uniform in [0, min(cap, base * 2^attempt)).

import type { Chance } from "./types";

const BASE_MS = 500;
const CAP_MS = 30_000;

export class Backoff {
  private attempt = 0;
  constructor(private readonly chance: Chance) {}

  /** Milliseconds to wait; `atLeastMs` is the server's retry_after. */
  next(atLeastMs = 0): number {
    const ceiling = Math.min(CAP_MS, BASE_MS * 2 ** Math.min(this.attempt, 16));
    this.attempt += 1;
    return Math.round(atLeastMs + this.chance.unit() * ceiling);
  }

  /** No delay for the first try after a success, then as next(). */
  nextAtOnce(): number {
    if (this.attempt > 0) return this.next();
    this.attempt = 1;
    return 0;
  }

  reset(): void {
    this.attempt = 0;
  }
}
