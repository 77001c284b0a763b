//! The records of one partition between judged and committed: stored in any order, delivered in offset order.

use bytes::Bytes;
use hawser_engines::log::{Produce, Topic};
use std::collections::VecDeque;
use std::time::Instant;

/// One record on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) offset: u64,
    pub(super) timestamp_ms: u64,
    pub(super) judged: Instant,
    /// What is to be given to the log yet, in order.
    pub(super) produce: VecDeque<Produce>,
    /// What those refer to, to be sent before them.
    pub(super) body: Option<Bytes>,
    stored: Option<Instant>,
    /// All of it was given to the log.
    given: Option<Instant>,
    unacknowledged: usize,
    /// What of it is kept must be on the log before anything of it is delivered.
    keeps: bool,
}

impl Flight {
    pub(super) fn new(offset: u64, timestamp_ms: u64, judged: Instant, out: Vec<Produce>) -> Self {
        Self {
            keeps: out.iter().any(|record| record.topic == Topic::Shards),
            offset,
            timestamp_ms,
            judged,
            produce: out.into(),
            body: None,
            stored: None,
            given: None,
            unacknowledged: 0,
        }
    }

    /// With what its records refer to.
    pub(super) fn with_body(mut self, body: Option<Bytes>) -> Self {
        self.body = body;
        self
    }

    /// The next record for the log; `Err`: what was given has to be acknowledged before it.
    pub(super) fn next(&mut self) -> Option<Result<Produce, ()>> {
        let next = self.produce.front()?;
        if self.keeps && next.topic != Topic::Shards {
            if self.unacknowledged > 0 {
                return Some(Err(()));
            }
            self.keeps = false;
        }
        Some(Ok(next.clone()))
    }

    /// The first of what it produces was given to the log.
    pub(super) fn gave(&mut self) {
        self.produce.pop_front();
        self.unacknowledged += 1;
    }
}

/// The flights, by number, from the oldest.
#[derive(Debug)]
pub(super) struct Pipe {
    flights: VecDeque<Flight>,
    /// Number of the first of them.
    first: u64,
    /// So many from the first on were given to the log whole.
    given: usize,
    /// Everything before this offset is done.
    low: u64,
}

impl Pipe {
    /// Empty, before the record at `from`.
    pub(super) fn new(from: u64) -> Self {
        Self {
            flights: VecDeque::new(),
            first: 0,
            given: 0,
            low: from,
        }
    }

    /// Takes the next record; gives its number.
    pub(super) fn push(&mut self, flight: Flight) -> u64 {
        self.flights.push_back(flight);
        self.first + self.flights.len() as u64 - 1
    }

    /// It is in the store, as of now. How long that took.
    pub(super) fn stored(&mut self, no: u64, now: Instant) -> Option<std::time::Duration> {
        let flight = self.at(no)?;
        flight.stored = Some(now);
        Some(now.saturating_duration_since(flight.judged))
    }

    /// The next flight to be given to the log, once it and all before it are stored; and since when it is.
    pub(super) fn ready(&mut self) -> Option<(u64, Instant, &mut Flight)> {
        let no = self.first + self.given as u64;
        let flight = self.flights.get_mut(self.given)?;
        flight.stored.map(|stored| (no, stored, flight))
    }

    /// All records of the flight at `ready` were given to the log.
    pub(super) fn gave_all(&mut self, now: Instant) {
        if let Some(flight) = self.flights.get_mut(self.given) {
            flight.given = Some(now);
            self.given += 1;
        }
    }

    /// The log has one record of it.
    pub(super) fn acknowledged(&mut self, no: u64) {
        if let Some(flight) = self.at(no) {
            flight.unacknowledged = flight.unacknowledged.saturating_sub(1);
        }
    }

    /// Takes off what is done, from the oldest; each gives since when it was with the log.
    pub(super) fn settle(&mut self) -> Option<Instant> {
        let front = self.flights.front()?;
        let given = front.given.filter(|_| front.unacknowledged == 0)?;
        self.low = front.offset + 1;
        self.flights.pop_front();
        self.first += 1;
        self.given -= 1;
        Some(given)
    }

    /// Since when the log has had the oldest flight without having acknowledged it.
    pub(super) fn oldest_given(&self) -> Option<Instant> {
        self.flights.front()?.given
    }

    /// The oldest record's time, milliseconds.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        Some(self.flights.front()?.timestamp_ms)
    }

    /// Everything before this offset is done.
    pub(super) fn low(&self) -> u64 {
        self.low
    }

    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// Offset of a flight.
    pub(super) fn offset(&self, no: u64) -> Option<u64> {
        let at = usize::try_from(no.checked_sub(self.first)?).ok()?;
        Some(self.flights.get(at)?.offset)
    }

    /// Records with the log whose outcome is not known.
    pub(super) fn outstanding(&self) -> usize {
        self.flights
            .iter()
            .map(|flight| flight.unacknowledged)
            .sum()
    }

    fn at(&mut self, no: u64) -> Option<&mut Flight> {
        let at = usize::try_from(no.checked_sub(self.first)?).ok()?;
        self.flights.get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flight(offset: u64) -> Flight {
        let record = Produce {
            topic: Topic::Delivery,
            partition: 0,
            key: Bytes::new(),
            value: Bytes::new(),
            timestamp_ms: 0,
        };
        Flight::new(offset, offset, Instant::now(), vec![record])
    }

    /// Gives everything that is ready; the offsets.
    fn give(pipe: &mut Pipe) -> Vec<u64> {
        let mut given = Vec::new();
        while let Some((_, _, flight)) = pipe.ready() {
            given.push(flight.offset);
            flight.gave();
            pipe.gave_all(Instant::now());
        }
        given
    }

    proptest! {
        #[test]
        fn whatever_is_stored_first_delivery_keeps_offset_order_and_the_commit_waits_for_all(
            stored in Just((0..40u64).collect::<Vec<_>>()).prop_shuffle(),
            acknowledged in Just((0..40u64).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut pipe = Pipe::new(100);
            for offset in 100..140 {
                pipe.push(flight(offset));
            }
            let mut out = Vec::new();
            for (n, no) in stored.iter().enumerate() {
                pipe.stored(*no, Instant::now());
                out.extend(give(&mut pipe));
                let seen = &stored[..=n];
                let whole = (0..40).take_while(|no| seen.contains(no)).count();
                prop_assert_eq!(out.len(), whole);
            }
            prop_assert_eq!(out, (100..140).collect::<Vec<u64>>());
            prop_assert_eq!(pipe.outstanding(), 40);
            for (n, no) in acknowledged.iter().enumerate() {
                pipe.acknowledged(*no);
                while pipe.settle().is_some() {}
                let seen = &acknowledged[..=n];
                let whole = (0..40u64).take_while(|no| seen.contains(no)).count();
                prop_assert_eq!(pipe.low(), 100 + whole as u64);
            }
            prop_assert!(pipe.is_empty());
        }
    }
}
