//! What the page shows and what a person can do: the state between the driver, the disk and the components. It
//! changes in place; components are told that something has changed.

import { ApiError, demoUsers } from "../api/api";
import type { Groups } from "../api/api";
import { dmPeer, hex, isGroup } from "../protocol/ids";
import { baseOf } from "../protocol/lanes";
import { MESSAGE_TEXT } from "../protocol/layout";
import { BODY_BYTES_MAX, WATCH_CHATS_MAX } from "../protocol/limits";
import { encodeText } from "../protocol/proto";
import { PRESENCE_ONLINE } from "../protocol/schema";
import type { Session } from "../session/session";
import type { Batch, Effect, Now, PendingSend, Phase } from "../session/types";
import { newChatRow } from "../store/rows";
import type { ChatRow, MarkRow, MessageRow } from "../store/rows";
import type { Loaded, Store, Written } from "../store/store";
import { conversations, isShown } from "./conversations";
import type { ChatEntry } from "./conversations";
import { others } from "./status";
import { Timeline } from "./timeline";

/** A message of ours that is not stored by the server yet. */
export interface Outgoing {
  id: string;
  send: PendingSend;
  /** This device's disk has it: it will be sent, whatever happens to the page. */
  kept: boolean;
  /** The server's log has it. */
  accepted: boolean;
}

export interface Notice {
  no: number;
  text: string;
}

export interface Presence {
  online: boolean;
  lastSeenMs: number;
}

const NOTICES_MAX = 3;
/** A message of ours that has just been stored is among the newest so many of ours. */
const OWN_ROWS = 200;
const HISTORY_LIMIT = 60;
/** The list of people is asked for again at most this often, milliseconds. */
const PEOPLE_EVERY_MS = 5_000;

/** What the model stands on. */
export interface Links {
  input<T>(run: (session: Session, now: Now) => T): T;
  store: Store;
  groups: Groups;
  nowMs(): number;
  later(ms: number, run: () => void): void;
}

export class Model {
  phase: Phase = { kind: "stopped" };
  /** By chat id: each lane of a group has its own. */
  readonly chats = new Map<string, ChatEntry>();
  readonly names = new Map<string, string>();
  /** What people say of themselves. */
  readonly sayings = new Map<string, string>();
  readonly presence = new Map<string, Presence>();
  readonly outgoing = new Map<string, Outgoing[]>();
  timeline: Timeline | undefined;
  /** For lanes that had unread messages when the open chat was opened: the newest one that was read. */
  unreadAfter: ReadonlyMap<string, bigint> = new Map();
  notices: Notice[] = [];
  /** The disk does not take messages any more: nothing goes on. */
  diskLost = false;
  private readonly marks = new Map<string, Map<string, MarkRow>>();
  private readonly typingUntil = new Map<string, Map<string, number>>();
  private links: Links | undefined;
  private listeners = new Set<() => void>();
  private told = false;
  private lastNotice = 0;
  private peopleAtMs = -PEOPLE_EVERY_MS;

  constructor(
    readonly me: string,
    readonly device: string,
  ) {}

  // ---- wiring ----

