//! Streams or publishers, found by id and by name.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::ids::UsedIds;
use super::{Publisher, Stream};

/// Something with an id and a name.
pub(super) trait Entry {
    fn id(&self) -> u64;
    fn name(&self) -> &str;
}

impl Entry for Stream {
    fn id(&self) -> u64 {
        self.id
    }
    fn name(&self) -> &str {
        &self.name
    }
}

impl Entry for Publisher {
    fn id(&self) -> u64 {
        self.id
    }
    fn name(&self) -> &str {
        &self.name
    }
}

/// A shared entry in the order of names.
#[derive(Clone, Debug)]
struct ByName<T>(Arc<T>);

impl<T: Entry> Borrow<str> for ByName<T> {
    fn borrow(&self) -> &str {
        self.0.name()
    }
}

impl<T: Entry> Ord for ByName<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.name().cmp(other.0.name())
    }
}

impl<T: Entry> PartialOrd for ByName<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Entry> PartialEq for ByName<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl<T: Entry> Eq for ByName<T> {}

/// All entries of one kind. Each is held once, however it is found.
#[derive(Clone, Debug)]
pub(super) struct Table<T> {
    by_name: BTreeSet<ByName<T>>,
    by_id: BTreeMap<u64, Arc<T>>,
    pub(super) used: UsedIds,
    /// Bytes of all names.
    name_bytes: u64,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table {
            by_name: BTreeSet::new(),
            by_id: BTreeMap::new(),
            used: UsedIds::default(),
            name_bytes: 0,
        }
    }
}

impl<T: Entry> Table<T> {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn name_bytes(&self) -> u64 {
        self.name_bytes
    }

    pub(super) fn by_id(&self, id: u64) -> Option<&Arc<T>> {
        self.by_id.get(&id)
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<T>> {
        self.by_name.get(name).map(|found| &found.0)
    }

    /// Takes in an entry whose id and name are free.
    pub(super) fn insert(&mut self, entry: T) -> Arc<T> {
        let entry = Arc::new(entry);
        self.used.add(entry.id(), entry.id());
        self.name_bytes += entry.name().len() as u64;
        self.by_name.insert(ByName(Arc::clone(&entry)));
        self.by_id.insert(entry.id(), Arc::clone(&entry));
        entry
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Arc<T>> {
        let entry = self.by_id.remove(&id)?;
        self.by_name.remove(entry.name());
        self.name_bytes -= entry.name().len() as u64;
        Some(entry)
    }

    /// Entries in the order of their ids.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<T>> {
        self.by_id.values()
    }

    /// At most `most` entries whose names begin with `prefix` and come after `after`, in the order of names, and
    /// whether there are more.
    pub(super) fn page(&self, prefix: &str, after: &str, most: usize) -> (Vec<Arc<T>>, bool) {
        let from = match after.is_empty() || after < prefix {
            true => Bound::Included(prefix),
            false => Bound::Excluded(after),
        };
        let mut found = self
            .by_name
            .range::<str, _>((from, Bound::Unbounded))
            .map(|found| &found.0)
            .take_while(|entry| entry.name().starts_with(prefix));
        let page: Vec<_> = found.by_ref().take(most).map(Arc::clone).collect();
        (page, found.next().is_some())
    }
}
