//! Pages of ordinary memory.

/// Bytes of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// An empty vector with room for `capacity` elements, in huge pages where the system gives them (transparent
/// ones: madvise(2), MADV_HUGEPAGE). Its pages come when they are touched.
pub fn vec_with_room<T>(capacity: usize) -> Vec<T> {
    let mut vec = Vec::with_capacity(capacity);
    let memory = vec.spare_capacity_mut();
    let start = memory.as_mut_ptr() as usize;
    let from = start.next_multiple_of(HUGE_PAGE);
    let to = (start + size_of_val(memory)) & !(HUGE_PAGE - 1);
    if from < to {
        let at = memory.as_mut_ptr().wrapping_byte_add(from - start);
        // SAFETY: the range is inside the vector's own memory; the advice changes no byte.
        unsafe { libc::madvise(at.cast(), to - from, libc::MADV_HUGEPAGE) };
    }
    vec
}
