//! A table whose rows are found by what they say and named by their place. The index holds four bytes and a tag for each
//! row, so a key is kept once, in its row.

use ahash::RandomState;
use hashbrown::HashTable;
use slab::Slab;
use std::hash::Hash;

/// What a table holds.
pub(crate) trait Row {
    /// What a row is found by.
    type Key<'a>: Hash;

    /// This one's; must not change while the row is in a table.
    fn key(&self) -> Self::Key<'_>;

    /// Whether that is this one's.
    fn is(&self, key: &Self::Key<'_>) -> bool;
}

/// See the module. At most 2^32 - 1 rows.
#[derive(Debug)]
pub(crate) struct Rows<T> {
    index: HashTable<u32>,
    rows: Slab<T>,
    state: RandomState,
}

// Not derived: a row need have no default.
impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            rows: Slab::new(),
            state: RandomState::new(),
        }
    }
}

impl<T: Row> Rows<T> {
    /// Takes a row that no other one has the key of; returns its place.
    pub(crate) fn insert(&mut self, row: T) -> u32 {
        let hash = self.state.hash_one(row.key());
        let place = u32::try_from(self.rows.insert(row)).unwrap_or(u32::MAX);
        let (rows, state) = (&self.rows, &self.state);
        let rehash = |place: &u32| hash_at(rows, state, *place);
        self.index.insert_unique(hash, place, rehash);
        place
    }

    /// Takes the row out of its place, which another one may get.
    pub(crate) fn remove(&mut self, place: u32) -> Option<T> {
        let row = self.rows.try_remove(place as usize)?;
        let hash = self.state.hash_one(row.key());
        if let Ok(entry) = self.index.find_entry(hash, |at| *at == place) {
            entry.remove();
        }
        Some(row)
    }

    /// Where the row with this key is.
    pub(crate) fn find(&self, key: &T::Key<'_>) -> Option<u32> {
        let hash = self.state.hash_one(key);
        let is = |place: &u32| {
            let row = self.rows.get(*place as usize);
            row.is_some_and(|row| row.is(key))
        };
        self.index.find(hash, is).copied()
    }

    /// The row at a place.
    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        self.rows.get(place as usize)
    }

    /// The same, to be changed; not its key.
    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.rows.get_mut(place as usize)
    }

    /// All rows, in the order of their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.rows.iter().map(|(_, row)| row)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}

fn hash_at<T: Row>(rows: &Slab<T>, state: &RandomState, place: u32) -> u64 {
    let row = rows.get(place as usize);
    row.map_or(0, |row| state.hash_one(row.key()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    struct Word(String, u32);

    impl Row for Word {
        type Key<'a> = &'a str;

        fn key(&self) -> &str {
            &self.0
        }

        fn is(&self, key: &&str) -> bool {
            self.0 == *key
        }
    }

    #[test]
    fn it_agrees_with_a_map_and_places_do_not_move() {
        let mut rows: Rows<Word> = Rows::default();
        let mut model: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for step in 0..20_000u32 {
            let word = format!("w{}", step.wrapping_mul(2_654_435_761) >> 20);
            match model.remove(&word) {
                Some((place, value)) => {
                    assert_eq!(rows.find(&word.as_str()), Some(place));
                    assert_eq!(rows.remove(place).map(|row| row.1), Some(value));
                    assert_eq!(rows.find(&word.as_str()), None);
                }
                None => {
                    let place = rows.insert(Word(word.clone(), step));
                    model.insert(word, (place, step));
                }
            }
        }
        assert!(model.len() > 100, "there is something to compare");
        assert_eq!(rows.len(), model.len());
        for (word, (place, value)) in &model {
            assert_eq!(rows.find(&word.as_str()), Some(*place));
            assert_eq!(rows.get(*place).map(|row| row.1), Some(*value));
        }
        assert_eq!(rows.iter().count(), model.len());
        assert!(rows.remove(u32::MAX).is_none());
    }
}
