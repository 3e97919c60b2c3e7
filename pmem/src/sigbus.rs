//! Memory that is gone under a mapping: a file that was cut short, a page that the machine cannot read any more. The
//! kernel says so by SIGBUS, whose default ends the process.
//!
//! [`install`] puts a handler in its place. For an address inside a registered range it maps a private page of zeros
//! over the page, notes the poison in the range's entry, and returns: whatever touched the page goes on, with zeros or
//! with a store that leads nowhere, and whoever needs to know looks at the entry before anything is promised or used.
//! Anywhere else the process ends as it would have.

use std::io;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};

use crate::poison::{Failed, Poison};

/// Ranges that can be registered at a time: far more than a node has shards.
const RANGES: usize = 256;

/// A registered range of addresses. `end` is stored last and taken away first: 0 marks a free or unfinished entry.
struct Range {
    /// 1: somebody has the entry.
    taken: AtomicI32,
    start: AtomicUsize,
    end: AtomicUsize,
    /// Bytes of a page of its mappings.
    page: AtomicUsize,
    slot_bytes: AtomicU64,
    /// [`Poison::to_bits`]; 0: none.
    poison: AtomicU64,
}

static TABLE: [Range; RANGES] = [const {
    Range {
        taken: AtomicI32::new(0),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        page: AtomicUsize::new(0),
        slot_bytes: AtomicU64::new(0),
        poison: AtomicU64::new(0),
    }
}; RANGES];

/// A range of addresses that the handler may map over, until this is dropped.
#[derive(Debug)]
pub(crate) struct Guarded {
    entry: usize,
}

impl Guarded {
    /// Registers the `bytes` addresses from `start` on, whose mappings have pages of `page` bytes.
    ///
    /// # Errors
    /// When too many ranges are registered.
    pub(crate) fn new(
        start: *const u8,
        bytes: usize,
        page: usize,
        slot_bytes: u64,
    ) -> io::Result<Guarded> {
        let free = |range: &Range| {
            range.taken.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let entry = TABLE.iter().position(free);
        let entry = entry.ok_or_else(|| io::Error::other("too many regions are mapped"))?;
        let range = &TABLE[entry];
        range.start.store(start.addr(), Ordering::Relaxed);
        range.page.store(page, Ordering::Relaxed);
        range.slot_bytes.store(slot_bytes, Ordering::Relaxed);
        range.poison.store(0, Ordering::Relaxed);
        // Release: who sees the end sees the rest.
        range.end.store(start.addr() + bytes, Ordering::Release);
        Ok(Guarded { entry })
    }

    /// What was lost in the range first, if anything was.
    #[inline]
    pub(crate) fn poison(&self) -> Option<Poison> {
        // Acquire: what was read of the range before stands before this.
        Poison::from_bits(TABLE[self.entry].poison.load(Ordering::Acquire))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        TABLE[self.entry].end.store(0, Ordering::Release);
        TABLE[self.entry].taken.store(0, Ordering::Release);
    }
}

/// Puts the handler in place, for the whole process.
///
/// # Errors
/// What the system said.
pub fn install() -> io::Result<()> {
    // SAFETY: sigaction is plain data for which zeros are a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_bus_error as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for and does only what a handler may (see there).
    match unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes no lock, allocates nothing, and makes only system calls that a handler may make.
extern "C" fn on_bus_error(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a valid siginfo.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    let of = |range: &&Range| {
        // Acquire: as in `Guarded::new`.
        let end = range.end.load(Ordering::Acquire);
        address < end && address >= range.start.load(Ordering::Relaxed)
    };
    // 0 and below: somebody sent it, and there is no address.
    let replaced =
        code > 0 && TABLE.iter().find(of).is_some_and(|range| replace_page(range, address));
    if !replaced {
        // SAFETY: both may be called in a handler. The default is back, and the signal comes again on return.
        unsafe {
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
            libc::raise(libc::SIGBUS);
        }
    }
}

/// Notes the poison, then maps zeros over the page that holds `address`. False if that failed.
fn replace_page(range: &Range, address: usize) -> bool {
    let start = range.start.load(Ordering::Relaxed);
    let page = range.page.load(Ordering::Relaxed);
    let slot_bytes = range.slot_bytes.load(Ordering::Relaxed).max(1);
    let slot = ((address - start) as u64 / slot_bytes) as u32;
    let poison = Poison { failed: Failed::Memory, slot, errno: 0 };
    // The first one stays. Before the page is there: who reads zeros from it finds the poison.
    let _ = range.poison.compare_exchange(0, poison.to_bits(), Ordering::AcqRel, Ordering::Relaxed);
    let at = address & !(page - 1);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: errno is this thread's own.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: the page lies inside a registered range, whose start is a multiple of the page, and which belongs to a
    // reservation of ours that is still there; the mapping that it replaces has nothing at this page any more.
    let mapped =
        unsafe { libc::mmap(std::ptr::without_provenance_mut(at), page, protection, flags, -1, 0) };
    // SAFETY: as above; what was interrupted must not see the handler's.
    unsafe { *libc::__errno_location() = errno };
    mapped != libc::MAP_FAILED
}
