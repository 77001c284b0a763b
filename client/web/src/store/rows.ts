//! What is kept on disk, row by row. Pure: no IndexedDB here.

import { hex, isGroup, seqKey } from "../protocol/ids";
import { MESSAGE_MEMBERSHIP } from "../protocol/layout";
import type { MessageRecord } from "../protocol/layout";
import { decodeText } from "../protocol/proto";
import type { ChatSummary, Member } from "../protocol/schema";

/** A message of a chat; `key` (16 hexadecimal digits of the seq) orders them. */
export interface MessageRow {
  chat: string;
  key: string;
  seq: bigint;
  ordinal: number;
  clientMsgId: string;
  sendTsMs: number;
  storedTsMs: number;
  messageType: number;
  sender: string;
  senderDevice: string;
  body: Uint8Array;
}

export interface ChatRow {
  chat: string;
  name: string;
  /** Of a group; of a 1:1 chat the id says it. */
  members: Member[];
  memberCount: number;
  /** Key of the newest message known here. */
  lastKey: string;
  lastOrdinal: number;
  /** History up to this ordinal is not ours. */
  visibleAfterOrdinal: number;
  /** Membership as of this key: older changes do not apply to `members` again. */
  membersKey: string;
  /** We are no longer a member. */
  gone: boolean;
}

export interface MarkRow {
  chat: string;
  user: string;
  deliveredSeq: bigint;
  readSeq: bigint;
}

/** A message of type MEMBERSHIP, docs/protocol.md: its sender did it, its body says what. */
export interface MembershipChange {
  op: string;
  by: string;
  users: string[];
  name: string;
  admin: boolean;
}

export function messageRow(record: MessageRecord): MessageRow {
  return {
    chat: record.chat,
    key: seqKey(record.seq),
    seq: record.seq,
    ordinal: record.ordinal,
    clientMsgId: hex(record.clientMsgId),
    sendTsMs: record.sendTsMs,
    storedTsMs: record.storedTsMs,
    messageType: record.messageType,
    sender: record.sender,
    senderDevice: record.senderDevice,
    body: record.body,
  };
}

export function newChatRow(chat: string): ChatRow {
  return {
    chat,
    name: "",
    members: [],
    memberCount: 0,
    lastKey: "",
    lastOrdinal: 0,
    visibleAfterOrdinal: 0,
    membersKey: "",
    gone: false,
  };
}

/** The change that a membership message tells; undefined when it is none that we know. */
export function membershipChange(row: Pick<MessageRow, "messageType" | "body" | "sender">): MembershipChange | undefined {
  if (row.messageType !== MESSAGE_MEMBERSHIP) return undefined;
  try {
    const raw = JSON.parse(decodeText(row.body)) as Record<string, unknown>;
    const text = (value: unknown): string => (typeof value === "string" ? value : "");
    const users = Array.isArray(raw["users"]) ? raw["users"].filter((u) => typeof u === "string") : [];
    return { op: text(raw["op"]), by: row.sender, users, name: text(raw["name"]), admin: raw["admin"] !== false };
  } catch {
    return undefined;
  }
}

/** Applies a message to its chat: the newest, and who is in the group. */
export function applyMessage(chat: ChatRow, row: MessageRow, me: string): ChatRow {
  const next = { ...chat };
  if (row.key > chat.lastKey) {
    next.lastKey = row.key;
    next.lastOrdinal = row.ordinal;
  }
  const change = membershipChange(row);
  if (!change || !isGroup(row.chat) || row.key <= chat.membersKey) return next;
  next.membersKey = row.key;
  next.members = membersAfter(chat.members, change);
  next.memberCount = Math.max(next.members.length, chat.memberCount + next.members.length - chat.members.length);
  if (change.name !== "") next.name = change.name;
  const removes = change.op === "remove" || change.op === "leave";
  if (removes && change.users.includes(me)) next.gone = true;
  else if (next.members.some((m) => m.user === me)) next.gone = false;
  return next;
}

function membersAfter(members: Member[], change: MembershipChange): Member[] {
  const { op, by, users } = change;
  const without = (list: string[]): Member[] => members.filter((m) => !list.includes(m.user));
  switch (op) {
    case "create": {
      const others = users.filter((user) => user !== by).map((user) => ({ user, admin: false }));
      return [{ user: by, admin: true }, ...others];
    }
    case "add":
      return [...without(users), ...users.map((user) => ({ user, admin: false }))];
    case "remove":
    case "leave":
      return without(users);
    case "admin":
      return members.map((m) => (users.includes(m.user) ? { ...m, admin: change.admin } : m));
    default:
      return members;
  }
}

/** Applies what the server says of a chat: it wins over what was pieced together here. */
export function applySummary(chat: ChatRow, summary: ChatSummary): ChatRow {
  const { visibleAfterOrdinal } = summary;
  const asOf = seqKey(summary.lastSeq);
  // A change of the group that came after the list was made stands.
  if (asOf < chat.membersKey) return { ...chat, visibleAfterOrdinal };
  return {
    ...chat,
    visibleAfterOrdinal,
    name: summary.name,
    members: summary.members,
    memberCount: summary.memberCount || summary.members.length,
    membersKey: asOf,
    // Of a group that we left the server tells no members.
    gone: isGroup(summary.chat) && summary.members.length === 0,
  };
}

export function mergeMark(old: MarkRow | undefined, mark: MarkRow): MarkRow {
  if (!old) return mark;
  return {
    ...mark,
    deliveredSeq: old.deliveredSeq > mark.deliveredSeq ? old.deliveredSeq : mark.deliveredSeq,
    readSeq: old.readSeq > mark.readSeq ? old.readSeq : mark.readSeq,
  };
}
