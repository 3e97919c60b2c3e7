//! A packet socket on one interface: whole frames in and out of the kernel.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use mstream_nic::conformance::Wire;

/// Room for what arrives while nobody receives, in bytes.
const RECEIVE_BUFFER: libc::c_int = 16 << 20;

/// A packet socket that is bound to an interface and does not block.
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens a socket on the interface.
    pub fn open(interface: &str) -> io::Result<PacketSocket> {
        let name = CString::new(interface)?;
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: the name is NUL-terminated.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and is nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all zeros is a valid address of this type.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index as i32;
        let receive_buffer = RECEIVE_BUFFER;
        // SAFETY: both pointers are to locals of the stated sizes.
        let bound = unsafe {
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const receive_buffer).cast(),
                size_of::<libc::c_int>() as u32,
            );
            libc::bind(fd, (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32)
        };
        if bound != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(PacketSocket(socket))
    }
}

impl Wire for PacketSocket {
    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: pointer and length are those of the slice.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        let full = error.raw_os_error() == Some(libc::ENOBUFS);
        Err(if full { io::ErrorKind::WouldBlock.into() } else { error })
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // SAFETY: pointer and length are those of the slice.
        let got = unsafe {
            libc::recv(self.0.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), libc::MSG_TRUNC)
        };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        if got > into.len() {
            return Err(io::Error::other("longer than a buffer"));
        }
        Ok(got)
    }
}
