//! Scenarios in virtual time.

use super::session::{Now, Offer, Session, Settings, Start, UserRates};
use super::{Action, Rate, SpareWindows};
use crate::codes::{CloseCode, ErrorCode};
use crate::frame::{Ack, ClientFrame, FrameError, FrameType, ServerFrame};
use crate::ids::{ChatId, ClientMsgId, Seq};
use crate::lanes::Lanes;
use crate::limits::{SENDS_IN_FLIGHT_MAX, SYNCS_IN_FLIGHT_MAX, WATCH_USERS_MAX};
use crate::message::{MessageType, Send};
use crate::pb;
use bytes::Bytes;

const HEARTBEAT: u64 = 30_000;
const TOKEN_MS: u64 = 3_600_000;
const WALL: u64 = 1_700_000_000_000;

const SETTINGS: Settings = Settings {
    heartbeat_ms: HEARTBEAT,
    window_frames: 4,
    window_bytes: 1_000,
    sends_per_second: 1_000,
    sends_burst: 1_000,
    bytes_per_second: 1 << 20,
};

/// A session and its clock.
struct Bench {
    session: Session,
    rates: UserRates,
    settings: Settings,
    now: Now,
}

impl Bench {
    fn new(start: Start) -> Self {
        let now = Now {
            ms: 1_000,
            wall_ms: WALL,
        };
        Self {
            session: Session::new(&SETTINGS, start, 0, WALL + TOKEN_MS, now),
            rates: UserRates::default(),
            settings: SETTINGS,
            now,
        }
    }

    fn live() -> Self {
        Self::live_from(100)
    }

    fn live_from(offset: u64) -> Self {
        let mut bench = Self::new(Start::Resumed(offset));
        assert_eq!(bench.session.at_end(offset), Some(offset));
        bench
    }

    fn pass(&mut self, ms: u64) {
        self.now.ms += ms;
        self.now.wall_ms += ms;
    }

    fn frame(&mut self, frame: ClientFrame) -> Vec<Action> {
        let mut out = Vec::new();
        self.session
            .frame(&self.settings, &mut self.rates, frame, self.now, &mut out);
        out
    }

    fn ack(&mut self, offset: u64) -> Vec<Action> {
        self.frame(ClientFrame::Ack(Ack { offset }))
    }

    fn timeout(&mut self) -> Vec<Action> {
        let mut out = Vec::new();
        self.session.timeout(self.now, &mut out);
        out
    }

    fn offer(&mut self, offset: u64) -> Offer {
        self.session.offer(&self.settings, offset, true)
    }

    /// Offers a message and, where it goes out, notes it.
    fn push(&mut self, offset: u64, bytes: usize, message: Option<(ChatId, Seq)>) -> Offer {
        let offer = self.offer(offset);
        if offer == Offer::Send {
            self.session.delivered(offset, bytes, message);
        }
        offer
    }

    fn reading(&self) -> Option<u64> {
        self.session.reading(&self.settings)
    }
}

fn chat(name: &str) -> ChatId {
    ChatId::new(name).expect("a chat")
}

fn id(n: u8) -> ClientMsgId {
    let mut id = [0; 16];
    id[6] = 0x70;
    id[8] = 0x80;
    id[15] = n;
    ClientMsgId(id)
}

fn send(n: u8) -> Send {
    Send {
        client_msg_id: id(n),
        send_ts_ms: 0,
        message_type: MessageType::TEXT,
        retry: false,
        chat: chat("g:a"),
        body: Bytes::from_static(b"hello"),
        envelopes: Vec::new(),
    }
}

fn close_code(actions: &[Action]) -> Option<u16> {
    actions.iter().find_map(|action| match action {
        Action::Close { code, .. } => Some(*code),
        _ => None,
    })
}

/// Codes of Error frames, SendResults and SyncPages, in order.
fn codes(actions: &[Action]) -> Vec<ErrorCode> {
    let code = |action: &Action| {
        let Action::Reply(frame) = action else {
            return None;
        };
        let code = match &**frame {
            ServerFrame::Error(e) => e.code,
            ServerFrame::SendResult(r) => r.error,
            ServerFrame::SyncPage(p) => p.error,
            _ => return None,
        };
        ErrorCode::from_number(u16::try_from(code).expect("a code"))
    };
    actions.iter().filter_map(code).collect()
}

