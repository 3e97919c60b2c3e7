//! What can go wrong while DPDK is started and ports are opened and closed.

use std::ffi::{CStr, c_int};
use std::io;

/// Why DPDK could not be started, or a port not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DpdkError {
    /// DPDK can be started once in the life of a process, and be tried to.
    #[error("dpdk: a start was tried before in this process; there is one try only")]
    AlreadyStarted,
    /// DPDK's start failed.
    #[error("dpdk: start failed: {reason}; {fix}")]
    Start {
        /// DPDK's reason.
        reason: String,
        /// What probably helps.
        fix: String,
    },
    /// The thread that starts DPDK could not be made.
    #[error("dpdk: cannot make the thread that starts it: {0}")]
    Thread(#[source] io::Error),
    /// A setting is outside its limits.
    #[error("dpdk: {setting} is {value:?}, must be {allowed}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// DPDK or the operating system refused something about a port.
    #[error("dpdk port {port}: cannot {action}: {reason}")]
    Port {
        /// The port's name in the configuration.
        port: String,
        /// What was tried, as a phrase after "cannot".
        action: &'static str,
        /// The reason.
        reason: String,
    },
    /// The calling thread could not be registered.
    #[error("dpdk: cannot register this thread: {reason}")]
    Register {
        /// DPDK's reason.
        reason: String,
    },
    /// DPDK cannot be ended: ports, frames or registrations are still there. It stays as it is until
    /// the process ends.
    #[error("dpdk: not ended, {holders} ports, frames or thread registrations still use it")]
    InUse {
        /// How many there are.
        holders: usize,
    },
    /// DPDK's end failed.
    #[error("dpdk: end failed: {reason}")]
    End {
        /// DPDK's reason.
        reason: String,
    },
}

/// Buffers that did not come back to a port's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("dpdk: {missing} of {total} buffers did not come back, {held} of them are held as frames")]
pub struct PoolLeak {
    /// Buffers that are not in the pool.
    pub missing: usize,
    /// All buffers of the pool.
    pub total: usize,
    /// Frames of the closed port that are still held by somebody.
    pub held: usize,
}

/// DPDK's words for an error number of either sign.
#[expect(unsafe_code, reason = "calls into DPDK")]
pub(crate) fn reason(number: c_int) -> String {
    // SAFETY: rte_strerror takes any number and returns a string that is static or the thread's own;
    // it is copied before this thread can call it again.
    let text = unsafe { CStr::from_ptr(mstream_dpdk_sys::rte_strerror(number.saturating_abs())) };
    text.to_string_lossy().into_owned()
}

/// DPDK's words for the calling thread's last error.
#[expect(unsafe_code, reason = "calls into DPDK")]
pub(crate) fn last_reason() -> String {
    // SAFETY: reads a thread-local number.
    reason(unsafe { mstream_dpdk_sys::mstream_errno() })
}
