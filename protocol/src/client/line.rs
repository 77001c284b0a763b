//! The cumulative cursor: offsets advance in order, and not past one that waits for a gap fill.

use std::collections::VecDeque;

/// A place in the line, to release one that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

#[derive(Debug)]
struct Entry {
    offset: u64,
    waits: bool,
}

/// How far the delivery log has come, been given to the disk, and been stored by it.
#[derive(Debug)]
pub struct CursorLine {
    entries: VecDeque<Entry>,
    /// Number of the first entry.
    base: u64,
    reach: u64,
    persisted: u64,
    /// Behind the last offset that came on this connection.
    arrived: u64,
}

impl CursorLine {
    /// A line of which everything below `next` is on the disk.
    #[must_use]
    pub fn new(next: u64) -> Self {
        Self {
            entries: VecDeque::new(),
            base: 0,
            reach: next,
            persisted: next,
            arrived: 0,
        }
    }

    /// A frame of this offset has come; one that `waits` holds back all behind it until released.
    pub(super) fn arrive(&mut self, offset: u64, waits: bool) -> Option<Ticket> {
        self.arrived = self.arrived.max(offset.saturating_add(1));
        if offset < self.reach {
            return None;
        }
        self.entries.push_back(Entry { offset, waits });
        let ticket = Ticket(self.base + self.entries.len() as u64 - 1);
        self.advance();
        Some(ticket)
    }

    /// What the offset waited for has come.
    pub(super) fn release(&mut self, ticket: Ticket) {
        let Some(index) = ticket.0.checked_sub(self.base) else {
            return;
        };
        let entry = usize::try_from(index)
            .ok()
            .and_then(|index| self.entries.get_mut(index));
        if let Some(entry) = entry {
            entry.waits = false;
            self.advance();
        }
    }

    /// The disk has everything below `next`.
    pub(super) fn stored(&mut self, next: u64) {
        self.persisted = self.persisted.max(next);
        self.reach = self.reach.max(self.persisted);
    }

    /// A new connection replays from what is persisted.
    pub(super) fn restart(&mut self) {
        self.clear();
        self.reach = self.persisted;
        self.arrived = 0;
    }

    /// Adopts the head of a sync, which the disk has.
    pub(super) fn adopt(&mut self, head: u64) {
        self.clear();
        self.reach = head;
        self.persisted = head;
        self.arrived = 0;
    }

    /// Offsets that came and wait for one before them.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.entries.len()
    }

    /// Everything below is in a batch given to the disk.
    #[must_use]
    pub fn reach(&self) -> u64 {
        self.reach
    }

    /// Everything below is on the disk.
    #[must_use]
    pub fn persisted(&self) -> u64 {
        self.persisted
    }

    /// Everything below may be acknowledged: it is on the disk and came on this connection. (What
    /// an earlier connection brought and the disk finished later comes again in the replay; an ack
    /// of it before that would run ahead of what this connection was sent.)
    #[must_use]
    pub fn acknowledgeable(&self) -> u64 {
        self.persisted.min(self.arrived)
    }

    fn clear(&mut self) {
        self.base += self.entries.len() as u64;
        self.entries.clear();
    }

    fn advance(&mut self) {
        while let Some(first) = self.entries.front()
            && !first.waits
        {
            self.reach = self.reach.max(first.offset.saturating_add(1));
            self.entries.pop_front();
            self.base += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_that_waits_holds_back_all_behind_it() {
        let mut line = CursorLine::new(5);
        line.arrive(7, false);
        assert_eq!(line.reach(), 8);
        let gap = line.arrive(9, true).expect("new");
        line.arrive(12, false);
        let second = line.arrive(13, true).expect("new");
        assert_eq!(line.reach(), 8);
        line.release(gap);
        assert_eq!(line.reach(), 13);
        line.release(second);
        line.release(second);
        assert_eq!(line.reach(), 14);
        assert_eq!(line.arrive(11, false), None, "it was passed already");
    }

    #[test]
    fn a_restart_forgets_what_was_not_stored_and_its_tickets() {
        let mut line = CursorLine::new(0);
        let old = line.arrive(3, true).expect("new");
        line.stored(2);
        line.restart();
        assert_eq!((line.reach(), line.persisted()), (2, 2));
        line.arrive(3, true);
        line.release(old);
        assert_eq!(line.reach(), 2, "an old ticket frees nothing");
    }

    #[test]
    fn what_an_earlier_connection_brought_is_acknowledged_once_it_came_again() {
        let mut line = CursorLine::new(0);
        line.arrive(3, false);
        line.restart();
        line.stored(4);
        assert_eq!(line.acknowledgeable(), 0);
        line.arrive(3, false);
        assert_eq!(line.acknowledgeable(), 4);
    }
}
