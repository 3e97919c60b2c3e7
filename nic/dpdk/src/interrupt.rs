//! Work on DPDK's interrupt thread.
//!
//! Drivers with a control connection handle it on that thread, and some (net_memif) free the same things
//! there when the peer goes away and on the caller's thread when the device is stopped, without a lock.
//! Stopping such a device on the interrupt thread puts the two in an order.

use std::ffi::c_void;
use std::sync::mpsc::{self, Sender};

use mstream_dpdk_sys as sys;

use crate::eal::Running;

/// Work that waits for the interrupt thread, and where its result goes.
struct Job<W, T> {
    work: W,
    done: Sender<T>,
}

/// Does `work` on the interrupt thread and waits for its result. Must not be called there.
pub(crate) fn run<W, T>(_running: &Running, work: W) -> T
where
    W: FnOnce() -> T + Send,
    T: Send,
{
    let (done, result) = mpsc::channel();
    let job = Box::into_raw(Box::new(Job { work, done }));
    // SAFETY: DPDK runs. The callback gets a pointer that is its own from now on; what `work` borrows
    // lives on, for this function waits until the callback is over.
    if unsafe { sys::rte_eal_alarm_set(1, Some(callback::<W, T>), job.cast()) } == 0 {
        // A callback that panics ends the process.
        return result.recv().expect("the callback sends a result");
    }
    // No memory for an alarm: the work is done here.
    // SAFETY: the pointer was made above, and DPDK did not take it.
    let job = unsafe { Box::from_raw(job) };
    (job.work)()
}

/// Runs on the interrupt thread, once for each job.
unsafe extern "C" fn callback<W: FnOnce() -> T, T>(job: *mut c_void) {
    // SAFETY: `run` made the pointer from a box of this type and gave it to this one call.
    let Job { work, done } = *unsafe { Box::from_raw(job.cast::<Job<W, T>>()) };
    // Whoever asked waits for this.
    let _ = done.send(work());
}
