//! Any bytes as frames of both families, with and without a tag, and mended so that what lies behind the
//! checksums is reached: no panic, and answers stay inside their frames.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mstream_nic::headers::{
    Inbound, NEIGHBOUR_BYTES, VLAN_TAG_BYTES, arp_reply_in_place, classify, echo_reply_in_place,
    emit_advertisement, emit_udp_headers,
};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    let Some((how, rest)) = bytes.split_first() else { return };
    // Addresses, and perhaps a tag, in front of a packet.
    let mut frame = vec![2; 12];
    if how & 1 != 0 {
        frame.extend([0x81, 0, *how, 100]);
    }
    let at = frame.len() + 2;
    match how >> 1 & 3 {
        0 => {
            frame.extend([0x08, 0x00, 0x45]);
            frame.extend(rest);
            mend_ipv4(&mut frame[at..]);
        }
        1 => {
            frame.extend([0x86, 0xdd, 0x60]);
            frame.extend(rest);
            mend_icmpv6(&mut frame[at..]);
        }
        2 => {
            frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0]);
            frame.extend(rest);
        }
        _ => {
            frame.extend([0x86, 0xdd]);
            frame.extend(rest);
        }
    }
    read(&frame);
});

fn read(frame: &[u8]) {
    let mut answer = frame.to_vec();
    for verify in [true, false] {
        match classify(frame, verify) {
            Ok(Inbound::Udp(udp)) => {
                let payload = udp.payload();
                let end = udp.payload_at() + payload.len();
                assert_eq!(&frame[udp.payload_at()..end], payload);
                // Written anew it is read as it was. A tag that only says a priority is not written.
                let mut again = vec![0; udp.headers().bytes()];
                again.extend_from_slice(payload);
                emit_udp_headers(&mut again, udp.headers(), payload.len());
                let Ok(Inbound::Udp(read)) = classify(&again, true) else { panic!("not UDP") };
                assert_eq!((read.headers(), read.payload()), (udp.headers(), payload));
            }
            Ok(Inbound::Arp(_)) => arp_reply_in_place(&mut answer, MAC),
            Ok(Inbound::EchoRequest(_)) => echo_reply_in_place(&mut answer),
            Ok(Inbound::Solicitation(asked)) => {
                let mut told = [0; NEIGHBOUR_BYTES + VLAN_TAG_BYTES];
                let len = emit_advertisement(&mut told, MAC, &asked);
                // Whoever asked from an odd place gets an answer that is read as one.
                let told = classify(&told[..len], true);
                assert!(matches!(told, Ok(Inbound::Advertisement(_))), "{told:?}");
            }
            Ok(Inbound::Advertisement(_)) | Err(_) => {}
        }
    }
    assert_eq!(answer.len(), frame.len());
}

fn sum(bytes: &[u8]) -> u64 {
    let words =
        bytes.chunks(2).map(|w| u64::from(w[0]) << 8 | w.get(1).map_or(0, |b| u64::from(*b)));
    words.sum()
}

fn checksum(mut sum: u64) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// Makes length and checksum of an IPv4 header, and the checksum of ICMP behind it, fit.
fn mend_ipv4(packet: &mut [u8]) {
    let length = (packet.len() as u16).to_be_bytes();
    let Some((header, body)) = packet.split_first_chunk_mut::<20>() else { return };
    header[2..4].copy_from_slice(&length);
    header[10..12].fill(0);
    let mended = checksum(sum(header));
    header[10..12].copy_from_slice(&mended);
    if header[9] == 1 && body.len() >= 4 {
        body[2..4].fill(0);
        let mended = checksum(sum(body));
        body[2..4].copy_from_slice(&mended);
    }
}

/// Makes length, hop limit and checksum of an ICMPv6 packet fit.
fn mend_icmpv6(packet: &mut [u8]) {
    let Some((header, body)) = packet.split_first_chunk_mut::<40>() else { return };
    if body.len() < 4 {
        return;
    }
    header[4..6].copy_from_slice(&(body.len() as u16).to_be_bytes());
    header[6..8].copy_from_slice(&[58, 255]);
    body[2..4].fill(0);
    let mended = checksum(sum(&header[8..]) + 58 + body.len() as u64 + sum(body));
    body[2..4].copy_from_slice(&mended);
}
