//! Frames: an 8-byte header {type, flags, channel, body length} and a body. One WebSocket message
//! carries one or more whole frames.

import * as layout from "./layout";
import { FRAME_BYTES_MAX, FRAME_HEADER_BYTES } from "./limits";
import { decode, encode, WireError } from "./proto";
import type { Fields, Init, Schema } from "./proto";
import * as s from "./schema";

export const TYPE = {
  hello: 0x01,
  send: 0x02,
  ack: 0x03,
  receipt: 0x04,
  typing: 0x05,
  watch: 0x06,
  sync: 0x07,
  ping: 0x08,
  refreshToken: 0x09,
  bye: 0x0a,
  welcome: 0x81,
  redirect: 0x82,
  queued: 0x83,
  sendResult: 0x84,
  deliver: 0x85,
  caughtUp: 0x86,
  receiptUpdate: 0x87,
  typingUpdate: 0x88,
  presenceUpdate: 0x89,
  syncPage: 0x8a,
  relocate: 0x8b,
  pong: 0x8c,
  error: 0x8d,
  tokenAccepted: 0x8e,
} as const;

/** What a client sends. */
export type ClientFrame =
  | { type: "hello"; body: Init<typeof s.Hello> }
  | { type: "send"; body: layout.Send }
  | { type: "ack"; body: bigint }
  | { type: "receipt"; body: Init<typeof s.Receipt> }
  | { type: "typing"; body: Init<typeof s.Typing> }
  | { type: "watch"; body: Init<typeof s.Watch> }
  | { type: "sync"; body: Init<typeof s.Sync> }
  | { type: "ping"; body: Init<typeof s.Ping> }
  | { type: "refreshToken"; body: Init<typeof s.RefreshToken> }
  | { type: "bye"; body: Init<typeof s.Bye> };

/** What a server sends. */
export type ServerFrame =
  | { type: "welcome"; body: s.Welcome }
  | { type: "redirect"; body: s.Redirect }
  | { type: "queued"; body: s.Queued }
  | { type: "sendResult"; body: s.SendResult }
  | { type: "deliver"; body: layout.Deliver; bytes: number }
  | { type: "caughtUp"; body: s.CaughtUp }
  | { type: "receiptUpdate"; body: s.ReceiptUpdate }
  | { type: "typingUpdate"; body: s.TypingUpdate }
  | { type: "presenceUpdate"; body: s.PresenceUpdate }
  | { type: "syncPage"; body: s.SyncPage }
  | { type: "relocate"; body: s.Relocate }
  | { type: "pong"; body: s.Pong }
  | { type: "error"; body: s.ErrorFrame }
  | { type: "tokenAccepted"; body: s.TokenAccepted };

const CONTROL: Readonly<Record<string, Schema<Fields>>> = {
  hello: s.Hello,
  receipt: s.Receipt,
  typing: s.Typing,
  watch: s.Watch,
  sync: s.Sync,
  ping: s.Ping,
  refreshToken: s.RefreshToken,
  bye: s.Bye,
  welcome: s.Welcome,
  redirect: s.Redirect,
  queued: s.Queued,
  sendResult: s.SendResult,
  caughtUp: s.CaughtUp,
  receiptUpdate: s.ReceiptUpdate,
  typingUpdate: s.TypingUpdate,
  presenceUpdate: s.PresenceUpdate,
  syncPage: s.SyncPage,
  relocate: s.Relocate,
  pong: s.Pong,
  error: s.ErrorFrame,
  tokenAccepted: s.TokenAccepted,
};
const NAME_OF = new Map<number, string>(Object.entries(TYPE).map(([name, type]) => [type, name]));

/** One frame as it is found in a WebSocket message. */
export interface RawFrame {
  type: number;
  body: Uint8Array;
}

/** Splits a WebSocket message into whole frames; throws WireError if it is not made of them. */
export function splitFrames(raw: Uint8Array): RawFrame[] {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const frames: RawFrame[] = [];
  let at = 0;
  while (at < raw.length) {
    if (raw.length - at < FRAME_HEADER_BYTES) throw new WireError("frame header is cut off");
    const length = view.getUint32(at + 4, true);
    if (length > FRAME_BYTES_MAX - FRAME_HEADER_BYTES) throw new WireError("frame is too large");
    const start = at + FRAME_HEADER_BYTES;
    if (start + length > raw.length) throw new WireError("frame is cut off");
    frames.push({ type: view.getUint8(at), body: raw.subarray(start, start + length) });
    at = start + length;
  }
  return frames;
}

function frame(type: number, body: Uint8Array): Uint8Array {
  const out = new Uint8Array(FRAME_HEADER_BYTES + body.length);
  const view = new DataView(out.buffer);
  view.setUint8(0, type);
  view.setUint32(4, body.length, true);
  out.set(body, FRAME_HEADER_BYTES);
  return out;
}

function bodyOf(f: ClientFrame | ServerFrame): Uint8Array {
  switch (f.type) {
    case "send":
      return layout.encodeSend(f.body);
    case "ack":
      return layout.encodeAck(f.body);
    case "deliver":
      return layout.encodeDeliver(f.body);
    default:
      return encode(CONTROL[f.type] as Schema<Fields>, f.body as Record<string, never>);
  }
}

/** Encodes one frame; the server's frames are for the tests' peer. */
export function encodeFrame(f: ClientFrame | ServerFrame): Uint8Array {
  return frame(TYPE[f.type], bodyOf(f));
}

function decodeFrame(raw: RawFrame): ClientFrame | ServerFrame | undefined {
  const name = NAME_OF.get(raw.type);
  if (name === undefined) return undefined;
  if (name === "deliver") {
    return { type: name, body: layout.decodeDeliver(raw.body), bytes: raw.body.length };
  }
  if (name === "send") return { type: name, body: layout.decodeSend(raw.body) };
  if (name === "ack") return { type: name, body: layout.decodeAck(raw.body) };
  const body = decode(CONTROL[name] as Schema<Fields>, raw.body);
  return { type: name, body } as unknown as ClientFrame | ServerFrame;
}

/** The server's frames of one WebSocket message; unknown types are left out. */
export function decodeServerFrames(raw: Uint8Array): ServerFrame[] {
  return splitFrames(raw)
    .filter((f) => f.type >= 0x80)
    .map(decodeFrame)
    .filter((f) => f !== undefined) as ServerFrame[];
}

/** A client's frames of one WebSocket message: for the tests' peer. */
export function decodeClientFrames(raw: Uint8Array): ClientFrame[] {
  return splitFrames(raw)
    .filter((f) => f.type < 0x80)
    .map(decodeFrame)
    .filter((f) => f !== undefined) as ClientFrame[];
}
