//! What was sent with an offset and is not acknowledged: at most a window, freed when empty.

use crate::ids::{ChatId, Seq};
use std::collections::VecDeque;

/// One frame that waits for its ack.
#[derive(Debug, Clone)]
struct Sent {
    offset: u64,
    bytes: u32,
    /// What an ack says of a chat; `None` for what is no message of somebody else.
    message: Option<(ChatId, Seq)>,
}

/// Frames in the order of their offsets.
#[derive(Debug, Default)]
pub(super) struct Window {
    sent: VecDeque<Sent>,
    bytes: usize,
}

impl Window {
    pub(super) fn push(&mut self, offset: u64, bytes: usize, message: Option<(ChatId, Seq)>) {
        self.bytes += bytes;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.sent.push_back(Sent {
            offset,
            bytes,
            message,
        });
    }

    /// Forgets everything up to `offset` and hands out, per chat, the last seq among it.
    pub(super) fn ack(&mut self, offset: u64, mut each: impl FnMut(ChatId, Seq)) {
        let mut marks: Vec<(ChatId, Seq)> = Vec::new();
        while let Some(front) = self.sent.front()
            && front.offset <= offset
        {
            let Some(sent) = self.sent.pop_front() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(sent.bytes as usize);
            let Some((chat, seq)) = sent.message else {
                continue;
            };
            // A window spans few chats; at worst 256 short comparisons each.
            match marks.iter_mut().find(|(known, _)| *known == chat) {
                Some((_, mark)) => *mark = seq.max(*mark),
                None => marks.push((chat, seq)),
            }
        }
        for (chat, seq) in marks {
            each(chat, seq);
        }
    }

    pub(super) fn frames(&self) -> usize {
        self.sent.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_becomes_one_watermark_per_chat() {
        let chat = |name: &str| ChatId::new(name).expect("a chat");
        let mut window = Window::default();
        window.push(3, 100, Some((chat("g:a"), Seq(30))));
        window.push(5, 10, None);
        window.push(6, 100, Some((chat("g:b"), Seq(7))));
        window.push(8, 100, Some((chat("g:a"), Seq(31))));
        window.push(9, 100, Some((chat("g:a"), Seq(32))));
        let mut out = Vec::new();
        window.ack(8, |chat, seq| out.push((chat, seq)));
        assert_eq!(out, [(chat("g:a"), Seq(31)), (chat("g:b"), Seq(7))]);
        assert_eq!((window.frames(), window.bytes()), (1, 100));
        window.ack(2, |_, _| panic!("nothing is acknowledged twice"));
        window.ack(u64::MAX, |_, seq| assert_eq!(seq, Seq(32)));
        assert!(window.is_empty());
        assert_eq!(window.bytes(), 0);
    }
}