  attach(links: Links, loaded: Loaded): void {
    this.links = links;
    for (const row of loaded.chats) {
      const unread = loaded.unread.get(row.chat) ?? 0;
      this.chats.set(row.chat, { row, newest: loaded.newest.get(row.chat), unread });
    }
    for (const mark of loaded.marks) this.putMark(mark);
    for (const send of loaded.saved.pending) this.putOutgoing(send, true);
    this.changed();
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Tells the components, once per turn. */
  private changed(): void {
    if (this.told) return;
    this.told = true;
    queueMicrotask(() => {
      this.told = false;
      for (const listener of this.listeners) listener();
    });
  }

  private get on(): Links {
    if (!this.links) throw new Error("the model is not attached");
    return this.links;
  }

  // ---- what is read ----

  marksOf(chat: string): ReadonlyMap<string, MarkRow> {
    return this.marks.get(chat) ?? new Map<string, MarkRow>();
  }

  typingIn(chat: string): string[] {
    const now = this.links?.nowMs() ?? 0;
    return [...(this.typingUntil.get(chat) ?? [])].filter(([, until]) => until > now).map(([user]) => user);
  }

  chatRow(chat: string): ChatRow {
    return this.chats.get(chat)?.row ?? newChatRow(chat);
  }

  /** Conversations with something in them, newest first; groups we left are kept for their history. */
  listed(): ChatEntry[] {
    const at = (entry: ChatEntry): number => {
      const sent = this.outgoing.get(entry.row.chat)?.at(-1)?.send.sendTsMs ?? 0;
      return Math.max(sent, entry.newest?.storedTsMs ?? 0);
    };
    const shown = conversations(this.chats.values()).filter((e) => at(e) > 0 || isGroup(e.row.chat));
    return shown.sort((a, b) => at(b) - at(a) || (a.row.chat < b.row.chat ? -1 : 1));
  }

  /** Messages of ours in the open chat that are not among its stored ones, whichever lane those are in. */
  waiting(): Outgoing[] {
    const { chat = "", rows = [] } = this.timeline ?? {};
    const stored = new Set(rows.filter((row) => row.sender === this.me).slice(-OWN_ROWS).map((row) => row.clientMsgId));
    return (this.outgoing.get(chat) ?? []).filter((entry) => !stored.has(entry.id));
  }

  unreadChats(): number {
    return conversations(this.chats.values()).filter((entry) => entry.unread > 0).length;
  }

  mayWrite(chat: string): boolean {
    return !this.chatRow(chat).gone;
  }

  // ---- what a person does ----

  start(): void {
    this.on.input((s, now) => s.start(now));
    this.watch();
    void this.loadPeople();
  }

  async open(chat: string | undefined): Promise<void> {
    if (chat === this.timeline?.chat) return;
    if (chat === undefined) {
      this.timeline = undefined;
      this.changed();
      return;
    }
    const source = {
      pages: this.on.store,
      ask: (id: string, before: number) => this.on.input((s, now) => s.history(id, before, HISTORY_LIMIT, now)),
      visibleAfter: (id: string) => this.chatRow(id).visibleAfterOrdinal,
    };
    const lanes = [...this.chats.values()].filter((entry) => baseOf(entry.row.chat) === chat);
    const timeline = new Timeline(chat, lanes.map((entry) => entry.row.chat), source, () => this.changed());
    this.timeline = timeline;
    this.unreadAfter = new Map();
    this.watch();
    const unread = lanes.filter((entry) => entry.unread > 0).map((entry) => entry.row.chat);
    const read = await Promise.all(unread.map(async (lane) => [lane, await this.on.store.readSeq(lane)] as const));
    if (this.timeline !== timeline) return;
    this.unreadAfter = new Map(read);
    // A new 1:1 chat that nobody has written in has no history to ask for.
    if (!this.chats.has(chat) && !isGroup(chat) && this.phase.kind === "live") timeline.begins();
    await timeline.open();
    this.changed();
  }

  async older(): Promise<void> {
    const { timeline } = this;
    if (!timeline) return;
    const reading = timeline.older();
    this.changed();
    await reading;
    this.changed();
  }

  /** Sends a text in the open chat; false when it cannot be. */
  say(chat: string, text: string): boolean {
    const body = encodeText(text);
    if (text.trim() === "" || !this.mayWrite(chat) || this.diskLost) return false;
    if (body.length > BODY_BYTES_MAX) {
      this.notice("The message is too long.");
      return false;
    }
    if (!this.chats.has(chat)) this.chats.set(chat, { row: newChatRow(chat), newest: undefined, unread: 0 });
    this.typing(chat, false);
    const send = this.on.input((s, now) => s.submit(chat, MESSAGE_TEXT, body, now));
    this.putOutgoing(send, false);
    this.unreadAfter = new Map();
    this.changed();
    return true;
  }

  typing(chat: string, writes: boolean): void {
    this.on.input((s, now) => s.typing(chat, !writes, now));
  }

  /** Sends a refused message once more, as a new one. */
  again(entry: Outgoing): void {
    this.discard(entry);
    const { chat, messageType, body } = entry.send;
    this.putOutgoing(this.on.input((s, now) => s.submit(chat, messageType, body, now)), false);
    this.changed();
  }

  discard(entry: Outgoing): void {
    this.dropOutgoing(entry.id);
    this.on.input((s, now) => s.discard(entry.id, now));
    this.changed();
  }

  /** The open chat has been seen to its end, in every lane. */
  async readAll(): Promise<void> {
    const read = (this.timeline?.newest() ?? []).flatMap(({ chat, seq }) => {
      const entry = this.chats.get(chat);
      return entry && entry.unread > 0 ? { entry, chat, seq } : [];
    });
    for (const { entry } of read) entry.unread = 0;
    if (read.length > 0) this.changed();
    for (const { entry, chat, seq } of read) {
      entry.unread = await this.on.store.setRead(chat, seq);
      this.on.input((s, now) => s.read(chat, seq, now));
      this.changed();
    }
  }

  nudge(): void {
    this.links?.input((s, now) => s.nudge(now));
  }

  /** Takes the device back from the other place that has it. */
  takeBack(): void {
    this.on.input((s, now) => s.start(now));
  }

  stop(): void {
    this.on.input((s, now) => s.stop(now));
  }

  notice(text: string): void {
    if (text === "" || this.notices.some((n) => n.text === text)) return;
    this.lastNotice += 1;
    const no = this.lastNotice;
    this.notices = [...this.notices, { no, text }].slice(-NOTICES_MAX);
    this.changed();
    this.links?.later(6_000, () => this.dismiss(no));
  }

  dismiss(no: number): void {
    this.notices = this.notices.filter((n) => n.no !== no);
    this.changed();
  }

  /** Carries out a group operation; says what went wrong. */
  async group<T>(run: (groups: Groups) => Promise<T>): Promise<T | undefined> {
    try {
      const result = await run(this.on.groups);
      this.on.input((s, now) => s.refreshChats(now));
      return result;
    } catch (error) {
      this.notice(error instanceof ApiError ? error.message : "That did not work.");
      return undefined;
    }
  }

  async loadPeople(): Promise<void> {
    const now = this.links?.nowMs() ?? 0;
    if (now - this.peopleAtMs < PEOPLE_EVERY_MS) return;
    this.peopleAtMs = now;
    try {
      for (const { user, name, status } of await demoUsers()) {
        this.names.set(user, name);
        this.sayings.set(user, status);
      }
      this.watch();
      this.changed();
    } catch {
      this.peopleAtMs = -PEOPLE_EVERY_MS; // names are a nicety: ids are shown meanwhile
    }
  }

  // ---- what the driver tells ----

  effect(effect: Effect): void {
    switch (effect.do) {
      case "phase":
        this.phase = effect.phase;
        if (effect.phase.kind === "live") void this.loadPeople();
        else if (effect.phase.kind !== "catching-up" && effect.phase.kind !== "syncing") this.unknown();
        break;
      case "typing": {
        const { chat, user, stopped, expiresInMs } = effect.update;
        this.setTyping(baseOf(chat), user, stopped ? 0 : expiresInMs);
        break;
      }
      case "presence": {
        const { user, state, lastSeenMs } = effect.update;
        this.presence.set(user, { online: state === PRESENCE_ONLINE, lastSeenMs });
        break;
      }
      case "queued":
        this.setAccepted(effect.id);
        break;
      case "history":
        void this.timeline?.answered(effect.chat, effect.atStart).then(() => this.changed());
        break;
      case "problem":
        this.notice(effect.text);
        break;
      default:
    }
    this.changed();
  }

  /** A batch is on the disk. */
  written(batch: Batch, written: Written): void {
    for (const id of batch.pendingDelete) this.dropOutgoing(id);
    for (const send of batch.pendingPut) {
      if (!batch.pendingDelete.includes(hex(send.id))) this.putOutgoing(send, true);
    }
    for (const row of written.chats) this.putChat(row);
    for (const row of written.fresh) this.newest(row);
    for (const mark of written.marks) this.putMark(mark);
    for (const [chat, unread] of written.unread) {
      const entry = this.chats.get(chat);
      if (entry) entry.unread = unread;
    }
    this.timeline?.add(written.fresh);
    if (written.chats.length > 0) this.watch();
    if (written.chats.some((row) => row.members.some((m) => !this.names.has(m.user)))) void this.loadPeople();
    this.changed();
  }

  diskFailed(): void {
    this.diskLost = true;
    this.changed();
  }

  // ---- keeping the state ----

  /** Without a connection nobody knows who is there. The server tells it again after the next Welcome. */
  private unknown(): void {
    this.presence.clear();
    this.typingUntil.clear();
  }

  private putChat(row: ChatRow): void {
    const old = this.chats.get(row.chat);
    this.chats.set(row.chat, { unread: 0, newest: undefined, ...old, row });
  }

  private newest(row: MessageRow): void {
    const entry = this.chats.get(row.chat);
    if (entry && isShown(row) && (!entry.newest || row.key > entry.newest.key)) entry.newest = row;
    this.setTyping(baseOf(row.chat), row.sender, 0);
    const peer = dmPeer(row.chat, this.me);
    if (peer !== undefined && !this.names.has(peer)) void this.loadPeople();
  }

  private putMark(mark: MarkRow): void {
    const marks = this.marks.get(mark.chat) ?? new Map<string, MarkRow>();
    // A new map: a bubble that has not changed its marks is not drawn again.
    this.marks.set(mark.chat, new Map(marks).set(mark.user, mark));
  }

  private putOutgoing(send: PendingSend, kept: boolean): void {
    const { chat } = send;
    if (!this.chats.has(chat)) this.chats.set(chat, { row: newChatRow(chat), newest: undefined, unread: 0 });
    const list = this.outgoing.get(chat) ?? [];
    const id = hex(send.id);
    const at = list.findIndex((o) => o.id === id);
    const entry = { id, send, kept, accepted: at >= 0 && send.failed === undefined && list[at]?.accepted === true };
    this.outgoing.set(chat, at >= 0 ? list.with(at, entry) : [...list, entry]);
  }

  private dropOutgoing(id: string): void {
    for (const [chat, list] of this.outgoing) {
      if (list.some((o) => o.id === id)) this.outgoing.set(chat, list.filter((o) => o.id !== id));
    }
  }

  private setAccepted(id: string): void {
    for (const [chat, list] of this.outgoing) {
      if (list.some((o) => o.id === id)) {
        this.outgoing.set(chat, list.map((o) => (o.id === id ? { ...o, accepted: true } : o)));
      }
    }
  }

  private setTyping(chat: string, user: string, forMs: number): void {
    const until = this.typingUntil.get(chat) ?? new Map<string, number>();
    this.typingUntil.set(chat, until);
    if (forMs <= 0) {
      until.delete(user);
      return;
    }
    until.set(user, this.on.nowMs() + forMs);
    this.on.later(forMs + 50, () => this.changed());
  }

  /** Watches the open chat, those written in last, and everybody in them. */
  private watch(): void {
    const recent = this.listed().filter((e) => !e.row.gone).map((e) => e.row.chat);
    const open = this.timeline?.chat;
    const chats = [...new Set(open === undefined ? recent : [open, ...recent])].slice(0, WATCH_CHATS_MAX).sort();
    const users = new Set(chats.flatMap((chat) => others(this.chatRow(chat), this.me)));
    for (const user of this.names.keys()) if (user !== this.me) users.add(user);
    this.on.input((s, now) => s.setWatch([...users].sort(), chats, now));
  }
}
