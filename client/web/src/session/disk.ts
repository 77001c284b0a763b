//! The session's side of the disk: what the next batch holds, which batches are under way, and which offset may be
//! acknowledged. Nothing is acknowledged before the disk has it.

import { hex } from "../protocol/ids";
import type { Inbox } from "./inbox";
import { emptyBatch, isEmptyBatch } from "./types";
import type { Batch, Cursor } from "./types";

const ACK_DELAY_MS = 40;
/** Unacknowledged before an ack goes at once; an eighth and a quarter of the server's window. */
const ACK_FRAMES = 32;
const ACK_BYTES = 16_384;

/** The head that a batch adopts, for the connection that it was told on. */
export interface Adoption {
  head: bigint;
  link: number;
}

/** What happens when a batch is on the disk. */
interface Ticket {
  cursorNext: bigint | undefined;
  durable: string[];
  adopts: Adoption | undefined;
}

export class Disk {
  batch = emptyBatch();
  resumeToken: Uint8Array;
  hasCursor: boolean;
  /** When an ack leaves that waits for company. */
  ackAtMs: number | undefined;
  private adopts: Adoption | undefined;
  private savedNext: bigint | undefined;
  /** The furthest position given to the disk: a later batch never takes it back. */
  private givenNext = 0n;
  private lastTicket = 0;
  private readonly tickets = new Map<number, Ticket>();
  private ackedNext = 0n;
  /** First and last offset that has come and whose ack somebody waits for. */
  private awaited: { first: bigint; last: bigint } | undefined;
  private unackedFrames = 0;
  private unackedBytes = 0;

  constructor(
    private readonly inbox: Inbox,
    cursor: Cursor | undefined,
  ) {
    this.hasCursor = cursor !== undefined;
    this.resumeToken = cursor?.resumeToken ?? new Uint8Array();
  }

  // ---- batches ----

  /** A connection begins; `from`: where its Hello asked it to go on (the disk may be further by now). */
  connected(from: bigint): void {
    this.savedNext = this.inbox.line.persisted;
    this.ackedNext = from;
  }

  disconnected(): void {
    this.ackAtMs = undefined;
    this.awaited = undefined;
    this.unackedFrames = 0;
    this.unackedBytes = 0;
  }

  /** The server could not resume: until the head is adopted there is no cursor. */
  forgetCursor(resumeToken: Uint8Array): void {
    this.hasCursor = false;
    this.givenNext = 0n;
    this.batch.cursor = null;
    this.resumeToken = resumeToken;
  }

  saveToken(resumeToken: Uint8Array): void {
    this.resumeToken = resumeToken;
    this.hasCursor = true;
    this.batch.cursor = { next: this.next, resumeToken };
  }

  /** The position for the next batch. */
  private get next(): bigint {
    const { reach } = this.inbox.line;
    return reach > this.givenNext ? reach : this.givenNext;
  }

  track(chat: string): void {
    const track = this.inbox.tracks.get(chat);
    if (track) this.batch.tracks.set(chat, track);
  }

  /** The batch adopts a head: every chat is synced with it. */
  adopt(head: bigint, link: number): void {
    this.batch.cursor = { next: head, resumeToken: this.resumeToken };
    this.adopts = { head, link };
  }

  adopted(head: bigint): void {
    this.inbox.line.adopt(head);
    this.savedNext = head;
    this.ackedNext = head;
    this.hasCursor = true;
  }

  /** What is to be written now, if anything. `adopting`: the cursor rests meanwhile. */
  takeBatch(adopting: boolean): { ticket: number; batch: Batch } | undefined {
    const { next, savedNext } = this;
    if (!adopting && this.hasCursor && savedNext !== undefined && next !== savedNext) {
      this.batch.cursor = { next, resumeToken: this.resumeToken };
    }
    if (isEmptyBatch(this.batch)) return undefined;
    const { batch } = this;
    if (batch.cursor) this.savedNext = this.givenNext = batch.cursor.next;
    this.lastTicket += 1;
    this.tickets.set(this.lastTicket, {
      cursorNext: batch.cursor?.next,
      durable: batch.pendingPut.map((send) => hex(send.id)),
      adopts: this.adopts,
    });
    this.batch = emptyBatch();
    this.adopts = undefined;
    return { ticket: this.lastTicket, batch };
  }

  /** A batch is on the disk: the sends that may leave now, and the head that it adopts. */
  stored(id: number): Pick<Ticket, "durable" | "adopts"> | undefined {
    const ticket = this.tickets.get(id);
    this.tickets.delete(id);
    if (ticket && !ticket.adopts && ticket.cursorNext !== undefined) this.inbox.line.stored(ticket.cursorNext);
    return ticket;
  }

  // ---- acks ----

  /** A frame with an offset has come. */
  count(bytes: number): void {
    this.unackedFrames += 1;
    this.unackedBytes += bytes;
  }

  /** Somebody waits for the ack of the frame that came with this offset. */
  awaits(offset: bigint): void {
    this.awaited = { first: this.awaited?.first ?? offset, last: offset };
  }

  /** Whether an ack shall leave at once; otherwise one is planned when there is something to acknowledge. */
  ackDue(nowMs: number): boolean {
    const next = this.inbox.line.acknowledgeable;
    if (next <= this.ackedNext) return false;
    if (this.unackedFrames >= ACK_FRAMES || this.unackedBytes >= ACK_BYTES) return true;
    if (this.awaited && this.awaited.first < next) this.ackAtMs ??= nowMs + ACK_DELAY_MS;
    return false;
  }

  /** The offset that may be acknowledged now, once. */
  takeAck(): bigint | undefined {
    this.ackAtMs = undefined;
    const next = this.inbox.line.acknowledgeable;
    if (next <= this.ackedNext) return undefined;
    this.ackedNext = next;
    const { first, last } = this.awaited ?? { first: 0n, last: -1n };
    this.awaited = last < next ? undefined : { first: first > next ? first : next, last };
    this.unackedFrames = 0;
    this.unackedBytes = 0;
    return next - 1n;
  }
}
