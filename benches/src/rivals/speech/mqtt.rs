//! MQTT 3.1.1 (OASIS standard), QoS 0: a stream of packets, which WebSocket messages cut anywhere.

use super::{Heard, Speech, To, Who};

const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const SUBACK: u8 = 9;
const PINGRESP: u8 = 13;
/// A packet that is announced as longer is not waited for.
const PACKET_BYTES_MAX: usize = 1 << 20;

pub(super) struct Mqtt {
    who: Who,
    stream: Vec<u8>,
    /// The rest of the stream has no meaning.
    broken: bool,
}

enum Item {
    /// First byte, and the ranges of its body: where it begins and ends.
    Packet(u8, usize, usize),
    More,
    Broken,
}

impl Mqtt {
    pub(super) fn new(who: Who) -> Self {
        Self {
            who,
            stream: Vec::new(),
            broken: false,
        }
    }

    fn topic(&self) -> Option<String> {
        match self.who {
            Who::Subscriber(_) => Some("all".to_owned()),
            Who::Pair(number) => Some(format!("u/{number}")),
            Who::Publisher => None,
        }
    }

    fn packet(&self, first: u8, body: &[u8], heard: &mut Heard) {
        match (first >> 4, body) {
            (CONNACK, [_, 0]) => match self.topic() {
                None => heard.ready = true,
                Some(topic) => {
                    let mut subscribe = vec![0, 1];
                    text(&topic, &mut subscribe);
                    subscribe.push(0);
                    heard.say.push(packet(0x82, &subscribe));
                }
            },
            (CONNACK, _) => heard.fault("MQTT refused the connection"),
            (SUBACK, [_, _, 0]) => heard.ready = true,
            (SUBACK, _) => heard.fault("MQTT refused the subscription"),
            (PUBLISH, [high, low, rest @ ..]) => {
                let topic = usize::from(u16::from_be_bytes([*high, *low]));
                // A packet id follows the topic where QoS is above 0.
                let skip = topic + if first & 0b110 == 0 { 0 } else { 2 };
                match rest.get(skip..) {
                    Some(body) => heard.body(body),
                    None => heard.fault("a PUBLISH that is too short"),
                }
            }
            (PINGRESP, _) => {}
            _ => heard.fault("a packet that this client has no use for"),
        }
    }
}

fn front(stream: &[u8]) -> Item {
    let Some((first, lengths)) = stream.split_first() else {
        return Item::More;
    };
    let mut length = 0_usize;
    for (at, byte) in lengths.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let begin = 2 + at;
            return match begin + length {
                _ if length > PACKET_BYTES_MAX => Item::Broken,
                end if end > stream.len() => Item::More,
                end => Item::Packet(*first, begin, end),
            };
        }
    }
    if lengths.len() >= 4 {
        Item::Broken
    } else {
        Item::More
    }
}

/// A packet of less than 256 MiB.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut rest = body.len();
    loop {
        let low = u8::try_from(rest & 0x7f).unwrap_or(0);
        rest >>= 7;
        out.push(if rest == 0 { low } else { low | 0x80 });
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

/// A string of at most 65,535 bytes.
fn text(text: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).unwrap_or(0);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
}

impl Speech for Mqtt {
    fn protocol(&self) -> Option<&'static str> {
        Some("mqtt")
    }

    fn path(&self) -> String {
        "/mqtt".to_owned()
    }

    fn opened(&mut self, heard: &mut Heard) {
        let mut connect = Vec::new();
        text("MQTT", &mut connect);
        // Level 4, a clean session, no keep-alive.
        connect.extend_from_slice(&[4, 2, 0, 0]);
        text(&self.who.name(), &mut connect);
        heard.say.push(packet(0x10, &connect));
    }

    fn message(&mut self, bytes: &[u8], heard: &mut Heard) {
        if self.broken {
            return;
        }
        self.stream.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let rest = &self.stream[at..];
            match front(rest) {
                Item::Packet(first, begin, end) => {
                    self.packet(first, &rest[begin..end], heard);
                    at += end;
                }
                Item::More => break,
                Item::Broken => {
                    self.broken = true;
                    at = self.stream.len();
                    heard.fault("a stream that is not MQTT");
                    break;
                }
            }
        }
        self.stream.drain(..at);
        if self.stream.is_empty() {
            self.stream = Vec::new();
        }
    }

    fn publish(&mut self, to: To, body: &[u8], say: &mut Vec<Vec<u8>>) {
        let mut publish = Vec::with_capacity(body.len() + 16);
        match to {
            To::All => text("all", &mut publish),
            To::Peer(number) => text(&format!("u/{number}"), &mut publish),
        }
        publish.extend_from_slice(body);
        say.push(packet(0x30, &publish));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{torture, *};
    use super::*;

    fn said() -> Vec<u8> {
        let mut say = Vec::new();
        let body = Stamp { job: 1, due_ns: 2 }.encode(200);
        Mqtt::new(Who::Publisher).publish(To::All, &body, &mut say);
        let publish = say.remove(0);
        assert_eq!(publish[1..3], [0xcd, 0x01], "205 bytes in two");
        [
            &[0x20, 2, 0, 0][..],
            &[0x90, 3, 0, 1, 0],
            &publish,
            &publish,
        ]
        .concat()
    }

    #[test]
    fn a_stream_cut_anywhere_says_the_same() {
        let all = said();
        for at in 0..=all.len() {
            let mut mqtt = Mqtt::new(Who::Subscriber(0));
            let mut heard = Heard::default();
            mqtt.message(&all[..at], &mut heard);
            mqtt.message(&all[at..], &mut heard);
            assert!(heard.ready && heard.faults.is_empty(), "cut at {at}");
            assert_eq!(heard.stamps, [Stamp { job: 1, due_ns: 2 }; 2]);
            assert_eq!(heard.say, [b"\x82\x08\0\x01\0\x03all\0"]);
        }
    }

    #[test]
    fn refusals_are_told_and_noise_ends_the_stream() {
        let mut heard = Heard::default();
        let mut mqtt = Mqtt::new(Who::Subscriber(0));
        mqtt.message(&[0x20, 2, 0, 5], &mut heard);
        mqtt.message(&[0x90, 3, 0, 1, 0x80], &mut heard);
        mqtt.message(&[0x30, 2, 0, 9], &mut heard);
        mqtt.message(&[0x30, 0xff, 0xff, 0xff, 0xff], &mut heard);
        mqtt.message(&[0x20, 2, 0, 0], &mut heard);
        assert_eq!(heard.faults.len(), 4, "{:?}", heard.faults);
        assert!(!heard.ready);
        torture(|| Box::new(Mqtt::new(Who::Pair(0))), &said());
    }

    #[test]
    fn a_publisher_is_ready_without_a_subscription() {
        let mut heard = Heard::default();
        let mut mqtt = Mqtt::new(Who::Publisher);
        mqtt.opened(&mut heard);
        assert_eq!(heard.say, [b"\x10\x0f\0\x04MQTT\x04\x02\0\0\0\x03pub"]);
        mqtt.message(&[0x20, 2, 0, 0], &mut heard);
        assert!(heard.ready);
    }
}
