//! One device's conversation with the server: what it has seen, acknowledged and not had answered.

use bytes::Bytes;
use hawser_protocol::frame::{Ack, ClientFrame};
use hawser_protocol::ids::ClientMsgId;
use hawser_protocol::limits::SENDS_IN_FLIGHT_MAX;
use hawser_protocol::pb;
use hawser_ring::Key;

use crate::link::Link;

/// A Ping without a Pong for so long: the connection is lost, milliseconds (docs/protocol.md, section 10).
pub const PONG_MS: u64 = 10_000;
/// Unacknowledged bytes at which an acknowledgement does not wait: a quarter of the server's window.
const UNACKED_BYTES_MAX: usize = hawser_protocol::limits::WINDOW_BYTES / 4;
/// The same for frames: an eighth.
const UNACKED_FRAMES_MAX: usize = hawser_protocol::limits::WINDOW_FRAMES / 8;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Not connected, and not to be yet.
    Waiting,
    /// TCP, TLS, upgrade.
    Connecting,
    /// Hello is sent.
    Greeting,
    /// Welcomed.
    Live,
    /// The server said never to come again.
    Banned,
}

/// A Send without its final answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// The same over all retries.
    pub id: ClientMsgId,
    /// Where to.
    pub conversation: u32,
    /// Its number there.
    pub number: u32,
    /// When the schedule wanted it sent.
    pub due_ns: u64,
    /// Bytes of its body.
    pub body: u32,
    /// It was on the wire before.
    pub retry: bool,
    /// When the latest attempt was put on the wire.
    pub put_ns: u64,
    /// The latest attempt has had an answer: Queued, or a refusal.
    pub answered: bool,
}

/// Place in the delivery log of an answer (SendResult, ReceiptUpdate). One of the edge itself has none, and says 0. So does
/// the log's very first record, which the next one acknowledges: whoever acknowledged a 0 might acknowledge what the session
/// was never sent.
#[must_use]
pub fn place_of(offset: u64) -> Option<u64> {
    (offset != 0).then_some(offset)
}

/// What a session has done since it is to be warm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Warmth {
    /// Its message was scheduled.
    pub asked: bool,
    /// Its message was answered.
    pub answered: bool,
    /// A message came.
    pub delivered: bool,
    /// It pinged after both.
    pub pinged: bool,
    /// The ping was answered.
    pub done: bool,
}

/// One session.
pub struct Session {
    /// Index of the user.
    pub user: u32,
    /// The socket, while there is one.
    pub key: Option<Key>,
    /// What is on the socket.
    pub link: Link,
    /// Bytes to be sent.
    pub out: Vec<u8>,
    /// A send or a wait for room is under way.
    pub sending: bool,
    /// Where it stands.
    pub stage: Stage,
    /// When the connection was begun.
    pub begun_ns: u64,
    /// Rises with each connection, so that timers of an earlier one are told.
    pub epoch: u32,
    /// Attempts since the last success.
    pub attempts: u32,
    /// The server's wish in the last Error that answered no request, milliseconds.
    pub retry_after_ms: u32,
    /// Comes without a past, and is to read history.
    pub fresh: bool,
    /// Which of the gateways it was sent to, until that one cannot be reached.
    pub home: Option<u16>,
    /// The next Hello asks to be served where it is.
    pub stays: bool,
    /// Was welcomed at least once.
    pub was_live: bool,
    /// Lost its place in the log, so that what it missed would have to be synced.
    pub lost_place: bool,
    /// The latest sealed place.
    pub resume: Bytes,
    /// Largest delivery offset seen.
    pub seen: Option<u64>,
    /// Largest acknowledged.
    pub acked: Option<u64>,
    /// Bytes and frames seen and not acknowledged.
    pub unacked: usize,
    unacked_frames: u16,
    /// An acknowledgement is scheduled.
    pub ack_timer: bool,
    /// Agreed on in Welcome.
    pub heartbeat_ms: u32,
    /// When the oldest Ping without a Pong was sent, on the clock of timers, milliseconds.
    pub pinged_ms: Option<u64>,
    /// Oldest first.
    pub in_flight: Vec<InFlight>,
    /// See [`Warmth`].
    pub warmth: Warmth,
}

