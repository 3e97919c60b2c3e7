//! The frames that the suite sends: their contents follow from their number and length.

use std::collections::VecDeque;

use crate::headers::{Inbound, UdpHeaders, classify, emit_udp_headers};

/// Marks payloads of the suite.
const MAGIC: [u8; 4] = *b"nic?";

/// Writes the frame with this number; its length is that of `frame`.
pub(super) fn write(frame: &mut [u8], headers: &UdpHeaders, number: u32) {
    let headers_bytes = headers.bytes();
    // Magic, number, then bytes that differ from frame to frame and from place to place; a short
    // frame has less of it.
    let mut filler = number.wrapping_mul(0x9e37_79b9) | 1;
    for (at, byte) in frame[headers_bytes..].iter_mut().enumerate() {
        *byte = match at {
            0..4 => MAGIC[at],
            4..8 => (number >> (8 * (at - 4))) as u8,
            _ => {
                filler = filler.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
                (filler >> 24) as u8
            }
        };
    }
    emit_udp_headers(frame, headers, frame.len() - headers_bytes);
}

/// Whether the frame is one of the suite's with these addresses.
pub(super) fn is_ours(frame: &[u8], headers: &UdpHeaders) -> bool {
    let Ok(Inbound::Udp(udp)) = classify(frame, false) else { return false };
    let got = udp.headers();
    got.ips == headers.ips && got.src_port == headers.src_port && got.dst_port == headers.dst_port
}

/// Frames on their way, in the order in which they were sent.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    frames: VecDeque<(u32, usize)>,
    scratch: Vec<u8>,
}

impl Outstanding {
    pub(super) fn sent(&mut self, number: u32, len: usize) {
        self.frames.push_back((number, len));
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Gives up all frames on their way; returns how many there were.
    pub(super) fn give_up(&mut self) -> u64 {
        let lost = self.frames.len() as u64;
        self.frames.clear();
        lost
    }

    /// Takes the arrived frame off the list. Returns how many frames before it are missing, or what is
    /// wrong.
    pub(super) fn arrived(
        &mut self,
        frame: &[u8],
        headers: &UdpHeaders,
        exact: bool,
        may_miss: bool,
    ) -> Result<u64, String> {
        let mut missed = 0;
        let first = self.frames.front().copied();
        while let Some((number, len)) = self.frames.pop_front() {
            self.scratch.resize(len, 0);
            write(&mut self.scratch, headers, number);
            // Addresses of an inexact frame were compared to find out that it is ours.
            let from = if exact { 0 } else { headers.bytes() };
            if frame.len() == len && frame[from..] == self.scratch[from..] {
                return Ok(missed);
            }
            if !may_miss {
                break;
            }
            missed += 1;
        }
        Err(format!(
            "a frame of {} bytes with the payload {:02x?}... arrived where number {first:?} (number, \
             length) was expected",
            frame.len(),
            &frame[headers.bytes()..frame.len().min(headers.bytes() + 16)]
        ))
    }
}
