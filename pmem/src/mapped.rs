//! Regions in mapped files: hugetlbfs, tmpfs, DAX with MAP_SYNC, and ordinary files that are not synced.
//!
//! All slots live in one range of addresses that is reserved at start; the housekeeper maps slot files into it
//! ([`crate::prepare`]) while the shard goes on. What the medium promises is found out by trying.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{Ordering, compiler_fence};
use std::sync::{Arc, OnceLock};

use crate::copy::{self, Stores};
use crate::device;
use crate::poison::Poison;
use crate::region::{Barrier, LINE_WORDS, Level, Region, SharedBytes};
use crate::sigbus::Guarded;
use crate::slots::Extent;

/// What may be written and not yet be covered by a barrier, in bytes.
const WINDOW_BYTES: u64 = 64 * 1024;
/// Reserved ranges start at a multiple of this at least, so that slots can hold huge pages.
pub(crate) const ALIGNMENT: u64 = 2 << 20;

/// Reserved addresses for all slots of a region.
#[derive(Debug)]
pub(crate) struct Reservation {
    base: *mut u8,
    /// What was reserved, alignment slack included.
    start: *mut u8,
    reserved: usize,
    slot_bytes: u64,
    slots: u32,
    /// By slot, where the file is not whole.
    extents: Vec<OnceLock<Extent>>,
}

// SAFETY: the pointers name a range of addresses that belongs to this value alone; who may touch which bytes
// when is decided by the slot protocol (a slot is written by the preparer, then by the region's one
// owner).
unsafe impl Send for Reservation {}
// SAFETY: as above; of the value itself only the extents are changed, which is safe.
unsafe impl Sync for Reservation {}

