//! What the kernel says of an interface that it has.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::netdevice::{index_to_name, name_to_index};
use rustix::net::{AddressFamily, SocketType, socket};

use crate::probe::Link;

/// An interface of the network that the process was in when it was found.
#[derive(Debug)]
pub(crate) struct Interface {
    name: String,
    /// Another interface that takes the name later has another index.
    index: u32,
    /// Belongs to that network, which is asked through it.
    network: OwnedFd,
}

impl Interface {
    /// The interface with this name.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn find(name: &str) -> io::Result<Interface> {
        let network = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
        let index = name_to_index(&network, name)?;
        Ok(Interface { name: name.to_owned(), index, network })
    }

    /// Whether it is up and has a carrier.
    pub(crate) fn link(&self) -> Link {
        const RUNNING: i32 = libc::IFF_UP | libc::IFF_RUNNING;
        match self.flags() {
            None => Link::Gone,
            Some(flags) if flags & RUNNING == RUNNING => Link::Up,
            Some(_) => Link::Down,
        }
    }

    /// Whether it was switched on, with or without a carrier.
    pub(crate) fn is_up(&self) -> bool {
        self.flags().is_some_and(|flags| flags & libc::IFF_UP != 0)
    }

    /// Whether it takes in frames for other MAC addresses too.
    pub(crate) fn is_promiscuous(&self) -> bool {
        self.flags().is_some_and(|flags| flags & libc::IFF_PROMISC != 0)
    }

    /// The largest payload of an Ethernet frame in bytes.
    pub(crate) fn mtu(&self) -> Option<u16> {
        let answer = self.ask(libc::SIOCGIFMTU)?;
        // SAFETY: SIOCGIFMTU answers in this field.
        u16::try_from(unsafe { answer.ifr_ifru.ifru_mtu }).ok()
    }

    fn flags(&self) -> Option<i32> {
        let same = index_to_name(&self.network, self.index).is_ok_and(|name| name == self.name);
        let answer = self.ask(libc::SIOCGIFFLAGS).filter(|_| same)?;
        // SAFETY: SIOCGIFFLAGS answers in this field.
        Some(unsafe { answer.ifr_ifru.ifru_flags }.into())
    }

    fn ask(&self, what: libc::Ioctl) -> Option<libc::ifreq> {
        // SAFETY: all zeros is a valid value of this type.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // The last byte stays: a name has 15 at most.
        let room = request.ifr_name.len() - 1;
        for (to, from) in request.ifr_name[..room].iter_mut().zip(self.name.bytes()) {
            *to = from.cast_signed();
        }
        // SAFETY: both requests take a pointer to an ifreq with a NUL-terminated name and write to it.
        let done = unsafe { libc::ioctl(self.network.as_raw_fd(), what, &raw mut request) };
        (done == 0).then_some(request)
    }
}

/// Whether the kernel has an interface of this name, in the network of this process.
pub fn interface_exists(name: &str) -> bool {
    Interface::find(name).is_ok()
}
