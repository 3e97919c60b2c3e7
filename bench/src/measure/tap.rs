//! A network namespace of this run, for interfaces that the kernel is to see.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use crate::Failure;

/// Puts this process, and those that it starts from now on, into a network namespace of their own. It is
/// gone when the last of them ended. `what_for` asked for it.
pub(crate) fn enter_namespace(what_for: &str) -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| match error {
        Errno::EPERM => format!("{what_for} makes a network namespace: that takes root"),
        error => format!("making a network namespace: {error}"),
    })?;
    // The kernel's own chatter on the new interfaces; where it cannot be switched off it is only noise.
    for scope in ["all", "default"] {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1");
    }
    ip(&["link", "set", "lo", "up"])
}

/// Gives `interface` the address `client` in a network of two, and sets it up.
pub(crate) fn set_up(interface: &str, client: Ipv4Addr) -> Result<(), Failure> {
    ip(&["addr", "add", &format!("{client}/30"), "dev", interface])?;
    ip(&["link", "set", interface, "up"])
}

/// Runs `ip`.
pub(crate) fn ip(args: &[&str]) -> Result<(), Failure> {
    let failed = |reason: &str| format!("ip {}: {}", args.join(" "), reason.trim());
    let output = Command::new("ip")
        .args(args)
        .output()
        .map_err(|error| failed(&format!("{error} (Debian's package iproute2 has it)")))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(&String::from_utf8_lossy(&output.stderr))),
    }
}
