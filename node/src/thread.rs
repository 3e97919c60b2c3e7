//! What makes a thread a polling thread: its core, its signals, its stack.

use nix::sys::signal::{SigSet, Signal};

use crate::Failure;

/// Stack that a polling thread touches before it polls, in bytes.
const TOUCHED_STACK: usize = 256 << 10;

/// Pins the calling thread to `core`.
pub(crate) fn pin(core: usize) -> Result<(), Failure> {
    match core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        true => Ok(()),
        false => Err(format!("cannot pin a thread to core {core}: not allowed for this process")),
    }
}

/// Blocks all signals on the calling thread but those that its own instructions raise.
pub(crate) fn block_signals() -> Result<(), Failure> {
    let mut signals = SigSet::all();
    for own in [Signal::SIGBUS, Signal::SIGSEGV, Signal::SIGFPE, Signal::SIGILL] {
        signals.remove(own);
    }
    signals.thread_set_mask().map_err(|error| format!("cannot block signals: {error}"))
}

/// Makes the pages of the calling thread's stack present.
#[inline(never)]
pub(crate) fn touch_stack() {
    let mut stack = [0_u8; TOUCHED_STACK];
    for byte in stack.iter_mut().step_by(4096) {
        *std::hint::black_box(byte) = 1;
    }
    std::hint::black_box(&stack);
}
