//! What the `leases` topic says of this installation: whose the topics are, and which generation of a topic
//! counts. The last valid record of a key counts; a record is valid when its version is above the one before,
//! so the first of two that claim the same version wins, for every reader alike.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The layout of topics and records that this version writes, and the newest that it reads.
pub(super) const LAYOUT: u32 = 1;

/// Key of [`ClusterMark`].
pub(super) const CLUSTER: &str = "cluster";
/// Goes before the topic's name in the key of a [`GenerationMark`].
const GENERATION: &str = "generation/";

/// Whose the topics under a prefix are. Written once, at the first start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClusterMark {
    pub(super) version: u64,
    pub(super) layout: u32,
    /// Random, for people and other engines to compare.
    pub(super) id: String,
    /// The operator's name of it.
    pub(super) name: String,
}

/// Which generation of a topic counts, and which is being made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GenerationMark {
    pub(super) version: u64,
    pub(super) generation: u16,
    pub(super) partitions: u32,
    /// Added to the offsets that Kafka says: at least every end of the generation before.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub(super) base: u64,
    /// The generation before, where this one continues it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) past: Option<PastMark>,
    /// The next one, while it is being made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<NextMark>,
}

impl GenerationMark {
    /// The number of the next generation, while it is being made.
    pub(super) fn following(&self) -> u16 {
        let said = self.next.as_ref().map_or(0, |next| next.generation);
        said.max(self.generation.saturating_add(1))
    }
}

/// A generation that is continued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PastMark {
    pub(super) generation: u16,
    pub(super) partitions: u32,
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub(super) base: u64,
}

fn is_nothing<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A generation that is being made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NextMark {
    pub(super) partitions: u32,
    /// Its number; 0: one more than the present one's.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub(super) generation: u16,
    /// Who makes it: random, new for every run.
    pub(super) by: String,
    /// Nothing is appended to the old one any more.
    pub(super) fenced: bool,
}

/// Everything that counts now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) cluster: Option<ClusterMark>,
    generations: BTreeMap<String, GenerationMark>,
}

impl Marks {
    /// Takes one record. Returns whether it changed anything; what is not ours is passed over.
    pub(super) fn apply(&mut self, key: &[u8], value: &[u8]) -> bool {
        let Ok(key) = std::str::from_utf8(key) else {
            return false;
        };
        if key == CLUSTER {
            return match serde_json::from_slice::<ClusterMark>(value) {
                Ok(mark)
                    if self
                        .cluster
                        .as_ref()
                        .is_none_or(|c| c.version < mark.version) =>
                {
                    self.cluster = Some(mark);
                    true
                }
                _ => false,
            };
        }
        let Some(topic) = key.strip_prefix(GENERATION) else {
            return false;
        };
        match serde_json::from_slice::<GenerationMark>(value) {
            Ok(mark) if self.of(topic).is_none_or(|g| g.version < mark.version) => {
                self.generations.insert(topic.to_owned(), mark);
                true
            }
            _ => false,
        }
    }

    /// What is said of a topic.
    pub(super) fn of(&self, topic: &str) -> Option<&GenerationMark> {
        self.generations.get(topic)
    }
}

/// Key of a topic's [`GenerationMark`].
pub(super) fn generation_key(topic: &str) -> String {
    format!("{GENERATION}{topic}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(marks: &mut Marks, mark: &GenerationMark) -> bool {
        let value = serde_json::to_vec(mark).expect("it is plain data");
        marks.apply(generation_key("chat-messages").as_bytes(), &value)
    }

    fn claim(version: u64, by: &str) -> GenerationMark {
        GenerationMark {
            version,
            generation: 1,
            partitions: 4,
            base: 0,
            past: None,
            next: Some(NextMark {
                partitions: 8,
                generation: 0,
                by: by.to_owned(),
                fenced: false,
            }),
        }
    }

    #[test]
    fn the_first_of_two_claims_wins_and_is_all_that_counts_later() {
        let mut marks = Marks::default();
        assert!(put(&mut marks, &claim(1, "a")));
        assert!(!put(&mut marks, &claim(1, "b")));
        assert!(put(&mut marks, &claim(2, "a")), "its next step");
        let next = marks.of("chat-messages").and_then(|g| g.next.clone());
        assert_eq!(next.map(|n| n.by), Some("a".to_owned()));
        // Compaction kept the loser's record, and then what the winner wrote.
        let mut late = Marks::default();
        assert!(put(&mut late, &claim(1, "b")));
        assert!(put(&mut late, &claim(2, "a")));
        assert_eq!(late, marks);
    }

    #[test]
    fn the_cluster_is_named_once() {
        let mut marks = Marks::default();
        let record = |name| {
            serde_json::to_vec(&ClusterMark {
                version: 1,
                layout: LAYOUT,
                id: "id".to_owned(),
                name,
            })
            .expect("it is plain data")
        };
        assert!(marks.apply(b"cluster", &record("first".to_owned())));
        assert!(!marks.apply(b"cluster", &record("second".to_owned())));
        assert_eq!(marks.cluster.map(|c| c.name), Some("first".to_owned()));
    }

    #[test]
    fn what_is_not_ours_changes_nothing() {
        let mut marks = Marks::default();
        for (key, value) in [
            (&b"cluster"[..], &b"not json"[..]),
            (b"generation/x", b"{}"),
            (b"partition/7", b"{\"version\":1}"),
            (&[0xff, 0xfe], b"{}"),
        ] {
            assert!(!marks.apply(key, value), "{key:?}");
        }
        assert_eq!(marks, Marks::default());
    }

    #[test]
    fn a_record_of_a_newer_version_is_read_as_far_as_it_is_known() {
        let mut marks = Marks::default();
        let value = br#"{"version":3,"generation":2,"partitions":8,"later":[1]}"#;
        assert!(marks.apply(b"generation/chat-messages", value));
        assert_eq!(marks.of("chat-messages").map(|g| g.generation), Some(2));
    }

    #[test]
    fn a_mark_says_its_base_and_past_only_where_it_has_them() {
        let mut mark = claim(1, "a");
        let text = serde_json::to_string(&mark).expect("it is plain data");
        assert!(!text.contains("base") && !text.contains("past"), "{text}");
        assert_eq!(mark.following(), 2);
        mark.base = 900;
        mark.past = Some(PastMark {
            generation: 1,
            partitions: 4,
            base: 0,
        });
        mark.next.as_mut().expect("it has one").generation = 7;
        let value = serde_json::to_vec(&mark).expect("it is plain data");
        let mut marks = Marks::default();
        assert!(marks.apply(b"generation/delivery", &value));
        assert_eq!(marks.of("delivery"), Some(&mark));
        assert_eq!(mark.following(), 7);
    }
}
