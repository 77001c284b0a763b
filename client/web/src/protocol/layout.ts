//! The fixed layouts: Send, Ack, Deliver and the message record. Little-endian throughout.

import { isChatId } from "./lanes";
import { BODY_BYTES_MAX } from "./limits";
import { decodeText, encodeText, WireError } from "./proto";

export const MESSAGE_TEXT = 1;
export const MESSAGE_MEMBERSHIP = 3;

/** A client's message: one body for all (this client makes no envelopes yet). */
export interface Send {
  /** UUIDv7, 16 bytes. */
  clientMsgId: Uint8Array;
  /** This machine's clock, milliseconds. */
  sendTsMs: number;
  messageType: number;
  /** Sent before, outcome unknown. */
  retry: boolean;
  chat: string;
  body: Uint8Array;
}

/** What every recipient gets: the same bytes for all. */
export interface MessageRecord {
  seq: bigint;
  /** The accepted message before it in this chat; 0 for the first. */
  prevSeq: bigint;
  /** Dense number in the chat, from 1. */
  ordinal: number;
  messageId: Uint8Array;
  clientMsgId: Uint8Array;
  sendTsMs: number;
  storedTsMs: number;
  messageType: number;
  flags: number;
  chat: string;
  sender: string;
  senderDevice: string;
  body: Uint8Array;
}

export interface Deliver {
  /** Place in the delivery log. */
  offset: bigint;
  /** Sent again after a resume. */
  replayed: boolean;
  /** Nobody waits for its ack. */
  ackLater: boolean;
  /** This device's slice of the envelope table; empty without encryption. */
  envelope: Uint8Array;
  record: MessageRecord;
}

const SEND_FIXED_BYTES = 36;
const RECORD_FIXED_BYTES = 84;
const DELIVER_PREFIX_BYTES = 16;

/** A cursor over a body with bounds checks that end in WireError. */
class Cursor {
  private readonly view: DataView;
  private at = 0;
  constructor(private readonly raw: Uint8Array) {
    this.view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  }

  private need(length: number): number {
    const start = this.at;
    if (start + length > this.raw.length) throw new WireError("body is cut off");
    this.at += length;
    return start;
  }
  u8(): number {
    return this.view.getUint8(this.need(1));
  }
  u16(): number {
    return this.view.getUint16(this.need(2), true);
  }
  u32(): number {
    return this.view.getUint32(this.need(4), true);
  }
  u64(): bigint {
    return this.view.getBigUint64(this.need(8), true);
  }
  num(): number {
    return Math.min(Number(this.u64()), Number.MAX_SAFE_INTEGER);
  }
  bytes(length: number): Uint8Array {
    const start = this.need(length);
    return this.raw.slice(start, start + length);
  }
  text(length: number): string {
    return decodeText(this.bytes(length));
  }
  rest(): Uint8Array {
    return this.raw.subarray(this.at);
  }
  end(): void {
    if (this.at !== this.raw.length) throw new WireError("bytes after the body's end");
  }
}

export function encodeSend(send: Send): Uint8Array {
  const chat = encodeText(send.chat);
  const out = new Uint8Array(SEND_FIXED_BYTES + chat.length + send.body.length);
  const view = new DataView(out.buffer);
  out.set(send.clientMsgId, 0);
  view.setBigUint64(16, BigInt(send.sendTsMs), true);
  view.setUint8(24, send.messageType);
  view.setUint8(25, 0); // shape: one body for all
  view.setUint8(26, chat.length);
  view.setUint8(27, send.retry ? 1 : 0);
  view.setUint16(28, 0, true); // envelopes
  view.setUint8(30, 0); // part
  view.setUint8(31, 1); // of parts
  view.setUint32(32, send.body.length, true);
  out.set(chat, SEND_FIXED_BYTES);
  out.set(send.body, SEND_FIXED_BYTES + chat.length);
  return out;
}

