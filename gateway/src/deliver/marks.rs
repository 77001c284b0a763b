//! High-water marks: per (delivery partition, source partition), what was consumed already.

use ahash::AHashMap;
use hawser_protocol::ids::Seq;

/// Marks of one delivery partition. Ingest produces to a delivery partition in source order, so what
/// is not above the mark of its source came before (an ingest that restarted repeats itself).
#[derive(Debug, Default)]
pub struct HighWaterMarks {
    marks: AHashMap<u32, (Seq, u16)>,
}

impl HighWaterMarks {
    /// Whether a record is new; raises the mark if so. A record from no source (`Seq::NONE`) always is.
    pub fn pass(&mut self, source_partition: u32, seq: Seq, sub_index: u16) -> bool {
        if seq == Seq::NONE {
            return true;
        }
        let mark = self.marks.entry(source_partition).or_default();
        let new = (seq, sub_index) > *mark;
        if new {
            *mark = (seq, sub_index);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_restarted_ingest_repeats_is_dropped_once_per_source() {
        let mut marks = HighWaterMarks::default();
        assert!(marks.pass(1, Seq::new(1, 0), 0), "the very first");
        assert!(!marks.pass(1, Seq::new(1, 0), 0));
        assert!(marks.pass(1, Seq::new(1, 0), 1));
        assert!(marks.pass(1, Seq::new(1, 7), 0));
        assert!(!marks.pass(1, Seq::new(1, 6), 9));
        assert!(marks.pass(2, Seq::new(1, 6), 0), "another source");
        assert!(marks.pass(1, Seq::new(2, 0), 0), "a new generation");
        assert!(marks.pass(1, Seq::NONE, 0) && marks.pass(1, Seq::NONE, 0));
    }
}
