//! One partition as callers see it: where its topic continues the generation before, what that holds of it comes first.
//!
//! Offsets of a topic that continues another are those that Kafka says and a base, which is at least every end of the
//! generation before (`docs/adr/0024-growing-delivery.md`). Nobody beyond this adapter knows of the base.

use super::Shared;
use super::live::{Live, LiveReader, bury};
use super::produce::number;
use super::read::Stretch;
use super::topics::{PastTopic, TopicState};
use crate::log::{Consumer, ReadError, Record, Start, Wake, Watermarks};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A partition of a topic as it is at one moment.
pub(super) struct Spot<'a> {
    shared: &'a Shared,
    state: Arc<TopicState>,
    partition: u32,
}

fn unavailable(reason: String) -> ReadError {
    ReadError::Unavailable { reason }
}

impl<'a> Spot<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        state: Arc<TopicState>,
        partition: u32,
    ) -> Result<Self, ReadError> {
        if partition < state.partitions {
            return Ok(Self {
                shared,
                state,
                partition,
            });
        }
        Err(unavailable("no such partition".to_owned()))
    }

    /// What the generation before holds of it: [first that exists, end), once there is one to be read.
    fn past(&self) -> Result<Option<(&PastTopic, Range<u64>)>, ReadError> {
        let Some(past) = &self.state.past else {
            return Ok(None);
        };
        let found = past.range(self.shared, self.partition);
        Ok(found.map_err(unavailable)?.map(|range| (&**past, range)))
    }

    /// [low, high) of what was appended since; high is the base where nothing was.
    fn present(&self) -> Result<Range<u64>, ReadError> {
        let (name, partition) = (&self.state.name, number(self.partition));
        let marks = self.shared.admin.watermarks(name, partition);
        let (low, high) = marks.map_err(unavailable)?;
        let base = self.state.base;
        Ok(base + low..base + high)
    }

    pub(super) fn watermarks(&self) -> Result<Watermarks, ReadError> {
        let present = self.present()?;
        Ok(marks(
            &present,
            self.past()?.map(|(_, range)| range),
            self.state.base,
        ))
    }

    /// See [`crate::log::Log::seam`].
    pub(super) fn seam(&self) -> Result<Option<Range<u64>>, ReadError> {
        let Some(past) = &self.state.past else {
            return Ok(None);
        };
        let end = past.end(self.shared, self.partition).map_err(unavailable)?;
        let seam = end.map(|end| end..self.state.base);
        Ok(seam.filter(|seam| !seam.is_empty()))
    }

    pub(super) fn consumer(
        &self,
        start: Start,
        wake: Arc<dyn Wake>,
    ) -> Result<Box<dyn Consumer>, ReadError> {
        let (state, live) = (&self.state, &self.shared.live);
        let present = self.present()?;
        let past = self.past()?;
        let all = marks(
            &present,
            past.as_ref().map(|(_, range)| range.clone()),
            state.base,
        );
        let from = match start {
            Start::At(offset) if offset > all.high.max(present.end) => {
                return Err(outside(offset, &all));
            }
            Start::At(offset) => offset.max(all.low),
            Start::Earliest => all.low,
            Start::Latest => all.high,
        };
        let place = ((Arc::clone(&state.name), self.partition), state.base);
        let first = from.max(present.start);
        let reader = live.reader(place, first, Arc::clone(&wake))?;
        let Some((topic, range)) = past.filter(|(_, range)| from < range.end) else {
            return Ok(Box::new(reader));
        };
        let place = (topic.place(self.partition), topic.base);
        let before = live.reader(place.clone(), from, Arc::clone(&wake))?;
        Ok(Box::new(Joined {
            live: Arc::clone(live),
            place,
            wake,
            end: range.end,
            past: Some(before),
            present: reader,
            first: present.start,
        }))
    }

    pub(super) fn read(
        &self,
        from: u64,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let present = self.present()?;
        let past = match from < self.state.base {
            true => self.past()?,
            false => None,
        };
        let all = marks(
            &present,
            past.as_ref().map(|(_, range)| range.clone()),
            self.state.base,
        );
        if from < all.low || from > all.high.max(present.end) {
            return Err(outside(from, &all));
        }
        if from >= all.high || records_max == 0 {
            return Ok(Vec::new());
        }
        let (place, base, within) = match past.filter(|(_, range)| from < range.end) {
            Some((topic, range)) => (topic.place(self.partition), topic.base, from..range.end),
            None => {
                let place = (Arc::clone(&self.state.name), self.partition);
                (place, self.state.base, from.max(present.start)..present.end)
            }
        };
        let stretch = Stretch {
            place,
            from: within.start - base,
            to: within.end - base,
            records_max,
            bytes_max: bytes_max.max(1),
        };
        let found = self.shared.readers.read(&stretch);
        found
            .map(|all| based(all, base))
            .map_err(|error| match error {
                ReadError::OutOfRange { wanted, low, high } => ReadError::OutOfRange {
                    wanted: wanted + base,
                    low: low + base,
                    high: high + base,
                },
                ReadError::Corrupt { offset } => ReadError::Corrupt {
                    offset: offset + base,
                },
                other => other,
            })
    }
}

fn based(mut records: Vec<Record>, base: u64) -> Vec<Record> {
    for record in &mut records {
        record.offset += base;
    }
    records
}

