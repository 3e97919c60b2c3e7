//! The control socket: packets of one message each, some with a file descriptor.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use super::error::MemifError;
use super::message::{MESSAGE_BYTES, Message};

/// Room for more descriptors than the one a message may carry, so that more are noticed and closed.
const ANCILLARY_BYTES: usize = rustix::cmsg_space!(ScmRights(4));
/// How many clients the kernel lets wait for being accepted.
const BACKLOG: i32 = 64;

/// One end of a connected control socket. Never blocks.
#[derive(Debug)]
pub(super) struct Endpoint {
    fd: OwnedFd,
}

/// What [`Endpoint::receive`] found.
#[derive(Debug)]
pub(super) enum Received {
    /// A message and the descriptor that came with it.
    Message(Message, Option<OwnedFd>),
    /// Nothing at the moment.
    Nothing,
    /// The other end closed, or died.
    Closed,
    /// Something that is no message: the reason.
    Malformed(&'static str),
}

impl Endpoint {
    /// Connects to the server that listens at `path`.
    pub(super) fn connect(path: &Path) -> Result<Endpoint, Errno> {
        let fd = new_socket()?;
        rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
        Ok(Endpoint { fd })
    }

    /// Sends a message, with a descriptor if the message needs one. A peer that does not read its
    /// messages is an error (`EAGAIN`), not something to wait for.
    pub(super) fn send(&self, message: &Message, passed: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let passed: Vec<BorrowedFd<'_>> = passed.into_iter().collect();
        if !passed.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&passed));
        }
        let bytes = message.encode();
        let parts = [io::IoSlice::new(&bytes)];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::net::sendmsg(&self.fd, &parts, &mut ancillary, flags)?;
        Ok(())
    }

    /// Takes one message if there is one.
    pub(super) fn receive(&self) -> Received {
        // One byte more than a message, so that a longer one is seen to be longer.
        let mut bytes = [0; MESSAGE_BYTES + 1];
        let mut space = [MaybeUninit::uninit(); ANCILLARY_BYTES];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut parts = [io::IoSliceMut::new(&mut bytes)];
        let got = match rustix::net::recvmsg(&self.fd, &mut parts, &mut ancillary, flags) {
            Ok(got) => got,
            Err(Errno::AGAIN | Errno::INTR) => return Received::Nothing,
            Err(_) => return Received::Closed,
        };
        let mut passed = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                passed.extend(descriptors);
            }
        }
        if got.bytes == 0 && passed.is_empty() {
            return Received::Closed;
        }
        if passed.len() > 1 || got.flags.contains(ReturnFlags::CTRUNC) {
            return Received::Malformed("more than one file descriptor with a message");
        }
        if got.flags.contains(ReturnFlags::TRUNC) {
            return Received::Malformed("control message is not 128 bytes long");
        }
        match Message::decode(&bytes[..got.bytes]) {
            Ok(message) => Received::Message(message, passed.pop()),
            Err(reason) => Received::Malformed(reason),
        }
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A listening control socket; its file goes when it is dropped.
#[derive(Debug)]
pub(super) struct Acceptor {
    fd: OwnedFd,
    path: std::path::PathBuf,
}

impl Acceptor {
    /// Binds `path` with mode 0600 and listens. A socket file that nobody answers on is replaced.
    pub(super) fn bind(path: &Path) -> Result<Acceptor, MemifError> {
        let failed = |action, errno: Errno| MemifError::Io {
            path: path.to_owned(),
            action,
            source: errno.into(),
        };
        let address = SocketAddrUnix::new(path).map_err(|e| failed("use this path", e))?;
        remove_stale(path)?;
        let fd = new_socket().map_err(|e| failed("make a socket", e))?;
        // The mode of an unbound socket is the mode its file is made with: nobody else can connect,
        // not even for a moment.
        fchmod(&fd, Mode::RUSR | Mode::WUSR).map_err(|e| failed("set the socket's mode", e))?;
        rustix::net::bind(&fd, &address).map_err(|e| failed("bind", e))?;
        let acceptor = Acceptor { fd, path: path.to_owned() };
        rustix::net::listen(&acceptor.fd, BACKLOG).map_err(|e| failed("listen", e))?;
        Ok(acceptor)
    }

    /// The next client that waits; `None` when there is none.
    pub(super) fn accept(&self) -> Result<Option<Endpoint>, Errno> {
        match rustix::net::accept_with(&self.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(fd) => Ok(Some(Endpoint { fd })),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        // The file is ours since bind; if someone removed it already there is nothing left to do.
        let _ = fs::remove_file(&self.path);
    }
}

fn new_socket() -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
}

/// Removes the socket file at `path` if it is one and no server answers on it.
fn remove_stale(path: &Path) -> Result<(), MemifError> {
    let io = |action, source| MemifError::Io { path: path.to_owned(), action, source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io("look at the socket's path", error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(MemifError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match Endpoint::connect(path) {
        Err(Errno::CONNREFUSED) => {
            fs::remove_file(path).map_err(|error| io("remove the stale socket", error))
        }
        Err(Errno::NOENT) => Ok(()),
        // A connection, a full backlog (EAGAIN), or a socket of another type (EPROTOTYPE): a live one.
        Ok(_) | Err(Errno::AGAIN | Errno::PROTOTYPE) => {
            Err(MemifError::InUse { path: path.to_owned() })
        }
        Err(errno) => Err(io("ask whether a server answers", errno.into())),
    }
}
