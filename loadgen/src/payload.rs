//! The body of a generated message: who sent it, its number in the conversation, and when it was due.
//!
//! Layout, little-endian: magic u32 | sender u32 | conversation u32 | number u32 | due_ns u64 | padding. The top bit of the
//! number says that this copy was sent again.
//! `due_ns` is the instant at which the open-loop schedule wanted the message sent (CLOCK_MONOTONIC of
//! this host), so latencies are free of coordinated omission.

/// Marks bodies of ours ("HWLG").
const MAGIC: u32 = 0x474c_5748;
/// In the number: see [`Payload::again`].
const AGAIN: u32 = 1 << 31;
/// What text is made of: four bits in each of its bytes.
const LETTERS: &[u8; 16] = b"etaoin shrdlucmf";
/// Bytes that every body has at least.
pub const PAYLOAD_BYTES_MIN: usize = 24;

/// What a body says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// Index of the sending user.
    pub sender: u32,
    /// Index of the conversation.
    pub conversation: u32,
    /// From 1, counted per (sender, conversation); below 2^31.
    pub number: u32,
    /// This copy was sent after the first, so that it may follow its successors.
    pub again: bool,
    /// When it was due, nanoseconds of the monotonic clock.
    pub due_ns: u64,
}

impl Payload {
    /// Writes a body of `bytes` bytes (at least [`PAYLOAD_BYTES_MIN`]). The padding does not compress, or to a half, as text
    /// does.
    #[must_use]
    pub fn encode(&self, bytes: usize, as_text: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.max(PAYLOAD_BYTES_MIN));
        let number = self.number | if self.again { AGAIN } else { 0 };
        for word in [MAGIC, self.sender, self.conversation, number] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.due_ns.to_le_bytes());
        let mut state = u64::from(self.sender) << 32 | u64::from(self.number) | 1;
        while out.len() < bytes {
            state = crate::random::step(state);
            let mut word = state.to_le_bytes();
            if as_text {
                word = word.map(|byte| LETTERS[usize::from(byte & 15)]);
            }
            let take = word.len().min(bytes - out.len());
            out.extend_from_slice(&word[..take]);
        }
        out
    }

    /// Reads a body; `None` when it is none of ours.
    #[must_use]
    pub fn decode(body: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?));
        if word(0)? != MAGIC {
            return None;
        }
        let due_ns = u64::from_le_bytes(body.get(16..24)?.try_into().ok()?);
        Some(Self {
            sender: word(4)?,
            conversation: word(8)?,
            number: word(12)? & !AGAIN,
            again: word(12)? & AGAIN != 0,
            due_ns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_reads_back_and_has_the_asked_size() {
        let payload = Payload {
            sender: 7,
            conversation: 3,
            number: 99,
            again: true,
            due_ns: u64::MAX - 5,
        };
        for bytes in [0, 24, 25, 200, 5_120] {
            let body = payload.encode(bytes, bytes % 2 == 0);
            assert_eq!(body.len(), bytes.max(PAYLOAD_BYTES_MIN));
            assert_eq!(Payload::decode(&body), Some(payload));
        }
    }

    #[test]
    fn other_bodies_are_not_ours() {
        assert_eq!(Payload::decode(b""), None);
        assert_eq!(Payload::decode(b"hello, this is a text of a person"), None);
        let body = Payload {
            sender: 1,
            conversation: 1,
            number: 1,
            again: false,
            due_ns: 1,
        }
        .encode(24, false);
        assert_eq!(Payload::decode(&body[..23]), None);
    }
}
