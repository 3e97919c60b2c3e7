//! The internet checksum (RFC 1071).

use super::IpPair;

/// Sum of 16-bit big-endian words (an odd last byte counts as a high byte).
#[inline]
pub(super) fn sum(bytes: &[u8]) -> u64 {
    // Summed with the bytes of each word in the other order, eight at a time, and turned round in the end: RFC 1071,
    // section 2.
    let (words, rest) = bytes.as_chunks::<8>();
    let add = |total: u64, word: u64| {
        let (sum, carry) = total.overflowing_add(word);
        sum + u64::from(carry)
    };
    let total = words.iter().fold(0, |total, word| add(total, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    u64::from(fold(add(total, u64::from_le_bytes(last))).swap_bytes())
}

/// Folds a sum to 16 bits with end-around carry.
#[inline]
pub(super) fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

/// True when a sum over bytes that hold their checksum says that they are as they were.
#[inline]
pub(super) fn fits(sum: u64) -> bool {
    fold(sum) == 0xffff
}

/// Sum of the pseudo-header in front of a UDP datagram or an ICMPv6 message of `length` bytes.
#[inline]
pub(super) fn pseudo(ips: &IpPair, protocol: u8, length: usize) -> u64 {
    // Summed from the values: loads that span several stores stall.
    let words = |bits: u128| (bits >> 96) as u64 + ((bits >> 64) as u32 as u64);
    let addresses = match ips {
        IpPair::V4 { src, dst } => u64::from(src.to_bits()) + u64::from(dst.to_bits()),
        IpPair::V6 { src, dst } => {
            [src.to_bits(), dst.to_bits()].map(|bits| words(bits) + words(bits << 64)).iter().sum()
        }
    };
    addresses + u64::from(protocol) + length as u64
}
