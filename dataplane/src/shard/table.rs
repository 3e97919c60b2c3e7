//! A fixed-size table whose handles carry a generation, for publications and subscriptions.

/// Bits of a handle that are the index; the others are the generation.
const INDEX_BITS: u32 = 24;
/// The most entries a table can have.
pub(crate) const MAX_ENTRIES: usize = (1 << INDEX_BITS) - 1;

/// Names one life of one entry: a handle of an entry that was freed fits nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle(pub(crate) u32);

impl Handle {
    #[inline]
    pub(crate) fn index(self) -> u32 {
        self.0 & MAX_ENTRIES as u32
    }
}

struct Entry<T> {
    generation: u8,
    value: Option<T>,
}

/// Entries `0..n`, each free or holding a value.
pub(crate) struct Table<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

impl<T> Table<T> {
    pub(crate) fn new(entries: usize) -> Table<T> {
        let entries = entries.min(MAX_ENTRIES);
        Table {
            entries: (0..entries).map(|_| Entry { generation: 0, value: None }).collect(),
            free: (0..entries as u32).rev().collect(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Free entries and others.
    pub(crate) fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Puts a value into a free entry; gives it back when there is none.
    pub(crate) fn insert(&mut self, value: T) -> Result<Handle, T> {
        let Some(index) = self.free.pop() else { return Err(value) };
        let entry = &mut self.entries[index as usize];
        entry.value = Some(value);
        Ok(Handle(u32::from(entry.generation) << INDEX_BITS | index))
    }

    /// Frees entry `index`; its handle fits nothing from now on.
    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let entry = self.entries.get_mut(index as usize)?;
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index);
        Some(value)
    }

    /// The entry that `handle` names, if that life of it still lasts.
    #[inline]
    pub(crate) fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        let entry = self.entries.get_mut(handle.index() as usize)?;
        if u32::from(entry.generation) != handle.0 >> INDEX_BITS {
            return None;
        }
        entry.value.as_mut()
    }

    /// The entry with this index.
    #[inline]
    pub(crate) fn at(&mut self, index: u32) -> Option<&mut T> {
        self.entries.get_mut(index as usize)?.value.as_mut()
    }

    /// The entry with this index, to look at.
    pub(crate) fn peek(&self, index: u32) -> Option<&T> {
        self.entries.get(index as usize)?.value.as_ref()
    }

    /// The handle of the entry with this index.
    pub(crate) fn handle(&self, index: u32) -> Handle {
        Handle(u32::from(self.entries[index as usize].generation) << INDEX_BITS | index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_dies_with_its_entry() {
        let mut table = Table::new(1);
        let first = table.insert('a').expect("room");
        assert_eq!(table.insert('b'), Err('b'));
        assert_eq!(table.remove(first.index()), Some('a'));
        assert!(table.get_mut(first).is_none());
        let second = table.insert('c').expect("room");
        assert_ne!(first, second);
        assert!(table.get_mut(first).is_none());
        assert_eq!(table.get_mut(second), Some(&mut 'c'));
        assert!(table.get_mut(Handle(u32::MAX)).is_none());
    }
}
