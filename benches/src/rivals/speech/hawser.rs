//! Hawser's session protocol (docs/protocol.md): a live-only session that acknowledges as Hawser's own client does.

use bytes::Bytes;
use hawser_loadgen::engine::wall_ms;
use hawser_loadgen::tokens::Signer;
use hawser_protocol::frame::{
    Ack as AckFrame, ClientFrame, DeliverFlags, FrameType, ServerFrame, split,
};
use hawser_protocol::ids::{ChatId, ClientMsgId, UserId};
use hawser_protocol::limits::{WINDOW_BYTES, WINDOW_FRAMES};
use hawser_protocol::message::{MessageRecord, MessageType, Send};
use hawser_protocol::pb;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Ack, Heard, Speech, To, Who};

/// Every user has this one device.
pub(crate) const DEVICE: &str = "d";
/// An acknowledgement is not put off beyond this: what Hawser's client library does.
const ACK_FRAMES: usize = WINDOW_FRAMES / 8;
const ACK_BYTES: usize = WINDOW_BYTES / 4;
/// Bytes of a Deliver before its record: offset, lengths, flags.
const DELIVER_PREFIX: usize = 16;

/// What Hawser's connections share.
pub struct HawserSetting {
    /// Signs their tokens.
    pub signer: Signer,
    /// The group of all subscribers and the publisher.
    pub group: ChatId,
    /// Tells tokens and ids of messages apart.
    unique: AtomicU64,
}

impl HawserSetting {
    /// Tokens of this signer, and this group.
    #[must_use]
    pub fn new(signer: Signer, group: ChatId) -> Self {
        Self {
            signer,
            group,
            unique: AtomicU64::new(1),
        }
    }

    fn unique(&self) -> u64 {
        self.unique.fetch_add(1, Ordering::Relaxed)
    }
}

pub(super) struct Hawser {
    who: Who,
    setting: Arc<HawserSetting>,
    seen: Option<u64>,
    acked: Option<u64>,
    frames: usize,
    bytes: usize,
}

impl Hawser {
    pub(super) fn new(who: Who, setting: Arc<HawserSetting>) -> Self {
        Self {
            who,
            setting,
            seen: None,
            acked: None,
            frames: 0,
            bytes: 0,
        }
    }

    /// `awaited`: somebody is told of the acknowledgement, so that it does not wait for a Ping.
    fn saw(&mut self, offset: u64, bytes: usize, awaited: bool, heard: &mut Heard) {
        if self.seen.is_some_and(|seen| offset <= seen) {
            return;
        }
        self.seen = Some(offset);
        self.frames += 1;
        self.bytes += bytes;
        let now = self.frames >= ACK_FRAMES || self.bytes >= ACK_BYTES;
        heard.ack = heard.ack.max(match (now, awaited) {
            (true, _) => Ack::Now,
            (false, true) => Ack::Soon,
            (false, false) => Ack::No,
        });
    }

    /// A Deliver, read in place: its offset, and the body at the record's end.
    fn deliver(&mut self, body: &Bytes, heard: &mut Heard) {
        let envelope = body
            .get(8..10)
            .map_or(0, |two| usize::from(u16::from_le_bytes([two[0], two[1]])));
        let record = body.get(DELIVER_PREFIX + envelope..);
        let offset = body.first_chunk().map(|eight| u64::from_le_bytes(*eight));
        let (Some(offset), Some(_)) = (offset, record) else {
            return heard.fault("a Deliver that is too short");
        };
        match MessageRecord::decode(&body.slice(DELIVER_PREFIX + envelope..)) {
            // The group's own messages about its members are nobody's.
            Ok(record) if record.message_type == MessageType::CUSTOM => heard.body(&record.body),
            Ok(_) => {}
            Err(error) => heard.fault(error.to_string()),
        }
        let flags = body.get(10).copied().map_or(0, u16::from);
        let later = DeliverFlags(flags).contains(DeliverFlags::ACK_LATER);
        self.saw(offset, body.len(), !later, heard);
    }

    fn frame(&mut self, frame: ServerFrame, heard: &mut Heard) {
        match frame {
            ServerFrame::Welcome(welcome) => heard.heartbeat_ms = welcome.heartbeat_ms,
            ServerFrame::CaughtUp(_) => heard.ready = true,
            ServerFrame::SendResult(result) => {
                if result.error != 0 {
                    heard.fault(format!("Send: {} {}", result.error, result.text));
                }
                if result.offset != 0 {
                    self.saw(result.offset, 0, false, heard);
                }
            }
            ServerFrame::ReceiptUpdate(update) if update.offset != 0 => {
                self.saw(update.offset, 0, false, heard);
            }
            ServerFrame::Error(error) => heard.fault(format!("{} {}", error.code, error.text)),
            ServerFrame::Redirect(redirect) => heard.fault(format!("sent to {}", redirect.url)),
            _ => {}
        }
    }
}

fn encoded(frame: &ClientFrame) -> Vec<u8> {
    let mut out = Vec::new();
    frame.encode(&mut out);
    out
}

impl Speech for Hawser {
    fn path(&self) -> String {
        "/v1/ws".to_owned()
    }

