//! Sends without a final answer: which may go now, which wait for an answer, which are retried.

import { ERROR_TOO_OLD, mayRetry } from "../protocol/codes";
import { hex, uuidTimeMs, uuidV7 } from "../protocol/ids";
import { baseOf } from "../protocol/lanes";
import { DEDUP_WINDOW_MS, QUEUED_RETRY_MS, SENDS_IN_FLIGHT_MAX } from "../protocol/limits";
import type { Send } from "../protocol/layout";
import { Backoff } from "./backoff";
import type { Chance, PendingSend } from "./types";

/** A stamp this much younger than the dedup window is renewed already, milliseconds. */
const STALE_MARGIN_MS = 3_600_000;

interface Item {
  send: PendingSend;
  /** On disk: only then may it leave. */
  durable: boolean;
  /** It left on some connection: mark the next one as a retry. */
  tried: boolean;
  /** It left on this connection and has no answer yet. */
  inFlight: boolean;
  /** In flight and on the log: its place is fixed, the chat's next one may leave. */
  queued: boolean;
  /** In flight: when it is sent again; else: not before this. Milliseconds. */
  dueMs: number;
}

export class Outbox {
  private readonly items = new Map<string, Item>();
  private readonly backoff: Backoff;
  inFlightMax = SENDS_IN_FLIGHT_MAX;

  constructor(
    pending: PendingSend[],
    private readonly chance: Chance,
  ) {
    this.backoff = new Backoff(chance);
    for (const send of pending) {
      if (send.failed) continue;
      this.items.set(hex(send.id), {
        send,
        durable: true,
        tried: true,
        inFlight: false,
        queued: false,
        dueMs: 0,
      });
    }
  }

  get size(): number {
    return this.items.size;
  }

  get(id: string): PendingSend | undefined {
    return this.items.get(id)?.send;
  }

  /** Whether a Send that may be in this chat has no answer; what was sent to a group may be in any of its lanes. */
  unansweredIn(chat: string): boolean {
    return [...this.items.values()].some((item) => item.tried && baseOf(item.send.chat) === baseOf(chat));
  }

  add(send: PendingSend): void {
    const item = { send, durable: false, tried: false, inFlight: false, queued: false, dueMs: 0 };
    this.items.set(hex(send.id), item);
  }

  durable(id: string): void {
    const item = this.items.get(id);
    if (item) item.durable = true;
  }

  /** The connection is gone: nothing is in flight; unanswered ones are retried on the next. */
  disconnected(): void {
    for (const item of this.items.values()) {
      item.inFlight = false;
      item.queued = false;
      item.dueMs = 0;
    }
  }

  /**
   * What may leave now, in the order of writing. A chat's next one leaves when the one before is on
   * the log (Queued) or answered: so a refusal in the middle never changes their order.
   */
  takeDue(nowMs: number): Send[] {
    const due: Send[] = [];
    const held = new Set<string>();
    let inFlight = [...this.items.values()].filter((item) => item.inFlight).length;
    for (const item of this.items.values()) {
      const { send } = item;
      const again = item.inFlight && nowMs >= item.dueMs;
      if (item.inFlight && !again) {
        if (!item.queued) held.add(send.chat);
        continue;
      }
      const free = again || inFlight < this.inFlightMax;
      if (!item.durable || nowMs < item.dueMs || !free || held.has(send.chat)) {
        held.add(send.chat);
        continue;
      }
      if (!item.inFlight) inFlight += 1;
      due.push({
        clientMsgId: send.id,
        sendTsMs: send.sendTsMs,
        messageType: send.messageType,
        retry: item.tried,
        chat: send.chat,
        body: send.body,
      });
      item.tried = true;
      item.inFlight = true;
      item.dueMs = nowMs + QUEUED_RETRY_MS;
      if (!item.queued) held.add(send.chat);
    }
    return due;
  }

  /** When takeDue may next have something; undefined: only after an input. */
  nextDueMs(): number | undefined {
    let next: number | undefined;
    for (const item of this.items.values()) {
      if (!item.durable || (!item.inFlight && item.dueMs === 0)) continue;
      next = next === undefined ? item.dueMs : Math.min(next, item.dueMs);
    }
    return next;
  }

  queued(id: string, nowMs: number): boolean {
    const item = this.items.get(id);
    if (!item?.inFlight) return false;
    item.queued = true;
    item.dueMs = nowMs + QUEUED_RETRY_MS;
    return true;
  }

  /** It is stored by the server; returns what was pending. */
  sent(id: string): PendingSend | undefined {
    const item = this.items.get(id);
    this.items.delete(id);
    this.backoff.reset();
    return item?.send;
  }

  /**
   * It was refused. "retry": it goes again by itself. "renew": too old, it needs a new id.
   * Otherwise it is final and comes back marked as failed.
   */
  refused(
    id: string,
    code: number,
    text: string,
    retryAfterMs: number,
    nowMs: number,
  ): "unknown" | "retry" | "renew" | PendingSend {
    const item = this.items.get(id);
    if (!item) return "unknown";
    if (code === ERROR_TOO_OLD) return "renew";
    if (mayRetry(code)) {
      item.inFlight = false;
      item.queued = false;
      item.dueMs = nowMs + Math.max(1, this.backoff.next(retryAfterMs));
      return "retry";
    }
    this.items.delete(id);
    return { ...item.send, failed: { code, text } };
  }

  /** Ids that the server would refuse as too old. Valid only when all is synced. */
  stale(serverNowMs: number): string[] {
    const oldest = serverNowMs - DEDUP_WINDOW_MS + STALE_MARGIN_MS;
    return [...this.items].filter(([, { send }]) => uuidTimeMs(send.id) < oldest).map(([id]) => id);
  }

  /** Gives a message a new id in its old place; the new one is not durable yet. */
  renew(id: string, serverNowMs: number): PendingSend | undefined {
    if (!this.items.has(id)) return undefined;
    const all = [...this.items];
    this.items.clear();
    let renewed: PendingSend | undefined;
    for (const [key, item] of all) {
      if (key !== id) {
        this.items.set(key, item);
        continue;
      }
      renewed = { ...item.send, id: uuidV7(serverNowMs, this.chance.bytes(10)) };
      const fresh = { send: renewed, durable: false, tried: false, inFlight: false, queued: false, dueMs: 0 };
      this.items.set(hex(renewed.id), fresh);
    }
    return renewed;
  }

  /** The user gave it up; true when it was still ours to give up. */
  discard(id: string): boolean {
    return this.items.delete(id);
  }
}