impl Reservation {
    /// Addresses for `slots` slots, from a multiple of `alignment` (a power of two) on.
    pub(crate) fn new(slots: u32, slot_bytes: u64, alignment: u64) -> io::Result<Reservation> {
        let bytes = u64::from(slots) * slot_bytes;
        let alignment = alignment as usize;
        let reserved =
            usize::try_from(bytes)
                .ok()
                .and_then(|bytes| bytes.checked_add(alignment))
                .ok_or_else(|| io::Error::other("the log is larger than the address space"))?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing of ours.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), reserved, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = start.cast::<u8>();
        let base = start.wrapping_add(start.align_offset(alignment));
        let extents = (0..slots).map(|_| OnceLock::new()).collect();
        Ok(Reservation { base, start, reserved, slot_bytes, slots, extents })
    }

    /// Maps `file` into slot `slot`, over what was there.
    pub(crate) fn map(&self, slot: u32, file: &File, sync: bool) -> io::Result<()> {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        let at = self.address(u64::from(slot) * self.slot_bytes, 0);
        let flags =
            if sync { libc::MAP_SHARED_VALIDATE | libc::MAP_SYNC } else { libc::MAP_SHARED };
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the fixed range lies inside this reservation (asserted), which nothing else uses; the file
        // was made at least that long by the caller.
        let mapped = unsafe {
            libc::mmap(
                at.cast(),
                self.slot_bytes as usize,
                protection,
                flags | libc::MAP_FIXED,
                file.as_raw_fd(),
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Makes every page of a mapped slot present and writable.
    pub(crate) fn populate(&self, slot: u32) -> io::Result<()> {
        let at = self.address(u64::from(slot) * self.slot_bytes, 0);
        let len = self.slot_bytes as usize;
        // SAFETY: the range is a mapped slot of this reservation; populating changes no byte.
        let populated = unsafe { libc::madvise(at.cast(), len, libc::MADV_POPULATE_WRITE) };
        if populated != 0 {
            return Err(io::Error::last_os_error());
        }
        // Best effort: the limit on locked memory may be low, and tmpfs without swap needs no lock.
        // SAFETY: as above.
        unsafe { libc::mlock(at.cast(), len) };
        Ok(())
    }

    /// Puts memory that belongs to no file into slot `slot`, over what was there: zeros.
    pub(crate) fn map_memory(&self, slot: u32) -> io::Result<()> {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        let at = self.address(u64::from(slot) * self.slot_bytes, 0);
        let len = self.slot_bytes as usize;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: the fixed range lies inside this reservation (asserted), which nothing else uses.
        let mapped = unsafe { libc::mmap(at.cast(), len, protection, flags, -1, 0) };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // Only advice: with fewer, larger pages fewer addresses have to be looked up.
        // SAFETY: the range was mapped just now; advice changes no byte.
        unsafe { libc::madvise(at.cast(), len, libc::MADV_HUGEPAGE) };
        Ok(())
    }

    /// Bytes of one slot.
    pub(crate) fn slot_bytes(&self) -> u64 {
        self.slot_bytes
    }

    /// How much of a slot's file is there.
    pub(crate) fn extent(&self, slot: u32) -> Extent {
        self.extents[slot as usize].get().copied().unwrap_or(Extent::Whole)
    }

    /// Notes how much of a slot's file is there, before the slot is announced.
    pub(crate) fn set_extent(&self, slot: u32, extent: Extent) {
        // A slot is taken over once, so there is none yet.
        let _ = self.extents[slot as usize].set(extent);
    }

    /// How many slots there are addresses for.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    /// Copies `bytes` to byte `at` through the cache.
    ///
    /// # Safety
    /// The range is in a mapped slot, and nobody else uses these bytes meanwhile.
    pub(crate) unsafe fn store(&self, at: u64, bytes: &[u8]) {
        let to = self.address(at, bytes.len());
        // SAFETY: `to` is valid for that many bytes of the region (asserted in `address`, mapped says the caller);
        // `bytes` cannot overlap them, as nobody else uses them.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    /// Copies bytes to byte `at` past the cache, and zeros up to the end of the last line.
    ///
    /// # Safety
    /// As [`Reservation::store`]; `stores` are this processor's.
    #[inline]
    pub(crate) unsafe fn stream(&self, at: u64, bytes: &[u8], stores: &Stores) {
        assert!(at.is_multiple_of(64), "streaming stores are of whole lines");
        let to = self.address(at, bytes.len().next_multiple_of(64));
        // SAFETY: as in `store`; the base is aligned to 2 MiB, so `to` is aligned to 64.
        unsafe { stores.stream(to, bytes.as_ptr(), bytes.len()) };
    }

    /// Writes whole lines to byte `at` past the cache, as little-endian words.
    ///
    /// # Safety
    /// As [`Reservation::store`].
    #[inline]
    pub(crate) unsafe fn stream_words(&self, at: u64, words: &[u64]) {
        assert!(
            at.is_multiple_of(64) && words.len().is_multiple_of(LINE_WORDS),
            "streaming stores are of whole lines"
        );
        let to = self.address(at, size_of_val(words));
        // SAFETY: as in `stream`.
        unsafe { copy::stream_words(to, words) };
    }

    /// The bytes of a range.
    ///
    /// # Safety
    /// The range is in a mapped slot, and nobody stores to it while the slice lives.
    #[inline]
    pub(crate) unsafe fn bytes(&self, at: u64, len: usize) -> &[u8] {
        let from = self.address(at, len);
        // SAFETY: in range (asserted in `address`), mapped and so initialised, and left alone (caller).
        unsafe { std::slice::from_raw_parts(from, len) }
    }

    /// Lets `fill` write all bytes of a slot.
    ///
    /// # Safety
    /// The slot is mapped, and nobody else uses it meanwhile.
    pub(crate) unsafe fn fill<T>(&self, slot: u32, fill: impl FnOnce(&mut [u8]) -> T) -> T {
        let at = self.address(u64::from(slot) * self.slot_bytes, self.slot_bytes as usize);
        // SAFETY: in range (asserted in `address`), mapped and so initialised, and nobody else's (caller).
        fill(unsafe { std::slice::from_raw_parts_mut(at, self.slot_bytes as usize) })
    }

    /// Asks the processor to bring the line at `at` near.
    #[inline]
    pub(crate) fn prefetch(&self, at: u64) {
        copy::prefetch(self.base.wrapping_add(at as usize));
    }

    /// Address of byte `at` of the region; the range of `len` bytes must be inside it.
    #[inline]
    fn address(&self, at: u64, len: usize) -> *mut u8 {
        let end = at.checked_add(len as u64);
        assert!(
            end.is_some_and(|end| end <= u64::from(self.slots) * self.slot_bytes),
            "byte {at} + {len} is outside the region"
        );
        self.base.wrapping_add(at as usize)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the range was reserved by `new`, slots were only mapped inside it, and nobody uses it any more.
        unsafe { libc::munmap(self.start.cast(), self.reserved) };
    }
}

/// A region in mapped segment files.
#[derive(Debug)]
pub struct MappedRegion {
    /// Lets lost memory be noticed. Stands first, to be given up before the addresses are.
    guarded: Arc<Guarded>,
    reservation: Arc<Reservation>,
    level: Level,
    stores: Stores,
    barriers: u64,
    /// The last barrier before memory was lost.
    completed: u64,
}

impl MappedRegion {
    /// `page` is the size of the mappings' pages in bytes.
    ///
    /// # Errors
    /// When too many regions are mapped.
    pub(crate) fn new(
        reservation: Arc<Reservation>,
        level: Level,
        page: usize,
    ) -> io::Result<MappedRegion> {
        let bytes = u64::from(reservation.slots) * reservation.slot_bytes;
        let guarded = Guarded::new(reservation.base, bytes as usize, page, reservation.slot_bytes)?;
        let guarded = Arc::new(guarded);
        let stores = Stores::detect();
        Ok(MappedRegion { reservation, guarded, level, stores, barriers: 0, completed: 0 })
    }

    /// The same region as if its medium were of this level: to measure what that costs, on memory that is there.
    #[cfg(feature = "planted")]
    pub fn forced(self, level: Level) -> MappedRegion {
        MappedRegion { level, ..self }
    }
}

impl MappedRegion {
    /// Orders stores on the medium, which a barrier of level `process` does without. For comparisons.
    pub fn store_fence(&self) {
        self.stores.fence();
    }
}

impl Region for MappedRegion {
    fn level(&self) -> Level {
        self.level
    }

    fn slot_bytes(&self) -> u64 {
        self.reservation.slot_bytes
    }

    fn slots(&self) -> u32 {
        self.reservation.slots
    }

    fn window_bytes(&self) -> u64 {
        WINDOW_BYTES
    }

    fn store(&mut self, at: u64, bytes: &[u8]) {
        // SAFETY: the log only uses slots that were prepared, so mapped; `&mut self` holds the region.
        unsafe { self.reservation.store(at, bytes) };
    }

    #[inline]
    fn stream(&mut self, at: u64, bytes: &[u8]) {
        // SAFETY: as in `store`.
        unsafe { self.reservation.stream(at, bytes, &self.stores) };
    }

    #[inline]
    fn stream_words(&mut self, at: u64, words: &[u64]) {
        // SAFETY: as in `store`.
        unsafe { self.reservation.stream_words(at, words) };
    }

    fn flush(&mut self, at: u64, len: usize) {
        if self.level == Level::Process {
            // The kernel's copy is the same memory: nothing to write back.
            return;
        }
        let line = self.reservation.address(at, len);
        // SAFETY: the range is in a prepared slot, so it is mapped.
        unsafe { self.stores.write_back(line, len) };
    }

    #[inline]
    fn barrier(&mut self) -> Barrier {
        if self.level == Level::Process {
            // Who reads after this process was killed reads behind an interrupt, and an interrupt
            // empties the write-combining buffers (AMD APM volume 2, write buffering; Intel
            // SDM volume 3, write combining): what was executed is there. Only the compiler must keep the
            // order.
            compiler_fence(Ordering::SeqCst);
        } else {
            self.stores.fence();
        }
        self.barriers += 1;
        Barrier(self.barriers)
    }

    #[inline]
    fn completed(&mut self) -> Barrier {
        // What was stored where memory was lost went nowhere: nothing is promised from then on.
        if self.guarded.poison().is_none() {
            self.completed = self.barriers;
        }
        Barrier(self.completed)
    }

    #[inline]
    fn poison(&self) -> Option<Poison> {
        self.guarded.poison()
    }

    #[inline]
    fn bytes(&self, at: u64, len: usize) -> &[u8] {
        // SAFETY: the range is in a prepared slot, so it is mapped; only this value's owner stores to the region,
        // through `&mut self`.
        unsafe { self.reservation.bytes(at, len) }
    }

    fn share(&self, at: u64, len: usize) -> SharedBytes {
        SharedBytes::memory(Some(&self.guarded), &self.reservation, at, len)
    }

    #[inline]
    fn prefetch(&self, at: u64) {
        self.reservation.prefetch(at);
    }

    fn extent(&self, slot: u32) -> Extent {
        self.reservation.extent(slot)
    }

    fn sync(&mut self, at: u64, len: usize) -> io::Result<()> {
        let page = at & !4095;
        let len = len + (at - page) as usize;
        let from = self.reservation.address(page, len);
        // SAFETY: the range is mapped; msync changes no byte.
        if unsafe { libc::msync(from.cast(), len, libc::MS_SYNC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // What was synced is read-only again, so that the kernel notices the next store: on DAX, where a page may be of
        // 2 MiB, a whole segment. The page fault is better taken here than by an append. If this fails, it is taken there.
        // SAFETY: as above; populating changes no byte.
        unsafe { libc::madvise(from.cast(), len, libc::MADV_POPULATE_WRITE) };
        Ok(())
    }
}

/// What a directory's file system promises.
#[derive(Debug)]
pub(crate) struct Medium {
    pub(crate) level: Level,
    /// Whether segments are mapped with MAP_SYNC.
    pub(crate) map_sync: bool,
    /// Where segments are: why the level is not `pmem`, or what is trusted nevertheless; empty when there is nothing
    /// to say.
    pub(crate) why: String,
}

/// Finds out what a directory's file system promises, by mapping a file of `page` bytes with MAP_SYNC. The file is
/// gone afterwards, whatever the outcome.
pub(crate) fn probe_level(dir: &Path, page: u64, trust_host_pmem: bool) -> io::Result<Medium> {
    let path = dir.join("probe");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    let probed = file.set_len(page).and_then(|()| match map_sync(&file, page) {
        Ok(()) => device::doubt(&file).map(Some),
        Err(_) => Ok(None),
    });
    std::fs::remove_file(&path)?;
    Ok(match probed? {
        None => Medium { level: Level::Process, map_sync: false, why: String::new() },
        Some(None) => Medium { level: Level::Pmem, map_sync: true, why: String::new() },
        Some(Some(doubt)) => {
            let level = if trust_host_pmem { Level::Pmem } else { Level::PmemEmulated };
            Medium { level, map_sync: true, why: doubt }
        }
    })
}

/// Whether `page` bytes of `file` can be mapped with MAP_SYNC.
fn map_sync(file: &File, page: u64) -> io::Result<()> {
    let flags = libc::MAP_SHARED_VALIDATE | libc::MAP_SYNC;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of our own file at an address of the kernel's choice.
    let mapped = unsafe {
        libc::mmap(std::ptr::null_mut(), page as usize, protection, flags, file.as_raw_fd(), 0)
    };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: unmaps what was mapped just now.
    unsafe { libc::munmap(mapped, page as usize) };
    Ok(())
}
