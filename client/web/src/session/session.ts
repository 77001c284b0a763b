//! The client session's core: bytes and time in, effects out. It owns no clock, no randomness, no
//! socket and no disk, so that tests run it in virtual time. The state machine is docs/protocol.md's.
//!
//! Way of a connection: open → Hello → Welcome → (replay | sync, then adopt the head) → CaughtUp →
//! live. Nothing is acknowledged before the disk has it; no Send leaves before the disk has it.

import { errorText, mayRetry } from "../protocol/codes";
import { decodeServerFrames, TYPE } from "../protocol/frames";
import type { ClientFrame, ServerFrame } from "../protocol/frames";
import { hex, isGroup, uuidV7 } from "../protocol/ids";
import { isChatId, storedIn } from "../protocol/lanes";
import { MESSAGE_MEMBERSHIP } from "../protocol/layout";
import type { Deliver, MessageRecord } from "../protocol/layout";
import { ACK_ADOPT, HEARTBEAT_MS_DEFAULT, WATCH_CHATS_MAX, WATCH_USERS_MAX } from "../protocol/limits";
import { WireError } from "../protocol/proto";
import type * as s from "../protocol/schema";
import { Connector } from "./connector";
import { CursorLine } from "./cursor";
import { Disk } from "./disk";
import { Inbox } from "./inbox";
import type { Link, Links } from "./links";
import { Out } from "./out";
import { Outbox } from "./outbox";
import { Receipts } from "./receipts";
import { ChatSync } from "./sync";
import type { Chance, Config, Effect, Now, PendingSend, Saved } from "./types";

const PONG_MS = 10_000;
/** After a change of network the peer must answer sooner. */
const PROBE_MS = 4_000;
const TYPING_EVERY_MS = 3_000;
const LIST_REFRESH_MS = 150;
/** A refused receipt or Watch goes again after this at the least, milliseconds. */
const SIGNAL_RETRY_MS = 1_000;

export class Session {
  private readonly out = new Out();
  private readonly connector: Connector;
  private readonly links: Links;
  private live = false;

  private readonly inbox: Inbox;
  private readonly outbox: Outbox;
  private readonly receipts: Receipts;
  private readonly sync: ChatSync;
  private readonly disk: Disk;
  /** Told once the messages before it are in a batch. */
  private historyDone: Effect[] = [];

  private heartbeatMs = HEARTBEAT_MS_DEFAULT;
  private pingAtMs: number | undefined;
  private pongByMs: number | undefined;
  private listRefreshAtMs: number | undefined;
  private watchAtMs: number | undefined;
  private watch: { users: string[]; chats: string[] } = { users: [], chats: [] };
  private readonly typingAtMs = new Map<string, number>();
  constructor(
    private readonly config: Config,
    private readonly chance: Chance,
    saved: Saved,
  ) {
    this.connector = new Connector(config, chance, this.out, () => this.dropped());
    this.connector.skewMs = saved.skewMs;
    this.links = this.connector.links;
    const line = new CursorLine(saved.cursor?.next ?? 0n);
    this.inbox = new Inbox(new Map(saved.tracks), line);
    this.disk = new Disk(this.inbox, saved.cursor);
    this.outbox = new Outbox(saved.pending, chance);
    this.receipts = new Receipts(saved.unconfirmedReads);
    this.sync = new ChatSync(this.inbox, this.outbox);
  }

  // ---- what the application asks for ----

  start(now: Now): void {
    this.connector.start(now);
    this.finish(now);
  }

  stop(now: Now): void {
    this.connector.stop();
    this.finish(now);
  }

  /** Accepts a message; it leaves once it is on the disk and the session is live. */
  submit(chat: string, messageType: number, body: Uint8Array, now: Now): PendingSend {
    const id = uuidV7(now.wallMs + this.connector.skewMs, this.chance.bytes(10));
    const send = { id, chat, messageType, body, sendTsMs: now.wallMs };
    this.outbox.add(send);
    this.disk.batch.pendingPut.push(send);
    this.finish(now);
    return send;
  }

  /** Gives up a message that has failed or has never been answered. */
  discard(id: string, now: Now): void {
    this.outbox.discard(id);
    this.disk.batch.pendingDelete.push(id);
    this.finish(now);
  }

