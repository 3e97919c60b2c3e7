//! Memory that a peer can change at any moment. All of memif's unsafe code is here.
//!
//! Nothing in this module hands out a reference into shared memory. Indexes and descriptors are read
//! and written as atomics; frames are copied between shared and private memory. Every access is
//! checked against the bounds of the mapping that it falls into, so whatever a peer writes, the worst
//! outcome of a call is wrong bytes, never an access outside the peer's own memory.
//!
//! # Layout of a ring (memif 2.0)
//! At the ring's offset in its region: cookie u32, flags u16, head u16; at +64 tail u16; at +128 one
//! 16-byte descriptor per slot {flags u16, region u16, length u32, offset u32, metadata u32}. Head and
//! tail count on without wrapping at the ring's size. The client owns head, the server owns tail, on
//! both rings.

use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, compiler_fence};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// The largest ring has 2 to the power of this many slots.
pub const MAX_RING_LOG2: u8 = 14;

const COOKIE: u32 = 0x03E3_1F20;
const FLAGS_AT: usize = 4;
const HEAD_AT: usize = 6;
const TAIL_AT: usize = 64;
const SLOTS_AT: usize = 128;
const SLOT_BYTES: usize = 16;
/// In a ring's flags: its reader polls and wants no interrupt.
const RING_FLAG_POLLED: u16 = 1;
/// In a descriptor's flags: the frame goes on in the next slot.
const SLOT_FLAG_NEXT: u64 = 1;

/// A mapping of a region; unmapped when dropped, which is a system call.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; the value only names it.
unsafe impl Send for Mapping {}
// SAFETY: through a shared reference only atomics and raw copies reach the memory, which other
// processes change anyway; see the module's text.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `file` for reading and writing, all pages present.
    pub(super) fn new(file: impl AsFd, len: usize) -> Result<Mapping, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: the kernel chooses the address, so no memory in use is replaced.
        let base = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), len, protection, flags, file.as_fd(), 0)?
        };
        let base = NonNull::new(base.cast::<u8>()).ok_or(Errno::NOMEM)?;
        let mapping = Mapping { base, len };
        // MAP_POPULATE keeps quiet about pages that it could not get; this does not.
        // SAFETY: the range is the mapping made above, and populating changes no contents.
        match unsafe { rustix::mm::madvise(base.as_ptr().cast(), len, Advice::LinuxPopulateWrite) }
        {
            // INVAL: a kernel before 5.14, that cannot tell.
            Ok(()) | Err(Errno::INVAL) => Ok(mapping),
            Err(errno) => Err(errno),
        }
    }

    /// The address of `bytes` bytes at `offset`, if they are all inside the mapping.
    #[inline]
    fn range(&self, offset: usize, bytes: usize) -> Option<NonNull<u8>> {
        if bytes > self.len || offset > self.len - bytes {
            return None;
        }
        // SAFETY: offset <= len, so the result is inside the mapping or one past its end.
        Some(unsafe { self.base.add(offset) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and len are what mmap gave; rings that point into it hold the regions' Arc.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of a mapping: {unmapped:?}");
    }
}

/// Which side of a connection this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Made the memory; publishes head on both rings.
    Client,
    /// Mapped the client's memory; publishes tail on both rings.
    Server,
}

/// Where a ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RingPlace {
    pub(super) region: u16,
    pub(super) offset: u32,
    pub(super) log2: u8,
}

impl RingPlace {
    /// Bytes that a ring of 2^`log2` slots takes.
    pub(super) fn bytes(log2: u8) -> usize {
        SLOTS_AT + (SLOT_BYTES << log2)
    }
}

/// A slot's descriptor, in private memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// The frame goes on in the next slot.
    pub(super) next: bool,
    pub(super) region: u16,
    pub(super) offset: u32,
    /// Bytes of the frame's part, or of the empty buffer.
    pub(super) length: u32,
}

/// One ring of a connection and the regions that its descriptors name.
#[derive(Debug)]
pub(super) struct Ring {
    regions: Arc<[Mapping]>,
    theirs: NonNull<AtomicU16>,
    ours: NonNull<AtomicU16>,
    slots: NonNull<u8>,
    mask: u16,
}

// SAFETY: the pointers lead into mappings, which belong to the process and are held by the Arc.
unsafe impl Send for Ring {}

impl Ring {
    /// Makes the memory of a ring that nobody uses yet a valid, empty ring. `polled` if its reader
    /// wants no interrupts. False if the place is not inside its region or not aligned.
    #[must_use]
    pub(super) fn format(regions: &[Mapping], place: RingPlace, polled: bool) -> bool {
        let Some(base) = ring_base(regions, place) else { return false };
        let flags = if polled { RING_FLAG_POLLED } else { 0 };
        // SAFETY: ring_base checked that the whole ring is inside a mapping and aligned to 16 bytes,
        // so each field is in range and aligned for its type; mappings are read- and writable.
        unsafe {
            base.cast::<AtomicU32>().as_ref().store(COOKIE, Ordering::Relaxed);
            base.add(FLAGS_AT).cast::<AtomicU16>().as_ref().store(flags, Ordering::Relaxed);
            base.add(HEAD_AT).cast::<AtomicU16>().as_ref().store(0, Ordering::Relaxed);
            base.add(TAIL_AT).cast::<AtomicU16>().as_ref().store(0, Ordering::Relaxed);
        }
        true
    }

