//! Many datagrams with one system call. All unsafe code of the socket port is here.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::{c_void, cmsghdr, iovec, mmsghdr, sockaddr_in, sockaddr_in6, socklen_t};

use crate::port::BURST;

/// One 32-bit value, the count of the kernel's drops, as a control message; with room for its padding.
const CONTROL_BYTES: usize = 32;

/// What the kernel reads and writes for one batch. Its pointers are set anew for each call, so between
/// calls nothing in it may be followed.
pub(super) struct Batch {
    messages: Box<[mmsghdr; BURST]>,
    parts: Box<[iovec; BURST]>,
    names: Box<[Name; BURST]>,
    controls: Box<[Control; BURST]>,
}

/// An address of either family, as the kernel writes and reads it: both begin with the family.
#[derive(Clone, Copy)]
#[repr(C)]
union Name {
    v4: sockaddr_in,
    v6: sockaddr_in6,
}

impl Name {
    /// What the kernel named; `None` for a family that is not spoken here.
    fn address(&self) -> Option<SocketAddr> {
        // SAFETY: both variants are plain integers, for which all bytes are valid, all bytes of the union
        // were initialised when it was made, and both begin with the family.
        let (v4, v6) = unsafe { (self.v4, self.v6) };
        match i32::from(v4.sin_family) {
            libc::AF_INET => {
                let ip = Ipv4Addr::from_bits(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                let ip = Ipv6Addr::from_octets(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Some(SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }

    /// Replaces it; returns the bytes that the kernel is to read.
    fn set(&mut self, address: SocketAddr) -> socklen_t {
        match address {
            SocketAddr::V4(address) => {
                self.v4 = sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: address.ip().to_bits().to_be() },
                    sin_zero: [0; 8],
                };
                mem::size_of::<sockaddr_in>() as socklen_t
            }
            SocketAddr::V6(address) => {
                self.v6 = sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                };
                mem::size_of::<sockaddr_in6>() as socklen_t
            }
        }
    }
}

/// Aligned like the header of a control message.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

const _: () = assert!(mem::align_of::<cmsghdr>() <= mem::align_of::<Control>());
// SAFETY: CMSG_SPACE only computes.
const _: () = assert!(unsafe { libc::CMSG_SPACE(4) } as usize <= CONTROL_BYTES);
/// Bytes of a control message with one 16-bit value, its padding included.
// SAFETY: CMSG_SPACE only computes.
const SEGMENT_BYTES: usize = unsafe { libc::CMSG_SPACE(2) } as usize;
/// Bytes that leave as one message at most: what an IP length can say, its headers kept free.
const GROUP_BYTES: usize = 65_000;

/// A datagram that was received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram {
    /// Bytes of payload, or of its beginning.
    pub(super) len: usize,
    /// It was longer than the room for it; the rest is lost.
    pub(super) truncated: bool,
    /// `None` if the kernel named an address of no known family.
    pub(super) from: Option<SocketAddr>,
    /// How many datagrams the kernel has dropped on the socket since it was opened, modulo 2^32, if it
    /// said so: it does from the first one on.
    pub(super) dropped: Option<u32>,
}

/// A datagram to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) payload: &'a [u8],
    pub(super) to: SocketAddr,
}

/// Neighbours that leave as one message.
struct Group {
    /// Place of the first.
    first: usize,
    count: usize,
    /// Bytes of each but the last.
    len: usize,
    /// Bytes of the last.
    last: usize,
    to: SocketAddr,
}

impl Group {
    /// True if the datagram may be the next one.
    fn takes(&self, next: &Outgoing<'_>) -> bool {
        let len = next.payload.len();
        let fits = (self.count + 1) * self.len <= GROUP_BYTES;
        next.to == self.to && self.last == self.len && 0 < len && len <= self.len && fits
    }

    fn add(&mut self, len: usize) {
        self.count += 1;
        self.last = len;
    }
}

/// A control message that says where the kernel is to cut.
fn segment_control(len: u16) -> [u8; CONTROL_BYTES] {
    let header = mem::size_of::<cmsghdr>();
    let mut control = [0; CONTROL_BYTES];
    // The fields of cmsghdr on 64-bit Linux: length, level, type.
    control[..8].copy_from_slice(&((header + 2) as u64).to_le_bytes());
    control[8..12].copy_from_slice(&libc::SOL_UDP.to_le_bytes());
    control[12..16].copy_from_slice(&libc::UDP_SEGMENT.to_le_bytes());
    control[header..header + 2].copy_from_slice(&len.to_le_bytes());
    control
}

impl Batch {
    pub(super) fn new() -> Batch {
        let part = iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: both are plain data of the C interface (integers, pointers, arrays), for which all
        // zeros are a valid value.
        let (message, name) = unsafe { (mem::zeroed::<mmsghdr>(), mem::zeroed::<Name>()) };
        Batch {
            messages: Box::new([message; BURST]),
            parts: Box::new([part; BURST]),
            names: Box::new([name; BURST]),
            controls: Box::new([Control([0; CONTROL_BYTES]); BURST]),
        }
    }

