//! The list of conversations: a group in relaxed order is one, though each of its lanes is a chat of the store.

import { baseOf, laneOf } from "../protocol/lanes";
import { MESSAGE_MEMBERSHIP } from "../protocol/layout";
import { newChatRow } from "../store/rows";
import type { ChatRow, MessageRow } from "../store/rows";
import { UNREAD_COUNT_MAX } from "../store/store";

/** A chat, or a conversation, as the list shows it. */
export interface ChatEntry {
  /** Of a conversation: lane 0's. */
  row: ChatRow;
  /** The newest message that is shown. */
  newest: MessageRow | undefined;
  unread: number;
}

/** Changes of a group are told in every lane; those of lane 0 are shown. */
export function isShown(row: Pick<MessageRow, "chat" | "messageType">): boolean {
  return row.messageType !== MESSAGE_MEMBERSHIP || laneOf(row.chat) === 0;
}

/** The later of two messages, in the order of the timeline. */
function later(a: MessageRow | undefined, b: MessageRow | undefined): MessageRow | undefined {
  if (!a || !b) return a ?? b;
  if (a.storedTsMs !== b.storedTsMs) return a.storedTsMs > b.storedTsMs ? a : b;
  return laneOf(a.chat) > laneOf(b.chat) ? a : b;
}

/** One entry for each conversation of these chats. */
export function conversations(chats: Iterable<ChatEntry>): ChatEntry[] {
  const found = new Map<string, ChatEntry>();
  for (const { row, newest, unread } of chats) {
    const base = baseOf(row.chat);
    const old = found.get(base) ?? { row: newChatRow(base), newest: undefined, unread: 0 };
    found.set(base, {
      row: row.chat === base ? row : old.row,
      newest: later(old.newest, newest && isShown(newest) ? newest : undefined),
      unread: Math.min(old.unread + unread, UNREAD_COUNT_MAX),
    });
  }
  return [...found.values()];
}
