//! Streaming copies and write-backs of cache lines, by what the processor can do.

use std::arch::asm;
use std::arch::x86_64::{
    __cpuid_count, __m128i, __m256i, __m512i, _MM_HINT_T0, _mm_clflush, _mm_loadu_si128,
    _mm_prefetch, _mm_sfence, _mm_stream_si64, _mm_stream_si128, _mm256_loadu_si256,
    _mm256_stream_si256, _mm512_loadu_si512, _mm512_stream_si512,
};

const LINE: usize = 64;

/// How lines leave the cache without being evicted, or at least leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteBack {
    Clwb,
    Clflushopt,
    Clflush,
}

/// The instructions of this processor, chosen once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stores {
    stream: unsafe fn(*mut u8, *const u8, usize),
    write_back: WriteBack,
}

impl Stores {
    pub(crate) fn detect() -> Stores {
        let stream: unsafe fn(*mut u8, *const u8, usize) = if is_x86_feature_detected!("avx512f") {
            stream_avx512
        } else if is_x86_feature_detected!("avx2") {
            stream_avx2
        } else {
            stream_sse2
        };
        // CPUID leaf 7, EBX bit 24: clwb, bit 23: clflushopt (Intel SDM volume 2, CPUID).
        let features = __cpuid_count(7, 0).ebx;
        let write_back = if features >> 24 & 1 == 1 {
            WriteBack::Clwb
        } else if features >> 23 & 1 == 1 {
            WriteBack::Clflushopt
        } else {
            WriteBack::Clflush
        };
        Stores { stream, write_back }
    }

    /// Copies whole lines past the cache.
    ///
    /// # Safety
    /// `to` is aligned to 64 bytes and valid for writes of `len` bytes, `from` for reads; they do not
    /// overlap; `len` is a multiple of 64.
    #[inline]
    pub(crate) unsafe fn stream(&self, to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: the caller's promise is the callee's; the features were detected.
        unsafe { (self.stream)(to, from, len) }
    }

    /// Writes back the lines of `len` bytes from `at`.
    ///
    /// # Safety
    /// The range is mapped.
    pub(crate) unsafe fn write_back(&self, at: *const u8, len: usize) {
        let mut line = at as usize & !(LINE - 1);
        while line < at as usize + len {
            // SAFETY: the line is mapped (caller); the instruction exists on this processor (detected).
            unsafe {
                match self.write_back {
                    WriteBack::Clwb => {
                        asm!("clwb [{}]", in(reg) line, options(nostack, preserves_flags))
                    }
                    WriteBack::Clflushopt => {
                        asm!("clflushopt [{}]", in(reg) line, options(nostack, preserves_flags));
                    }
                    WriteBack::Clflush => _mm_clflush(line as *const u8),
                }
            }
            line += LINE;
        }
    }

    /// Orders streamed and written-back lines.
    #[inline]
    pub(crate) fn fence(&self) {
        // SAFETY: SSE is part of x86-64.
        unsafe { _mm_sfence() }
    }
}

/// Writes lines past the cache, as little-endian words (x86-64 has no other).
///
/// # Safety
/// `to` is aligned to 64 bytes and valid for writes of all words, which are those of whole lines.
#[inline(always)]
pub(crate) unsafe fn stream_words(to: *mut u8, words: &[u64]) {
    for (number, word) in words.iter().enumerate() {
        // SAFETY: one of the words, aligned to 8; SSE2 is part of x86-64.
        unsafe { _mm_stream_si64(to.cast::<i64>().add(number), word.cast_signed()) };
    }
}

/// Asks for the line at `at`.
#[inline]
pub(crate) fn prefetch(at: *const u8) {
    // SAFETY: a prefetch never faults, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

/// True when a hypervisor is underneath (CPUID leaf 1, ECX bit 31).
pub(crate) fn under_hypervisor() -> bool {
    __cpuid_count(1, 0).ecx >> 31 == 1
}

/// # Safety
/// As [`Stores::stream`], and the processor has AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn stream_avx512(to: *mut u8, from: *const u8, len: usize) {
    let mut at = 0;
    while at < len {
        // SAFETY: `at` + 64 <= len, so both sides are in range; `to` + `at` is aligned to 64.
        unsafe {
            let line = _mm512_loadu_si512(from.add(at).cast::<__m512i>());
            _mm512_stream_si512(to.add(at).cast::<__m512i>(), line);
        }
        at += LINE;
    }
}

/// # Safety
/// As [`Stores::stream`], and the processor has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn stream_avx2(to: *mut u8, from: *const u8, len: usize) {
    let mut at = 0;
    while at < len {
        // SAFETY: `at` + 64 <= len, so both sides are in range; `to` + `at` is aligned to 64.
        unsafe {
            for half in [at, at + 32] {
                let bytes = _mm256_loadu_si256(from.add(half).cast::<__m256i>());
                _mm256_stream_si256(to.add(half).cast::<__m256i>(), bytes);
            }
        }
        at += LINE;
    }
}

/// # Safety
/// As [`Stores::stream`].
unsafe fn stream_sse2(to: *mut u8, from: *const u8, len: usize) {
    let mut at = 0;
    while at < len {
        // SAFETY: `at` + 64 <= len, so both sides are in range; `to` + `at` is aligned to 64.
        unsafe {
            for quarter in [at, at + 16, at + 32, at + 48] {
                let bytes = _mm_loadu_si128(from.add(quarter).cast::<__m128i>());
                _mm_stream_si128(to.add(quarter).cast::<__m128i>(), bytes);
            }
        }
        at += LINE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(64))]
    struct Lines([u8; 640]);

    #[test]
    fn every_way_of_streaming_copies_the_bytes() {
        let from: Vec<u8> = (0..700).map(|n| (n * 7) as u8).collect();
        let mut ways: Vec<unsafe fn(*mut u8, *const u8, usize)> = vec![stream_sse2];
        if is_x86_feature_detected!("avx2") {
            ways.push(stream_avx2);
        }
        if is_x86_feature_detected!("avx512f") {
            ways.push(stream_avx512);
        }
        for way in ways {
            for (start, len) in [(0, 64), (3, 640), (17, 128), (5, 0)] {
                let mut to = Lines([0; 640]);
                // SAFETY: `Lines` is aligned, both sides are long enough, the feature was detected.
                unsafe { way(to.0.as_mut_ptr(), from[start..].as_ptr(), len) };
                Stores::detect().fence();
                assert_eq!(to.0[..len], from[start..start + len]);
                assert!(to.0[len..].iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn a_write_back_leaves_the_bytes() {
        let lines = Lines([9; 640]);
        let stores = Stores::detect();
        // SAFETY: the range is inside `lines`.
        unsafe { stores.write_back(lines.0.as_ptr().wrapping_add(10), 600) };
        stores.fence();
        assert!(lines.0.iter().all(|byte| *byte == 9));
    }
}