    fn protocol(&self) -> Option<&'static str> {
        Some("hawser.v1")
    }

    fn opened(&mut self, heard: &mut Heard) {
        let setting = &self.setting;
        let user = self.who.name();
        let token = setting
            .signer
            .token(&user, DEVICE, wall_ms() / 1_000, setting.unique());
        heard.say.push(encoded(&ClientFrame::Hello(pb::Hello {
            token,
            device: DEVICE.to_owned(),
            client: "rivals/1".to_owned(),
            live_only: true,
            ..pb::Hello::default()
        })));
    }

    fn message(&mut self, bytes: &[u8], heard: &mut Heard) {
        let mut rest = Bytes::copy_from_slice(bytes);
        loop {
            let raw = match split(&mut rest) {
                Ok(Some(raw)) => raw,
                Ok(None) => return,
                Err(error) => return heard.fault(error.to_string()),
            };
            if raw.frame_type == FrameType::DELIVER {
                self.deliver(&raw.body, heard);
                continue;
            }
            match ServerFrame::decode(&raw) {
                Ok(frame) => self.frame(frame, heard),
                Err(error) => heard.fault(error.to_string()),
            }
        }
    }

    fn publish(&mut self, to: To, body: &[u8], say: &mut Vec<Vec<u8>>) {
        let chat = match (to, self.who) {
            (To::Peer(peer), Who::Pair(me)) => {
                let user = |number| UserId::new(&Who::Pair(number).name());
                match (user(me), user(peer)) {
                    (Ok(me), Ok(peer)) => ChatId::dm(&me, &peer),
                    _ => return,
                }
            }
            _ => self.setting.group.clone(),
        };
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.setting.unique().to_le_bytes());
        say.push(encoded(&ClientFrame::Send(Send {
            client_msg_id: ClientMsgId::new(wall_ms(), random),
            send_ts_ms: wall_ms(),
            message_type: MessageType::CUSTOM,
            retry: false,
            chat,
            body: Bytes::copy_from_slice(body),
            envelopes: Vec::new(),
        })));
    }

    fn ack(&mut self) -> Option<Vec<u8>> {
        let offset = self
            .seen
            .filter(|seen| self.acked.is_none_or(|acked| acked < *seen))?;
        self.acked = Some(offset);
        (self.frames, self.bytes) = (0, 0);
        Some(encoded(&ClientFrame::Ack(AckFrame { offset })))
    }

    fn heartbeat(&mut self) -> Option<Vec<u8>> {
        self.acked = self.seen;
        (self.frames, self.bytes) = (0, 0);
        Some(encoded(&ClientFrame::Ping(pb::Ping {
            offset: self.seen,
            client_time_ms: wall_ms(),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{torture, *};
    use super::*;
    use hawser_protocol::frame::Deliver;
    use hawser_protocol::ids::{DeviceId, MessageId, Seq};

    fn setting() -> Arc<HawserSetting> {
        let dir = tempfile::tempdir().expect("a directory");
        let signer = Signer::open(&crate::rivals::group::new_key(dir.path()).expect("a key"));
        let group = ChatId::new("g:x").expect("an id");
        Arc::new(HawserSetting::new(signer.expect("a signer"), group))
    }

    fn delivered(offset: u64, message_type: MessageType) -> Vec<u8> {
        let user = UserId::new("pub").expect("an id");
        let deliver = ServerFrame::Deliver(Deliver {
            offset,
            flags: DeliverFlags(0),
            envelope: Bytes::from_static(b"for this device"),
            record: MessageRecord {
                seq: Seq::new(1, 77),
                prev_seq: Seq::new(1, 70),
                ordinal: 9,
                message_id: MessageId::derive(1, 1, 3, Seq::new(1, 77)),
                client_msg_id: ClientMsgId::new(1, [7; 10]),
                send_ts_ms: 1,
                stored_ts_ms: 2,
                message_type,
                chat: ChatId::new("g:x").expect("an id"),
                sender: user,
                sender_device: DeviceId::new(DEVICE).expect("an id"),
                body: Stamp { job: 1, due_ns: 2 }.encode(200).into(),
            },
        });
        let mut out = Vec::new();
        deliver.encode(&mut out);
        out
    }

    #[test]
    fn deliveries_in_one_message_are_heard_and_acknowledged_once() {
        let mut hawser = Hawser::new(Who::Subscriber(0), setting());
        let mut heard = Heard::default();
        let other = delivered(9, MessageType(3));
        let two = [
            delivered(7, MessageType::CUSTOM),
            delivered(8, MessageType::CUSTOM),
            other,
        ];
        hawser.message(&two.concat(), &mut heard);
        assert_eq!(heard.faults, [""; 0]);
        assert_eq!(heard.stamps, [Stamp { job: 1, due_ns: 2 }; 2]);
        assert_eq!(heard.ack, Ack::Soon);
        assert_eq!(
            hawser.ack(),
            Some(encoded(&ClientFrame::Ack(AckFrame { offset: 9 })))
        );
        assert_eq!(hawser.ack(), None);
        let mut heard = Heard::default();
        for offset in 10..10 + ACK_FRAMES as u64 {
            hawser.message(&delivered(offset, MessageType::CUSTOM), &mut heard);
        }
        assert_eq!(heard.ack, Ack::Now);
    }

    #[test]
    fn what_a_server_says_wrongly_is_a_fault_and_no_panic() {
        let setting = setting();
        let all = [delivered(3, MessageType::CUSTOM), {
            let mut out = Vec::new();
            ServerFrame::Error(pb::Error {
                code: 40,
                text: "slow".to_owned(),
                ..pb::Error::default()
            })
            .encode(&mut out);
            out
        }]
        .concat();
        let mut heard = Heard::default();
        Hawser::new(Who::Publisher, Arc::clone(&setting)).message(&all, &mut heard);
        assert_eq!(heard.faults, ["40 slow"]);
        torture(
            || Box::new(Hawser::new(Who::Pair(0), Arc::clone(&setting))),
            &all,
        );
    }
}
