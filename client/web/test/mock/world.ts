//! A small server for tests: the protocol of docs/protocol.md over arrays in memory. It has no
//! clock and no socket; time and bytes are arguments. It is a peer for tests, not a second gateway.

import { decodeClientFrames, encodeFrame } from "../../src/protocol/frames";
import type { ClientFrame, ServerFrame } from "../../src/protocol/frames";
import { dmUsers, hex } from "../../src/protocol/ids";
import { encodeRecord, MESSAGE_MEMBERSHIP } from "../../src/protocol/layout";
import type { MessageRecord, Send } from "../../src/protocol/layout";
import { ACK_ADOPT } from "../../src/protocol/limits";
import { decodeText, encodeText } from "../../src/protocol/proto";
import type { ChatSummary, ReceiptUpdate, SendResult, Sync, SyncPage } from "../../src/protocol/schema";

type Delivery =
  | { is: "message"; record: MessageRecord; resultFor: string | undefined; duplicate: boolean }
  | { is: "error"; device: string; chat: string; id: Uint8Array; code: number }
  | { is: "receipt"; update: Omit<ReceiptUpdate, "offset"> };

interface Chat {
  name: string;
  records: MessageRecord[];
  admins: Set<string>;
  /** Joined at this ordinal, left at that one. */
  members: Map<string, { from: number; to: number }>;
  marks: Map<string, { delivered: bigint; read: bigint }>;
  /** Of a group in relaxed order: the chats that its messages are dealt out to, itself the first. */
  lanes: string[];
}

export interface GroupOp {
  op: "create" | "add" | "remove" | "leave" | "update" | "admin" | "order";
  lanes?: number;
  users?: string[];
  name?: string;
  admin?: boolean;
}

/** A change of the world, as it is written to the journal. */
export type Op =
  | { op: "user"; user: string; name: string }
  | { op: "send"; user: string; device: string; send: Send; at: number }
  | { op: "receipt"; user: string; chat: string; delivered: bigint; read: bigint; at: number }
  | { op: "group"; user: string; chat: string; change: GroupOp; at: number };

export interface Conn {
  send(bytes: Uint8Array): void;
  close(code: number, reason: string): void;
  user: string;
  device: string;
  /** Next offset to send; undefined before Welcome or before the head is adopted. */
  next: bigint | undefined;
  acked: bigint;
  watchUsers: string[];
  watchChats: string[];
}

const GENERATION = 1n << 48n;

export class World {
  readonly users = new Map<string, string>();
  readonly chats = new Map<string, Chat>();
  readonly conns = new Set<Conn>();
  private readonly logs = new Map<string, Delivery[]>();
  private readonly sent = new Map<string, MessageRecord>();
  private readonly lastSeen = new Map<string, number>();
  private records = 0n;
  /** Frames that clients sent, for assertions. */
  readonly seen: { user: string; device: string; frame: ClientFrame }[] = [];

  // ---- switches for tests ----
  neverRecover = false;
  /** Offsets whose Deliver is left out of the stream of a user. */
  readonly dropDeliver = new Set<string>();
  /** Codes that the next Sends get by the edge. */
  readonly nextErrors: number[] = [];
  holdResults = false;
  heartbeatMs = 30_000;
  /** Where so many Hellos are sent that allow it. */
  redirect = { url: "", times: 0 };
  journal: (op: Op) => void = () => {};

  constructor(public now: () => number) {}

  // ---- the durable part: every change is an op ----

  commit(op: Op): string | undefined {
    const error = this.apply(op);
    this.journal(op);
    this.pump();
    return error;
  }

  apply(op: Op): string | undefined {
    if (op.op === "user") this.users.set(op.user, op.name);
    else if (op.op === "send") this.applySend(op.user, op.device, op.send, op.at);
    else if (op.op === "receipt") this.applyReceipt(op);
    else return this.applyGroup(op.user, op.chat, op.change, op.at);
    return undefined;
  }

  private log(user: string): Delivery[] {
    let log = this.logs.get(user);
    if (!log) this.logs.set(user, (log = []));
    return log;
  }

