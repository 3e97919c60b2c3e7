//! Pages of ordinary memory.

/// Bytes of a page.
const PAGE: usize = 4096;
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

/// As [`vec_with_room`], but its pages are there: a `blank` was written to each.
pub(crate) fn vec_in_memory<T: Copy>(capacity: usize, blank: T) -> Vec<T> {
    let mut vec = vec_with_room(capacity);
    let room = vec.spare_capacity_mut();
    room.iter_mut()
        .step_by((PAGE / size_of::<T>()).max(1))
        .for_each(|place| _ = place.write(blank));
    if let Some(last) = room.last_mut() {
        last.write(blank);
    }
    vec
}
