//! A port's pool of packet buffers.

use std::ptr::NonNull;
use std::sync::Arc;

use mstream_dpdk_sys as sys;

use crate::eal::Running;
use crate::error::{DpdkError, last_reason};
use crate::mbuf::{HEADROOM, Mbuf, ROOM};

/// Buffers that a registered thread keeps at hand, so that most of its takes and frees touch no memory
/// that another thread writes. DPDK lets a cache hold half as many again.
const CACHE: u32 = 256;
const _: () = assert!(CACHE <= sys::MSTREAM_CACHE_MAX);
/// Any NUMA node.
pub(crate) const ANY_NODE: i32 = -1;

/// A fixed number of packet buffers in DPDK's memory.
#[derive(Debug)]
pub(crate) struct PacketPool {
    raw: NonNull<sys::rte_mempool>,
    total: u32,
    _running: Arc<Running>,
}

// SAFETY: an rte_mempool made without flags may be used by any number of threads: its ring is
// multi-producer and multi-consumer, and caches belong to the threads that DPDK knows.
unsafe impl Send for PacketPool {}
// SAFETY: as above.
unsafe impl Sync for PacketPool {}

impl PacketPool {
    /// Makes a pool of `frames` buffers for the port with this name. For `dma` a buffer lies within a page.
    pub(crate) fn new(
        running: &Arc<Running>,
        port: &str,
        frames: u32,
        dma: bool,
    ) -> Result<PacketPool, DpdkError> {
        let name = running.fresh_name();
        let cache = CACHE.min(frames / 2);
        // SAFETY: DPDK runs; the name is NUL-terminated and copied.
        let raw = unsafe {
            let (name, room) = (name.as_ptr(), HEADROOM + ROOM);
            match dma {
                true => sys::rte_pktmbuf_pool_create(name, frames, cache, 0, room, ANY_NODE),
                false => sys::mstream_packed_pool(name, frames, cache, room, ANY_NODE),
            }
        };
        let raw = NonNull::new(raw).ok_or_else(|| DpdkError::Port {
            port: port.to_owned(),
            action: "make its pool of packet buffers",
            reason: format!(
                "{}; {frames} buffers take {} MiB: give DPDK more memory or the port fewer frames",
                last_reason(),
                (u64::from(frames) * 2496) >> 20
            ),
        })?;
        Ok(PacketPool { raw, total: frames, _running: Arc::clone(running) })
    }

    /// An empty buffer, or `None` when all are out.
    #[inline]
    pub(crate) fn take(&self) -> Option<Mbuf> {
        // SAFETY: the pool is live.
        let raw = NonNull::new(unsafe { sys::rte_pktmbuf_alloc(self.raw.as_ptr()) })?;
        // SAFETY: just taken, so nobody else has it. Frames hold the pool that they are made from.
        Some(unsafe { Mbuf::from_raw(raw) })
    }

    /// Buffers in the pool, those in threads' caches included. Exact while no thread uses the pool.
    pub(crate) fn available(&self) -> u32 {
        // SAFETY: the pool is live.
        unsafe { sys::rte_mempool_avail_count(self.raw.as_ptr()) }
    }

    /// Buffers in the calling thread's cache.
    pub(crate) fn cached(&self) -> u32 {
        // SAFETY: the pool is live.
        unsafe { sys::mstream_cached(self.raw.as_ptr()) }
    }

    /// Pieces of memory that its buffers lie in.
    pub(crate) fn pieces(&self) -> u32 {
        // SAFETY: the pool is live.
        unsafe { sys::mstream_pieces(self.raw.as_ptr()) }
    }

    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.raw.as_ptr()
    }
}

impl Drop for PacketPool {
    fn drop(&mut self) {
        // SAFETY: DPDK runs (`_running`); devices, rings and frames with buffers of this pool hold it,
        // so none is left.
        unsafe { sys::rte_mempool_free(self.raw.as_ptr()) };
    }
}
