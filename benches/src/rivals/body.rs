//! The body of a message: of which job it is, and when it was due.
//!
//! All of it is ASCII, so that servers may carry it as text: `HR`, the job in 8 hex digits, the due instant in 16 (ns
//! of the client's monotonic clock), filler.

const MARK: &[u8; 2] = b"HR";
/// Bytes that every body has at least.
pub const BODY_BYTES_MIN: usize = 26;

/// What a body says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Which job it belongs to: what is late is not counted for the next.
    pub job: u32,
    /// The instant at which the schedule wanted it sent, nanoseconds: latencies are free of coordinated omission.
    pub due_ns: u64,
}

impl Stamp {
    /// A body of `bytes` bytes, at least [`BODY_BYTES_MIN`].
    #[must_use]
    pub fn encode(self, bytes: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.max(BODY_BYTES_MIN));
        out.extend_from_slice(MARK);
        out.extend_from_slice(format!("{:08x}{:016x}", self.job, self.due_ns).as_bytes());
        let filler = b"The quick brown fox jumps over the lazy dog. ";
        let more = bytes.saturating_sub(out.len());
        out.extend(filler.iter().copied().cycle().take(more));
        out
    }

    /// Reads a body; `None` when it is none of ours.
    #[must_use]
    pub fn decode(body: &[u8]) -> Option<Self> {
        let digits = body.strip_prefix(MARK)?;
        let hex = |range: std::ops::Range<usize>| {
            let text = std::str::from_utf8(digits.get(range)?).ok()?;
            u64::from_str_radix(text, 16).ok()
        };
        Some(Self {
            job: u32::try_from(hex(0..8)?).ok()?,
            due_ns: hex(8..24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_reads_back_has_the_asked_size_and_is_ascii() {
        let stamp = Stamp {
            job: 7,
            due_ns: u64::MAX - 5,
        };
        for bytes in [0, 26, 27, 200, 5_120] {
            let body = stamp.encode(bytes);
            assert_eq!(body.len(), bytes.max(BODY_BYTES_MIN));
            assert!(body.is_ascii());
            assert_eq!(Stamp::decode(&body), Some(stamp));
        }
    }

    #[test]
    fn other_bodies_are_not_ours() {
        let body = Stamp { job: 1, due_ns: 1 }.encode(26);
        for other in [&b""[..], b"HR", b"hello, a text of a person's", &body[..25]] {
            assert_eq!(Stamp::decode(other), None);
        }
        assert_eq!(Stamp::decode("HRéééééééééééééééé".as_bytes()), None);
    }
}
