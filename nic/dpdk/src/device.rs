//! A device of DPDK with one queue each way: made, started, stopped and gone again.

use std::ffi::{CStr, CString, c_int};
use std::sync::Arc;

use mstream_dpdk_sys as sys;

use crate::config::{DpdkPortConfig, Kind, MemifRole};
use crate::eal::Running;
use crate::error::{DpdkError, last_reason, reason};
use crate::interface::Interface;
use crate::interrupt;
use crate::pool::{ANY_NODE, PacketPool};
use crate::probe::Shared;
use crate::ring::Ring;
use crate::words::Words;

/// The one queue each way.
pub(crate) const QUEUE: u16 = 0;
/// What is tried when the device gets its pool, as a phrase after "cannot".
pub(crate) const RECEIVE_QUEUE: &str = "set up its receive queue";

/// Checksums that a device sees to: bits of MSTREAM_VERIFIES and the like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offloads(u32);

impl Offloads {
    const ALL: Offloads =
        Offloads(sys::MSTREAM_VERIFIES | sys::MSTREAM_FILLS_IPV4 | sys::MSTREAM_FILLS_UDP);

    /// It looks at those of what it receives.
    pub(crate) fn verifies(self) -> bool {
        self.0 & sys::MSTREAM_VERIFIES != 0
    }

    /// It fills in those of IPv4 headers.
    pub(crate) fn fills_ipv4(self) -> bool {
        self.0 & sys::MSTREAM_FILLS_IPV4 != 0
    }

    /// It fills in those of UDP over IPv6.
    pub(crate) fn fills_udp(self) -> bool {
        self.0 & sys::MSTREAM_FILLS_UDP != 0
    }
}

/// A device. Dropping it stops and removes it; the buffers it kept go back to the pool.
#[derive(Debug)]
pub(crate) struct Device {
    id: u16,
    /// Its bus, and its name there.
    bus: &'static CStr,
    name: CString,
    started: bool,
    /// The driver handles a peer's going on DPDK's interrupt thread (see [`interrupt`]).
    has_peer: bool,
    /// The kernel's interface took in frames for others before, and is to go on with it.
    was_promiscuous: bool,
    pub(crate) pool: Arc<PacketPool>,
    pub(crate) shared: Arc<Shared>,
    /// The wires of a net_ring device; given up after it is gone.
    _rings: Vec<Arc<Ring>>,
    running: Arc<Running>,
}

