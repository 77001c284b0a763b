//! The device's disk: one IndexedDB database per (user, device). A batch of the session is one
//! transaction, so a message, the cursor past it and the end of its pending send are one fact.

import { hex, seqKey, unhex } from "../protocol/ids";
import type { Batch, Cursor, PendingSend, Saved, Track } from "../session/types";
import { applyMessage, applySummary, mergeMark, messageRow, newChatRow } from "./rows";
import type { ChatRow, MarkRow, MessageRow } from "./rows";

/** Raised when the rows change shape; an older database is then migrated in open(). */
const VERSION = 1;
/** Unread messages are counted up to this; the badge then says "99+". */
export const UNREAD_COUNT_MAX = 100;

interface PendingRow {
  no?: number;
  id: string;
  send: PendingSend;
}

/** What a program starts with. */
export interface Loaded {
  saved: Saved;
  chats: ChatRow[];
  marks: MarkRow[];
  newest: Map<string, MessageRow>;
  unread: Map<string, number>;
}

/** What a write has changed, as it now is on the disk. */
export interface Written {
  /** Messages that were not there before. */
  fresh: MessageRow[];
  chats: ChatRow[];
  marks: MarkRow[];
  unread: Map<string, number>;
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("the request failed"));
  });
}

function committed(tx: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    tx.oncomplete = () => resolve();
    tx.onabort = () => reject(tx.error ?? new Error("the transaction was aborted"));
    tx.onerror = () => reject(tx.error ?? new Error("the transaction failed"));
  });
}

function create(db: IDBDatabase): void {
  db.createObjectStore("messages", { keyPath: ["chat", "key"] });
  db.createObjectStore("chats", { keyPath: "chat" });
  db.createObjectStore("marks", { keyPath: ["chat", "user"] });
  db.createObjectStore("tracks");
  db.createObjectStore("reads");
  db.createObjectStore("meta");
  const pending = db.createObjectStore("pending", { keyPath: "no", autoIncrement: true });
  pending.createIndex("id", "id", { unique: true });
}

export class Store {
  private constructor(
    private readonly db: IDBDatabase,
    private readonly me: string,
  ) {}

  static async open(factory: IDBFactory, user: string, device: string): Promise<Store> {
    const request = factory.open(`hawser-${user}-${device}`, VERSION);
    request.onupgradeneeded = () => create(request.result);
    return new Store(await done(request), user);
  }

  close(): void {
    this.db.close();
  }

  /** Runs when the browser takes the database away (storage cleared, a newer page). */
  onLost(lost: () => void): void {
    this.db.onversionchange = () => {
      this.db.close();
      lost();
    };
    this.db.onclose = lost;
  }

  // ---- writing ----

  async write(batch: Batch): Promise<Written> {
    const tx = this.db.transaction(
      ["messages", "chats", "marks", "tracks", "reads", "meta", "pending"],
      "readwrite",
      { durability: "strict" },
    );
    const end = committed(tx);
    end.catch(() => {}); // awaited below; a failed step must not leave it unhandled
    const written: Written = { fresh: [], chats: [], marks: [], unread: new Map() };
    const chats = new Map<string, ChatRow>();
    await this.writeMessages(tx, batch, chats, written);
    await this.writeChats(tx, batch, chats);
    await this.writeMarks(tx, batch, written);
    await this.writePending(tx, batch);
    for (const [chat, track] of batch.tracks) tx.objectStore("tracks").put(track, chat);
    if (batch.cursor) tx.objectStore("meta").put(batch.cursor, "cursor");
    else if (batch.cursor === null) tx.objectStore("meta").delete("cursor");
    if (batch.skewMs !== undefined) tx.objectStore("meta").put(batch.skewMs, "skewMs");
    for (const row of chats.values()) tx.objectStore("chats").put(row);
    written.chats = [...chats.values()];
    const own = written.marks.filter((m) => m.user === this.me).map((m) => m.chat);
    for (const chat of new Set([...written.fresh.map((row) => row.chat), ...own])) {
      written.unread.set(chat, await this.countUnread(tx, chat));
    }
    await end;
    return written;
  }

  private async chatRow(tx: IDBTransaction, chats: Map<string, ChatRow>, chat: string): Promise<ChatRow> {
    const touched = chats.get(chat);
    if (touched) return touched;
    const row = (await done(tx.objectStore("chats").get(chat))) as ChatRow | undefined;
    return row ?? newChatRow(chat);
  }

  private async writeMessages(tx: IDBTransaction, batch: Batch, chats: Map<string, ChatRow>, written: Written): Promise<void> {
    const messages = tx.objectStore("messages");
    for (const record of batch.records) {
      const row = messageRow(record);
      if ((await done(messages.getKey([row.chat, row.key]))) !== undefined) continue;
      messages.put(row);
      written.fresh.push(row);
      const chat = await this.chatRow(tx, chats, row.chat);
      chats.set(row.chat, applyMessage(chat, row, this.me));
    }
  }

  private async writeChats(tx: IDBTransaction, batch: Batch, chats: Map<string, ChatRow>): Promise<void> {
    for (const summary of batch.chats) {
      const row = await this.chatRow(tx, chats, summary.chat);
      chats.set(summary.chat, applySummary(row, summary));
    }
    if (!batch.chatListComplete) return;
    const listed = new Set(batch.chatListComplete);
    const all = (await done(tx.objectStore("chats").getAll())) as ChatRow[];
    for (const row of all) {
      // A group that is not in the list is no longer ours. (A 1:1 chat stays one for ever.)
      if (row.chat.startsWith("g:") && !listed.has(row.chat) && !chats.has(row.chat) && !row.gone) {
        chats.set(row.chat, { ...row, gone: true });
      }
    }
  }