  read(chat: string, seq: bigint, now: Now): void {
    this.receipts.note(chat, { deliveredSeq: 0n, readSeq: seq }, now.ms);
    this.finish(now);
  }

  typing(chat: string, stopped: boolean, now: Now): void {
    const last = this.typingAtMs.get(chat);
    const repeats = last !== undefined && now.ms - last < TYPING_EVERY_MS;
    if (!this.live || (stopped ? last === undefined : repeats)) return;
    if (stopped) this.typingAtMs.delete(chat);
    else this.typingAtMs.set(chat, now.ms);
    this.transmit({ type: "typing", body: { chat, stopped } });
    this.finish(now);
  }

  setWatch(users: string[], chats: string[], now: Now): void {
    const next = { users: users.slice(0, WATCH_USERS_MAX), chats: chats.slice(0, WATCH_CHATS_MAX) };
    if (JSON.stringify(next) === JSON.stringify(this.watch)) return;
    this.watch = next;
    if (this.links.welcomed) this.sendWatch();
    this.finish(now);
  }

  /** Asks for messages below an ordinal (0: the newest); answered by the effect "history". */
  history(chat: string, beforeOrdinal: number, limit: number, now: Now): void {
    this.sync.history(chat, beforeOrdinal, limit);
    this.finish(now);
  }

  /** The list of chats may have changed (a group was made over HTTP). */
  refreshChats(now: Now): void {
    this.listRefreshAtMs ??= now.ms + LIST_REFRESH_MS;
    this.finish(now);
  }

  /** The machine says that the network is back, or the page is seen again: look at once. */
  nudge(now: Now): void {
    if (!this.connector.hurry(now) && this.links.welcomed && this.pongByMs === undefined) this.ping(now, PROBE_MS);
    this.finish(now);
  }

  // ---- what the driver reports ----

  handleOpened(id: number, now: Now): void {
    const link = this.links.of(id);
    const token = link && this.connector.token.use();
    if (!link || token === undefined) return;
    this.links.opened(link, now.ms);
    const { hasCursor, resumeToken } = this.disk;
    const next = this.inbox.line.persisted;
    if (hasCursor && resumeToken.length > 0) link.resumesFrom = next;
    const body = {
      token,
      device: this.config.device,
      client: this.config.client,
      ...(this.connector.redirectNever ? { redirectNever: true } : {}),
      ...(hasCursor ? { resumeToken } : {}),
      ...(hasCursor && next > 0n ? { lastOffset: next - 1n } : {}),
    };
    this.transmit({ type: "hello", body }, link);
    this.finish(now);
  }

  handleMessage(id: number, raw: Uint8Array, now: Now): void {
    if (!this.links.of(id)) return;
    try {
      for (const frame of decodeServerFrames(raw)) {
        const link = this.links.of(id);
        if (link) this.handleFrame(link, frame, now);
      }
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      this.out.push({ do: "problem", code: 1, text: error.message });
      this.connector.abandon(id, now, "unreadable frame");
    }
    this.finish(now);
  }

  handleClosed(id: number, code: number, reason: string, now: Now): void {
    this.connector.closed(id, code, reason, now);
    this.finish(now);
  }

  handleToken(text: string, expiresAtMs: number, now: Now): void {
    this.connector.gotToken(text, expiresAtMs, now);
    this.finish(now);
  }

  /** No token could be had; `refused`: and none will be. */
  handleTokenFailed(refused: boolean, text: string, now: Now): void {
    this.connector.tokenFailed(refused, text, now);
    this.finish(now);
  }

  /** A batch is on the disk, with all before it. */
  handleStored(ticketId: number, now: Now): void {
    const stored = this.disk.stored(ticketId);
    if (!stored) return;
    for (const id of stored.durable) this.outbox.durable(id);
    if (stored.adopts) this.adopted(stored.adopts.head, stored.adopts.link);
    this.finish(now);
  }

  handleTimeout(now: Now): void {
    const due = (at: number | undefined): boolean => at !== undefined && now.ms >= at;
    this.connector.handleTimeout(now);
    if (due(this.pongByMs) && this.links.link) this.connector.abandon(this.links.link.id, now, "no answer");
    if (due(this.pingAtMs)) this.ping(now, PONG_MS);
    if (due(this.disk.ackAtMs)) this.ack();
    if (due(this.watchAtMs)) this.sendWatch();
    this.finish(now);
  }

