//! What a person reads: titles of chats, times, presence, and the sentences of membership messages.

import { dmPeer, isGroup } from "../protocol/ids";
import { MESSAGE_MEMBERSHIP, MESSAGE_TEXT } from "../protocol/layout";
import { decodeText } from "../protocol/proto";
import { membershipChange } from "../store/rows";
import type { ChatRow, MessageRow } from "../store/rows";

/** Names by user id. */
export type Names = ReadonlyMap<string, string>;

export function nameOf(user: string, names: Names): string {
  return names.get(user) || user;
}

export function chatTitle(chat: Pick<ChatRow, "chat" | "name">, me: string, names: Names): string {
  if (isGroup(chat.chat)) return chat.name !== "" ? chat.name : "Group";
  const peer = dmPeer(chat.chat, me) ?? chat.chat;
  return peer === me ? "Notes to myself" : nameOf(peer, names);
}

/** The text of a message; undefined when it is of a type that this client cannot show. */
export function bodyText(row: Pick<MessageRow, "messageType" | "body">): string | undefined {
  if (row.messageType !== MESSAGE_TEXT) return undefined;
  try {
    return decodeText(row.body);
  } catch {
    return undefined;
  }
}

/** "You", at a sentence's start; otherwise "you". */
function who(user: string, me: string, names: Names, starts: boolean): string {
  if (user !== me) return nameOf(user, names);
  return starts ? "You" : "you";
}

export function list(words: string[]): string {
  if (words.length <= 1) return words[0] ?? "";
  return `${words.slice(0, -1).join(", ")} and ${words.at(-1) ?? ""}`;
}

export function membershipText(row: MessageRow, me: string, names: Names): string {
  const change = membershipChange(row);
  if (!change) return "The group was changed";
  const by = who(change.by, me, names, true);
  const users = list(change.users.filter((u) => u !== change.by).map((u) => who(u, me, names, false)));
  switch (change.op) {
    case "create":
      return users === "" ? `${by} created “${change.name}”` : `${by} created “${change.name}” with ${users}`;
    case "add":
      return `${by} added ${users}`;
    case "remove":
      return `${by} removed ${users}`;
    case "leave":
      return `${by} left`;
    case "update":
      return `${by} named the group “${change.name}”`;
    case "admin":
      return change.admin ? `${by} made ${users} admin` : `${by} took admin rights from ${users}`;
    case "order":
      return `${by} relaxed the order of messages`;
    default:
      return "The group was changed";
  }
}

/** One line for the list of chats. */
export function previewText(row: MessageRow, me: string, names: Names): string {
  if (row.messageType === MESSAGE_MEMBERSHIP) return membershipText(row, me, names);
  const text = bodyText(row)?.replace(/\s+/g, " ").slice(0, 120) ?? "Message";
  if (!isGroup(row.chat) || row.sender === me) return text;
  return `${nameOf(row.sender, names)}: ${text}`;
}

const timeFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekdayFormat = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const dateFormat = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const longDayFormat = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

function dayNumber(ms: number): number {
  const date = new Date(ms);
  return Math.round(Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / 86_400_000);
}

export function timeText(ms: number): string {
  return timeFormat.format(ms);
}

export function fullTimeText(ms: number): string {
  return `${dateFormat.format(ms)}, ${timeFormat.format(ms)}`;
}

/** The heading above a day's messages. */
export function dayText(ms: number, nowMs: number): string {
  const days = dayNumber(nowMs) - dayNumber(ms);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return days > 1 && days < 300 ? longDayFormat.format(ms) : dateFormat.format(ms);
}

export function sameDay(a: number, b: number): boolean {
  return dayNumber(a) === dayNumber(b);
}

/** In the list of chats: the time today, the weekday this week, else the date. */
export function shortTimeText(ms: number, nowMs: number): string {
  const days = dayNumber(nowMs) - dayNumber(ms);
  if (days <= 0) return timeText(ms);
  if (days === 1) return "Yesterday";
  return days < 7 ? weekdayFormat.format(ms) : dateFormat.format(ms);
}

/** Presence as it stands under a person's name. */
export function presenceText(presence: { online: boolean; lastSeenMs: number } | undefined, nowMs: number): string {
  if (!presence) return "";
  if (presence.online) return "online";
  if (presence.lastSeenMs === 0) return "offline";
  const minutes = Math.floor((nowMs - presence.lastSeenMs) / 60_000);
  if (minutes < 1) return "last seen just now";
  if (minutes < 60) return `last seen ${minutes} min ago`;
  const days = dayNumber(nowMs) - dayNumber(presence.lastSeenMs);
  if (days <= 0) return `last seen at ${timeText(presence.lastSeenMs)}`;
  if (days === 1) return `last seen yesterday at ${timeText(presence.lastSeenMs)}`;
  return `last seen on ${dateFormat.format(presence.lastSeenMs)}`;
}

export function typingText(users: string[], group: boolean, names: Names): string {
  if (users.length === 0) return "";
  if (!group) return "typing…";
  const shown = list(users.slice(0, 2).map((u) => nameOf(u, names)));
  return users.length === 1 ? `${shown} is typing…` : users.length === 2 ? `${shown} are typing…` : "several people are typing…";
}
