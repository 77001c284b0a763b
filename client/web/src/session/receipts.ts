//! Receipts of ours: coalesced per chat, kept until the server confirms the read watermark.

import type { Receipt } from "../protocol/schema";

const COALESCE_MS = 150;

interface Entry {
  deliveredSeq: bigint;
  readSeq: bigint;
  /** Left on this connection as it stands. */
  sent: boolean;
}

export class Receipts {
  private readonly chats = new Map<string, Entry>();
  dueMs: number | undefined;

  constructor(unconfirmedReads: Map<string, bigint>) {
    for (const [chat, readSeq] of unconfirmedReads) {
      this.chats.set(chat, { deliveredSeq: 0n, readSeq, sent: false });
    }
  }

  note(chat: string, seen: { deliveredSeq: bigint; readSeq: bigint }, nowMs: number): void {
    const old = this.chats.get(chat) ?? { deliveredSeq: 0n, readSeq: 0n, sent: true };
    if (seen.deliveredSeq <= old.deliveredSeq && seen.readSeq <= old.readSeq) return;
    const deliveredSeq = seen.deliveredSeq > old.deliveredSeq ? seen.deliveredSeq : old.deliveredSeq;
    const readSeq = seen.readSeq > old.readSeq ? seen.readSeq : old.readSeq;
    this.chats.set(chat, { deliveredSeq, readSeq, sent: false });
    this.dueMs ??= nowMs + COALESCE_MS;
  }

  takeDue(nowMs: number): Receipt[] {
    if (this.dueMs === undefined || nowMs < this.dueMs) return [];
    this.dueMs = undefined;
    const due = [...this.chats].filter(([, entry]) => !entry.sent);
    for (const [, entry] of due) entry.sent = true;
    return due.map(([chat, { deliveredSeq, readSeq }]) => ({ chat, deliveredSeq, readSeq }));
  }

  /** The server says how far we are. */
  confirmed(chat: string, deliveredSeq: bigint, readSeq: bigint): void {
    const entry = this.chats.get(chat);
    if (!entry || readSeq < entry.readSeq) return;
    if (deliveredSeq >= entry.deliveredSeq || readSeq >= entry.deliveredSeq) this.chats.delete(chat);
  }

  /** The server had no time for one: all that is not confirmed goes again, then. */
  refused(atMs: number): void {
    this.disconnected();
    this.dueMs = Math.max(atMs, this.dueMs ?? 0);
  }

  disconnected(): void {
    for (const entry of this.chats.values()) entry.sent = false;
  }

  /** A session is live: what was not confirmed goes (again). */
  again(nowMs: number): void {
    if (this.chats.size > 0) this.dueMs ??= nowMs;
  }
}