impl Device {
    /// Makes a device, or finds it on its bus, and starts it, on the pool that it receives into.
    pub(crate) fn new(
        running: &Arc<Running>,
        config: &DpdkPortConfig,
        pool: &Arc<PacketPool>,
    ) -> Result<Device, DpdkError> {
        let Words { bus, name, arguments } = config.words()?;
        let (name, arguments) = (text(config, name)?, text(config, arguments)?);
        let interface = config.kind.kernel_interface().map(|name| {
            let missing = |error| refused(config, "use its interface", format!("{name}: {error}"));
            Interface::find(name).map_err(missing)
        });
        let interface = interface.transpose()?;
        if matches!(&config.kind, Kind::Memif(memif) if memif.role == MemifRole::Server) {
            running.never_unmap();
        }
        let guard = running.lock_devices();
        let mut id = 0;
        // SAFETY: DPDK runs; the name is NUL-terminated; `id` is written to only during the call.
        let mut find = || unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) };
        // A PCI device that DPDK was started with is there already.
        let there = matches!(config.kind, Kind::Pci { .. }) && find() == 0;
        if !there {
            // SAFETY: DPDK runs; the strings are NUL-terminated and copied.
            let made = unsafe {
                sys::rte_eal_hotplug_add(bus.as_ptr(), name.as_ptr(), arguments.as_ptr())
            };
            check(config, "make the device", made)?;
            check(config, "find the device that was just made", find())?;
        }
        drop(guard);
        let mut device = Device::take_over(running, config, id, (bus, name), pool, interface);
        device.has_peer = matches!(config.kind, Kind::Memif(_));
        device.started(config)
    }

    /// Makes a net_ring device that receives from one ring and sends to the other, and starts it.
    pub(crate) fn over_rings(
        running: &Arc<Running>,
        config: &DpdkPortConfig,
        pool: &Arc<PacketPool>,
        receive: &Arc<Ring>,
        send: &Arc<Ring>,
    ) -> Result<Device, DpdkError> {
        // DPDK puts "net_ring_" before the name by itself.
        let words = config.words()?;
        let on_bus = (words.bus, text(config, words.name)?);
        let name = text(config, config.name.clone())?;
        let guard = running.lock_devices();
        // SAFETY: DPDK runs; the name is NUL-terminated and copied; both arrays have one live ring,
        // which the device holds below.
        let id = unsafe {
            sys::rte_eth_from_rings(
                name.as_ptr(),
                [receive.as_ptr()].as_ptr(),
                1,
                [send.as_ptr()].as_ptr(),
                1,
                0,
            )
        };
        drop(guard);
        let id =
            u16::try_from(id).map_err(|_| refused(config, "make the device", last_reason()))?;
        let mut device = Device::take_over(running, config, id, on_bus, pool, None);
        device._rings = vec![Arc::clone(receive), Arc::clone(send)];
        device.started(config)
    }

    fn take_over(
        running: &Arc<Running>,
        config: &DpdkPortConfig,
        id: u16,
        (bus, name): (&'static CStr, CString),
        pool: &Arc<PacketPool>,
        interface: Option<Interface>,
    ) -> Device {
        let was_promiscuous = interface.as_ref().is_some_and(Interface::is_promiscuous);
        let wanted = if config.checksums { Offloads::ALL } else { Offloads(0) };
        // SAFETY: DPDK runs and the device is ours.
        let offloads = Offloads(unsafe { sys::mstream_offloads(id, wanted.0) });
        let shared = Shared::new(Attached { id, pool: Arc::clone(pool) }, interface, offloads);
        let (pool, running) = (Arc::clone(pool), Arc::clone(running));
        Device {
            id,
            bus,
            name,
            started: false,
            has_peer: false,
            was_promiscuous,
            pool,
            shared,
            _rings: Vec::new(),
            running,
        }
    }

    fn started(mut self, config: &DpdkPortConfig) -> Result<Device, DpdkError> {
        let (mut rx, mut tx) = (config.rx_ring, config.tx_ring);
        let node = ANY_NODE as u32;
        // SAFETY: DPDK runs and the device is ours; pointers are to locals for the length of a call, or
        // null where DPDK takes that for its defaults; the device holds the pool.
        unsafe {
            check(
                config,
                "configure the device",
                sys::mstream_configure(self.id, self.shared.offloads().0),
            )?;
            check(
                config,
                "size its rings",
                sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.id, &mut rx, &mut tx),
            )?;
            let (defaults, pool) = (std::ptr::null(), self.pool.as_ptr());
            let made = sys::rte_eth_rx_queue_setup(self.id, QUEUE, rx, node, defaults, pool);
            check(config, RECEIVE_QUEUE, made)?;
            let made = sys::rte_eth_tx_queue_setup(self.id, QUEUE, tx, node, std::ptr::null());
            check(config, "set up its transmit queue", made)?;
        }
        self.start().map_err(|reason| refused(config, "start the device", reason))?;
        // SAFETY: as above. Devices that cannot choose take everything anyway.
        let _ = unsafe { sys::rte_eth_promiscuous_enable(self.id) };
        Ok(self)
    }

    /// Starts the device again after a [`Device::stop`].
    pub(crate) fn start(&mut self) -> Result<(), String> {
        let id = self.id;
        // SAFETY: the device is ours and set up.
        let started = self.in_order(|| unsafe { sys::rte_eth_dev_start(id) });
        self.started = started == 0;
        if self.started { Ok(()) } else { Err(reason(started)) }
    }

    pub(crate) fn stop(&mut self) {
        if std::mem::take(&mut self.started) {
            let id = self.id;
            // SAFETY: the device is ours; its one polling thread is this one, or there is none yet.
            // A device that cannot stop is closed all the same.
            let _ = self.in_order(|| unsafe { sys::rte_eth_dev_stop(id) });
        }
    }

    /// Does `work` where it cannot cross what the driver does because of a peer.
    fn in_order(&self, work: impl FnOnce() -> c_int + Send) -> c_int {
        if self.has_peer { interrupt::run(&self.running, work) } else { work() }
    }

    /// DPDK's number of the device.
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    /// The largest payload of an Ethernet frame in bytes.
    pub(crate) fn mtu(&self) -> u16 {
        if let Some(interface) = self.shared.interface() {
            return interface.mtu().unwrap_or(1500);
        }
        let mut mtu = 0;
        // SAFETY: the device is ours; `mtu` is written to only during the call.
        match unsafe { sys::rte_eth_dev_get_mtu(self.id, &mut mtu) } {
            0 => mtu,
            _ => 1500,
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.shared.detach();
        let _guard = self.running.lock_devices();
        if self.shared.interface().is_some() && !self.was_promiscuous {
            // SAFETY: DPDK runs and the device is ours. An interface that is gone needs it no more.
            let _ = unsafe { sys::rte_eth_promiscuous_disable(self.id) };
        }
        let (id, started) = (self.id, std::mem::take(&mut self.started));
        // SAFETY: DPDK runs, and the device is ours and not polled any more. It is closed in one go
        // with being stopped, so that no new peer comes in between.
        let _ = self.in_order(|| unsafe {
            if started {
                let _ = sys::rte_eth_dev_stop(id);
            }
            sys::rte_eth_dev_close(id)
        });
        // SAFETY: as above; the name is NUL-terminated. A device that is closed but stays on the bus
        // does no harm.
        let _ = unsafe { sys::rte_eal_hotplug_remove(self.bus.as_ptr(), self.name.as_ptr()) };
    }
}