fn appends(actions: &[Action]) -> usize {
    let append = |a: &&Action| matches!(a, Action::Append(_));
    actions.iter().filter(append).count()
}

#[test]
fn a_resumed_session_reads_then_is_caught_up_once_then_live() {
    let mut bench = Bench::new(Start::Resumed(7));
    assert_eq!(bench.reading(), Some(7));
    assert!(bench.session.replaying());
    assert_eq!(bench.offer(9), Offer::Later, "live never mixes with replay");
    bench.session.delivered(8, 10, None);
    assert_eq!(bench.reading(), Some(9));
    bench.session.delivered(9, 10, None);
    assert_eq!(bench.session.at_end(12), Some(12));
    assert_eq!(bench.session.at_end(12), None);
    assert_eq!((bench.reading(), bench.session.replaying()), (None, false));
    assert_eq!(bench.offer(11), Offer::Old, "the end had passed it");
    assert_eq!(bench.offer(12), Offer::Send);
}

#[test]
fn a_session_without_a_past_waits_at_the_head_until_it_is_adopted() {
    let mut bench = Bench::new(Start::Head(40));
    assert_eq!(bench.reading(), None);
    assert_eq!(bench.offer(40), Offer::Syncing);
    assert_eq!(bench.session.at_end(41), None);
    assert_eq!(bench.ack(12), [], "an old offset says nothing");
    assert_eq!(bench.ack(Ack::ADOPT), [Action::Cursor { offset: 39 }]);
    assert_eq!(bench.ack(Ack::ADOPT), [], "idempotent");
    assert_eq!(bench.reading(), Some(40));
    assert_eq!(bench.session.at_end(41), Some(41));
    assert_eq!(bench.offer(41), Offer::Send);
}

#[test]
fn live_only_adopts_by_itself() {
    let mut bench = Bench::new(Start::Live(40));
    assert_eq!(bench.reading(), Some(40));
    assert_eq!(bench.session.at_end(40), Some(40));
    assert_eq!(bench.offer(40), Offer::Send);
}

#[test]
fn past_its_window_a_session_is_an_offset_until_acks_come() {
    let mut bench = Bench::live();
    for offset in 100..104 {
        assert_eq!(bench.push(offset, 10, None), Offer::Send);
    }
    assert_eq!(bench.push(104, 10, None), Offer::Later);
    assert!(bench.session.lagging());
    assert_eq!(bench.push(105, 10, None), Offer::Later);
    assert_eq!(bench.reading(), None, "the window is full");
    assert_eq!(bench.ack(101), [Action::Cursor { offset: 101 }]);
    assert_eq!(bench.reading(), Some(104));
    bench.session.delivered(104, 10, None);
    bench.session.delivered(105, 10, None);
    assert_eq!(bench.session.at_end(106), None, "no second CaughtUp");
    assert!(!bench.session.lagging());
}

#[test]
fn an_ack_becomes_one_watermark_per_chat() {
    let mut bench = Bench::live();
    for (offset, of, seq) in [(100, "g:a", 30), (101, "g:b", 7), (102, "g:a", 31)] {
        bench.push(offset, 10, Some((chat(of), Seq(seq))));
    }
    let up_to = |of: &str, seq| Action::Delivered {
        chat: chat(of),
        seq: Seq(seq),
    };
    let cursor = Action::Cursor { offset: 102 };
    assert_eq!(bench.ack(102), [up_to("g:a", 31), up_to("g:b", 7), cursor]);
}

#[test]
fn a_window_is_lent_while_there_is_something_to_acknowledge() {
    let (mut bench, mut spare) = (Bench::live(), SpareWindows::default());
    for offset in [100, 101] {
        assert_eq!(bench.offer(offset), Offer::Send);
        bench.session.delivered_with(&mut spare, offset, 10, None);
    }
    bench.ack(100);
    bench.session.return_window(&mut spare);
    assert_eq!(bench.session.unacknowledged(), (1, 10), "it is kept");
    bench.ack(101);
    bench.session.return_window(&mut spare);
    assert!(bench.session.waiting.is_none());
    assert_eq!(bench.session.unacknowledged(), (0, 0));
}