/** The server's side of encodeSend: the tests' peer reads with it. */
export function decodeSend(raw: Uint8Array): Send {
  const c = new Cursor(raw);
  const clientMsgId = c.bytes(16);
  const sendTsMs = c.num();
  const messageType = c.u8();
  if (c.u8() !== 0) throw new WireError("a Send with envelopes is not read here");
  const chatLength = c.u8();
  const flags = c.u8();
  c.u16();
  c.u16();
  const bodyLength = c.u32();
  if (bodyLength > BODY_BYTES_MAX) throw new WireError("body is too large");
  const chat = c.text(chatLength);
  const body = c.bytes(bodyLength);
  c.end();
  return { clientMsgId, sendTsMs, messageType, retry: (flags & 1) === 1, chat, body };
}

export function encodeAck(offset: bigint): Uint8Array {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, offset, true);
  return out;
}

export function decodeAck(raw: Uint8Array): bigint {
  const c = new Cursor(raw);
  const offset = c.u64();
  c.end();
  return offset;
}

export function decodeRecord(raw: Uint8Array): MessageRecord {
  const c = new Cursor(raw);
  const head = {
    seq: c.u64(),
    prevSeq: c.u64(),
    ordinal: c.num(),
    messageId: c.bytes(16),
    clientMsgId: c.bytes(16),
    sendTsMs: c.num(),
    storedTsMs: c.num(),
    messageType: c.u8(),
    flags: c.u8(),
  };
  const [chatLength, senderLength, deviceLength] = [c.u8(), c.u8(), c.u8()];
  c.bytes(3);
  const bodyLength = c.u32();
  const chat = c.text(chatLength);
  const sender = c.text(senderLength);
  const senderDevice = c.text(deviceLength);
  const body = c.bytes(bodyLength);
  c.end();
  if (!isChatId(chat)) throw new WireError("a message of no chat");
  return { ...head, chat, sender, senderDevice, body };
}

/** The server's side of decodeRecord: the tests' peer writes with it. */
export function encodeRecord(record: MessageRecord): Uint8Array {
  const parts = [record.chat, record.sender, record.senderDevice].map(encodeText);
  const variable = [...parts, record.body];
  const total = variable.reduce((sum, part) => sum + part.length, RECORD_FIXED_BYTES);
  const out = new Uint8Array(total);
  const view = new DataView(out.buffer);
  view.setBigUint64(0, record.seq, true);
  view.setBigUint64(8, record.prevSeq, true);
  view.setBigUint64(16, BigInt(record.ordinal), true);
  out.set(record.messageId, 24);
  out.set(record.clientMsgId, 40);
  view.setBigUint64(56, BigInt(record.sendTsMs), true);
  view.setBigUint64(64, BigInt(record.storedTsMs), true);
  view.setUint8(72, record.messageType);
  view.setUint8(73, record.flags);
  parts.forEach((part, i) => view.setUint8(74 + i, part.length));
  view.setUint32(80, record.body.length, true);
  let at = RECORD_FIXED_BYTES;
  for (const part of variable) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

export function decodeDeliver(raw: Uint8Array): Deliver {
  const c = new Cursor(raw);
  const offset = c.u64();
  const envelopeLength = c.u16();
  const flags = c.u16();
  c.u32();
  const envelope = c.bytes(envelopeLength);
  return { offset, replayed: (flags & 1) === 1, ackLater: (flags & 2) === 2, envelope, record: decodeRecord(c.rest()) };
}

/** The server's side of decodeDeliver: the tests' peer writes with it. */
export function encodeDeliver(deliver: Deliver): Uint8Array {
  const record = encodeRecord(deliver.record);
  const out = new Uint8Array(DELIVER_PREFIX_BYTES + deliver.envelope.length + record.length);
  const view = new DataView(out.buffer);
  view.setBigUint64(0, deliver.offset, true);
  view.setUint16(8, deliver.envelope.length, true);
  view.setUint16(10, (deliver.replayed ? 1 : 0) | (deliver.ackLater ? 2 : 0), true);
  out.set(deliver.envelope, DELIVER_PREFIX_BYTES);
  out.set(record, DELIVER_PREFIX_BYTES + deliver.envelope.length);
  return out;
}
