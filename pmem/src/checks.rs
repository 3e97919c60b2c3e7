//! CRC32C by the processor's own instruction, for the short inputs of record headers: [`crc_fast`] is made for
//! long ones, and its set-up costs more than the whole check here.

use std::arch::x86_64::{_mm_crc32_u32, _mm_crc32_u64};

use zerocopy::IntoBytes;

use crate::format::{RECORD_HEADER_BYTES, RecordHeader};

/// The chain value behind a header that follows `previous`, over its bytes 16-87.
#[inline]
pub(crate) fn chain(previous: u32, header: &RecordHeader) -> u32 {
    let bytes: &[u8; RECORD_HEADER_BYTES] = zerocopy::transmute_ref!(header);
    if is_x86_feature_detected!("sse4.2") {
        // SAFETY: the feature was detected just now.
        return unsafe { chain_sse42(previous, bytes) };
    }
    chain_anywhere(previous, bytes)
}

/// The header's check, over all of its bytes but 8-11.
#[inline]
pub(crate) fn check(header: &RecordHeader) -> u32 {
    let bytes: &[u8; RECORD_HEADER_BYTES] = zerocopy::transmute_ref!(header);
    if is_x86_feature_detected!("sse4.2") {
        // SAFETY: the feature was detected just now.
        return unsafe { check_sse42(bytes) };
    }
    check_anywhere(bytes)
}

#[target_feature(enable = "sse4.2")]
fn chain_sse42(previous: u32, bytes: &[u8; RECORD_HEADER_BYTES]) -> u32 {
    let mut crc = u64::from(_mm_crc32_u32(!0, previous));
    for word in bytes[16..88].as_chunks().0 {
        crc = _mm_crc32_u64(crc, u64::from_le_bytes(*word));
    }
    !(crc as u32)
}

#[target_feature(enable = "sse4.2")]
fn check_sse42(bytes: &[u8; RECORD_HEADER_BYTES]) -> u32 {
    let (words, _) = bytes.as_chunks();
    let [first, around, ref rest @ ..] = *words else { return 0 };
    let crc = _mm_crc32_u64(u64::from(!0u32), u64::from_le_bytes(first));
    let behind = (u64::from_le_bytes(around) >> 32) as u32;
    let mut crc = u64::from(_mm_crc32_u32(crc as u32, behind));
    for word in rest {
        crc = _mm_crc32_u64(crc, u64::from_le_bytes(*word));
    }
    !(crc as u32)
}

fn chain_anywhere(previous: u32, bytes: &[u8; RECORD_HEADER_BYTES]) -> u32 {
    let mut covered = [0; 4 + 72];
    covered[..4].copy_from_slice(previous.as_bytes());
    covered[4..].copy_from_slice(&bytes[16..88]);
    crc_fast::crc32_iscsi(&covered)
}

fn check_anywhere(bytes: &[u8; RECORD_HEADER_BYTES]) -> u32 {
    let mut covered = [0; 92];
    covered[..8].copy_from_slice(&bytes[..8]);
    covered[8..].copy_from_slice(&bytes[12..]);
    crc_fast::crc32_iscsi(&covered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instruction_and_the_library_agree() {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        for round in 0..1000u32 {
            for (place, byte) in bytes.iter_mut().enumerate() {
                *byte = (round.wrapping_mul(2_654_435_761) >> (place % 24)) as u8 ^ place as u8;
            }
            if is_x86_feature_detected!("sse4.2") {
                // SAFETY: the feature was detected just now.
                let hardware = unsafe { (chain_sse42(round, &bytes), check_sse42(&bytes)) };
                assert_eq!(hardware, (chain_anywhere(round, &bytes), check_anywhere(&bytes)));
            }
        }
    }
}