#[test]
fn the_window_is_bounded_by_bytes_too_and_a_large_frame_still_passes() {
    let mut bench = Bench::live();
    assert_eq!(bench.push(100, 60_000, None), Offer::Send);
    assert_eq!(bench.push(101, 10, None), Offer::Later);
    bench.ack(100);
    assert_eq!(bench.reading(), Some(101));
}

#[test]
fn a_full_socket_makes_a_session_read_later_from_the_same_place() {
    let mut bench = Bench::live();
    let offer = bench.session.offer(&SETTINGS, 100, false);
    assert_eq!(offer, Offer::Later);
    assert_eq!(bench.reading(), Some(100));
}

#[test]
fn an_ack_moves_the_cursor_and_becomes_delivered_watermarks() {
    let mut bench = Bench::live();
    bench.push(100, 10, Some((chat("g:a"), Seq(5))));
    bench.push(101, 10, Some((chat("g:b"), Seq(9))));
    bench.push(103, 10, Some((chat("g:a"), Seq(6))));
    let mark = |name: &str, seq| Action::Delivered {
        chat: chat(name),
        seq: Seq(seq),
    };
    let expected = [
        mark("g:a", 5),
        mark("g:b", 9),
        Action::Cursor { offset: 102 },
    ];
    assert_eq!(bench.ack(102), expected);
    assert_eq!(bench.ack(101), [], "cumulative");
    let ping = bench.frame(ClientFrame::Ping(pb::Ping {
        offset: Some(103),
        client_time_ms: 5,
    }));
    let expected = [
        mark("g:a", 6),
        Action::Cursor { offset: 103 },
        Action::Pong { client_time_ms: 5 },
    ];
    assert_eq!(ping, expected);
}

#[test]
fn ack_ahead_of_send_closes() {
    for frame in [
        ClientFrame::Ack(Ack { offset: 101 }),
        ClientFrame::Ping(pb::Ping {
            offset: Some(u64::MAX - 1),
            client_time_ms: 0,
        }),
    ] {
        let mut bench = Bench::live();
        bench.push(100, 10, None);
        let actions = bench.frame(frame);
        assert_eq!(codes(&actions), [ErrorCode::AckAhead]);
        assert_eq!(close_code(&actions), Some(CloseCode::AckAhead.number()));
        assert_eq!(bench.ack(100), [], "nothing after the close");
    }
}

#[test]
fn an_ack_of_the_edges_own_answer_on_an_empty_log_says_nothing() {
    let mut bench = Bench::live_from(0);
    assert_eq!(bench.ack(0), []);
    bench.push(0, 10, None);
    assert_eq!(bench.ack(0), [Action::Cursor { offset: 0 }]);
}

#[test]
fn a_second_hello_and_bye_close_each_with_its_code() {
    let mut bench = Bench::live();
    let actions = bench.frame(ClientFrame::Hello(pb::Hello::default()));
    assert_eq!(codes(&actions), [ErrorCode::HelloRepeated]);
    assert_eq!(
        close_code(&actions),
        Some(CloseCode::ProtocolError.number())
    );
    let bye = Bench::live().frame(ClientFrame::Bye(pb::Bye::default()));
    assert_eq!((codes(&bye), close_code(&bye)), (vec![], Some(1000)));
}

#[test]
fn a_frame_type_of_a_later_version_is_ignored() {
    let mut bench = Bench::live();
    assert_eq!(bench.frame(ClientFrame::Unknown(FrameType(0x55))), []);
}

#[test]
fn sends_are_appended_up_to_the_bound_in_flight() {
    let mut bench = Bench::live();
    for n in 0..SENDS_IN_FLIGHT_MAX {
        let n = u8::try_from(n).expect("small");
        assert_eq!(appends(&bench.frame(ClientFrame::Send(send(n)))), 1);
    }
    let over = bench.frame(ClientFrame::Send(send(200)));
    assert_eq!(codes(&over), [ErrorCode::TooManyInFlight]);
    let again = bench.frame(ClientFrame::Send(send(3)));
    assert_eq!(appends(&again), 1, "a retry of one in flight is no new one");
    assert!(bench.session.queued(id(3)).is_some());
    bench.session.answered(id(3));
    assert!(
        bench.session.queued(id(3)).is_none(),
        "no Queued after the result"
    );
    assert_eq!(appends(&bench.frame(ClientFrame::Send(send(200)))), 1);
}