/// What is left to ask of a device that is polled elsewhere. It exists no longer than the device.
#[derive(Debug)]
pub(crate) struct Attached {
    id: u16,
    pool: Arc<PacketPool>,
}

impl Attached {
    pub(crate) fn link_up(&self) -> bool {
        // SAFETY: the device is there.
        unsafe { sys::mstream_link_up(self.id) == 1 }
    }

    pub(crate) fn mac(&self) -> [u8; 6] {
        let mut mac = sys::rte_ether_addr { addr_bytes: [0; 6] };
        // SAFETY: the device is there; `mac` is written to only during the call. It stays zero on failure.
        let _ = unsafe { sys::rte_eth_macaddr_get(self.id, &mut mac) };
        mac.addr_bytes
    }

    /// The device's own counters and its pool's level by name.
    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        let mut counters = self.statistics();
        counters.push(("pool_free".to_owned(), self.pool.available().into()));
        counters.push(("pool_buffers".to_owned(), self.pool.total().into()));
        counters
    }

    fn statistics(&self) -> Vec<(String, u64)> {
        // SAFETY: asks for the number of counters only.
        let count = unsafe { sys::rte_eth_xstats_get(self.id, std::ptr::null_mut(), 0) };
        let Ok(count) = usize::try_from(count) else { return Vec::new() };
        let mut values = vec![sys::rte_eth_xstat { id: 0, value: 0 }; count];
        let mut names = vec![sys::rte_eth_xstat_name { name: [0; 64] }; count];
        // SAFETY: both arrays have room for the stated number.
        let filled = unsafe {
            let got = sys::rte_eth_xstats_get(self.id, values.as_mut_ptr(), count as u32);
            got.min(sys::rte_eth_xstats_get_names(self.id, names.as_mut_ptr(), count as u32))
        };
        let filled = usize::try_from(filled).unwrap_or(0).min(count);
        let named = |value: &sys::rte_eth_xstat| {
            let name = names.get(value.id as usize)?.name;
            let bytes = name.iter().map(|c| c.cast_unsigned()).take_while(|c| *c != 0).collect();
            Some((String::from_utf8(bytes).ok()?, value.value))
        };
        values[..filled].iter().filter_map(named).collect()
    }
}

fn text(config: &DpdkPortConfig, text: String) -> Result<CString, DpdkError> {
    CString::new(text).map_err(|_| refused(config, "name the device", "NUL in its name".into()))
}

fn check(config: &DpdkPortConfig, action: &'static str, result: c_int) -> Result<(), DpdkError> {
    if result == 0 { Ok(()) } else { Err(refused(config, action, reason(result))) }
}

fn refused(config: &DpdkPortConfig, action: &'static str, reason: String) -> DpdkError {
    DpdkError::Port { port: config.name.clone(), action, reason }
}