  private async writeMarks(tx: IDBTransaction, batch: Batch, written: Written): Promise<void> {
    const marks = tx.objectStore("marks");
    const own = batch.chats
      .filter((summary) => summary.readSeq > 0n)
      .map(({ chat, readSeq }) => ({ chat, user: this.me, deliveredSeq: 0n, readSeq }));
    for (const mark of [...batch.marks, ...own]) {
      const old = (await done(marks.get([mark.chat, mark.user]))) as MarkRow | undefined;
      const merged = mergeMark(old, mark);
      if (old && merged.deliveredSeq === old.deliveredSeq && merged.readSeq === old.readSeq) continue;
      marks.put(merged);
      written.marks.push(merged);
    }
  }

  private async writePending(tx: IDBTransaction, batch: Batch): Promise<void> {
    const pending = tx.objectStore("pending");
    for (const id of batch.pendingDelete) {
      const no = await done(pending.index("id").getKey(id));
      if (no !== undefined) pending.delete(no);
    }
    for (const send of batch.pendingPut) {
      if (batch.pendingDelete.includes(hex(send.id))) continue;
      const row: PendingRow = { id: hex(send.id), send };
      const no = await done(pending.index("id").getKey(row.id));
      if (no !== undefined) row.no = no as number;
      pending.put(row);
    }
  }

  /** Remembers what the user has read, before the server knows. */
  async setRead(chat: string, seq: bigint): Promise<number> {
    const tx = this.db.transaction(["reads", "messages", "marks"], "readwrite");
    const end = committed(tx);
    end.catch(() => {});
    const old = (await done(tx.objectStore("reads").get(chat))) as bigint | undefined;
    if (old === undefined || seq > old) tx.objectStore("reads").put(seq, chat);
    const unread = await this.countUnread(tx, chat);
    await end;
    return unread;
  }

  // ---- reading ----

  private async readUpTo(tx: IDBTransaction, chat: string): Promise<bigint> {
    const local = ((await done(tx.objectStore("reads").get(chat))) as bigint | undefined) ?? 0n;
    const mark = (await done(tx.objectStore("marks").get([chat, this.me]))) as MarkRow | undefined;
    return mark && mark.readSeq > local ? mark.readSeq : local;
  }

  private async countUnread(tx: IDBTransaction, chat: string): Promise<number> {
    const after = seqKey(await this.readUpTo(tx, chat));
    const range = IDBKeyRange.bound([chat, after], [chat, "g"], true, true);
    const rows = (await done(tx.objectStore("messages").getAll(range, 4 * UNREAD_COUNT_MAX))) as MessageRow[];
    const foreign = rows.filter((row) => row.sender !== this.me && row.messageType !== 3);
    return Math.min(foreign.length, UNREAD_COUNT_MAX);
  }

  /** Up to `limit` messages below a key ("" : the newest), in ascending order. */
  async page(chat: string, belowKey: string, limit: number): Promise<MessageRow[]> {
    const tx = this.db.transaction("messages", "readonly");
    const upper = belowKey === "" ? "g" : belowKey;
    const range = IDBKeyRange.bound([chat, ""], [chat, upper], false, true);
    const request = tx.objectStore("messages").openCursor(range, "prev");
    return new Promise((resolve, reject) => {
      const rows: MessageRow[] = [];
      request.onerror = () => reject(request.error ?? new Error("the cursor failed"));
      request.onsuccess = () => {
        const cursor = request.result;
        if (!cursor || rows.length >= limit) {
          resolve(rows.reverse());
          return;
        }
        rows.push(cursor.value as MessageRow);
        cursor.continue();
      };
    });
  }

  async readSeq(chat: string): Promise<bigint> {
    return this.readUpTo(this.db.transaction(["reads", "marks"], "readonly"), chat);
  }

  async load(): Promise<Loaded> {
    const names = ["messages", "chats", "marks", "tracks", "reads", "meta", "pending"];
    const tx = this.db.transaction(names, "readonly");
    const all = async <T>(name: string): Promise<T[]> => done(tx.objectStore(name).getAll()) as Promise<T[]>;
    const keyed = async <T>(name: string): Promise<Map<string, T>> => {
      const keys = (await done(tx.objectStore(name).getAllKeys())) as string[];
      const values = await all<T>(name);
      return new Map(keys.map((key, i) => [key, values[i] as T]));
    };
    const chats = await all<ChatRow>("chats");
    const marks = await all<MarkRow>("marks");
    const pending = await all<PendingRow>("pending");
    const cursor = (await done(tx.objectStore("meta").get("cursor"))) as Cursor | undefined;
    const skewMs = (await done(tx.objectStore("meta").get("skewMs"))) as number | undefined;
    const confirmed = new Map(marks.filter((m) => m.user === this.me).map((m) => [m.chat, m.readSeq]));
    const reads = [...(await keyed<bigint>("reads"))].filter(([chat, seq]) => seq > (confirmed.get(chat) ?? 0n));
    const newest = new Map<string, MessageRow>();
    const unread = new Map<string, number>();
    for (const { chat, lastKey } of chats) {
      const row = (await done(tx.objectStore("messages").get([chat, lastKey]))) as MessageRow | undefined;
      if (row) newest.set(chat, row);
      unread.set(chat, await this.countUnread(tx, chat));
    }
    const tracks = await keyed<Track>("tracks");
    const sends = pending.map(({ send, id }) => ({ ...send, id: unhex(id) }));
    const saved = { cursor, tracks, pending: sends, unconfirmedReads: new Map(reads), skewMs: skewMs ?? 0 };
    return { saved, chats, marks, newest, unread };
  }
}