#[test]
fn a_send_does_not_overtake_one_of_its_lane_that_went_to_the_groups_own() {
    let mut bench = Bench::live();
    let lanes = Lanes::new(2, 0).expect("a power of two");
    let of = |lane| (0..=u8::MAX).filter(move |n| lanes.of(&id(*n)) == lane);
    let numbers: Vec<u8> = of(1).take(4).collect();
    let own = of(0).next().expect("one of the group's own lane");
    for n in numbers.iter().chain([&own]) {
        bench.frame(ClientFrame::Send(send(*n)));
    }
    let mut lane = |n, lanes: Option<&Lanes>| bench.session.lane(&id(n), lanes);
    assert_eq!(lane(own, Some(&lanes)), 0);
    assert_eq!(lane(numbers[0], Some(&lanes)), 1, "its own");
    assert_eq!(lane(numbers[1], None), 0, "not known yet");
    assert_eq!(lane(numbers[2], Some(&lanes)), 0, "behind that one");
    bench.session.answered(id(numbers[1]));
    let mut lane = |n| bench.session.lane(&id(n), Some(&lanes));
    assert_eq!(lane(numbers[3]), 0, "behind the one behind it");
    for n in [numbers[2], numbers[3]] {
        bench.session.answered(id(n));
    }
    assert_eq!(bench.session.lane(&id(numbers[0]), Some(&lanes)), 1);
}

#[test]
fn what_the_edge_can_judge_never_reaches_the_log() {
    let mut no_v7 = send(1);
    no_v7.client_msg_id = ClientMsgId([0; 16]);
    let mut membership = send(1);
    membership.message_type = MessageType::MEMBERSHIP;
    for (send, code) in [
        (no_v7, ErrorCode::BadClientMsgId),
        (membership, ErrorCode::Forbidden),
    ] {
        let actions = Bench::live().frame(ClientFrame::Send(send));
        assert_eq!((appends(&actions), codes(&actions)), (0, vec![code]));
    }
}

#[test]
fn too_fast_is_answered_with_a_hint_and_who_does_not_listen_is_closed() {
    let mut bench = Bench::live();
    bench.settings.sends_burst = 2;
    bench.settings.sends_per_second = 10;
    let mut codes_seen = Vec::new();
    let mut closed = None;
    for n in 0..=202_u8 {
        let actions = bench.frame(ClientFrame::Send(send(n)));
        codes_seen.extend(codes(&actions));
        closed = closed.or(close_code(&actions));
        bench.session.answered(id(n));
    }
    assert_eq!(codes_seen.len(), 200);
    assert!(codes_seen.iter().all(|c| *c == ErrorCode::RateLimited));
    assert_eq!(closed, Some(CloseCode::RateLimited.number()));

    let mut bench = Bench::live();
    bench.settings.sends_burst = 2;
    bench.settings.sends_per_second = 10;
    for n in 0..3 {
        bench.frame(ClientFrame::Send(send(n)));
    }
    let Some(Action::Reply(reply)) = bench.frame(ClientFrame::Send(send(9))).pop() else {
        panic!("an answer")
    };
    let ServerFrame::SendResult(result) = *reply else {
        panic!("a result")
    };
    assert_eq!(result.retry_after_ms, 100);
    bench.pass(100);
    assert_eq!(appends(&bench.frame(ClientFrame::Send(send(9)))), 1);
}

