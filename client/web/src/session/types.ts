//! The words between the session's core, which decides, and its driver, which moves bytes.

import type { MessageRecord } from "../protocol/layout";
import type { ChatSummary, PresenceUpdate, TypingUpdate } from "../protocol/schema";

/** One instant: `ms` never goes back (deadlines), `wallMs` is the machine's clock (stamps). */
export interface Now {
  ms: number;
  wallMs: number;
}

/** Randomness of the caller. */
export interface Chance {
  /** Uniform in [0, 1). */
  unit(): number;
  bytes(length: number): Uint8Array;
}

/** A message of ours without a final answer; kept on disk until it has one. */
export interface PendingSend {
  /** client_msg_id, 16 bytes. */
  id: Uint8Array;
  chat: string;
  messageType: number;
  body: Uint8Array;
  sendTsMs: number;
  /** A final refusal, shown to the user; no more retries. */
  failed?: { code: number; text: string };
}

/** How far the chat is known without a hole that we want filled. */
export interface Track {
  seq: bigint;
  ordinal: number;
}

/** A user's watermarks in a chat; merged by maximum. */
export interface Mark {
  chat: string;
  user: string;
  deliveredSeq: bigint;
  readSeq: bigint;
}

/** Everything below `next` of the delivery log is on this device's disk. */
export interface Cursor {
  next: bigint;
  resumeToken: Uint8Array;
}

/** What the driver found on disk. */
export interface Saved {
  cursor: Cursor | undefined;
  tracks: Map<string, Track>;
  pending: PendingSend[];
  /** Own read watermarks that the server has not confirmed. */
  unconfirmedReads: Map<string, bigint>;
  /** server clock minus this machine's, milliseconds, as last learnt. */
  skewMs: number;
}

/** What one atomic write to disk holds; batches are written in the order they are given. */
export interface Batch {
  records: MessageRecord[];
  marks: Mark[];
  chats: ChatSummary[];
  /** The list of chats is complete: chats not in it are no longer ours. */
  chatListComplete: string[] | undefined;
  tracks: Map<string, Track>;
  pendingPut: PendingSend[];
  /** client_msg_ids as hexadecimal text. */
  pendingDelete: string[];
  /** Set, or null to forget it (a sync has begun). */
  cursor: Cursor | null | undefined;
  skewMs: number | undefined;
}

export function emptyBatch(): Batch {
  return {
    records: [],
    marks: [],
    chats: [],
    chatListComplete: undefined,
    tracks: new Map(),
    pendingPut: [],
    pendingDelete: [],
    cursor: undefined,
    skewMs: undefined,
  };
}

/** Two batches as one: as if `b` had been written right after `a`. */
export function mergeBatches(a: Batch, b: Batch): Batch {
  return {
    records: [...a.records, ...b.records],
    marks: [...a.marks, ...b.marks],
    chats: [...a.chats, ...b.chats],
    chatListComplete: b.chatListComplete ?? a.chatListComplete,
    tracks: new Map([...a.tracks, ...b.tracks]),
    pendingPut: [...a.pendingPut, ...b.pendingPut],
    pendingDelete: [...a.pendingDelete, ...b.pendingDelete],
    cursor: b.cursor === undefined ? a.cursor : b.cursor,
    skewMs: b.skewMs ?? a.skewMs,
  };
}

export function isEmptyBatch(b: Batch): boolean {
  const lists = [b.records, b.marks, b.chats, b.pendingPut, b.pendingDelete];
  return (
    lists.every((list) => list.length === 0) &&
    b.tracks.size === 0 &&
    b.cursor === undefined &&
    b.skewMs === undefined &&
    b.chatListComplete === undefined
  );
}

/** What a user sees of the connection. */
export type Phase =
  | { kind: "stopped" }
  /** The server will not have us; `text` says why. */
  | { kind: "refused"; code: number; text: string }
  /** The same device is connected elsewhere and keeps taking over. */
  | { kind: "displaced" }
  | { kind: "connecting" }
  | { kind: "waiting"; retryAtMs: number }
  | { kind: "syncing" }
  | { kind: "catching-up" }
  | { kind: "live" };

/** What the driver shall do. */
export type Effect =
  | { do: "open"; link: number; url: string }
  | { do: "transmit"; link: number; bytes: Uint8Array }
  | { do: "close"; link: number; code: number; reason: string }
  | { do: "fetchToken" }
  | { do: "store"; ticket: number; batch: Batch }
  | { do: "phase"; phase: Phase }
  | { do: "typing"; update: TypingUpdate }
  | { do: "presence"; update: PresenceUpdate }
  /** A Send was answered Queued: the log has it. */
  | { do: "queued"; id: string }
  /** The history that the application asked for is stored (or there is none). */
  | { do: "history"; chat: string; beforeOrdinal: number; atStart: boolean; error: number }
  | { do: "problem"; code: number; text: string };

export interface Config {
  user: string;
  device: string;
  /** Where a connection begins when no Redirect says otherwise. */
  url: string;
  /** name/version, for the server's logs. */
  client: string;
  /** May a Redirect or Relocate name this address? */
  acceptsUrl(url: string): boolean;
}
