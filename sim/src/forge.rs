//! Somebody on the network who knows everything but tokens, and who cannot receive at others' addresses.

use mstream_nic::headers::{Inbound, classify, emit_udp_headers};
use mstream_wire::{
    DATA_HEADER_BYTES, DATAGRAM_HEADER_BYTES, DataHeader, Datagram, DatagramHeader, DatagramWriter,
    Frame, crc32c,
};

/// A datagram with a batch of others' content, in front of the batch that it is made of: with another token, or with the
/// right one and from another port.
pub(crate) fn forge(frame: &[u8], random: u64) -> Option<Vec<u8>> {
    let Ok(Inbound::Udp(udp)) = classify(frame, true) else { return None };
    let datagram = Datagram::parse(udp.payload()).ok()?;
    let (kind, data) = datagram.frames().find_map(|part| match part {
        Frame::Publish(data) => Some((DataHeader::PUBLISH, data)),
        Frame::Deliver(data) => Some((DataHeader::DELIVER, data)),
        _ => None,
    })?;
    let (mut headers, mut header) = (*udp.headers(), *datagram.header);
    if random & 1 == 0 {
        let token = header.token.get() ^ 1 << (random >> 8 & 63);
        let (slot, number, epoch) =
            (header.slot.get(), header.packet_number.get(), header.epoch.get());
        header = DatagramHeader::new(slot, token, number, epoch);
    } else {
        // Two bits: a fault that flips one does not make it right again.
        headers.src_port ^= 3 << (random >> 8 & 7);
    }
    let mut block = data.block.to_vec();
    // Behind the first message's lengths.
    *block.get_mut(8)? ^= 0x20;
    let mut fields = *data.header;
    fields.head.kind = kind;
    fields.block_crc = crc32c(&block).into();
    let room = DATAGRAM_HEADER_BYTES + DATA_HEADER_BYTES + block.len() + 64;
    let mut forged = vec![0; headers.bytes() + room];
    let mut writer = DatagramWriter::new(&mut forged[headers.bytes()..], &header)?;
    if !writer.data(&fields, &block) {
        return None;
    }
    let bytes = writer.finish();
    forged.truncate(headers.bytes() + bytes);
    emit_udp_headers(&mut forged, &headers, bytes);
    Some(forged)
}