/// Of both together. Where nothing was appended since, they end where the past ends.
fn marks(present: &Range<u64>, past: Option<Range<u64>>, base: u64) -> Watermarks {
    match past {
        None => Watermarks {
            low: present.start,
            high: present.end,
        },
        Some(past) => Watermarks {
            low: past.start,
            high: match present.end > base {
                true => present.end,
                false => past.end,
            },
        },
    }
}

fn outside(wanted: u64, all: &Watermarks) -> ReadError {
    ReadError::OutOfRange {
        wanted,
        low: all.low,
        high: all.high,
    }
}

impl PastTopic {
    fn place(&self, partition: u32) -> (Arc<str>, u32) {
        (Arc::clone(&self.name), partition & (self.partitions - 1))
    }

    /// [low, end) of what it holds for a partition of the generation that continues it; `None`: it exists no more. Asks
    /// a broker.
    fn range(&self, shared: &Shared, partition: u32) -> Result<Option<Range<u64>>, String> {
        let Some(end) = self.end(shared, partition)? else {
            return Ok(None);
        };
        let (name, at) = self.place(partition);
        let marks = shared.admin.watermarks(&name, number(at));
        match marks {
            Ok((low, _)) => Ok(Some((self.base + low).min(end)..end)),
            Err(reason) => self.unless_gone(shared, reason).map(|()| None),
        }
    }

    /// Where what it holds for a partition ends, which does not move any more: brokers are asked once.
    fn end(&self, shared: &Shared, partition: u32) -> Result<Option<u64>, String> {
        if self.gone.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let (_, at) = self.place(partition);
        match self.ends(shared) {
            Ok(ends) => Ok(ends.get(at as usize).copied()),
            Err(reason) => self.unless_gone(shared, reason).map(|()| None),
        }
    }

    /// An error, unless it is that the topic was deleted.
    fn unless_gone(&self, shared: &Shared, reason: String) -> Result<(), String> {
        if !shared.admin.is_missing(&self.name) {
            return Err(reason);
        }
        tracing::info!(topic = &*self.name, "the generation before is gone");
        self.gone.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn ends(&self, shared: &Shared) -> Result<&[u64], String> {
        if let Some(ends) = self.ends.get() {
            return Ok(ends);
        }
        let mut ends = shared.admin.ends(&self.name, self.partitions)?;
        ends.iter_mut().for_each(|end| *end += self.base);
        Ok(self.ends.get_or_init(|| ends))
    }
}

/// The end of every partition: as [`Spot::watermarks`] has it, in few round trips.
pub(super) fn ends(shared: &Shared, state: &TopicState) -> Result<Vec<u64>, String> {
    let mut ends = shared.admin.ends(&state.name, state.partitions)?;
    for (partition, end) in (0..).zip(&mut ends) {
        let before = match &state.past {
            Some(past) if *end == 0 => past.end(shared, partition)?,
            _ => None,
        };
        *end = before.unwrap_or(state.base + *end);
    }
    Ok(ends)
}

/// Reads what is left of the generation before, and then the present one.
struct Joined {
    live: Arc<Live>,
    /// Where the past is read, and its base.
    place: ((Arc<str>, u32), u64),
    wake: Arc<dyn Wake>,
    /// Where the past ends.
    end: u64,
    /// Until it is read to its end.
    past: Option<LiveReader>,
    present: LiveReader,
    /// Where the present begins.
    first: u64,
}

impl Joined {
    /// The past is read: its reader waits for a broker when it closes, on a thread of its own.
    fn leave_past(&mut self) {
        bury(self.past.take().into_iter().collect());
    }
}

impl Consumer for Joined {
    fn poll(&mut self, max: usize, each: &mut dyn FnMut(Record)) -> Result<usize, ReadError> {
        let Some(past) = &mut self.past else {
            return self.present.poll(max, each);
        };
        if past.position() >= self.end {
            self.leave_past();
            return self.present.poll(max, each);
        }
        // The present's wakes meanwhile are not lost: it is polled before an empty poll says that there is nothing.
        past.poll(max, each)
    }

    fn position(&self) -> u64 {
        let past = self.past.as_ref().map(Consumer::position);
        past.filter(|at| *at < self.end)
            .unwrap_or_else(|| self.present.position())
    }

    fn seek(&mut self, to: u64) -> Result<(), ReadError> {
        if to >= self.end {
            self.leave_past();
            return self.present.seek(to.max(self.first));
        }
        match &mut self.past {
            Some(past) => past.seek(to)?,
            None => {
                let wake = Arc::clone(&self.wake);
                self.past = Some(self.live.reader(self.place.clone(), to, wake)?);
            }
        }
        if self.present.position() > self.first {
            self.present.seek(self.first)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_ends_where_its_past_ends_until_something_was_appended_since() {
        let of = |present, past| {
            let marks = marks(&present, past, 100);
            (marks.low, marks.high)
        };
        assert_eq!(of(100..100, Some(3..40)), (3, 40));
        assert_eq!(of(100..107, Some(3..40)), (3, 107));
        assert_eq!(of(104..107, Some(40..40)), (40, 107), "the past is empty");
        assert_eq!(of(104..107, None), (104, 107), "the past is gone");
        assert_eq!(of(100..100, None), (100, 100));
    }
}
