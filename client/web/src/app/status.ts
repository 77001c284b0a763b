//! How far a message of ours has come, from the watermarks of the others in its chat.

import { dmPeer } from "../protocol/ids";
import { membershipChange } from "../store/rows";
import type { ChatRow, MarkRow, MessageRow } from "../store/rows";

/** waiting: only here. accepted: on the server's log, not yet stored. failed: refused for good. */
export type Status = "waiting" | "accepted" | "failed" | "sent" | "delivered" | "read";

export const STATUS_TEXT: Readonly<Record<Status, string>> = {
  waiting: "Waiting to be sent",
  accepted: "Accepted, being stored",
  failed: "Not sent",
  sent: "Sent",
  delivered: "Delivered",
  read: "Read",
};

/** Who should get the messages of a chat, apart from me. */
export function others(chat: ChatRow, me: string): string[] {
  const peer = dmPeer(chat.chat, me);
  if (peer !== undefined) return peer === me ? [] : [peer];
  return chat.members.map((m) => m.user).filter((user) => user !== me);
}

/**
 * Who should have got each of these messages of a group: those who were added to its lane after one are not waited for.
 * One list per message, in the same order.
 */
export function othersAt(rows: readonly MessageRow[], now: string[]): string[][] {
  const then = new Map<string, string[]>();
  const lists: string[][] = [];
  for (const row of rows.toReversed()) {
    const users = then.get(row.chat) ?? now;
    lists.push(users);
    const change = membershipChange(row);
    if (change?.op === "add") then.set(row.chat, users.filter((user) => !change.users.includes(user)));
  }
  return lists.reverse();
}

/** Of a stored message of ours: "read" when all others have read it, "delivered" when all have it. */
export function statusOf(row: Pick<MessageRow, "seq">, recipients: string[], marks: ReadonlyMap<string, MarkRow>): Status {
  if (recipients.length === 0) return "sent";
  const all = recipients.map((user) => marks.get(user));
  if (all.every((mark) => mark !== undefined && mark.readSeq >= row.seq)) return "read";
  if (all.every((mark) => mark !== undefined && reached(mark) >= row.seq)) return "delivered";
  return "sent";
}

/** What was read was delivered. */
function reached(mark: MarkRow): bigint {
  return mark.readSeq > mark.deliveredSeq ? mark.readSeq : mark.deliveredSeq;
}

/** Per recipient, for the details of a group's message. */
export function statusByRecipient(row: Pick<MessageRow, "seq">, recipients: string[], marks: ReadonlyMap<string, MarkRow>): Map<string, Status> {
  return new Map(recipients.map((user) => [user, statusOf(row, [user], marks)]));
}
