//! Bursts of packet buffers from and to a device.

use std::ptr::{NonNull, null_mut};
use std::time::Duration;

use mstream_dpdk_sys as sys;
use mstream_nic::port::BURST;

use crate::device::{Device, QUEUE};
use crate::mbuf::Mbuf;

/// How often a driver is asked, a millisecond apart, to give back what has left.
const SETTLING: u32 = 20;

/// Hands up to `max` received buffers, at most a burst, to `each`. Returns how many there were.
#[inline]
pub(crate) fn receive_burst(device: &Device, max: usize, mut each: impl FnMut(Mbuf)) -> usize {
    let mut raw: [*mut sys::rte_mbuf; BURST] = [null_mut(); BURST];
    let max = max.min(BURST);
    // SAFETY: the device runs, the array has room for `max` pointers, and this thread is the only one
    // that polls the device.
    let got = unsafe { sys::rte_eth_rx_burst(device.id(), QUEUE, raw.as_mut_ptr(), max as u16) };
    for raw in &raw[..usize::from(got)] {
        if let Some(raw) = NonNull::new(*raw) {
            // SAFETY: DPDK hands over the ownership of what it returns; the pool outlives the buffer,
            // for the device holds it now and the frame that is made of it later.
            each(unsafe { Mbuf::from_raw(raw) });
        }
    }
    got.into()
}

/// Lets a driver that sends in the kernel give back what has left, until it has no more than `resting`
/// buffers or gives none back any more. `held` buffers are with somebody else. Returns how many it has.
pub(crate) fn settle(device: &Device, resting: u32, held: u32) -> u32 {
    let out = || device.pool.total().saturating_sub(device.pool.available());
    for _ in 0..SETTLING {
        if out() <= resting + held {
            break;
        }
        // SAFETY: as in `Waiting::burst`; nothing is sent, so that no pointer is looked at.
        unsafe { sys::rte_eth_tx_burst(device.id(), QUEUE, null_mut(), 0) };
        std::thread::sleep(Duration::from_millis(1));
    }
    out().saturating_sub(held)
}

/// What left in a burst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

/// Up to a burst of buffers that wait to be sent.
#[derive(Debug)]
pub(crate) struct Waiting {
    raw: [*mut sys::rte_mbuf; BURST],
    /// Their lengths: a buffer that left must not be looked at any more.
    bytes: [u16; BURST],
    len: usize,
}

impl Waiting {
    pub(crate) fn new() -> Waiting {
        Waiting { raw: [null_mut(); BURST], bytes: [0; BURST], len: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.len == BURST
    }

    /// Appends a buffer; there must be room.
    #[inline]
    pub(crate) fn push(&mut self, mbuf: Mbuf) {
        self.bytes[self.len] = mbuf.data_len();
        self.raw[self.len] = mbuf.into_raw();
        self.len += 1;
    }

    /// Offers all to the device; those that it does not take wait on.
    #[inline]
    pub(crate) fn burst(&mut self, device: &Device) -> Left {
        if self.len == 0 {
            return Left::default();
        }
        // SAFETY: the device runs and this thread is the only one that polls it; the first `len` pointers
        // are live buffers that are owned here (`push`), and those that the device takes are forgotten
        // below.
        let sent = unsafe {
            sys::rte_eth_tx_burst(device.id(), QUEUE, self.raw.as_mut_ptr(), self.len as u16)
        };
        let sent = usize::from(sent).min(self.len);
        let bytes = self.bytes[..sent].iter().map(|len| u64::from(*len)).sum();
        self.raw.copy_within(sent..self.len, 0);
        self.bytes.copy_within(sent..self.len, 0);
        self.len -= sent;
        Left { frames: sent as u64, bytes }
    }

    /// Gives all buffers back; returns how many there were.
    pub(crate) fn clear(&mut self) -> usize {
        let dropped = std::mem::take(&mut self.len);
        for raw in &self.raw[..dropped] {
            if let Some(raw) = NonNull::new(*raw) {
                // SAFETY: a buffer below the former `len` is live and owned here, once.
                unsafe { Mbuf::from_raw(raw) }.free();
            }
        }
        dropped
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.clear();
    }
}