#[test]
fn f24_a_users_rates_outlive_a_session_and_are_shared_by_devices() {
    let mut phone = Bench::live();
    phone.settings.sends_burst = 3;
    phone.settings.sends_per_second = 10;
    for n in 0..3 {
        assert_eq!(appends(&phone.frame(ClientFrame::Send(send(n)))), 1);
    }
    let mut tablet = Bench {
        rates: phone.rates,
        settings: phone.settings,
        ..Bench::live()
    };
    assert_eq!(appends(&tablet.frame(ClientFrame::Send(send(3)))), 0);
    assert!(!tablet.rates.is_full(1_299));
    assert!(tablet.rates.is_full(1_300));
    tablet.rates = UserRates::unknown(&SETTINGS, 1_000);
    tablet.settings = SETTINGS;
    assert_eq!(appends(&tablet.frame(ClientFrame::Send(send(4)))), 1);
}

#[test]
fn f24_who_is_not_known_begins_with_a_seconds_worth() {
    let mut bench = Bench::live();
    bench.settings.sends_burst = 40;
    bench.settings.sends_per_second = 10;
    bench.rates = UserRates::unknown(&bench.settings, bench.now.ms);
    let mut sent = 0;
    for n in 0..40 {
        sent += appends(&bench.frame(ClientFrame::Send(send(n))));
        bench.session.answered(id(n));
    }
    assert_eq!(sent, 10);
}

#[test]
fn bytes_above_the_rate_pause_the_receiving() {
    let mut bench = Bench::live();
    let Bench {
        session,
        rates,
        now,
        ..
    } = &mut bench;
    let mut heard = |bytes| session.heard(&SETTINGS, rates, bytes, *now);
    assert_eq!(heard(4 << 20), 0);
    assert!((500..=501).contains(&heard(1 << 19)));
    assert_eq!(Rate::default(), Rate::default());
}

#[test]
fn syncs_are_bounded_and_refused_inside_their_page() {
    let sync = |n| {
        ClientFrame::Sync(pb::Sync {
            sync_id: n,
            chat: "g:a".to_owned(),
            ..pb::Sync::default()
        })
    };
    let mut bench = Bench::live();
    for n in 0..SYNCS_IN_FLIGHT_MAX {
        let n = u32::try_from(n).expect("small");
        assert!(matches!(bench.frame(sync(n))[..], [Action::Sync(_)]));
    }
    let over = bench.frame(sync(99));
    assert_eq!(codes(&over), [ErrorCode::TooMany]);
    bench.session.synced();
    assert!(matches!(bench.frame(sync(100))[..], [Action::Sync(_)]));
}

#[test]
fn ids_of_no_allowed_form_and_too_many_of_them_are_errors_not_closes() {
    let cases = [
        (ClientFrame::Typing(pb::Typing::default()), ErrorCode::BadId),
        (
            ClientFrame::Receipt(pb::Receipt {
                chat: "nonsense".to_owned(),
                ..pb::Receipt::default()
            }),
            ErrorCode::BadId,
        ),
        (
            ClientFrame::Watch(pb::Watch {
                users: vec!["a b".to_owned()],
                chats: Vec::new(),
            }),
            ErrorCode::BadId,
        ),
        (
            ClientFrame::Watch(pb::Watch {
                users: vec!["a".to_owned(); WATCH_USERS_MAX + 1],
                chats: Vec::new(),
            }),
            ErrorCode::TooMany,
        ),
    ];
    for (frame, code) in cases {
        let actions = Bench::live().frame(frame);
        assert_eq!((codes(&actions), close_code(&actions)), (vec![code], None));
    }
}

#[test]
fn bytes_that_are_no_frame_are_an_error_and_a_close_where_the_stream_is_out_of_step() {
    let cases = [
        (FrameError::Truncated, Some(CloseCode::ProtocolError)),
        (
            FrameError::TooLarge { len: 70_000 },
            Some(CloseCode::FrameTooLarge),
        ),
        (FrameError::BodyTooLarge { len: 62_000 }, None),
        (FrameError::Unexpected(0x85), None),
    ];
    for (fault, close) in cases {
        let mut bench = Bench::live();
        let mut out = Vec::new();
        bench.session.malformed(&fault, FrameType::SEND, &mut out);
        assert_eq!(codes(&out), [fault.code()]);
        assert_eq!(close_code(&out), close.map(CloseCode::number));
    }
}

