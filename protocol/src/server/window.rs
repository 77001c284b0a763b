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

/// Frames in the order of their offsets. Most sessions have one at a time, which is inline.
#[derive(Debug, Default)]
pub(super) struct Window {
    first: Option<Sent>,
    rest: VecDeque<Sent>,
    bytes: usize,
}

impl Window {
    pub(super) fn push(&mut self, offset: u64, bytes: usize, message: Option<(ChatId, Seq)>) {
        self.bytes += bytes;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let sent = Sent {
            offset,
            bytes,
            message,
        };
        match self.is_empty() {
            true => self.first = Some(sent),
            false => self.rest.push_back(sent),
        }
    }

    /// Forgets everything up to `offset` and hands out, per chat, the last seq among it.
    pub(super) fn ack(&mut self, offset: u64, mut each: impl FnMut(ChatId, Seq)) {
        // A window spans few chats, most of them one; at worst 256 short comparisons each.
        let mut mark: Option<(ChatId, Seq)> = None;
        let mut more: Vec<(ChatId, Seq)> = Vec::new();
        while self.front().is_some_and(|front| front.offset <= offset)
            && let Some(sent) = self.pop()
        {
            self.bytes = self.bytes.saturating_sub(sent.bytes as usize);
            let Some((chat, seq)) = sent.message else {
                continue;
            };
            let mut marks = mark.iter_mut().chain(&mut more);
            if let Some((_, mark)) = marks.find(|(known, _)| *known == chat) {
                *mark = seq.max(*mark);
            } else if mark.is_none() {
                mark = Some((chat, seq));
            } else {
                more.push((chat, seq));
            }
        }
        for (chat, seq) in mark.into_iter().chain(more) {
            each(chat, seq);
        }
    }

    fn front(&self) -> Option<&Sent> {
        self.first.as_ref().or_else(|| self.rest.front())
    }

    fn pop(&mut self) -> Option<Sent> {
        self.first.take().or_else(|| self.rest.pop_front())
    }

    pub(super) fn frames(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.front().is_none()
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
