//! Our small broadcast servers (tungstenite, Node's ws, uWebSockets): one letter, then what it is about.
//!
//! Client: `I` subscribes, `J` does not, both with a number in 4 bytes (little-endian) by which it is reached; `B` and a
//! body say it to all subscribers, `D`, a number and a body to one. Server: `i` answers `I` and `J`; anything else is a body.

use super::{Heard, Speech, To, Who};

/// Numbers of pair members begin here; that of the publisher is the last.
const PAIRS_FROM: u32 = 1 << 31;

pub(super) struct Raw {
    who: Who,
}

impl Raw {
    pub(super) fn new(who: Who) -> Self {
        Self { who }
    }
}

impl Speech for Raw {
    fn opened(&mut self, heard: &mut Heard) {
        let (letter, number) = match self.who {
            Who::Subscriber(number) => (b'I', number),
            Who::Publisher => (b'J', u32::MAX),
            Who::Pair(number) => (b'J', PAIRS_FROM + number),
        };
        heard.say.push(numbered(letter, number, &[]));
    }

    fn message(&mut self, bytes: &[u8], heard: &mut Heard) {
        match bytes {
            b"i" => heard.ready = true,
            body => heard.body(body),
        }
    }

    fn publish(&mut self, to: To, body: &[u8], say: &mut Vec<Vec<u8>>) {
        say.push(match to {
            To::All => [b"B", body].concat(),
            To::Peer(number) => numbered(b'D', PAIRS_FROM + number, body),
        });
    }
}

fn numbered(letter: u8, number: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + body.len());
    out.push(letter);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(body);
    out
}

#[cfg(test)]
mod tests {
    use super::super::{torture, *};
    use super::*;

    #[test]
    fn letters_say_who_it_is_and_whom_a_body_is_for() {
        let mut heard = Heard::default();
        Raw::new(Who::Subscriber(258)).opened(&mut heard);
        Raw::new(Who::Pair(1)).opened(&mut heard);
        assert_eq!(heard.say, [&b"I\x02\x01\0\0"[..], b"J\x01\0\0\x80"]);
        let mut say = Vec::new();
        let mut raw = Raw::new(Who::Publisher);
        raw.publish(To::All, b"x", &mut say);
        raw.publish(To::Peer(1), b"y", &mut say);
        assert_eq!(say, [&b"Bx"[..], b"D\x01\0\0\x80y"]);
        raw.message(b"i", &mut heard);
        raw.message(&Stamp { job: 1, due_ns: 2 }.encode(40), &mut heard);
        assert!(heard.ready && heard.faults.is_empty());
        assert_eq!(heard.stamps, [Stamp { job: 1, due_ns: 2 }]);
        raw.message(b"??", &mut heard);
        assert_eq!(heard.faults.len(), 1);
        let body = Stamp { job: 1, due_ns: 2 }.encode(30);
        torture(|| Box::new(Raw::new(Who::Pair(3))), &body);
    }
}