    /// Receives as many datagrams as there are and as `rooms` has rooms for, at most [`BURST`].
    /// Returns how many; [`Batch::datagram`] describes each. Never blocks.
    pub(super) fn receive<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        rooms: impl Iterator<Item = &'a mut [u8]>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for (at, room) in rooms.take(BURST).enumerate() {
            self.parts[at] =
                iovec { iov_base: room.as_mut_ptr().cast::<c_void>(), iov_len: room.len() };
            count = at + 1;
        }
        self.prepare(count);
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: the first `count` messages were prepared just now. Each points to one part, one name
        // and one control buffer in this value's boxes, which stay where they are during the call and
        // are as long as stated (`count` is at most BURST); each part points to a room that is borrowed for writing for 'a, which
        // outlives the call. No timeout is passed.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.messages.as_mut_ptr(),
                count as libc::c_uint,
                flags,
                ptr::null_mut(),
            )
        };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }

    /// The datagram at this place of the last [`Batch::receive`], which must have received that many.
    pub(super) fn datagram(&self, at: usize) -> Datagram {
        let message = &self.messages[at];
        Datagram {
            len: message.msg_len as usize,
            truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            from: self.names[at].address(),
            dropped: self.dropped(at),
        }
    }

    /// The kernel's count of drops, if it came with the datagram.
    fn dropped(&self, at: usize) -> Option<u32> {
        let control = &self.controls[at].0;
        let header = mem::size_of::<cmsghdr>();
        let used = self.messages[at].msg_hdr.msg_controllen;
        if used < header + 4 {
            return None;
        }
        // SAFETY: the buffer is as long as a header and aligned for it, and any bytes are a valid
        // header, which is plain integers.
        let found = unsafe { control.as_ptr().cast::<cmsghdr>().read() };
        (found.cmsg_level == libc::SOL_SOCKET && found.cmsg_type == libc::SO_RXQ_OVFL).then(|| {
            let value = [0, 1, 2, 3].map(|byte| control[header + byte]);
            // The kernel writes in the host's order, and this host is little-endian.
            u32::from_le_bytes(value)
        })
    }

    /// Sends datagrams, at most [`BURST`], in order until one cannot leave. Returns how many left; an
    /// error is about the first one, or with `grouped` about the first ones. Never blocks.
    ///
    /// With `grouped`, neighbours of one length to one destination go through the kernel as one and are
    /// cut apart at its end (UDP_SEGMENT, udp(7)); the last of them may be shorter.
    pub(super) fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        datagrams: impl Iterator<Item = Outgoing<'a>>,
        grouped: bool,
    ) -> io::Result<usize> {
        let mut groups = 0;
        let mut group: Option<Group> = None;
        for (at, datagram) in datagrams.take(BURST).enumerate() {
            let len = datagram.payload.len();
            let base = datagram.payload.as_ptr().cast_mut().cast::<c_void>();
            self.parts[at] = iovec { iov_base: base, iov_len: len };
            match &mut group {
                Some(group) if grouped && group.takes(&datagram) => group.add(len),
                _ => {
                    groups += usize::from(group.is_some());
                    self.messages[groups].msg_hdr.msg_namelen = self.names[groups].set(datagram.to);
                    group = Some(Group { first: at, count: 1, len, last: len, to: datagram.to });
                }
            }
            if let Some(group) = &group {
                self.point(groups, group);
            }
        }
        groups += usize::from(group.is_some());
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the first `groups` messages were pointed just now to parts, names and control buffers in
        // this value's boxes, which stay where they are during the call and are as long as stated (there
        // are at most BURST parts, and no more messages than parts); each part points to a payload that is
        // borrowed for 'a, and the kernel only reads the parts of messages that are sent.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.messages.as_mut_ptr(),
                groups as libc::c_uint,
                flags,
            )
        };
        let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
        Ok(self.messages[..sent].iter().map(|message| message.msg_hdr.msg_iovlen).sum())
    }

    /// True if the first message of the last [`Batch::send`] was of several datagrams.
    pub(super) fn first_was_group(&self) -> bool {
        self.messages[0].msg_hdr.msg_iovlen > 1
    }

    /// Makes one message of a group's parts, its name and, if there are several, the length to cut at.
    fn point(&mut self, message: usize, group: &Group) {
        let header = &mut self.messages[message].msg_hdr;
        header.msg_name = self.names.as_mut_ptr().wrapping_add(message).cast::<c_void>();
        header.msg_iov = self.parts.as_mut_ptr().wrapping_add(group.first);
        header.msg_iovlen = group.count;
        header.msg_control = self.controls.as_mut_ptr().wrapping_add(message).cast::<c_void>();
        header.msg_flags = 0;
        header.msg_controllen = 0;
        if group.count > 1 {
            header.msg_controllen = SEGMENT_BYTES;
            self.controls[message] = Control(segment_control(group.len as u16));
        }
    }

    /// Points the first `count` messages to one part, one name and one control buffer each.
    fn prepare(&mut self, count: usize) {
        let (parts, names) = (self.parts.as_mut_ptr(), self.names.as_mut_ptr());
        let controls = self.controls.as_mut_ptr();
        for (at, message) in self.messages[..count].iter_mut().enumerate() {
            let header = &mut message.msg_hdr;
            header.msg_name = names.wrapping_add(at).cast::<c_void>();
            header.msg_iov = parts.wrapping_add(at);
            header.msg_iovlen = 1;
            header.msg_control = controls.wrapping_add(at).cast::<c_void>();
            header.msg_controllen = CONTROL_BYTES;
            header.msg_namelen = mem::size_of::<Name>() as socklen_t;
            header.msg_flags = 0;
        }
    }
}

/// Lets the kernel say with each datagram how many it has dropped on the socket.
pub(super) fn count_kernel_drops(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int, which is passed with its length and outlives the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RXQ_OVFL,
            ptr::from_ref(&on).cast::<c_void>(),
            mem::size_of_val(&on) as socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}