  /** When handleTimeout wants to be called; undefined: not before the next input. */
  nextTimeoutMs(): number | undefined {
    const times: (number | undefined)[] = [
      ...this.connector.dueTimesMs(),
      this.pingAtMs,
      this.pongByMs,
      this.disk.ackAtMs,
      this.watchAtMs,
    ];
    if (this.links.welcomed) {
      times.push(this.listRefreshAtMs, this.sync.nextDueMs(), this.receipts.dueMs);
    }
    if (this.live) times.push(this.outbox.nextDueMs());
    const set = times.filter((t) => t !== undefined);
    return set.length === 0 ? undefined : Math.min(...set);
  }

  /** What the driver shall do now, in order. */
  takeEffects(): Effect[] {
    return this.out.take();
  }

  // ---- frames ----

  private handleFrame(link: Link, frame: ServerFrame, now: Now): void {
    if (link === this.links.link && link.state === "welcomed") this.pongByMs = undefined;
    switch (frame.type) {
      case "welcome":
        return this.handleWelcome(link, frame.body, now);
      case "redirect":
        return this.connector.redirect(link, frame.body, now);
      case "error":
        return this.handleError(frame.body, now);
      default:
        if (link === this.links.link && link.state === "welcomed") this.handleSessionFrame(frame, now);
    }
  }

  private handleSessionFrame(frame: ServerFrame, now: Now): void {
    switch (frame.type) {
      case "deliver":
        return this.handleDeliver(frame.body, frame.bytes, now);
      case "queued":
        if (this.outbox.queued(hex(frame.body.clientMsgId), now.ms)) {
          this.out.push({ do: "queued", id: hex(frame.body.clientMsgId) });
        }
        return;
      case "sendResult":
        return this.handleSendResult(frame.body, now);
      case "caughtUp":
        return this.handleCaughtUp(frame.body, now);
      case "receiptUpdate":
        return this.handleReceiptUpdate(frame.body);
      case "typingUpdate":
        this.out.push({ do: "typing", update: frame.body });
        return;
      case "presenceUpdate":
        this.out.push({ do: "presence", update: frame.body });
        return;
      case "syncPage":
        return this.handleSyncPage(frame.body, now);
      case "relocate":
        this.links.relocateAt(frame.body.url, now.ms + frame.body.slotMs);
        return;
      case "pong":
        if (frame.body.resumeToken.length > 0) this.saveToken(frame.body.resumeToken);
        return;
      case "tokenAccepted":
        return this.connector.tokenExpires(frame.body.expiresAtMs, now);
      default:
    }
  }

  private handleWelcome(link: Link, welcome: s.Welcome, now: Now): void {
    if (link.state !== "hello") return;
    const skewMs = welcome.serverTimeMs - now.wallMs;
    this.connector.skewMs = skewMs;
    this.connector.welcomed(link, welcome.tokenExpiresAtMs, now);
    this.disk.batch.skewMs = skewMs;
    this.heartbeatMs = welcome.heartbeatMs || HEARTBEAT_MS_DEFAULT;
    this.pingAtMs = now.ms + Math.round(this.chance.unit() * this.heartbeatMs);
    this.outbox.inFlightMax = welcome.limits?.sendsInFlightMax || this.outbox.inFlightMax;
    this.sync.disconnected();
    this.inbox.disconnected();
    this.disk.connected(link.resumesFrom ?? 0n);
    if (welcome.recovered && link.resumesFrom !== undefined) {
      this.saveToken(welcome.resumeToken);
      this.sync.resume();
      this.out.setPhase({ kind: "catching-up" });
    } else {
      this.disk.forgetCursor(welcome.resumeToken);
      this.sync.begin(welcome.head);
      this.out.setPhase({ kind: "syncing" });
    }
    if (this.watch.users.length + this.watch.chats.length > 0) this.sendWatch();
  }