#[test]
fn silence_of_one_and_a_half_heartbeats_closes() {
    let mut bench = Bench::live();
    assert_eq!(
        bench.session.next_timeout(bench.now),
        bench.now.ms + HEARTBEAT * 3 / 2
    );
    bench.pass(HEARTBEAT);
    bench
        .session
        .heard(&SETTINGS, &mut bench.rates, 1, bench.now);
    bench.pass(HEARTBEAT * 3 / 2 - 1);
    assert_eq!(bench.timeout(), [], "a spurious timeout is a no-op");
    bench.pass(1);
    assert_eq!(
        close_code(&bench.timeout()),
        Some(CloseCode::IdleTimeout.number())
    );
    assert_eq!(bench.timeout(), [], "once");
}

#[test]
fn an_expired_token_closes_unless_it_was_refreshed() {
    let mut bench = Bench::live();
    let mut out = Vec::new();
    bench.session.token_accepted(WALL + 2 * TOKEN_MS, &mut out);
    assert!(matches!(&out[..], [Action::Reply(f)] if matches!(**f, ServerFrame::TokenAccepted(_))));
    bench.pass(TOKEN_MS);
    bench
        .session
        .heard(&SETTINGS, &mut bench.rates, 1, bench.now);
    assert_eq!(bench.timeout(), []);
    bench.pass(TOKEN_MS);
    bench
        .session
        .heard(&SETTINGS, &mut bench.rates, 1, bench.now);
    let actions = bench.timeout();
    assert_eq!(codes(&actions), [ErrorCode::TokenExpired]);
    assert_eq!(close_code(&actions), Some(CloseCode::TokenExpired.number()));
}

#[test]
fn a_clock_that_jumps_is_noticed_within_a_minute() {
    let mut bench = Bench::live();
    bench.now.wall_ms += 10 * TOKEN_MS;
    assert!(bench.session.next_timeout(bench.now) <= bench.now.ms + 60_000);
    let actions = bench.timeout();
    assert_eq!(close_code(&actions), Some(CloseCode::TokenExpired.number()));
}

#[test]
fn heartbeats_are_as_wished_within_the_bounds() {
    for (wished, got) in [
        (0, 30_000),
        (1, 5_000),
        (60_000, 60_000),
        (u32::MAX, 300_000),
    ] {
        let now = Now { ms: 0, wall_ms: 0 };
        let session = Session::new(&SETTINGS, Start::Head(0), wished, 1, now);
        assert_eq!(session.heartbeat_ms(), got);
    }
}

#[test]
fn a_refused_refresh_leaves_the_session_as_it_is() {
    let mut bench = Bench::live();
    let refresh = |len| {
        ClientFrame::RefreshToken(pb::RefreshToken {
            token: "x".repeat(len),
        })
    };
    assert!(matches!(
        bench.frame(refresh(10))[..],
        [Action::VerifyToken(_)]
    ));
    let actions = bench.frame(refresh(10_000));
    assert_eq!(codes(&actions), [ErrorCode::Unauthenticated]);
    assert_eq!(close_code(&actions), None);
}

#[test]
fn a_session_whose_records_are_read_elsewhere_goes_on_where_it_was() {
    // Live, and everything below 120 was offered: its own last record is long ago.
    let mut bench = Bench::live();
    bench.session.read_anew(120);
    assert_eq!(bench.session.reading(&SETTINGS), Some(120));
    assert_eq!(bench.session.offer(&SETTINGS, 119, true), Offer::Old);
    assert_eq!(bench.session.offer(&SETTINGS, 900, true), Offer::Later);
    assert!(!bench.session.replaying(), "no second CaughtUp is owed");
    assert_eq!(bench.session.at_end(900), None);
    assert_eq!(bench.session.offer(&SETTINGS, 900, true), Offer::Send);
    // One that was behind has its place, one that syncs its head.
    let mut bench = Bench::new(Start::Resumed(100));
    bench.session.read_anew(120);
    assert_eq!(bench.session.reading(&SETTINGS), Some(100));
    let mut bench = Bench::new(Start::Head(100));
    bench.session.read_anew(120);
    assert_eq!(bench.session.offer(&SETTINGS, 900, true), Offer::Syncing);
    bench.ack(Ack::ADOPT);
    assert_eq!(bench.session.reading(&SETTINGS), Some(100));
}
