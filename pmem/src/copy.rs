//! Streaming copies and write-backs of cache lines, by what the processor can do.

use std::arch::asm;
use std::arch::x86_64::{
    __cpuid_count, __m128i, __m256i, __m512i, _MM_HINT_T0, _mm_clflush, _mm_loadu_si128,
    _mm_prefetch, _mm_sfence, _mm_stream_si128, _mm256_loadu_si256, _mm256_stream_si256,
    _mm512_loadu_si512, _mm512_maskz_loadu_epi8, _mm512_stream_si512,
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
        let stream: unsafe fn(*mut u8, *const u8, usize) = if is_x86_feature_detected!("avx512bw") {
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

    /// Copies bytes past the cache, and zeros up to the end of the last line.
    ///
    /// # Safety
    /// `to` is aligned to 64 bytes and valid for writes of `len` bytes and those up to the next multiple of 64, `from` for
    /// reads of `len` bytes; they do not overlap.
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
    for (number, words) in words.as_chunks().0.iter().enumerate() {
        // SAFETY: the line is valid for writes (caller).
        unsafe { stream_line(to.wrapping_add(LINE * number), words) };
    }
}

/// Writes a line. As one block, for the compiler's own function takes each word's address in a register; eight stores, for
/// putting the line together in a vector register takes longer.
///
/// # Safety
/// As [`stream_words`].
#[inline(always)]
unsafe fn stream_line(to: *mut u8, words: &[u64; 8]) {
    let [a, b, c, d, e, f, g, h] = *words;
    // SAFETY: the line is valid for writes (caller); SSE2 is part of x86-64.
    unsafe {
        asm!(
            "movnti [{to}], {a}",
            "movnti [{to} + 8], {b}",
            "movnti [{to} + 16], {c}",
            "movnti [{to} + 24], {d}",
            "movnti [{to} + 32], {e}",
            "movnti [{to} + 40], {f}",
            "movnti [{to} + 48], {g}",
            "movnti [{to} + 56], {h}",
            to = in(reg) to, a = in(reg) a, b = in(reg) b, c = in(reg) c, d = in(reg) d,
            e = in(reg) e, f = in(reg) f, g = in(reg) g, h = in(reg) h,
            options(nostack, preserves_flags),
        );
    }
}

/// The first bytes as little-endian words, zeros behind the last.
#[inline(always)]
pub(crate) fn words_of<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let bytes = bytes.get(..N * size_of::<u64>()).unwrap_or(bytes);
    let (whole, rest) = bytes.as_chunks();
    // Byte by byte in a register: a load of what was stored in parts would wait for all stores before.
    let last = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    std::array::from_fn(|number| match whole.get(number) {
        Some(word) => u64::from_le_bytes(*word),
        None if number == whole.len() => last,
        None => 0,
    })
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
/// As [`Stores::stream`], and the processor has AVX-512BW.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn stream_avx512(to: *mut u8, from: *const u8, len: usize) {
    let mut at = 0;
    while at + LINE <= len {
        // SAFETY: both sides are in range; `to` + `at` is aligned to 64.
        unsafe {
            let line = _mm512_loadu_si512(from.add(at).cast::<__m512i>());
            _mm512_stream_si512(to.add(at).cast::<__m512i>(), line);
        }
        at += LINE;
    }
    if at < len {
        let rest = (1 << (len - at)) - 1;
        // SAFETY: bytes that the mask leaves out are not read; the line is in range and aligned to 64.
        unsafe {
            let line = _mm512_maskz_loadu_epi8(rest, from.add(at).cast::<i8>());
            _mm512_stream_si512(to.add(at).cast::<__m512i>(), line);
        }
    }
}

/// # Safety
/// As [`Stores::stream`], and the processor has AVX2.
#[target_feature(enable = "avx2")]
unsafe fn stream_avx2(to: *mut u8, from: *const u8, len: usize) {
    let mut at = 0;
    while at + LINE <= len {
        // SAFETY: both sides are in range; `to` + `at` is aligned to 64.
        unsafe {
            for half in [at, at + 32] {
                let bytes = _mm256_loadu_si256(from.add(half).cast::<__m256i>());
                _mm256_stream_si256(to.add(half).cast::<__m256i>(), bytes);
            }
        }
        at += LINE;
    }
    // SAFETY: as above.
    unsafe { stream_rest(to.add(at), from.add(at), len - at) };
}

/// # Safety
/// As [`Stores::stream`].
unsafe fn stream_sse2(to: *mut u8, from: *const u8, len: usize) {
    let mut at = 0;
    while at + LINE <= len {
        // SAFETY: both sides are in range; `to` + `at` is aligned to 64.
        unsafe {
            for quarter in [at, at + 16, at + 32, at + 48] {
                let bytes = _mm_loadu_si128(from.add(quarter).cast::<__m128i>());
                _mm_stream_si128(to.add(quarter).cast::<__m128i>(), bytes);
            }
        }
        at += LINE;
    }
    // SAFETY: as above.
    unsafe { stream_rest(to.add(at), from.add(at), len - at) };
}

/// A last line that is not whole, if there is one.
///
/// # Safety
/// As [`Stores::stream`]; less than a line.
unsafe fn stream_rest(to: *mut u8, from: *const u8, len: usize) {
    if len > 0 {
        // SAFETY: valid for reads and writes (caller).
        unsafe { stream_line(to, &words_of(std::slice::from_raw_parts(from, len))) };
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
        if is_x86_feature_detected!("avx512bw") {
            ways.push(stream_avx512);
        }
        for way in ways {
            for (start, len) in [(0, 64), (3, 640), (17, 128), (5, 0), (1, 63), (9, 129), (2, 168)]
            {
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
