//! What was sent with an offset and is not acknowledged: at most a window, and none while there is nothing.

use super::session::Waiting;
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

    /// Forgets everything up to `offset` and hands out what an ack of each says, in their order.
    pub(super) fn ack(&mut self, offset: u64, mut each: impl FnMut(ChatId, Seq)) {
        while self.front().is_some_and(|front| front.offset <= offset)
            && let Some(sent) = self.pop()
        {
            self.bytes = self.bytes.saturating_sub(sent.bytes as usize);
            if let Some((chat, seq)) = sent.message {
                each(chat, seq);
            }
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

/// Spare windows kept, and frames and Sends of the largest that is.
const SPARE: usize = 4_096;
const SPARE_FRAMES_MAX: usize = 16;

/// Windows that became empty, for sessions that need one: who drives many sessions lends memory from one to the next by it, so that
/// neither a delivery nor its ack allocates and an idle session has no window. At most 4,096 of some 1,100 bytes, 4.5 MiB.
#[derive(Debug, Default)]
pub struct SpareWindows {
    #[expect(clippy::vec_box, reason = "the boxes are what is lent")]
    spare: Vec<Box<Waiting>>,
}

impl SpareWindows {
    pub(super) fn take(&mut self) -> Box<Waiting> {
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn give(&mut self, waiting: Box<Waiting>) {
        debug_assert!(waiting.is_empty(), "what is spare waits for nothing");
        let held = waiting.window.rest.capacity().max(waiting.sends.capacity());
        if self.spare.len() < SPARE && held <= SPARE_FRAMES_MAX {
            self.spare.push(waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(name: &str) -> ChatId {
        ChatId::new(name).expect("a chat")
    }

    #[test]
    fn an_ack_hands_out_each_message_up_to_it_once() {
        let mut window = Window::default();
        window.push(3, 100, Some((chat("g:a"), Seq(30))));
        window.push(5, 10, None);
        window.push(6, 100, Some((chat("g:b"), Seq(7))));
        window.push(9, 100, Some((chat("g:a"), Seq(32))));
        let mut out = Vec::new();
        window.ack(8, |chat, seq| out.push((chat, seq)));
        assert_eq!(out, [(chat("g:a"), Seq(30)), (chat("g:b"), Seq(7))]);
        assert_eq!((window.frames(), window.bytes()), (1, 100));
        window.ack(2, |_, _| panic!("nothing is acknowledged twice"));
        window.ack(u64::MAX, |_, seq| assert_eq!(seq, Seq(32)));
        assert!(window.is_empty());
        assert_eq!(window.bytes(), 0);
    }

    #[test]
    fn windows_are_lent_again_but_not_huge_ones() {
        let mut spare = SpareWindows::default();
        let mut waiting = spare.take();
        for offset in 1..4 {
            waiting.window.push(offset, 1, None);
        }
        waiting.window.ack(3, |_, _| {});
        let held = waiting.window.rest.capacity();
        assert!(held > 0);
        spare.give(waiting);
        assert_eq!(spare.take().window.rest.capacity(), held);
        let mut waiting = spare.take();
        for offset in 0..=1 + SPARE_FRAMES_MAX as u64 {
            waiting.window.push(offset, 1, None);
        }
        waiting.window.ack(u64::MAX, |_, _| {});
        spare.give(waiting);
        assert!(spare.spare.is_empty());
    }
}
