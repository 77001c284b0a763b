//! Error codes and close codes: stable numbers, their bands, their reconnect policy.
//! `docs/errors.md` says cause and remedy of each and is checked against these enums.

macro_rules! codes {
    ($(#[$meta:meta])* $name:ident: $repr:ty { $($(#[$doc:meta])* $variant:ident = $num:literal, $text:literal;)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr($repr)]
        pub enum $name { $($(#[$doc])* $variant = $num,)* }

        impl $name {
            /// Every code, in numeric order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The number on the wire.
            #[must_use]
            pub fn number(self) -> $repr {
                self as $repr
            }

            /// The stable snake_case name, as JSON frames and documents write it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The code of a number; `None` for one this version does not know.
            #[must_use]
            pub fn from_number(number: $repr) -> Option<Self> {
                match number { $($num => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

codes! {
    /// Code in `Error`, `SendResult` and `SyncPage`.
    ErrorCode: u16 {
        /// Bytes that are no frame.
        BadFrame = 1, "bad_frame";
        /// Frame above `FRAME_BYTES_MAX`.
        FrameTooLarge = 2, "frame_too_large";
        /// Payload above `BODY_BYTES_MAX`.
        BodyTooLarge = 3, "body_too_large";
        /// User, device or chat id of no allowed form.
        BadId = 4, "bad_id";
        /// `client_msg_id` is no UUIDv7 or is stamped too far ahead.
        BadClientMsgId = 5, "bad_client_msg_id";
        /// First frame was not Hello.
        HelloExpected = 6, "hello_expected";
        /// Hello came a second time.
        HelloRepeated = 7, "hello_repeated";
        /// Ack beyond what was sent.
        AckAhead = 8, "ack_ahead";
        /// More envelopes, watches or syncs than allowed.
        TooMany = 9, "too_many";
        /// Frame of a type that clients do not send.
        UnexpectedFrame = 10, "unexpected_frame";
        /// No or no valid token.
        Unauthenticated = 20, "unauthenticated";
        /// Token expired.
        TokenExpired = 21, "token_expired";
        /// Token, device or user revoked.
        Revoked = 22, "revoked";
        /// Device differs from the token's.
        DeviceMismatch = 23, "device_mismatch";
        /// Not allowed to do this.
        Forbidden = 24, "forbidden";
        /// Chat does not exist, or is none of yours: the two are not told apart.
        NotMember = 30, "not_member";
        /// History outside your membership.
        NotVisible = 31, "not_visible";
        /// `client_msg_id` is older than the dedup window.
        TooOld = 32, "too_old";
        /// Not found, or not yours.
        NotFound = 33, "not_found";
        /// The change contradicts the present state (already a member, last admin leaves, ...).
        Conflict = 34, "conflict";
        /// A group would exceed `GROUP_MEMBERS_MAX`.
        GroupFull = 35, "group_full";
        /// Above the rate limit.
        RateLimited = 40, "rate_limited";
        /// More than `SENDS_IN_FLIGHT_MAX` sends without a result.
        TooManyInFlight = 41, "too_many_in_flight";
        /// The node sheds load.
        Overloaded = 42, "overloaded";
        /// The log or store cannot be reached: nothing was accepted.
        Unavailable = 43, "unavailable";
        /// The outcome is unknown: retry with the same client_msg_id.
        UnknownOutcome = 44, "unknown_outcome";
        /// Our fault.
        Internal = 50, "internal";
    }
}

impl ErrorCode {
    /// Whether the same request may be sent again (after `retry_after_ms`).
    #[must_use]
    pub fn may_retry(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::TooManyInFlight
                | Self::Overloaded
                | Self::Unavailable
                | Self::UnknownOutcome
                | Self::Internal
        )
    }
}

codes! {
    /// WebSocket close codes that Hawser sends besides RFC 6455's 1000, 1001, 1002, 1007, 1009, 1011.
    CloseCode: u16 {
        /// Broke the frame protocol.
        ProtocolError = 4000, "protocol_error";
        /// Token refused.
        BadToken = 4001, "bad_token";
        /// Device is not the token's.
        DeviceMismatch = 4002, "device_mismatch";
        /// User, device or token revoked.
        Revoked = 4003, "revoked";
        /// Frame above the limit.
        FrameTooLarge = 4004, "frame_too_large";
        /// Ack beyond what was sent.
        AckAhead = 4005, "ack_ahead";
        /// Token expired, on connect or on a live session.
        TokenExpired = 4100, "token_expired";
        /// The node sheds load.
        Overloaded = 4200, "overloaded";
        /// Far above the rate limit.
        RateLimited = 4201, "rate_limited";
        /// No complete Hello within 8 s.
        HelloTimeout = 4202, "hello_timeout";
        /// No ping for 1.5 heartbeats.
        IdleTimeout = 4203, "idle_timeout";
        /// Unsent bytes did not drain for 60 s; the cursor lives.
        SlowReader = 4204, "slow_reader";
        /// An engine behind the edge cannot serve this session now.
        Unavailable = 4205, "unavailable";
        /// The user's sessions moved, or the node drains.
        Moved = 4300, "moved";
        /// The same device opened a newer session.
        Displaced = 4301, "displaced";
    }
}

/// What a client does after a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconnectPolicy {
    /// Do not reconnect: the program or its token is wrong.
    Never,
    /// Fetch a new token, then reconnect.
    AfterNewToken,
    /// Reconnect after full-jitter backoff.
    BackOff,
    /// Reconnect now (first try without delay, then back off).
    AtOnce,
}

impl ReconnectPolicy {
    /// The policy of any close code, RFC 6455's included: bands 40xx never, 41xx new token,
    /// 42xx back off, 43xx at once.
    #[must_use]
    pub fn of_close(code: u16) -> Self {
        match code {
            4000..=4099 | 1002 | 1003 | 1007 | 1008 | 1009 | 1010 => Self::Never,
            4100..=4199 => Self::AfterNewToken,
            4300..=4399 | 1001 => Self::AtOnce,
            _ => Self::BackOff,
        }
    }
}
