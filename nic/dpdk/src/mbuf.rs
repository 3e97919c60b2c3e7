//! DPDK's packet buffers: a header of fields, then room for a packet.

use std::ptr::NonNull;

use mstream_dpdk_sys as sys;
use mstream_nic::{ChecksumRequest, TxChecksum};

/// Bytes before a packet in its buffer, as DPDK lays them out.
pub(crate) const HEADROOM: u16 = sys::MSTREAM_MBUF_HEADROOM as u16;
/// Bytes of a packet that one buffer takes.
pub(crate) const ROOM: u16 = 2048;

/// What a device says of a received packet's checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksums {
    /// It did not look, or could not tell.
    Unknown,
    /// Those of the IPv4 header and of UDP or TCP are right.
    Good,
    /// One is wrong.
    Bad,
}

/// A packet buffer with one packet, owned: it is given back by [`Mbuf::free`], or to a device or ring.
///
/// Dropping it leaks the buffer: its holders say what becomes of it.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Mbuf(NonNull<sys::rte_mbuf>);

impl Mbuf {
    /// Takes over a buffer from DPDK.
    ///
    /// # Safety
    /// `raw` points to a live rte_mbuf that nothing else uses or frees any more, and its pool outlives the
    /// returned value.
    #[inline]
    pub(crate) unsafe fn from_raw(raw: NonNull<sys::rte_mbuf>) -> Mbuf {
        Mbuf(raw)
    }

    /// Hands the buffer over.
    #[inline]
    pub(crate) fn into_raw(self) -> *mut sys::rte_mbuf {
        self.0.as_ptr()
    }

    /// Gives the buffer, and those chained to it, back to the pool.
    #[inline]
    pub(crate) fn free(self) {
        // SAFETY: the buffer is live and owned (`from_raw`), and is not used again.
        unsafe { sys::rte_pktmbuf_free(self.into_raw()) };
    }

    /// Whether the packet lies in this one buffer, inside its bounds, and the buffer is shared with
    /// nobody: what the other methods rely on.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        let end = u32::from(self.data_off()) + u32::from(self.data_len());
        self.field::<u16>(sys::MSTREAM_MBUF_NB_SEGS) == 1
            && self.field::<u16>(sys::MSTREAM_MBUF_REFCNT) == 1
            && end <= u32::from(self.buf_len())
            && self.field::<u32>(sys::MSTREAM_MBUF_PKT_LEN) == u32::from(self.data_len())
    }

    #[inline]
    pub(crate) fn data_len(&self) -> u16 {
        self.field(sys::MSTREAM_MBUF_DATA_LEN)
    }

    /// The largest length that the buffer takes from the packet's start on.
    #[inline]
    pub(crate) fn capacity(&self) -> u16 {
        self.buf_len().saturating_sub(self.data_off())
    }

    /// Sets the packet's length; the caller has compared it with [`Mbuf::capacity`].
    #[inline]
    pub(crate) fn set_data_len(&mut self, len: u16) {
        assert!(len <= self.capacity(), "packet length {len} over the buffer's room");
        // SAFETY: both offsets are those of fields of these types in the live, exclusively owned
        // header, as the C compiler lays it out.
        unsafe {
            self.at::<u16>(sys::MSTREAM_MBUF_DATA_LEN).write(len);
            self.at::<u32>(sys::MSTREAM_MBUF_PKT_LEN).write(u32::from(len));
        }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: buf_addr points to buf_len bytes of the pool's memory, which is initialised (zeroed by
        // the kernel when it was mapped) and lives as long as the buffer. data_off + data_len is within
        // buf_len: every buffer was found plain when it came in, and `set_data_len` keeps it so. Nobody
        // else has the buffer, so nobody writes.
        unsafe { std::slice::from_raw_parts(self.data(), self.data_len().into()) }
    }

    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; the unique borrow of the owner makes the slice unique.
        unsafe { std::slice::from_raw_parts_mut(self.data(), self.data_len().into()) }
    }

    /// What the device that received the packet, and was told to look, found of its checksums.
    #[inline]
    pub(crate) fn checksums(&self) -> Checksums {
        let flags = self.field::<u64>(sys::MSTREAM_MBUF_FLAGS) as u32;
        match (flags & sys::MSTREAM_RX_IP_MASK, flags & sys::MSTREAM_RX_L4_MASK) {
            (sys::MSTREAM_RX_IP_BAD, _) | (_, sys::MSTREAM_RX_L4_BAD) => Checksums::Bad,
            (sys::MSTREAM_RX_IP_GOOD, sys::MSTREAM_RX_L4_GOOD) => Checksums::Good,
            // There is no header checksum in IPv6.
            (_, sys::MSTREAM_RX_L4_GOOD) if self.is_ipv6() => Checksums::Good,
            _ => Checksums::Unknown,
        }
    }

    fn is_ipv6(&self) -> bool {
        const IPV6: [u8; 2] = [0x86, 0xdd];
        const VLAN: [u8; 2] = [0x81, 0x00];
        let bytes = self.bytes();
        let kind = |at: usize| bytes.get(at..at + 2);
        kind(12) == Some(&IPV6) || kind(12) == Some(&VLAN) && kind(16) == Some(&IPV6)
    }

    /// Asks the device that is to send the packet to fill in a checksum.
    #[inline]
    pub(crate) fn ask(&mut self, request: ChecksumRequest) {
        let what = match request.what {
            TxChecksum::Ipv4Header => sys::MSTREAM_FILLS_IPV4,
            TxChecksum::UdpOverIpv6 => sys::MSTREAM_FILLS_UDP,
        };
        // SAFETY: writes to fields of the live, exclusively owned header.
        unsafe { sys::mstream_ask(self.0.as_ptr(), what, request.l2_bytes, request.l3_bytes) };
    }

    #[inline]
    fn data(&self) -> *mut u8 {
        let buffer: *mut u8 = self.field(sys::MSTREAM_MBUF_BUF_ADDR);
        // SAFETY: data_off is within the buffer (a plain one, see `bytes`).
        unsafe { buffer.add(self.data_off().into()) }
    }

    #[inline]
    fn data_off(&self) -> u16 {
        self.field(sys::MSTREAM_MBUF_DATA_OFF)
    }

    #[inline]
    fn buf_len(&self) -> u16 {
        self.field(sys::MSTREAM_MBUF_BUF_LEN)
    }

    /// The header's field of type `T` at `offset`, one of the `MSTREAM_MBUF_*`.
    #[inline]
    fn field<T: Copy>(&self, offset: u32) -> T {
        // SAFETY: the header is live; private callers pass an offset with its field's type.
        unsafe { self.at::<T>(offset).read() }
    }

    #[inline]
    fn at<T>(&self, offset: u32) -> *mut T {
        self.0.as_ptr().wrapping_byte_add(offset as usize).cast()
    }
}