  private handleError(error: s.ErrorFrame, now: Now): void {
    this.connector.lastProblem = error.text;
    if (error.clientMsgId.length > 0) {
      const { code, text, retryAfterMs } = error;
      return this.refused(hex(error.clientMsgId), code, text, retryAfterMs, now);
    }
    const again = mayRetry(error.code);
    if (error.frameType === TYPE.sync) {
      if (again) return this.sync.busy(now.ms, error.retryAfterMs);
      const page = this.sync.failOldest(error.code);
      if (page) this.handleSyncPage(page, now);
    } else if (this.links.welcomed && again) {
      return this.signalRefused(error.frameType, now.ms + Math.max(SIGNAL_RETRY_MS, error.retryAfterMs));
    }
    if (!this.links.welcomed) this.connector.retryAfterMs = error.retryAfterMs;
    this.out.push({ do: "problem", code: error.code, text: errorText(error.code, error.text) });
  }

  /** What is not answered was refused for now: receipts and Watch go again, typing is told again anyway. */
  private signalRefused(frameType: number, atMs: number): void {
    if (frameType === TYPE.receipt) this.receipts.refused(atMs);
    else if (frameType === TYPE.watch) this.watchAtMs = atMs;
  }

  private handleDeliver({ offset, record, ackLater }: Deliver, size: number, now: Now): void {
    this.disk.count(size);
    if (!ackLater) this.disk.awaits(offset);
    this.addRecord(record, now);
    this.sync.gap(this.inbox.message(offset, record));
    this.disk.track(record.chat);
  }

  private addRecord(record: MessageRecord, now: Now): void {
    this.disk.batch.records.push(record);
    const { chat, sender, messageType } = record;
    if (sender === this.config.user && record.senderDevice === this.config.device) {
      const id = hex(record.clientMsgId);
      // Also where an earlier attempt had been refused, so that it waits no more.
      this.outbox.sent(id);
      this.disk.batch.pendingDelete.push(id);
    }
    const unknown = isGroup(chat) && !this.inbox.tracks.has(chat);
    if ((unknown || messageType === MESSAGE_MEMBERSHIP) && this.live) {
      this.listRefreshAtMs ??= now.ms + LIST_REFRESH_MS;
    }
  }

  private handleSendResult(result: s.SendResult, now: Now): void {
    this.disk.count(0);
    const id = hex(result.clientMsgId);
    const offset = result.offset === 0n ? undefined : result.offset;
    if (result.error !== 0) {
      this.inbox.other(result.offset);
      const { error, text, retryAfterMs } = result;
      return this.refused(id, error, text, retryAfterMs, now);
    }
    const send = this.outbox.sent(id);
    const chat = send ? storedIn(send.chat, result.chat) : result.chat;
    // Also where an earlier attempt had been refused (before we were a member): it is sent now.
    this.disk.batch.pendingDelete.push(id);
    if (send) this.disk.batch.records.push(this.ownRecord(send, chat, result));
    this.sync.gap(this.inbox.message(offset, { ...result, chat }, send !== undefined));
    this.disk.track(chat);
  }

  private ownRecord(send: PendingSend, chat: string, result: s.SendResult): MessageRecord {
    return {
      seq: result.seq,
      prevSeq: result.prevSeq,
      ordinal: result.ordinal,
      messageId: result.messageId,
      clientMsgId: send.id,
      sendTsMs: send.sendTsMs,
      storedTsMs: result.storedTsMs,
      messageType: send.messageType,
      flags: 0,
      chat,
      sender: this.config.user,
      senderDevice: this.config.device,
      body: send.body,
    };
  }

  private refused(id: string, code: number, text: string, retryAfterMs: number, now: Now): void {
    const verdict = this.outbox.refused(id, code, text, retryAfterMs, now.ms);
    if (verdict === "unknown" || verdict === "retry") return;
    if (verdict === "renew") this.renew(id, now);
    else this.disk.batch.pendingPut.push(verdict);
  }

  private renew(id: string, now: Now): void {
    const renewed = this.outbox.renew(id, now.wallMs + this.connector.skewMs);
    if (!renewed) return;
    this.disk.batch.pendingDelete.push(id);
    this.disk.batch.pendingPut.push(renewed);
  }

  private handleCaughtUp(caughtUp: s.CaughtUp, now: Now): void {
    this.saveToken(caughtUp.resumeToken);
    if (this.live) return;
    this.live = true;
    this.connector.live(now);
    this.out.setPhase({ kind: "live" });
    this.receipts.again(now.ms);
    // All that the server answered has been seen: what is still pending was not accepted, or is
    // recognised by its id. One too old to be recognised gets a new one.
    for (const id of this.outbox.stale(now.wallMs + this.connector.skewMs)) this.renew(id, now);
  }