  chat(id: string): Chat | undefined {
    const known = this.chats.get(id);
    if (known) return known;
    const pair = dmUsers(id);
    if (!pair?.every((user) => this.users.has(user))) return undefined;
    const interval = { from: 0, to: Number.MAX_SAFE_INTEGER };
    const members = new Map(pair.map((user) => [user, interval]));
    const chat = { name: "", records: [], admins: new Set<string>(), members, marks: new Map(), lanes: [] };
    this.chats.set(id, chat);
    return chat;
  }

  private isMember(chat: Chat | undefined, user: string): chat is Chat {
    const interval = chat?.members.get(user);
    return interval !== undefined && interval.to === Number.MAX_SAFE_INTEGER;
  }

  private present(chat: Chat): string[] {
    return [...chat.members.keys()].filter((user) => this.isMember(chat, user));
  }

  private append(chatId: string, chat: Chat, from: Send & { user: string; device: string }, at: number): MessageRecord {
    this.records += 1n;
    const messageId = new Uint8Array(16);
    new DataView(messageId.buffer).setBigUint64(8, this.records);
    const record: MessageRecord = {
      seq: GENERATION + this.records,
      prevSeq: chat.records.at(-1)?.seq ?? 0n,
      ordinal: chat.records.length + 1,
      messageId,
      clientMsgId: from.clientMsgId,
      sendTsMs: from.sendTsMs,
      storedTsMs: at,
      messageType: from.messageType,
      flags: 0,
      chat: chatId,
      sender: from.user,
      senderDevice: from.device,
      body: from.body,
    };
    chat.records.push(record);
    return record;
  }

  private applySend(user: string, device: string, sent: Send, at: number): void {
    const lanes = this.chat(sent.chat)?.lanes ?? [];
    const send = { ...sent, chat: lanes[(sent.clientMsgId[15] ?? 0) % lanes.length] ?? sent.chat };
    const chat = this.chat(send.chat);
    const key = `${user} ${device} ${send.chat} ${hex(send.clientMsgId)}`;
    if (!this.isMember(chat, user)) {
      this.log(user).push({ is: "error", device, chat: send.chat, id: send.clientMsgId, code: 30 });
      return;
    }
    const before = this.sent.get(key);
    if (before) {
      this.log(user).push({ is: "message", record: before, resultFor: device, duplicate: true });
      return;
    }
    const record = this.append(send.chat, chat, { ...send, user, device }, at);
    this.sent.set(key, record);
    for (const member of this.present(chat)) {
      const resultFor = member === user ? device : undefined;
      this.log(member).push({ is: "message", record, resultFor, duplicate: false });
    }
  }

