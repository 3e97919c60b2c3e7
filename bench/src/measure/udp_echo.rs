//! The raw kernel UDP echo: what the kernel takes for the same datagrams, both ends spinning.

use std::io::{ErrorKind, Write};
use std::net::UdpSocket;
use std::process::Command;

use super::cores::Pinned;
use super::node::Node;
use super::setting::Place;
use super::veth::Veth;
use crate::Failure;
use crate::cli::UdpEchoArgs;
use crate::interrupt::Interrupt;

/// Starts it at `place` as a process of its own, which runs this program.
pub(crate) fn start(
    place: &Place,
    core: usize,
    veth: Option<&Veth>,
    interrupt: &Interrupt,
) -> Result<Node, Failure> {
    let this = std::env::current_exe().map_err(|error| format!("own path: {error}"))?;
    let mut command = Command::new(this);
    command.args(["udp-echo", "--bind", &place.address.to_string(), "--core", &core.to_string()]);
    Node::start("the kernel echo", command, &place.config, veth, interrupt)
}

/// Sends every datagram back to where it came from, until it is killed.
pub(crate) fn run(args: &UdpEchoArgs) -> Result<(), Failure> {
    let failed = |error: std::io::Error| format!("{}: {error}", args.bind);
    let socket = UdpSocket::bind(args.bind).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    let _pinned = Pinned::to(args.core)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready").and_then(|()| out.flush()).map_err(failed)?;
    let mut datagram = [0; 2048];
    loop {
        match socket.recv_from(&mut datagram) {
            // One that cannot be sent back is lost, as on any wire.
            Ok((len, from)) => drop(socket.send_to(&datagram[..len], from)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // An earlier datagram was not delivered.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
