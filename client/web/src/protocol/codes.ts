//! Error codes and close codes, and what a client does about each.

/** Codes of Error, SendResult and SyncPage; names as docs/errors.md writes them. */
export const ERROR_NAMES: Readonly<Record<number, string>> = {
  1: "bad_frame",
  2: "frame_too_large",
  3: "body_too_large",
  4: "bad_id",
  5: "bad_client_msg_id",
  6: "hello_expected",
  7: "hello_repeated",
  8: "ack_ahead",
  9: "too_many",
  10: "unexpected_frame",
  20: "unauthenticated",
  21: "token_expired",
  22: "revoked",
  23: "device_mismatch",
  24: "forbidden",
  30: "not_member",
  31: "not_visible",
  32: "too_old",
  33: "not_found",
  34: "conflict",
  35: "group_full",
  40: "rate_limited",
  41: "too_many_in_flight",
  42: "overloaded",
  43: "unavailable",
  44: "unknown_outcome",
  50: "internal",
};

/** What was asked for lies outside of one's membership. */
export const ERROR_NOT_VISIBLE = 31;
export const ERROR_TOO_OLD = 32;
export const ERROR_UNKNOWN_OUTCOME = 44;

/** Whether the same request may be sent again, after `retryAfterMs`. */
export function mayRetry(code: number): boolean {
  return (code >= 40 && code <= 44) || code === 50;
}

/** What a person is told about a code. */
export function errorText(code: number, text: string): string {
  switch (code) {
    case 3:
      return "The message is too long.";
    case 24:
      return "You are not allowed to do this.";
    case 30:
      return "You are not a member of this chat.";
    case 40:
      return "You are sending too fast.";
    case 42:
    case 43:
      return "The service is busy; it will be tried again.";
    default:
      return text !== "" ? text : (ERROR_NAMES[code] ?? `error ${code}`);
  }
}

export const CLOSE_BAD_TOKEN = 4001;
export const CLOSE_IDLE_TIMEOUT = 4203;
export const CLOSE_MOVED = 4300;
export const CLOSE_DISPLACED = 4301;

/** never again; after a new token; after full-jitter backoff; at once. */
export type ReconnectPolicy = "never" | "new-token" | "back-off" | "at-once";

/** The policy of any WebSocket close code, by bands: 40xx, 41xx, 42xx, 43xx. */
export function policyOfClose(code: number): ReconnectPolicy {
  if (code >= 4000 && code <= 4099) return "never";
  if ([1002, 1003, 1007, 1008, 1009, 1010].includes(code)) return "never";
  if (code >= 4100 && code <= 4199) return "new-token";
  if ((code >= 4300 && code <= 4399) || code === 1001) return "at-once";
  return "back-off";
}