impl Session {
    /// Of a user, not connected.
    #[must_use]
    pub fn new(user: u32) -> Self {
        Self {
            user,
            key: None,
            link: Link::default(),
            out: Vec::new(),
            sending: false,
            stage: Stage::Waiting,
            begun_ns: 0,
            epoch: 0,
            attempts: 0,
            retry_after_ms: 0,
            fresh: false,
            home: None,
            stays: false,
            was_live: false,
            lost_place: false,
            resume: Bytes::new(),
            seen: None,
            acked: None,
            unacked: 0,
            unacked_frames: 0,
            ack_timer: false,
            heartbeat_ms: 30_000,
            pinged_ms: None,
            in_flight: Vec::new(),
            warmth: Warmth::default(),
        }
    }

    /// The connection is gone; what the session knows stays.
    pub fn disconnected(&mut self) {
        self.key = None;
        self.link = Link::default();
        self.out = Vec::new();
        self.sending = false;
        self.ack_timer = false;
        self.pinged_ms = None;
        self.epoch = self.epoch.wrapping_add(1);
        if self.stage != Stage::Banned {
            self.stage = Stage::Waiting;
        }
        for send in &mut self.in_flight {
            send.retry = true;
        }
    }

    /// The first frame. A session without a past starts at the head of its log.
    #[must_use]
    pub fn hello(&self, token: String, device: &str, heartbeat_ms: u32) -> ClientFrame {
        ClientFrame::Hello(pb::Hello {
            token,
            device: device.to_owned(),
            resume_token: if self.fresh {
                Bytes::new()
            } else {
                self.resume.clone()
            },
            last_offset: self.seen.filter(|_| !self.fresh),
            client: concat!("loadgen/", env!("CARGO_PKG_VERSION")).to_owned(),
            redirect_never: self.stays,
            live_only: !self.fresh,
            heartbeat_ms,
            ..pb::Hello::default()
        })
    }

    /// Welcomed. Says whether the session went on where it was.
    pub fn welcomed(&mut self, welcome: &pb::Welcome) -> bool {
        let resumed = self.was_live;
        self.stage = Stage::Live;
        self.attempts = 0;
        self.retry_after_ms = 0;
        self.stays = false;
        self.was_live = true;
        self.heartbeat_ms = welcome.heartbeat_ms.max(1_000);
        if !welcome.resume_token.is_empty() {
            self.resume = welcome.resume_token.clone();
        }
        if resumed && !welcome.recovered {
            self.lost_place = true;
            self.seen = None;
            self.acked = None;
        }
        welcome.recovered
    }

    /// A frame with a delivery offset came, of so many bytes. Says whether it was new.
    pub fn saw(&mut self, offset: u64, bytes: usize) -> bool {
        let is_new = self.seen.is_none_or(|seen| offset > seen);
        if is_new {
            self.seen = Some(offset);
            self.unacked += bytes;
            self.unacked_frames = self.unacked_frames.saturating_add(1);
        }
        is_new
    }

    /// An acknowledgement is worth its own frame by now.
    #[must_use]
    pub fn must_ack(&self) -> bool {
        self.unacked >= UNACKED_BYTES_MAX || usize::from(self.unacked_frames) >= UNACKED_FRAMES_MAX
    }

    /// The acknowledgement of all that was seen, where it says something new.
    pub fn ack(&mut self) -> Option<ClientFrame> {
        let offset = self.seen?;
        if self.acked.is_some_and(|acked| acked >= offset) {
            return None;
        }
        self.note_acked();
        Some(ClientFrame::Ack(Ack { offset }))
    }

    /// A heartbeat, which acknowledges as well; its Pong is to come within [`PONG_MS`].
    pub fn ping(&mut self, client_time_ms: u64, now_ms: u64) -> ClientFrame {
        self.note_acked();
        self.pinged_ms = self.pinged_ms.or(Some(now_ms));
        ClientFrame::Ping(pb::Ping {
            offset: self.seen,
            client_time_ms,
        })
    }

    /// The connection is lost, though nobody said so: a Ping has no Pong.
    #[must_use]
    pub fn misses_pong(&self, now_ms: u64) -> bool {
        self.pinged_ms
            .is_some_and(|at_ms| now_ms >= at_ms + PONG_MS)
    }

