//! The wires between net_ring ports: rings of packet buffers.

use std::ffi::c_uint;
use std::ptr::NonNull;
use std::sync::Arc;

use mstream_dpdk_sys as sys;

use crate::eal::Running;
use crate::error::{DpdkError, last_reason};
use crate::mbuf::Mbuf;
use crate::pool::{ANY_NODE, PacketPool};

/// One direction of a wire. Its ports hold it; what is in it at the end goes back to the pool.
#[derive(Debug)]
pub(crate) struct Ring {
    raw: NonNull<sys::rte_ring>,
    /// All buffers in the ring are of this pool. It holds DPDK.
    _pool: Arc<PacketPool>,
}

// SAFETY: an rte_ring made for a single sender and receiver may be used by one thread at each end.
// Only the devices of the two ports use it, and each of them is polled by one thread.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    /// Makes a ring of at least `slots` slots.
    pub(crate) fn new(
        running: &Running,
        port: &str,
        slots: u16,
        pool: &Arc<PacketPool>,
    ) -> Result<Ring, DpdkError> {
        let name = running.fresh_name();
        let slots = (c_uint::from(slots) + 1).next_power_of_two().max(64);
        // SAFETY: DPDK runs (`running`); the name is NUL-terminated and copied.
        let raw = unsafe {
            sys::rte_ring_create(name.as_ptr(), slots, ANY_NODE, sys::MSTREAM_SP_SC_RING)
        };
        let raw = NonNull::new(raw).ok_or_else(|| DpdkError::Port {
            port: port.to_owned(),
            action: "make its ring",
            reason: last_reason(),
        })?;
        Ok(Ring { raw, _pool: Arc::clone(pool) })
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rte_ring {
        self.raw.as_ptr()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the ring is live, and no device uses it any more: they hold it.
        while let Some(left) = NonNull::new(unsafe { sys::mstream_ring_take(self.raw.as_ptr()) }) {
            // SAFETY: devices put in packet buffers only, each once, and the pool lives (`_pool`).
            unsafe { Mbuf::from_raw(left.cast()) }.free();
        }
        // SAFETY: as above; it is not used again.
        unsafe { sys::rte_ring_free(self.raw.as_ptr()) };
    }
}
