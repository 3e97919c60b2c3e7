//! The checksums of record headers, CRC32C by the processor's own instruction: [`crc_fast`] is made for long
//! inputs, and its set-up costs more than a whole check here.
//!
//! A header is taken as little-endian words of 8 bytes, as which it is also built: loads of another width than the
//! stores before them would wait for those.

use std::arch::x86_64::{_mm_crc32_u32, _mm_crc32_u64};

/// Words of a record header.
pub(crate) type Words = [u64; 12];

/// Covered by the chain: bytes 16-87.
const CHAINED: std::ops::Range<usize> = 2..11;

/// The chain value of a record that follows one with `previous`.
#[inline]
pub(crate) fn chain(previous: u32, words: &Words) -> u32 {
    if is_x86_feature_detected!("sse4.2") {
        // SAFETY: the feature was detected just now.
        return unsafe { chain_sse42(previous, words) };
    }
    chain_anywhere(previous, words)
}

/// The header's check: over all of its bytes but 8-11, where it stands.
#[inline]
pub(crate) fn check(words: &Words) -> u32 {
    if is_x86_feature_detected!("sse4.2") {
        // SAFETY: the feature was detected just now.
        return unsafe { check_sse42(words) };
    }
    check_anywhere(words)
}

#[target_feature(enable = "sse4.2")]
fn chain_sse42(previous: u32, words: &Words) -> u32 {
    let start = u64::from(_mm_crc32_u32(!0, previous));
    let crc = words[CHAINED].iter().fold(start, |crc, word| _mm_crc32_u64(crc, *word));
    !(crc as u32)
}

#[target_feature(enable = "sse4.2")]
fn check_sse42(words: &Words) -> u32 {
    let crc = _mm_crc32_u64(u64::from(!0u32), words[0]) as u32;
    let start = u64::from(_mm_crc32_u32(crc, (words[1] >> 32) as u32));
    let crc = words[2..].iter().fold(start, |crc, word| _mm_crc32_u64(crc, *word));
    !(crc as u32)
}

fn chain_anywhere(previous: u32, words: &Words) -> u32 {
    let mut covered = [0; 4 + 72];
    covered[..4].copy_from_slice(&previous.to_le_bytes());
    for (bytes, word) in covered[4..].as_chunks_mut().0.iter_mut().zip(&words[CHAINED]) {
        *bytes = word.to_le_bytes();
    }
    crc_fast::crc32_iscsi(&covered)
}

fn check_anywhere(words: &Words) -> u32 {
    let mut covered = [0; 92];
    covered[..8].copy_from_slice(&words[0].to_le_bytes());
    covered[8..12].copy_from_slice(&words[1].to_le_bytes()[4..]);
    for (bytes, word) in covered[12..].as_chunks_mut().0.iter_mut().zip(&words[2..]) {
        *bytes = word.to_le_bytes();
    }
    crc_fast::crc32_iscsi(&covered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instruction_and_the_library_agree() {
        let mut words: Words = [0; 12];
        for round in 0..1000u32 {
            for (place, word) in words.iter_mut().enumerate() {
                *word = (*word ^ u64::from(round) << place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            }
            if is_x86_feature_detected!("sse4.2") {
                // SAFETY: the feature was detected just now.
                let hardware = unsafe { (chain_sse42(round, &words), check_sse42(&words)) };
                assert_eq!(hardware, (chain_anywhere(round, &words), check_anywhere(&words)));
            }
        }
    }
}