    fn note_acked(&mut self) {
        self.acked = self.seen;
        self.unacked = 0;
        self.unacked_frames = 0;
    }

    /// The server takes one more Send.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.in_flight.len() + 1 < SENDS_IN_FLIGHT_MAX
    }

    /// Notes an attempt.
    pub fn put(&mut self, id: ClientMsgId, now_ns: u64) {
        if let Some(send) = self.in_flight.iter_mut().find(|send| send.id == id) {
            (send.put_ns, send.answered) = (now_ns, false);
        }
    }

    /// The Send of an id as it is after its first answer to the latest attempt; `None` when it had one.
    pub fn first_answer(&mut self, id: &[u8]) -> Option<InFlight> {
        let found = |send: &&mut InFlight| send.id.0.as_slice() == id && !send.answered;
        let send = self.in_flight.iter_mut().find(found)?;
        send.answered = true;
        Some(*send)
    }

    /// The Send that an answer is for, which is then no longer in flight.
    pub fn take_in_flight(&mut self, id: &[u8]) -> Option<InFlight> {
        let place = self
            .in_flight
            .iter()
            .position(|send| send.id.0.as_slice() == id)?;
        let send = self.in_flight.remove(place);
        if self.in_flight.is_empty() {
            self.in_flight = Vec::new();
        }
        Some(send)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn welcome(recovered: bool) -> pb::Welcome {
        pb::Welcome {
            recovered,
            resume_token: Bytes::from_static(b"place"),
            heartbeat_ms: 30_000,
            ..pb::Welcome::default()
        }
    }

    #[test]
    fn acknowledgements_are_cumulative_and_said_once() {
        let mut session = Session::new(0);
        assert_eq!(session.ack(), None);
        assert!(session.saw(0, 10) && session.saw(7, UNACKED_BYTES_MAX));
        assert!(!session.saw(7, 10), "a redelivery");
        assert!(session.must_ack());
        assert_eq!(session.ack(), Some(ClientFrame::Ack(Ack { offset: 7 })));
        assert_eq!(session.ack(), None);
        assert!(session.saw(8, 1) && !session.must_ack());
        let ClientFrame::Ping(ping) = session.ping(5, 0) else {
            panic!()
        };
        assert_eq!(ping.offset, Some(8));
        assert_eq!(session.ack(), None, "the ping said it");
    }

    #[test]
    fn a_pong_is_missed_when_the_oldest_ping_without_one_is_too_old() {
        let mut session = Session::new(0);
        session.ping(0, 1_000);
        session.ping(0, 6_000);
        assert!(!session.misses_pong(999 + PONG_MS) && session.misses_pong(1_000 + PONG_MS));
        session.pinged_ms = None;
        session.ping(0, 11_000);
        assert!(!session.misses_pong(1_000 + PONG_MS), "it was answered");
        session.disconnected();
        assert!(!session.misses_pong(u64::MAX), "there is no connection");
    }

    #[test]
    fn a_reconnect_resumes_and_marks_what_is_in_flight_as_retries() {
        let mut session = Session::new(0);
        assert!(!session.welcomed(&welcome(false)));
        assert!(
            !session.lost_place,
            "the first time there is no place to lose"
        );
        session.saw(4, 1);
        session.in_flight.push(InFlight {
            id: ClientMsgId([3; 16]),
            conversation: 0,
            number: 1,
            due_ns: 0,
            body: 0,
            retry: false,
            put_ns: 0,
            answered: false,
        });
        session.disconnected();
        let ClientFrame::Hello(hello) = session.hello("t".to_owned(), "d", 0) else {
            panic!()
        };
        assert_eq!(
            (&*hello.resume_token, hello.last_offset),
            (b"place".as_slice(), Some(4))
        );
        assert!(session.welcomed(&welcome(true)));
        assert!(!session.lost_place);
        let send = session.take_in_flight(&[3; 16]).expect("in flight");
        assert!(send.retry);
        session.disconnected();
        assert!(!session.welcomed(&welcome(false)));
        assert!(session.lost_place);
    }
}