    /// Takes part in the ring at `place`. The error says what is wrong with the ring.
    pub(super) fn attach(
        regions: &Arc<[Mapping]>,
        place: RingPlace,
        role: Role,
    ) -> Result<Ring, &'static str> {
        let base = ring_base(regions, place).ok_or("ring is outside its region or not aligned")?;
        // SAFETY: as in `format`: in range and aligned.
        let cookie = unsafe { base.cast::<AtomicU32>().as_ref().load(Ordering::Relaxed) };
        if cookie != COOKIE {
            return Err("wrong cookie in a ring");
        }
        // SAFETY: both lie inside the ring, checked by `ring_base`.
        let (head, tail, slots) =
            unsafe { (base.add(HEAD_AT).cast(), base.add(TAIL_AT).cast(), base.add(SLOTS_AT)) };
        let (theirs, ours) = match role {
            Role::Client => (tail, head),
            Role::Server => (head, tail),
        };
        let mask = ((1u32 << place.log2) - 1) as u16;
        Ok(Ring { regions: Arc::clone(regions), theirs, ours, slots, mask })
    }

    /// Tells the ring's writer that this side, its reader, polls.
    pub(super) fn set_polled(&self) {
        // SAFETY: the flags are SLOTS_AT - FLAGS_AT bytes before the slots, inside the same ring, and
        // aligned for u16 because the ring is aligned to 16 bytes.
        let flags = unsafe { self.slots.sub(SLOTS_AT - FLAGS_AT).cast::<AtomicU16>().as_ref() };
        flags.store(RING_FLAG_POLLED, Ordering::Relaxed);
    }

    /// The ring's number of slots.
    #[inline]
    pub(super) fn size(&self) -> u16 {
        self.mask + 1
    }

    /// The index that the peer publishes. Acquire: pairs with the release in the peer's `publish`, so
    /// that slots and frames before the index are visible.
    #[inline]
    pub(super) fn theirs(&self) -> u16 {
        // SAFETY: checked to be inside the ring and aligned when the ring was attached; the Arc keeps
        // the mapping alive.
        unsafe { self.theirs.as_ref() }.load(Ordering::Acquire)
    }

    /// Publishes this side's index. Release: pairs with the acquire in the peer's `theirs`. What this
    /// side wrote into slots and buffers is visible before the index is, and its reads of slots and
    /// buffers are over before the peer may reuse them.
    #[inline]
    pub(super) fn publish(&self, index: u16) {
        // SAFETY: as in `theirs`.
        unsafe { self.ours.as_ref() }.store(index, Ordering::Release);
    }

    /// Both halves of the descriptor of the slot that `index` falls on.
    #[inline]
    fn slot(&self, index: u16) -> (&AtomicU64, &AtomicU64) {
        let at = SLOT_BYTES * usize::from(index & self.mask);
        // SAFETY: the mask keeps the slot inside the ring; slots are 16-byte aligned (the ring is, and
        // SLOTS_AT is a multiple of 16). Atomics may be referred to while a peer changes them.
        unsafe {
            let first = self.slots.add(at).cast::<AtomicU64>();
            (first.as_ref(), first.add(1).as_ref())
        }
    }

    /// Reads the descriptor of the slot that `index` falls on, each field once.
    #[inline]
    pub(super) fn descriptor(&self, index: u16) -> Descriptor {
        let (first, second) = self.slot(index);
        let (first, second) = (first.load(Ordering::Relaxed), second.load(Ordering::Relaxed));
        Descriptor {
            next: first & SLOT_FLAG_NEXT != 0,
            region: (first >> 16) as u16,
            length: (first >> 32) as u32,
            offset: second as u32,
        }
    }

    /// Writes the descriptor of the slot that `index` falls on.
    #[inline]
    pub(super) fn describe(&self, index: u16, descriptor: Descriptor) {
        let (first, second) = self.slot(index);
        let flags = if descriptor.next { SLOT_FLAG_NEXT } else { 0 };
        let word = flags | u64::from(descriptor.region) << 16 | u64::from(descriptor.length) << 32;
        first.store(word, Ordering::Relaxed);
        second.store(u64::from(descriptor.offset), Ordering::Relaxed);
    }

    /// Copies bytes of a region into private memory; false, and no change, if they are not all inside
    /// the region.
    #[inline]
    #[must_use]
    pub(super) fn copy_out(&self, region: u16, offset: u32, into: &mut [u8]) -> bool {
        let Some(mapping) = self.regions.get(usize::from(region)) else { return false };
        let Some(from) = mapping.range(offset as usize, into.len()) else { return false };
        // SAFETY: `range` checked the source against the mapping; the destination is private memory
        // of the same length, so the two cannot overlap. The peer may write while this reads: any
        // mixture of old and new bytes is a valid [u8], and it is checked only after the copy.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), into.as_mut_ptr(), into.len()) };
        // Whatever looks at the copy must look at the copy: without this a compiler that inlines all
        // of it may read the source again instead.
        compiler_fence(Ordering::SeqCst);
        true
    }

    /// Copies private bytes into a region; false, and no change, if they do not all fall inside it.
    #[inline]
    #[must_use]
    pub(super) fn copy_in(&self, region: u16, offset: u32, bytes: &[u8]) -> bool {
        let Some(mapping) = self.regions.get(usize::from(region)) else { return false };
        let Some(to) = mapping.range(offset as usize, bytes.len()) else { return false };
        // SAFETY: `range` checked the destination against the mapping; the source is private memory,
        // so the two cannot overlap. The memory is the peer's to read and nobody's to trust.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
        true
    }
}

/// The address of a ring, if all of it is inside its region and aligned to 16 bytes.
fn ring_base(regions: &[Mapping], place: RingPlace) -> Option<NonNull<u8>> {
    if place.log2 > MAX_RING_LOG2 || !place.offset.is_multiple_of(SLOT_BYTES as u32) {
        return None;
    }
    // Mappings start on a page, so an aligned offset is an aligned address.
    regions
        .get(usize::from(place.region))?
        .range(place.offset as usize, RingPlace::bytes(place.log2))
}
