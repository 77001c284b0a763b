//! The NATS client protocol: a stream of text lines and payloads, which WebSocket messages cut anywhere.

use super::{Heard, Speech, To, Who};

/// A line that is longer is none.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// A payload that is announced as longer is not waited for.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

pub(super) struct Nats {
    who: Who,
    stream: Vec<u8>,
    /// The rest of the stream has no meaning.
    broken: bool,
}

/// What stands at the front of the stream.
enum Item {
    /// So many bytes are a line of another meaning.
    Line(usize),
    /// A payload at this range; what follows it begins at the last number.
    Payload(usize, usize, usize),
    More,
    Broken,
}

impl Nats {
    pub(super) fn new(who: Who) -> Self {
        Self {
            who,
            stream: Vec::new(),
            broken: false,
        }
    }

    fn line(line: &[u8], heard: &mut Heard) {
        match line {
            b"PONG" => heard.ready = true,
            b"PING" => heard.say.push(b"PONG\r\n".to_vec()),
            b"+OK" | b"" => {}
            line if line.starts_with(b"INFO ") => {}
            line if line.starts_with(b"-ERR") => {
                heard.fault(String::from_utf8_lossy(line).into_owned());
            }
            _ => heard.fault("a line that NATS does not say"),
        }
    }
}

fn front(stream: &[u8]) -> Item {
    let Some(end) = stream.windows(2).position(|pair| pair == b"\r\n") else {
        return if stream.len() > LINE_BYTES_MAX {
            Item::Broken
        } else {
            Item::More
        };
    };
    let Some(words) = stream[..end].strip_prefix(b"MSG ") else {
        return Item::Line(end);
    };
    // MSG <subject> <sid> [reply-to] <#bytes>
    let last = words.rsplit(|byte| *byte == b' ').next();
    let bytes = last
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse::<usize>().ok())
        .filter(|bytes| *bytes <= PAYLOAD_BYTES_MAX);
    let Some(bytes) = bytes else {
        return Item::Broken;
    };
    let begin = end + 2;
    let after = begin + bytes + 2;
    match stream.get(begin + bytes..after) {
        None => Item::More,
        Some(b"\r\n") => Item::Payload(begin, begin + bytes, after),
        Some(_) => Item::Broken,
    }
}

impl Speech for Nats {
    fn opened(&mut self, heard: &mut Heard) {
        let mut hello =
            b"CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":true,\"lang\":\"x\",\
                          \"version\":\"1\",\"protocol\":1}\r\n"
                .to_vec();
        match self.who {
            Who::Subscriber(_) => hello.extend_from_slice(b"SUB all 1\r\n"),
            Who::Pair(number) => {
                hello.extend_from_slice(format!("SUB u.{number} 1\r\n").as_bytes());
            }
            Who::Publisher => {}
        }
        hello.extend_from_slice(b"PING\r\n");
        heard.say.push(hello);
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
                Item::Line(end) => {
                    Self::line(&rest[..end], heard);
                    at += end + 2;
                }
                Item::Payload(begin, end, after) => {
                    heard.body(&rest[begin..end]);
                    at += after;
                }
                Item::More => break,
                Item::Broken => {
                    self.broken = true;
                    at = self.stream.len();
                    heard.fault("a stream that is not NATS");
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
        let mut out = match to {
            To::All => format!("PUB all {}\r\n", body.len()),
            To::Peer(number) => format!("PUB u.{number} {}\r\n", body.len()),
        }
        .into_bytes();
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
        say.push(out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{torture, *};
    use super::*;

    fn said() -> Vec<u8> {
        let body = Stamp { job: 1, due_ns: 2 }.encode(60);
        let mut all = b"INFO {\"a\":1}\r\nPONG\r\nPING\r\n".to_vec();
        all.extend_from_slice(b"MSG all 1 60\r\n");
        all.extend_from_slice(&body);
        all.extend_from_slice(b"\r\nMSG all 1 reply.to 60\r\n");
        all.extend_from_slice(&body);
        all.extend_from_slice(b"\r\n");
        all
    }

    #[test]
    fn a_stream_cut_anywhere_says_the_same() {
        let all = said();
        for at in 0..=all.len() {
            let mut nats = Nats::new(Who::Subscriber(0));
            let mut heard = Heard::default();
            nats.message(&all[..at], &mut heard);
            nats.message(&all[at..], &mut heard);
            assert!(heard.ready && heard.faults.is_empty(), "cut at {at}");
            assert_eq!(heard.stamps, [Stamp { job: 1, due_ns: 2 }; 2]);
            assert_eq!(heard.say, [b"PONG\r\n"]);
            assert_eq!(nats.stream.capacity(), 0, "nothing is kept");
        }
    }

    #[test]
    fn errors_are_told_and_noise_ends_the_stream() {
        let mut nats = Nats::new(Who::Subscriber(0));
        let mut heard = Heard::default();
        nats.message(b"-ERR 'Slow Consumer'\r\nMSG all 1 x\r\n", &mut heard);
        nats.message(b"PONG\r\n", &mut heard);
        assert_eq!(heard.faults.len(), 2, "{:?}", heard.faults);
        assert!(!heard.ready);
        torture(|| Box::new(Nats::new(Who::Pair(0))), &said());
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        let mut heard = Heard::default();
        Nats::new(Who::Publisher).message(&long, &mut heard);
        assert_eq!(heard.faults.len(), 1);
    }

    #[test]
    fn a_publication_has_its_length() {
        let mut say = Vec::new();
        let mut nats = Nats::new(Who::Publisher);
        nats.publish(To::All, b"abc", &mut say);
        nats.publish(To::Peer(7), b"", &mut say);
        assert_eq!(say, [&b"PUB all 3\r\nabc\r\n"[..], b"PUB u.7 0\r\n\r\n"]);
    }
}
