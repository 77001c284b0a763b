//! Bounds of the protocol that a client must know; the server's own are in Welcome.limits.

/** Whole frame, header included, bytes. */
export const FRAME_BYTES_MAX = 65_536;
/** Fixed frame header, bytes. */
export const FRAME_HEADER_BYTES = 8;
/** Payload of one message, bytes. */
export const BODY_BYTES_MAX = 61_440;
/** Sends of one session without a result, unless Welcome says otherwise. */
export const SENDS_IN_FLIGHT_MAX = 64;
/** Unanswered Sync requests of one session. */
export const SYNCS_IN_FLIGHT_MAX = 4;
/** Messages in one SyncPage, at most. */
export const SYNC_LIMIT_MAX = 256;
/** Messages in one SyncPage when the client does not say. */
export const SYNC_LIMIT_DEFAULT = 64;
/** Users in one Watch. */
export const WATCH_USERS_MAX = 256;
/** Chats in one Watch. */
export const WATCH_CHATS_MAX = 64;
/** A chat id, bytes. */
export const CHAT_ID_BYTES_MAX = 132;
/** Lanes of a group in relaxed order; their numbers are below. */
export const LANES_MAX = 64;
/** A client whose Send was Queued sends it again after this, milliseconds. */
export const QUEUED_RETRY_MS = 60_000;
/** How long the server remembers a client_msg_id, milliseconds. */
export const DEDUP_WINDOW_MS = 7 * 24 * 3_600 * 1_000;
/** A typing notice expires after this, milliseconds. */
export const TYPING_TTL_MS = 5_000;
/** Heartbeat interval when Welcome names none, milliseconds. */
export const HEARTBEAT_MS_DEFAULT = 30_000;
/** Ack{offset} that adopts Welcome.head after a sync. */
export const ACK_ADOPT = 0xffff_ffff_ffff_ffffn;
/** The WebSocket subprotocol of this codec. */
export const SUBPROTOCOL = "hawser.v1";
