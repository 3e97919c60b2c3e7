//! The bytes of a simulated region: slots that copies of the region share until they are stored to.

use std::sync::Arc;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    slots: Vec<Arc<[u8]>>,
    slot_bytes: u64,
}

impl Slots {
    /// So many slots of zeros.
    pub(super) fn new(slots: u32, slot_bytes: u64) -> Slots {
        assert!(slot_bytes.is_power_of_two(), "slots of a simulated region are a power of two");
        let zeros: Arc<[u8]> = vec![0; slot_bytes as usize].into();
        Slots { slots: vec![zeros; slots as usize], slot_bytes }
    }

    pub(super) fn slot_bytes(&self) -> u64 {
        self.slot_bytes
    }

    pub(super) fn count(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The slot of an address, and where in it.
    fn place(&self, at: u64) -> (usize, usize) {
        ((at >> self.slot_bytes.trailing_zeros()) as usize, (at & (self.slot_bytes - 1)) as usize)
    }

    /// All slots, one behind the other.
    pub(super) fn whole(&self) -> Vec<u8> {
        self.slots.concat()
    }

    /// A range of a slot.
    pub(super) fn bytes(&self, at: u64, len: usize) -> &[u8] {
        let (slot, at) = self.place(at);
        &self.slots[slot][at..at + len]
    }

    /// A range of a slot, to change it here and in no copy.
    pub(super) fn bytes_mut(&mut self, at: u64, len: usize) -> &mut [u8] {
        let (slot, at) = self.place(at);
        &mut Arc::make_mut(&mut self.slots[slot])[at..at + len]
    }

    /// The slot of an address as it is, and where in it.
    pub(super) fn shared(&self, at: u64) -> (Arc<[u8]>, usize) {
        let (slot, at) = self.place(at);
        (Arc::clone(&self.slots[slot]), at)
    }
}
