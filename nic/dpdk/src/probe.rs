//! A port as a control thread sees it while another thread polls it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::device::{Attached, Offloads};
use crate::interface::Interface;
use crate::port::ChecksumCounts;

/// What the other end of a port's wire is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Frames pass.
    Up,
    /// No carrier, no peer, or switched off; frames pass again once that changes.
    Down,
    /// The interface was removed, or the port was closed. It does not come back for this port, not even
    /// under the same name.
    Gone,
}

/// What the polling thread and the control thread share of a port.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Gone once the device is closed. The polling thread takes this lock only then.
    attached: Mutex<Option<Attached>>,
    /// What the probe saw last.
    up: AtomicBool,
    /// Frames with good and with bad checksums, as the device says.
    checksums: [AtomicU64; 2],
    mac: [u8; 6],
    interface: Option<Interface>,
    offloads: Offloads,
}

impl Shared {
    pub(crate) fn new(
        attached: Attached,
        interface: Option<Interface>,
        offloads: Offloads,
    ) -> Arc<Shared> {
        let mac = attached.mac();
        Arc::new(Shared {
            attached: Mutex::new(Some(attached)),
            up: true.into(),
            checksums: Default::default(),
            mac,
            interface,
            offloads,
        })
    }

    /// Whether the link was up when the probe looked last; up as long as none did.
    #[inline]
    pub(crate) fn was_up(&self) -> bool {
        // Relaxed: nothing is handed over with it.
        self.up.load(Ordering::Relaxed)
    }

    /// Lets the control thread see the counts. Only the polling thread calls it.
    #[inline]
    pub(crate) fn publish(&self, counts: ChecksumCounts) {
        let [good, bad] = &self.checksums;
        // Relaxed: each number is right by itself.
        good.store(counts.good, Ordering::Relaxed);
        bad.store(counts.bad, Ordering::Relaxed);
    }

    pub(crate) fn offloads(&self) -> Offloads {
        self.offloads
    }

    pub(crate) fn interface(&self) -> Option<&Interface> {
        self.interface.as_ref()
    }

    /// Asks now, which may enter the kernel.
    pub(crate) fn link(&self) -> Link {
        let of_device = self.with(|attached| match &self.interface {
            Some(interface) => interface.link(),
            None if attached.link_up() => Link::Up,
            None => Link::Down,
        });
        of_device.unwrap_or(Link::Gone)
    }

    /// From now on nobody but the caller uses the device. Waits for a probe that is just looking.
    pub(crate) fn detach(&self) {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn with<T>(&self, ask: impl FnOnce(&Attached) -> T) -> Option<T> {
        let attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        attached.as_ref().map(ask)
    }
}

/// A port as a control thread sees it while another thread polls it. It outlives the port.
#[derive(Clone, Debug)]
pub struct DpdkProbe(pub(crate) Arc<Shared>);

impl DpdkProbe {
    /// The device's MAC address; of a kernel's interface the kernel's.
    pub fn mac(&self) -> [u8; 6] {
        self.0.mac
    }

    /// Looks at the link. Ports over interfaces of the kernel and PCI devices drop and count what is sent
    /// as long as the last look found the link not up, so look from time to time.
    pub fn link(&self) -> Link {
        let link = self.0.link();
        // Relaxed: see `Shared::was_up`.
        self.0.up.store(link == Link::Up, Ordering::Relaxed);
        link
    }

    /// The device's own counters by name (DPDK's statistics, basic and extended), among them frames that
    /// were dropped before they reached the port (`rx_missed_errors`, `rx_mbuf_allocation_errors`), and its
    /// pool's buffers (`pool_free`, as good as exact, of `pool_buffers`). Empty once the port is closed.
    ///
    /// Slow, and may enter the kernel. The statistics are read while the port is polled: each number is
    /// right by itself.
    pub fn counters(&self) -> Vec<(String, u64)> {
        let Some(mut counters) = self.0.with(Attached::counters) else { return Vec::new() };
        if self.verifies_checksums() {
            for (name, count) in
                ["rx_checksum_good", "rx_checksum_bad"].iter().zip(&self.0.checksums)
            {
                counters.push(((*name).to_owned(), count.load(Ordering::Relaxed)));
            }
        }
        counters
    }

    /// The device looks at the checksums of what it receives. What it finds bad is handed over all the same,
    /// for the port's user to refuse and count.
    pub fn verifies_checksums(&self) -> bool {
        self.0.offloads.verifies()
    }

    /// The device fills in checksums of what is sent: of IPv4 headers, or of UDP over IPv6.
    pub fn fills_checksums(&self) -> bool {
        self.0.offloads.fills_ipv4() || self.0.offloads.fills_udp()
    }
}
