//! Which chats take more than their share of a partition: a space-saving sketch (Metwally and others, 2005) per window.

use ahash::AHashMap;
use bytes::Bytes;
use std::time::{Duration, Instant};

/// Keys counted at a time; a key with more than one record in so many is among them.
const KEYS_MAX: usize = 64;
/// What one window is.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// From when on a chat counts as hot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HotBounds {
    /// Share of a partition's records within ten seconds, percent. Default 25.
    pub share_percent: u32,
    /// Records per second besides. Default 100.
    pub per_second: u32,
}

impl Default for HotBounds {
    fn default() -> Self {
        Self {
            share_percent: 25,
            per_second: 100,
        }
    }
}

/// A chat that took more than its share of its partition in the last whole window.
#[derive(Debug, Clone, PartialEq)]
pub struct HotChat {
    /// Which.
    pub chat: String,
    /// Partition of `chat-messages`.
    pub partition: u32,
    /// Its share of the partition's records, from 0 to 1.
    pub share: f64,
    /// Its records per second.
    pub per_second: f64,
}

/// The sketch of one partition.
#[derive(Debug)]
pub(super) struct Sketch {
    counts: AHashMap<Bytes, u64>,
    total: u64,
    since: Instant,
}

impl Sketch {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            counts: AHashMap::new(),
            total: 0,
            since: now,
        }
    }

    pub(super) fn count(&mut self, key: &Bytes) {
        self.total += 1;
        if let Some(count) = self.counts.get_mut(key) {
            *count += 1;
        } else if self.counts.len() < KEYS_MAX {
            // A copy: the key is a part of a whole record.
            self.counts.insert(Bytes::copy_from_slice(key), 1);
        } else if let Some(least) = self.counts.iter().min_by_key(|(_, n)| **n) {
            // The newcomer takes the place and the count of the least: an upper bound of its own.
            let (gone, count) = (least.0.clone(), *least.1);
            self.counts.remove(&gone);
            self.counts.insert(Bytes::copy_from_slice(key), count + 1);
        }
    }

    /// At the end of a window: who was hot in it. `None` before.
    pub(super) fn end(
        &mut self,
        now: Instant,
        partition: u32,
        bounds: HotBounds,
    ) -> Option<Vec<HotChat>> {
        let took = now.saturating_duration_since(self.since);
        if took < WINDOW {
            return None;
        }
        let ended = std::mem::replace(self, Self::new(now));
        #[expect(clippy::cast_precision_loss, reason = "shown to people")]
        let hot = ended.counts.iter().map(|(key, count)| HotChat {
            chat: String::from_utf8_lossy(key).into_owned(),
            partition,
            share: *count as f64 / ended.total.max(1) as f64,
            per_second: *count as f64 / took.as_secs_f64(),
        });
        let mut hot: Vec<HotChat> = hot
            .filter(|hot| {
                hot.share * 100.0 > f64::from(bounds.share_percent)
                    && hot.per_second > f64::from(bounds.per_second)
            })
            .collect();
        hot.sort_by(|a, b| b.per_second.total_cmp(&a.per_second));
        Some(hot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_takes_more_than_its_share_and_rate_is_hot() {
        let begin = Instant::now();
        let mut sketch = Sketch::new(begin);
        for n in 0..6_000u32 {
            // Every second record is of one chat, the rest of three thousand.
            let key = match n % 2 {
                0 => "g:busy".to_owned(),
                _ => format!("g:{n}"),
            };
            sketch.count(&Bytes::from(key));
        }
        assert!(sketch.counts.len() <= KEYS_MAX);
        assert_eq!(sketch.end(begin, 3, HotBounds::default()), None);
        let hot = sketch
            .end(begin + WINDOW, 3, HotBounds::default())
            .expect("a window");
        let names: Vec<_> = hot.iter().map(|hot| hot.chat.as_str()).collect();
        assert_eq!(names, ["g:busy"]);
        assert!((0.5..0.52).contains(&hot[0].share) && hot[0].per_second >= 300.0);
        // Half the records, but few of them.
        sketch.count(&Bytes::from_static(b"g:calm"));
        let hot = sketch.end(begin + WINDOW * 2, 3, HotBounds::default());
        assert_eq!(hot, Some(Vec::new()));
    }
}
