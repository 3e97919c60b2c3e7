//! Any frames into a shard, raw and as well-formed datagrams: no panic, and what the simulator asks of a shard alone holds
//! after each: frames accounted for, tables bounded, nothing committed that was not appended.
#![no_main]

#[path = "../../dataplane/tests/common/mod.rs"]
mod common;

use common::{Client, World, datagram, limits, port_address};
use libfuzzer_sys::fuzz_target;
use mstream_dataplane::PortAddress;
use mstream_wire::{DatagramHeader, crc32c};

fuzz_target!(|bytes: &[u8]| {
    // Over either family, with and without a VLAN, as the first byte says.
    let network = bytes.first().map_or(0, |byte| byte & 3);
    let vlan = (network & 1 != 0).then_some(100);
    let mut world = World::on(PortAddress { vlan, ..port_address() });
    let mut client = Client::claiming(1001, 1);
    client.link.vlan = vlan;
    if network & 2 != 0 {
        client = client.v6();
    }
    world.open(&mut client);
    let open = client.open_stream(1, b"trades");
    world.exchange(&mut client, &open);
    let subscribe = client.subscribe(0, 0, 100, [0; 16], 0);
    world.exchange(&mut client, &subscribe);
    for piece in bytes.split(|byte| *byte == 0xff) {
        let Some((how, piece)) = piece.split_first() else { continue };
        match how % 4 {
            0 => world.frame(piece.to_vec()),
            1 => world.frame(client.wrap(piece)),
            how => {
                // The piece as the frames of a datagram with a right header and check.
                let header = match how {
                    2 => DatagramHeader::new(client.slot, client.token, 1, 0),
                    _ => DatagramHeader::outside(0),
                };
                let mut whole = datagram(&header, |_| {});
                whole.extend_from_slice(piece);
                whole.truncate(1400);
                let mut covered = whole[..28].to_vec();
                covered.extend_from_slice(&whole[32..]);
                whole[28..32].copy_from_slice(&crc32c(&covered).to_le_bytes());
                world.frame(client.wrap(&whole));
            }
        }
        world.finish();
        let held = mstream_sim::invariants::of_shard(&world.shard, &limits());
        assert!(held.is_ok(), "{held:?}");
        world.out.sent.clear();
        world.pass(3_000_000);
    }
});
