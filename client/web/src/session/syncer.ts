//! Sync requests: at most four in flight, repeated after a reconnect or a busy answer.

import { mayRetry } from "../protocol/codes";
import { SYNCS_IN_FLIGHT_MAX } from "../protocol/limits";
import type { Sync, SyncPage } from "../protocol/schema";

/** Without a page for this long a request is sent again, milliseconds. */
const ANSWER_MS = 20_000;
const BUSY_RETRY_MS = 1_000;

/** Why a page was asked for. */
export type Purpose =
  /** The list of my chats; `adopting` while the session must sync before it goes live. */
  | { why: "list"; adopting: boolean }
  /** What is new in a chat, page by page upward. */
  | { why: "catch-up"; chat: string }
  /** The newest page of a chat that this device knows nothing of. */
  | { why: "newest"; chat: string }
  /** Messages between two that were delivered. */
  | { why: "gap"; chat: string }
  /** The application shows older messages. */
  | { why: "history"; chat: string; beforeOrdinal: number };

interface Job {
  purpose: Purpose;
  request: Omit<Sync, "syncId">;
  notBeforeMs: number;
}

interface InFlight {
  job: Job;
  deadlineMs: number;
}

export class Syncer {
  private waiting: Job[] = [];
  private readonly inFlight = new Map<number, InFlight>();
  private lastId = 0;

  ask(purpose: Purpose, request: Partial<Omit<Sync, "syncId">>): void {
    const whole = { chat: "", afterOrdinal: 0, limit: 0, backwards: false, cursor: "", ...request };
    this.waiting.push({ purpose, request: whole, notBeforeMs: 0 });
  }

  /** Whether a request of this purpose waits or is in flight. */
  has(test: (purpose: Purpose) => boolean): boolean {
    const all = [...this.waiting, ...[...this.inFlight.values()].map((f) => f.job)];
    return all.some((job) => test(job.purpose));
  }

  /** Requests that may leave now. */
  takeDue(nowMs: number): Sync[] {
    for (const [id, entry] of this.inFlight) {
      if (nowMs < entry.deadlineMs) continue;
      this.inFlight.delete(id);
      this.waiting.unshift(entry.job);
    }
    const due: Sync[] = [];
    const later: Job[] = [];
    for (const job of this.waiting) {
      if (this.inFlight.size >= SYNCS_IN_FLIGHT_MAX || nowMs < job.notBeforeMs) {
        later.push(job);
        continue;
      }
      this.lastId += 1;
      this.inFlight.set(this.lastId, { job, deadlineMs: nowMs + ANSWER_MS });
      due.push({ ...job.request, syncId: this.lastId });
    }
    this.waiting = later;
    return due;
  }

  nextDueMs(): number | undefined {
    const times = [...this.inFlight.values()].map((f) => f.deadlineMs);
    if (this.inFlight.size < SYNCS_IN_FLIGHT_MAX) times.push(...this.waiting.map((j) => j.notBeforeMs));
    return times.length === 0 ? undefined : Math.min(...times);
  }

  /** The purpose that a page answers; undefined: none, or it will be asked again. */
  answer(page: SyncPage, nowMs: number): Purpose | undefined {
    const entry = this.inFlight.get(page.syncId);
    if (!entry) return undefined;
    this.inFlight.delete(page.syncId);
    if (!mayRetry(page.error)) return entry.job.purpose;
    entry.job.notBeforeMs = nowMs + BUSY_RETRY_MS;
    this.waiting.unshift(entry.job);
    return undefined;
  }

  /** An Error frame answered some Sync: all in flight go again later. */
  busy(nowMs: number, retryAfterMs: number): void {
    for (const { job } of this.inFlight.values()) {
      job.notBeforeMs = nowMs + Math.max(BUSY_RETRY_MS, retryAfterMs);
      this.waiting.push(job);
    }
    this.inFlight.clear();
  }

  /** The request that has waited longest for its page. */
  oldest(): Sync | undefined {
    for (const [syncId, { job }] of this.inFlight) return { ...job.request, syncId };
    return undefined;
  }

  /** The connection is gone; what the application asked for is asked again on the next. */
  disconnected(): void {
    const jobs = [...[...this.inFlight.values()].map((f) => f.job), ...this.waiting];
    this.inFlight.clear();
    this.waiting = jobs.filter((job) => job.purpose.why === "history");
  }
}