  private applyReceipt(op: Op & { op: "receipt" }): void {
    const chat = this.chat(op.chat);
    if (!this.isMember(chat, op.user)) return;
    const old = chat.marks.get(op.user) ?? { delivered: 0n, read: 0n };
    const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);
    const delivered = max(max(old.delivered, op.delivered), op.read);
    const read = max(old.read, op.read);
    if (delivered === old.delivered && read === old.read) return;
    chat.marks.set(op.user, { delivered, read });
    const update = { chat: op.chat, user: op.user, deliveredSeq: delivered, readSeq: read, tsMs: op.at };
    for (const member of this.present(chat)) this.log(member).push({ is: "receipt", update });
  }

  private applyGroup(user: string, id: string, change: GroupOp, at: number): string | undefined {
    let chat = this.chats.get(id);
    if (change.op === "create") {
      chat = { name: "", records: [], admins: new Set([user]), members: new Map(), marks: new Map(), lanes: [] };
      this.chats.set(id, chat);
    } else if (!this.isMember(chat, user)) return "not_found";
    else if (change.op !== "leave" && !chat.admins.has(user)) return "forbidden";
    const before = this.present(chat);
    const from = chat.records.length;
    const users = change.op === "create" ? [user, ...(change.users ?? [])] : (change.users ?? []);
    const gone = change.op === "leave" ? [user] : change.op === "remove" ? users : [];
    if (change.op === "create" || change.op === "add") {
      for (const u of users) chat.members.set(u, { from, to: Number.MAX_SAFE_INTEGER });
    }
    for (const u of gone) {
      const interval = chat.members.get(u);
      if (interval) chat.members.set(u, { ...interval, to: from + 1 });
      chat.admins.delete(u);
    }
    if (change.name !== undefined) chat.name = change.name;
    if (change.op === "admin") for (const u of users) chat.admins[change.admin ? "add" : "delete"](u);
    if (change.op === "order") this.beginLanes(id, chat, change.lanes ?? 0);
    const body = encodeText(JSON.stringify({ ...change, users: gone.length > 0 ? gone : users, count: users.length }));
    const clientMsgId = new Uint8Array(16);
    new DataView(clientMsgId.buffer).setBigUint64(8, this.records + 1n);
    const send = { clientMsgId, sendTsMs: at, messageType: MESSAGE_MEMBERSHIP, retry: false, chat: id, body };
    const record = this.append(id, chat, { ...send, user, device: "api" }, at);
    for (const member of new Set([...this.present(chat), ...(gone.length > 0 ? before : [])])) {
      this.log(member).push({ is: "message", record, resultFor: undefined, duplicate: false });
    }
    for (const lane of chat.lanes.slice(1)) this.applyGroup(user, lane, { ...change, lanes: 0 }, at);
    return undefined;
  }

  /** At once, where a real group waits for all to have heard of it. */
  private beginLanes(id: string, chat: Chat, count: number): void {
    chat.lanes = Array.from({ length: count }, (_, k) => (k === 0 ? id : `${id}#${k}`));
    const interval = { from: 0, to: Number.MAX_SAFE_INTEGER };
    for (const lane of chat.lanes.slice(1)) {
      const members = new Map(this.present(chat).map((user) => [user, interval]));
      this.chats.set(lane, { name: chat.name, records: [], admins: new Set(chat.admins), members, marks: new Map(), lanes: [] });
    }
  }

  // ---- connections ----

  connect(send: Conn["send"], close: Conn["close"]): Conn {
    const conn: Conn = {
      send,
      close,
      user: "",
      device: "",
      next: undefined,
      acked: -1n,
      watchUsers: [],
      watchChats: [],
    };
    this.conns.add(conn);
    return conn;
  }

  disconnect(conn: Conn): void {
    if (!this.conns.delete(conn) || conn.user === "") return;
    this.lastSeen.set(conn.user, this.now());
    this.announce(conn.user);
  }

  receive(conn: Conn, bytes: Uint8Array): void {
    for (const frame of decodeClientFrames(bytes)) {
      this.seen.push({ user: conn.user, device: conn.device, frame });
      this.handle(conn, frame);
    }
  }

  private reply(conn: Conn, frame: ServerFrame): void {
    conn.send(encodeFrame(frame));
  }

  private handle(conn: Conn, frame: ClientFrame): void {
    const { user, device } = conn;
    const at = this.now();
    switch (frame.type) {
      case "hello":
        return this.hello(conn, frame.body as { token: string; device: string; lastOffset?: bigint; redirectNever?: boolean });
      case "send":
        return this.handleSend(conn, frame.body);
      case "ack":
        return this.ack(conn, frame.body);
      case "receipt": {
        const { chat = "", deliveredSeq = 0n, readSeq = 0n } = frame.body;
        this.commit({ op: "receipt", user, chat, delivered: deliveredSeq, read: readSeq, at });
        return;
      }
      case "typing":
        return this.typing(user, frame.body.chat ?? "", frame.body.stopped ?? false);
      case "watch":
        conn.watchUsers = frame.body.users ?? [];
        conn.watchChats = frame.body.chats ?? [];
        for (const watched of conn.watchUsers) this.tellPresence(conn, watched);
        return;
      case "sync":
        return this.reply(conn, { type: "syncPage", body: this.page(user, frame.body as Sync) });
      case "ping":
        if (frame.body.offset !== undefined) this.ack(conn, frame.body.offset);
        return this.reply(conn, {
          type: "pong",
          body: { clientTimeMs: frame.body.clientTimeMs ?? 0, serverTimeMs: at, lag: 0, resumeToken: new Uint8Array() },
        });
      case "refreshToken":
        return this.reply(conn, { type: "tokenAccepted", body: { expiresAtMs: at + 3_600_000 } });
      case "bye":
        this.disconnect(conn);
        return conn.close(1000, "bye");
      default:
        device satisfies string;
    }
  }

  private hello(
    conn: Conn,
    hello: { token: string; device: string; lastOffset?: bigint; redirectNever?: boolean },
  ): void {
    if (this.redirect.times > 0 && hello.redirectNever !== true) {
      this.redirect.times -= 1;
      const body = { url: this.redirect.url, mapVersion: 1, jitterMs: 10 };
      return conn.send(encodeFrame({ type: "redirect", body }));
    }
    const [user, device] = hello.token.split("/");
    if (!user || !this.users.has(user) || device !== hello.device) return conn.close(4001, "bad_token");
    for (const other of this.conns) {
      if (other === conn || other.user !== user || other.device !== device) continue;
      this.conns.delete(other);
      other.close(4301, "displaced");
    }
    conn.user = user;
    conn.device = device;
    const head = BigInt(this.log(user).length);
    const last = hello.lastOffset;
    const recovered = !this.neverRecover && last !== undefined && last < head;
    this.reply(conn, {
      type: "welcome",
      body: {
        session: "s",
        user,
        device,
        serverTimeMs: this.now(),
        generation: 1,
        partition: 0,
        recovered,
        head,
        resumeToken: Uint8Array.of(1, Number(head % 256n)),
        heartbeatMs: this.heartbeatMs,
        mapVersion: 1,
        tokenExpiresAtMs: this.now() + 3_600_000,
        limits: undefined,
        node: "test",
      },
    });
    this.announce(user);
    if (recovered) this.goLive(conn, last + 1n, true);
    else conn.acked = head - 1n;
  }

  private goLive(conn: Conn, from: bigint, replayed: boolean): void {
    conn.next = from;
    conn.acked = from - 1n;
    this.stream(conn, replayed);
    const offset = BigInt(this.log(conn.user).length);
    this.reply(conn, { type: "caughtUp", body: { offset, resumeToken: Uint8Array.of(2, Number(offset % 256n)) } });
  }

  private ack(conn: Conn, offset: bigint): void {
    if (offset === ACK_ADOPT) return this.goLive(conn, conn.acked + 1n, false);
    if (conn.next === undefined || offset >= conn.next) return conn.close(4005, "ack_ahead");
    const log = this.log(conn.user);
    const newest = new Map<string, bigint>();
    for (let o = conn.acked + 1n; o <= offset; o += 1n) {
      const entry = log[Number(o)];
      if (entry?.is === "message" && entry.record.sender !== conn.user) newest.set(entry.record.chat, entry.record.seq);
    }
    if (offset > conn.acked) conn.acked = offset;
    for (const [chat, delivered] of newest) {
      this.commit({ op: "receipt", user: conn.user, chat, delivered, read: 0n, at: this.now() });
    }
  }

  private handleSend(conn: Conn, send: Send): void {
    const code = this.nextErrors.shift();
    if (code !== undefined) {
      const body = { code, text: "", retryAfterMs: 50, clientMsgId: send.clientMsgId, frameType: 2 };
      return this.reply(conn, { type: "error", body });
    }
    this.reply(conn, { type: "queued", body: { clientMsgId: send.clientMsgId } });
    this.commit({ op: "send", user: conn.user, device: conn.device, send, at: this.now() });
  }

  /** Sends to every live session what its log has for it. */
  pump(): void {
    for (const conn of this.conns) if (conn.next !== undefined) this.stream(conn, false);
  }

  private stream(conn: Conn, replayed: boolean): void {
    const log = this.log(conn.user);
    while (conn.next !== undefined && conn.next < BigInt(log.length)) {
      const offset = conn.next;
      conn.next += 1n;
      const frame = this.deliveryFrame(conn, offset, log[Number(offset)] as Delivery, replayed);
      if (frame && !this.dropDeliver.has(`${conn.user} ${offset}`)) this.reply(conn, frame);
    }
  }

  private deliveryFrame(conn: Conn, offset: bigint, entry: Delivery, replayed: boolean): ServerFrame | undefined {
    if (entry.is === "receipt") return { type: "receiptUpdate", body: { offset, ...entry.update } };
    if (entry.is === "error") {
      return entry.device === conn.device
        ? { type: "sendResult", body: { ...this.noResult(entry.id, entry.chat), offset, error: entry.code } }
        : undefined;
    }
    const { record, resultFor, duplicate } = entry;
    if (resultFor === conn.device) {
      if (this.holdResults) return undefined;
      const { seq, prevSeq, ordinal, messageId, storedTsMs, clientMsgId, chat } = record;
      const place = { seq, prevSeq, ordinal, messageId, storedTsMs, duplicate };
      return { type: "sendResult", body: { ...this.noResult(clientMsgId, chat), ...place, offset } };
    }
    if (duplicate) return undefined;
    return { type: "deliver", body: { offset, replayed, ackLater: false, envelope: new Uint8Array(), record }, bytes: 0 };
  }

  private noResult(clientMsgId: Uint8Array, chat: string): SendResult {
    return {
      offset: 0n,
      clientMsgId,
      chat,
      error: 0,
      messageId: new Uint8Array(),
      seq: 0n,
      prevSeq: 0n,
      ordinal: 0,
      storedTsMs: 0,
      text: "",
      retryAfterMs: 0,
      duplicate: false,
    };
  }

  // ---- what is never stored ----

  private typing(user: string, chat: string, stopped: boolean): void {
    if (!this.isMember(this.chat(chat), user)) return;
    for (const conn of this.conns) {
      if (conn.user === user || !conn.watchChats.includes(chat)) continue;
      this.reply(conn, { type: "typingUpdate", body: { chat, user, stopped, expiresInMs: 5_000 } });
    }
  }

  private announce(user: string): void {
    for (const conn of this.conns) if (conn.watchUsers.includes(user)) this.tellPresence(conn, user);
  }

  private tellPresence(conn: Conn, user: string): void {
    const online = [...this.conns].some((c) => c.user === user);
    const lastSeenMs = online ? 0 : (this.lastSeen.get(user) ?? 0);
    this.reply(conn, { type: "presenceUpdate", body: { user, state: online ? 1 : 2, lastSeenMs } });
  }

  // ---- sync ----

  summary(id: string, user: string): ChatSummary | undefined {
    const chat = this.chats.get(id);
    const interval = chat?.members.get(user);
    if (!chat || !interval) return undefined;
    // Of a group that was left one sees what was there until then, and not who is in it.
    const members = this.isMember(chat, user) ? this.present(chat) : [];
    const last = chat.records.filter((r) => r.ordinal <= interval.to).at(-1);
    return {
      chat: id,
      name: chat.name,
      lastSeq: last?.seq ?? 0n,
      lastOrdinal: last?.ordinal ?? 0,
      readSeq: chat.marks.get(user)?.read ?? 0n,
      members: members.map((u) => ({ user: u, admin: chat.admins.has(u) })),
      memberCount: members.length,
      visibleAfterOrdinal: interval.from,
    };
  }

  private page(user: string, sync: Sync): SyncPage {
    const empty: SyncPage = {
      syncId: sync.syncId ?? 0,
      chat: sync.chat ?? "",
      records: [],
      more: false,
      nextOrdinal: 0,
      truncatedBefore: 0,
      watermarks: [],
      chats: [],
      nextCursor: "",
      error: 0,
      text: "",
    };
    if (empty.chat === "") {
      const chats = [...this.chats.keys()].map((id) => this.summary(id, user)).filter((c) => c !== undefined);
      return { ...empty, chats: chats.filter((c) => c.lastOrdinal > 0) };
    }
    const chat = this.chat(empty.chat);
    const interval = chat?.members.get(user);
    if (!chat || !interval) return { ...empty, error: 30 };
    const visible = chat.records.filter((r) => r.ordinal > interval.from && r.ordinal <= interval.to);
    const after = sync.afterOrdinal ?? 0;
    const limit = sync.limit || 64;
    const matching = sync.backwards
      ? visible.filter((r) => after === 0 || r.ordinal < after)
      : visible.filter((r) => r.ordinal > after);
    const records = sync.backwards ? matching.slice(-limit) : matching.slice(0, limit);
    const watermarks = [...chat.marks].map(([u, m]) => ({ user: u, deliveredSeq: m.delivered, readSeq: m.read }));
    const edge = sync.backwards ? records[0] : records.at(-1);
    return {
      ...empty,
      records: records.map(encodeRecord),
      more: matching.length > records.length,
      nextOrdinal: edge?.ordinal ?? after,
      watermarks,
    };
  }

  // ---- for assertions ----

  texts(chat: string): string[] {
    return (this.chats.get(chat)?.records ?? []).filter((r) => r.messageType === 1).map((r) => decodeText(r.body));
  }

  drop(user: string, code = 1006): void {
    for (const conn of [...this.conns]) {
      if (conn.user !== user) continue;
      this.disconnect(conn);
      conn.close(code, "");
    }
  }
}
