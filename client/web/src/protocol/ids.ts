//! Ids: UUIDv7 for messages, `dm:<a>:<b>` and `g:<id>` for chats, hexadecimal keys of a seq.

/** A UUIDv7 (RFC 9562): 48 bits of server time, then ten random bytes with version and variant. */
export function uuidV7(serverNowMs: number, random: Uint8Array): Uint8Array {
  const out = new Uint8Array(16);
  const view = new DataView(out.buffer);
  view.setUint16(0, Math.floor(serverNowMs / 2 ** 32));
  view.setUint32(2, serverNowMs >>> 0);
  out.set(random.subarray(0, 10), 6);
  out[6] = 0x70 | ((out[6] as number) & 0x0f);
  out[8] = 0x80 | ((out[8] as number) & 0x3f);
  return out;
}

/** The milliseconds that a UUIDv7 is stamped with. */
export function uuidTimeMs(id: Uint8Array): number {
  const view = new DataView(id.buffer, id.byteOffset, id.byteLength);
  return view.getUint16(0) * 2 ** 32 + view.getUint32(2);
}

export function hex(raw: Uint8Array): string {
  return Array.from(raw, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function unhex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/** UUID text form, as the HTTP API writes ids. */
export function uuidText(raw: Uint8Array): string {
  return hex(raw).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** A seq as 16 hexadecimal digits: text order is seq order. */
export function seqKey(seq: bigint): string {
  return seq.toString(16).padStart(16, "0");
}

/** Byte order, the order of the protocol's `a < b`. Ids are ASCII. */
function before(a: string, b: string): boolean {
  return a < b;
}

export function dmChat(a: string, b: string): string {
  return before(a, b) ? `dm:${a}:${b}` : `dm:${b}:${a}`;
}

/** The two users of a 1:1 chat; undefined for a group. */
export function dmUsers(chat: string): [string, string] | undefined {
  const match = /^dm:([^:]+):([^:]+)$/.exec(chat);
  return match ? [match[1] as string, match[2] as string] : undefined;
}

/** The other user of a 1:1 chat (oneself in notes to self); undefined for a group. */
export function dmPeer(chat: string, me: string): string | undefined {
  const users = dmUsers(chat);
  if (!users) return undefined;
  return users[0] === me ? users[1] : users[0];
}

export function isGroup(chat: string): boolean {
  return chat.startsWith("g:");
}

export function isUserId(text: string): boolean {
  return /^[A-Za-z0-9_.@+-]{1,64}$/.test(text);
}
