//! Two network namespaces of this run, the client's and the server's, with veth pairs between them. Neither has
//! a name: they and their interfaces are gone when the last process in them ended, however it ended.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::sched::{CloneFlags, setns};

use super::setting::{ECHO_INTERFACE, SHARD_INTERFACE};
use super::tap::{enter_namespace, ip};
use crate::Failure;
use crate::cli::Floor;

/// The client's ends of the pairs.
const CLIENT_SHARD: &str = "msb-c-shard";
const CLIENT_ECHO: &str = "msb-c-echo";

/// The namespaces; the calling process is in the client's.
#[derive(Debug)]
pub(crate) struct Veth {
    server: File,
}

impl Veth {
    /// Puts this process into a namespace of its own, makes the server's beside it and joins them by a pair
    /// for the appliance, whose address is on no interface, and one for the floor and servers in the kernel.
    pub(crate) fn make(floor: Floor) -> Result<Veth, Failure> {
        const WHAT_FOR: &str = "--port af-xdp";
        enter_namespace(WHAT_FOR)?;
        let server = on_a_thread(|| {
            enter_namespace(WHAT_FOR)?;
            namespace_of_this_thread()
        })??;
        let veth = Veth { server };
        let target = format!("/proc/{}/fd/{}", std::process::id(), veth.server.as_raw_fd());
        for (client, address, peer) in [
            (CLIENT_SHARD, "10.77.0.2/30", SHARD_INTERFACE),
            (CLIENT_ECHO, "10.77.0.6/30", ECHO_INTERFACE),
        ] {
            let pair = ["type", "veth", "peer", "name", peer, "netns", &target];
            ip(&[&["link", "add", client], &pair[..]].concat())?;
            ip(&["addr", "add", address, "dev", client])?;
            ip(&["link", "set", client, "up"])?;
            veth.in_server(|| ip(&["link", "set", peer, "up"]))??;
        }
        // A veth passes unfinished checksums on; the appliance takes frames as they would be on a wire.
        checksums_in_full(CLIENT_SHARD)?;
        if floor == Floor::Port {
            checksums_in_full(CLIENT_ECHO)?;
        } else {
            veth.in_server(|| ip(&["addr", "add", "10.77.0.5/30", "dev", ECHO_INTERFACE]))??;
        }
        Ok(veth)
    }

    /// Runs `what` in the server's namespace; processes that it starts stay there.
    pub(crate) fn in_server<T: Send>(&self, what: impl FnOnce() -> T + Send) -> Result<T, Failure> {
        on_a_thread(|| {
            setns(&self.server, CloneFlags::CLONE_NEWNET)
                .map_err(|error| format!("entering the server's namespace: {error}"))?;
            Ok::<_, Failure>(what())
        })?
    }
}

/// A namespace belongs to a thread: this one's stays as it is.
fn on_a_thread<T: Send>(what: impl FnOnce() -> T + Send) -> Result<T, Failure> {
    std::thread::scope(|scope| scope.spawn(what).join())
        .map_err(|_| "a thread for a network namespace panicked".to_string())
}

fn namespace_of_this_thread() -> Result<File, Failure> {
    let path = "/proc/thread-self/ns/net";
    File::open(path).map_err(|error| format!("{path}: {error}"))
}

fn checksums_in_full(interface: &str) -> Result<(), Failure> {
    let failed = |reason: &str| format!("ethtool -K {interface} tx off: {}", reason.trim());
    let output = std::process::Command::new("ethtool")
        .args(["-K", interface, "tx", "off"])
        .output()
        .map_err(|error| failed(&format!("{error} (Debian's package ethtool has it)")))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(&String::from_utf8_lossy(&output.stderr))),
    }
}
