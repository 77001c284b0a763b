//! Lanes of a group in relaxed order, and what is a chat id at all: the rules of protocol/src/ids.rs and lanes.rs. Lane 0
//! of `g:x` is the group itself, lane k from 1 on is the chat `g:x#k`. Nothing else here knows what a lane's id looks like.

import { isUserId } from "./ids";
import { CHAT_ID_BYTES_MAX, LANES_MAX } from "./limits";

/** A number below LANES_MAX and above 0, written in one way only; undefined when it is none. */
function laneNumber(text: string): number | undefined {
  const lane = /^[1-9][0-9]?$/.test(text) ? Number(text) : LANES_MAX;
  return lane < LANES_MAX ? lane : undefined;
}

/** Whether a text is a chat: `dm:<a>:<b>`, `g:<group>`, or a lane of a group. */
export function isChatId(text: string): boolean {
  if (text.length > CHAT_ID_BYTES_MAX) return false;
  const pair = /^dm:([^:]*):([^:]*)$/.exec(text);
  if (pair) {
    const [a = "", b = ""] = pair.slice(1);
    return isUserId(a) && isUserId(b) && a <= b;
  }
  const [, group = "", lane] = /^g:([^#]*)(?:#(.*))?$/.exec(text) ?? [];
  return isUserId(group) && (lane === undefined || laneNumber(lane) !== undefined);
}

/** The number of a chat's lane: 0 for every chat that is no further lane of a group. */
export function laneOf(chat: string): number {
  const at = chat.indexOf("#");
  return at < 0 ? 0 : (laneNumber(chat.slice(at + 1)) ?? 0);
}

/** The conversation that a chat belongs to: a lane's group; any other chat is its own. */
export function baseOf(chat: string): string {
  const at = chat.indexOf("#");
  return at < 0 ? chat : chat.slice(0, at);
}

/** Where a message of ours was stored: what is sent to a group may be stored in any of its lanes. */
export function storedIn(sentTo: string, named: string): string {
  return isChatId(named) && baseOf(named) === baseOf(sentTo) ? named : sentTo;
}
