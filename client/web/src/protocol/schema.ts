//! Control frames: the tables of protocol/proto/hawser.proto.

import { bool, bytes, messages, message, num, optional, repeated, schema, str, u32, u64 } from "./proto";
import type { Infer } from "./proto";

export const Hello = schema({
  token: str(1),
  device: str(2),
  resumeToken: bytes(3),
  lastOffset: optional(u64(4)),
  capabilities: repeated(str(5)),
  client: str(6),
  redirectNever: bool(7),
  liveOnly: bool(8),
  heartbeatMs: u32(9),
});
export type Hello = Infer<typeof Hello>;

export const Receipt = schema({ chat: str(1), deliveredSeq: u64(2), readSeq: u64(3) });
export type Receipt = Infer<typeof Receipt>;

export const Typing = schema({ chat: str(1), stopped: bool(2) });
export type Typing = Infer<typeof Typing>;

export const Watch = schema({ users: repeated(str(1)), chats: repeated(str(2)) });
export type Watch = Infer<typeof Watch>;

export const Sync = schema({
  syncId: u32(1),
  chat: str(2),
  afterOrdinal: num(3),
  limit: u32(4),
  backwards: bool(5),
  cursor: str(6),
});
export type Sync = Infer<typeof Sync>;

export const Ping = schema({ offset: optional(u64(1)), clientTimeMs: num(2) });
export type Ping = Infer<typeof Ping>;

export const RefreshToken = schema({ token: str(1) });
export type RefreshToken = Infer<typeof RefreshToken>;

export const Bye = schema({ reason: str(1) });
export type Bye = Infer<typeof Bye>;

export const Limits = schema({
  frameBytesMax: u32(1),
  bodyBytesMax: u32(2),
  sendsInFlightMax: u32(3),
  windowFrames: u32(4),
  windowBytes: u32(5),
});

export const Welcome = schema({
  session: str(1),
  user: str(2),
  device: str(3),
  serverTimeMs: num(4),
  generation: u32(5),
  partition: u32(6),
  recovered: bool(7),
  head: u64(8),
  resumeToken: bytes(9),
  heartbeatMs: u32(10),
  mapVersion: u32(11),
  tokenExpiresAtMs: num(12),
  limits: message(13, Limits),
  node: str(14),
});
export type Welcome = Infer<typeof Welcome>;

export const Redirect = schema({ url: str(1), mapVersion: u32(2), jitterMs: u32(3) });
export type Redirect = Infer<typeof Redirect>;

export const Queued = schema({ clientMsgId: bytes(1) });
export type Queued = Infer<typeof Queued>;

export const SendResult = schema({
  offset: u64(1),
  clientMsgId: bytes(2),
  chat: str(3),
  error: u32(4),
  messageId: bytes(5),
  seq: u64(6),
  prevSeq: u64(7),
  ordinal: num(8),
  storedTsMs: num(9),
  text: str(10),
  retryAfterMs: u32(11),
  duplicate: bool(12),
});
export type SendResult = Infer<typeof SendResult>;

export const CaughtUp = schema({ offset: u64(1), resumeToken: bytes(2) });
export type CaughtUp = Infer<typeof CaughtUp>;

export const ReceiptUpdate = schema({
  offset: u64(1),
  chat: str(2),
  user: str(3),
  deliveredSeq: u64(4),
  readSeq: u64(5),
  tsMs: num(6),
});
export type ReceiptUpdate = Infer<typeof ReceiptUpdate>;

export const TypingUpdate = schema({
  chat: str(1),
  user: str(2),
  stopped: bool(3),
  expiresInMs: u32(4),
});
export type TypingUpdate = Infer<typeof TypingUpdate>;

export const PRESENCE_ONLINE = 1;
export const PRESENCE_OFFLINE = 2;
export const PresenceUpdate = schema({ user: str(1), state: u32(2), lastSeenMs: num(3) });
export type PresenceUpdate = Infer<typeof PresenceUpdate>;

export const Watermark = schema({ user: str(1), deliveredSeq: u64(2), readSeq: u64(3) });
export type Watermark = Infer<typeof Watermark>;

export const Member = schema({ user: str(1), admin: bool(2) });
export type Member = Infer<typeof Member>;

export const ChatSummary = schema({
  chat: str(1),
  name: str(2),
  lastSeq: u64(3),
  lastOrdinal: num(4),
  readSeq: u64(5),
  members: messages(6, Member),
  memberCount: u32(7),
  visibleAfterOrdinal: num(8),
});
export type ChatSummary = Infer<typeof ChatSummary>;

export const SyncPage = schema({
  syncId: u32(1),
  chat: str(2),
  records: repeated(bytes(3)),
  more: bool(4),
  nextOrdinal: num(5),
  truncatedBefore: num(6),
  watermarks: messages(7, Watermark),
  chats: messages(8, ChatSummary),
  nextCursor: str(9),
  error: u32(10),
  text: str(11),
});
export type SyncPage = Infer<typeof SyncPage>;

export const Relocate = schema({ url: str(1), slotMs: u32(2), deadlineMs: u32(3) });
export type Relocate = Infer<typeof Relocate>;

export const Pong = schema({
  clientTimeMs: num(1),
  serverTimeMs: num(2),
  lag: num(3),
  resumeToken: bytes(4),
});
export type Pong = Infer<typeof Pong>;

export const ErrorFrame = schema({
  code: u32(1),
  text: str(2),
  retryAfterMs: u32(3),
  clientMsgId: bytes(4),
  frameType: u32(5),
});
export type ErrorFrame = Infer<typeof ErrorFrame>;

export const TokenAccepted = schema({ expiresAtMs: num(1) });
export type TokenAccepted = Infer<typeof TokenAccepted>;
