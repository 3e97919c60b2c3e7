//! Places of a table by key: an open-addressed index that holds nothing but the places; keys stay in the table.
//!
//! Removing leaves no trace behind, so nothing is ever cleaned up, and nothing is made larger but by
//! [`Places::reserve`]: every operation costs the same over any number of insertions and removals.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

const FREE: u32 = u32::MAX;

/// The hash under which a key's place is kept. Fixed: keys come from the catalogue or the log, not from strangers.
pub fn hash_of(key: impl Hash) -> u64 {
    let mut hasher = FxHasher::default();
    key.hash(&mut hasher);
    hasher.finish()
}

/// An index of a table's places.
#[derive(Debug)]
pub struct Places {
    /// A power of two, at least twice as many as there may be places.
    cells: Vec<u32>,
    len: usize,
}

impl Places {
    /// Bytes that an index of at most `entries` places takes.
    pub fn bytes(entries: usize) -> u64 {
        (cells(entries) * size_of::<u32>()) as u64
    }

    /// An index of at most `entries` places.
    pub fn new(entries: usize) -> Places {
        Places { cells: vec![FREE; cells(entries)], len: 0 }
    }

    /// Places that are there.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The place with this hash of which `is` says that it holds the key.
    #[inline]
    pub fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        while self.cells[at] != FREE {
            if is(self.cells[at]) {
                return Some(self.cells[at]);
            }
            at = self.next(at);
        }
        None
    }

    /// Adds a place whose key is not there yet.
    ///
    /// # Panics
    /// When there are as many as there may be.
    pub fn insert(&mut self, hash: u64, place: u32) {
        assert!(self.len < self.cells.len() / 2, "the table's own limit comes first");
        self.len += 1;
        self.put(hash, place);
    }

    /// Takes out a place; `hash_at` gives the hash of each place that is there. False if it is not.
    pub fn remove(&mut self, hash: u64, place: u32, hash_at: impl Fn(u32) -> u64) -> bool {
        let mut hole = self.home(hash);
        while self.cells[hole] != place {
            if self.cells[hole] == FREE {
                return false;
            }
            hole = self.next(hole);
        }
        // What stands behind the hole moves up, unless it would come before its home (Knuth 6.4, algorithm R).
        let mask = self.cells.len() - 1;
        let mut at = self.next(hole);
        while self.cells[at] != FREE {
            let home = self.home(hash_at(self.cells[at]));
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.cells[hole] = self.cells[at];
                hole = at;
            }
            at = self.next(at);
        }
        self.cells[hole] = FREE;
        self.len -= 1;
        true
    }

    /// Makes room for one more, by moving to more memory if there is none.
    pub fn reserve(&mut self, hash_at: impl Fn(u32) -> u64) {
        if self.len < self.cells.len() / 2 {
            return;
        }
        let more = vec![FREE; 2 * self.cells.len()];
        for place in std::mem::replace(&mut self.cells, more) {
            if place != FREE {
                self.put(hash_at(place), place);
            }
        }
    }

    fn put(&mut self, hash: u64, place: u32) {
        let mut at = self.home(hash);
        while self.cells[at] != FREE {
            at = self.next(at);
        }
        self.cells[at] = place;
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.cells.len() - 1)
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.cells.len() - 1)
    }
}

fn cells(entries: usize) -> usize {
    (2 * entries.max(1)).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Against a hash map, with few homes so that runs of cells are long and wrap around.
    #[test]
    fn it_agrees_with_a_map() {
        for homes in [1, 3, 1 << 20] {
            let hash = |key: u64| hash_of(key) % homes;
            let mut keys = vec![0u64; 64];
            let mut places = Places::new(keys.len());
            let mut model: HashMap<u64, u32> = HashMap::new();
            let mut state = 7 + homes;
            for _ in 0..20_000 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let key = 1 + (state >> 33) % 100;
                let found = places.find(hash(key), |place| keys[place as usize] == key);
                assert_eq!(found, model.get(&key).copied());
                if let Some(place) = found {
                    assert!(places.remove(hash(key), place, |place| hash(keys[place as usize])));
                    assert!(!places.remove(hash(key), place, |place| hash(keys[place as usize])));
                    keys[place as usize] = 0;
                    model.remove(&key);
                } else if let Some(free) = keys.iter().position(|key| *key == 0) {
                    keys[free] = key;
                    places.insert(hash(key), free as u32);
                    model.insert(key, free as u32);
                }
            }
            assert!(model.len() > 10);
        }
    }

    #[test]
    fn it_moves_to_more_memory_only_when_asked_and_full() {
        let keys: Vec<u64> = (0..1000).collect();
        let mut places = Places::new(4);
        for (place, key) in keys.iter().enumerate() {
            places.reserve(|place| hash_of(keys[place as usize]));
            places.insert(hash_of(key), place as u32);
        }
        for (place, key) in keys.iter().enumerate() {
            let found = places.find(hash_of(key), |place| keys[place as usize] == *key);
            assert_eq!(found, Some(place as u32));
        }
        assert!(places.cells.len() <= 4096);
    }
}