  private handleReceiptUpdate(update: s.ReceiptUpdate): void {
    this.disk.count(0);
    this.inbox.other(update.offset);
    const { chat, user, deliveredSeq, readSeq } = update;
    this.disk.batch.marks.push({ chat, user, deliveredSeq, readSeq });
    if (user === this.config.user) this.receipts.confirmed(chat, deliveredSeq, readSeq);
  }

  private handleSyncPage(page: s.SyncPage, now: Now): void {
    const outcome = this.sync.handlePage(page, now.ms);
    if (!outcome) return;
    for (const record of outcome.records) this.addRecord(record, now);
    for (const mark of page.watermarks) this.disk.batch.marks.push({ chat: page.chat, ...mark });
    this.disk.batch.chats.push(...page.chats.filter((summary) => isChatId(summary.chat)));
    if (outcome.listComplete) this.disk.batch.chatListComplete = outcome.listComplete;
    if (outcome.chat !== undefined) this.disk.track(outcome.chat);
    const newest = outcome.records.filter((r) => r.sender !== this.config.user).at(-1);
    if (outcome.receipt && newest) {
      this.receipts.note(newest.chat, { deliveredSeq: newest.seq, readSeq: 0n }, now.ms);
    }
    if (outcome.history) this.historyDone.push({ do: "history", ...outcome.history });
    if (outcome.adopt !== undefined && this.links.link) this.disk.adopt(outcome.adopt, this.links.link.id);
  }

  // ---- disk and acks ----

  private saveToken(resumeToken: Uint8Array): void {
    if (resumeToken.length > 0 && !this.sync.adopting) this.disk.saveToken(resumeToken);
  }

  private adopted(head: bigint, link: number): void {
    if (this.links.link?.id !== link || !this.links.welcomed) return;
    this.sync.adopted();
    this.disk.adopted(head);
    this.transmit({ type: "ack", body: ACK_ADOPT });
    this.out.setPhase({ kind: "catching-up" });
  }

  private planAck(now: Now): void {
    if (!this.links.welcomed || this.sync.adopting) return;
    if (this.disk.ackDue(now.ms)) this.ack();
  }

  private ack(): void {
    const offset = this.sync.adopting ? undefined : this.disk.takeAck();
    if (offset !== undefined) this.transmit({ type: "ack", body: offset });
  }

  private ping(now: Now, answerMs: number): void {
    const offset = this.sync.adopting ? undefined : this.disk.takeAck();
    const clientTimeMs = now.wallMs;
    this.transmit({ type: "ping", body: offset === undefined ? { clientTimeMs } : { clientTimeMs, offset } });
    this.pongByMs = now.ms + answerMs;
    this.pingAtMs = now.ms + this.heartbeatMs;
  }

  private sendWatch(): void {
    this.watchAtMs = undefined;
    this.transmit({ type: "watch", body: this.watch });
  }

  /** The connection is gone: what was true of it no longer is. */
  private dropped(): void {
    this.live = false;
    this.pingAtMs = undefined;
    this.pongByMs = undefined;
    this.watchAtMs = undefined;
    this.typingAtMs.clear();
    this.disk.disconnected();
    this.outbox.disconnected();
    this.sync.disconnected();
    this.inbox.disconnected();
    this.receipts.disconnected();
  }

  // ---- end of every input ----

  private finish(now: Now): void {
    // Not only when the disk reports: a replay may bring what it has already.
    this.planAck(now);
    if (this.links.welcomed) {
      if (this.listRefreshAtMs !== undefined && now.ms >= this.listRefreshAtMs) {
        this.listRefreshAtMs = undefined;
        this.sync.refreshList();
      }
      for (const body of this.sync.takeDue(now.ms)) this.transmit({ type: "sync", body });
      for (const body of this.receipts.takeDue(now.ms)) this.transmit({ type: "receipt", body });
    }
    if (this.live) {
      for (const body of this.outbox.takeDue(now.ms)) this.transmit({ type: "send", body });
    }
    const written = this.disk.takeBatch(this.sync.adopting);
    if (written) this.out.push({ do: "store", ...written });
    this.out.push(...this.historyDone.splice(0));
  }

  private transmit(frame: ClientFrame, link = this.links.link): void {
    this.out.transmit(frame, link);
  }
}
