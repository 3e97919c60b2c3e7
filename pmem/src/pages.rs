//! Pages of ordinary memory.

use std::mem::{MaybeUninit, size_of_val};

/// Bytes of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// Asks for huge pages under memory that was not touched yet. Where the system gives none, nothing changes.
pub(crate) fn prefer_huge_pages<T>(memory: &mut [MaybeUninit<T>]) {
    let start = memory.as_mut_ptr() as usize;
    let from = start.next_multiple_of(HUGE_PAGE);
    let to = (start + size_of_val(memory)) & !(HUGE_PAGE - 1);
    if from < to {
        let at = memory.as_mut_ptr().wrapping_byte_add(from - start);
        // SAFETY: the range is inside `memory`, which is borrowed; the advice changes no byte.
        unsafe { libc::madvise(at.cast(), to - from, libc::MADV_HUGEPAGE) };
    }
}
