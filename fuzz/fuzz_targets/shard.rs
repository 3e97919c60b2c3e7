//! Any frames of two clients into a shard, raw and as well-formed datagrams, over restarts: no panic, and what the simulator
//! asks of a shard alone holds after each: frames accounted for, tables bounded, nothing committed that was not appended. A
//! restart finds what was committed.
#![no_main]

#[path = "../../dataplane/tests/common/mod.rs"]
mod common;

use common::{Client, STREAM, World, datagram, limits, port_address};
use libfuzzer_sys::fuzz_target;
use mstream_dataplane::PortAddress;
use mstream_wire::{DatagramHeader, crc32c};

/// A piece that begins with this restarts the shard.
const RESTART: u8 = 0xfe;

/// Sets up sessions, a publication and a subscription.
fn set_up(world: &mut World, clients: &mut [Client; 2]) {
    for client in clients.iter_mut() {
        world.open(client);
    }
    let open = clients[0].open_stream(1, b"trades");
    world.exchange(&mut clients[0], &open);
    for client in clients {
        let subscribe = client.subscribe(0, 0, 100, [0; 16], 0);
        world.exchange(client, &subscribe);
    }
}

fn end(world: &World) -> u64 {
    world.shard.wal().stream_by_id(STREAM).map_or(0, |state| state.next_offset)
}

fuzz_target!(|bytes: &[u8]| {
    // Over either family, with and without a VLAN, as the first byte says.
    let network = bytes.first().map_or(0, |byte| byte & 3);
    let vlan = (network & 1 != 0).then_some(100);
    let port = PortAddress { vlan, ..port_address() };
    let mut world = World::on(port);
    let mut clients = [Client::claiming(1001, 1), Client::new(1002)].map(|mut client| {
        client.link.vlan = vlan;
        if network & 2 != 0 { client.v6() } else { client }
    });
    set_up(&mut world, &mut clients);
    for piece in bytes.split(|byte| *byte == 0xff) {
        let Some((how, piece)) = piece.split_first() else { continue };
        if *how == RESTART {
            let (committed, end_before) = (world.shard.committed(), end(&world));
            world = world.restart_on(port);
            assert!(world.shard.wal().appended() >= committed, "a restart lost what was committed");
            assert!(end(&world) <= end_before, "a restart made messages");
            for (client, life) in clients.iter_mut().zip(1..) {
                client.life[1] = client.life[1].wrapping_add(life);
            }
            set_up(&mut world, &mut clients);
            continue;
        }
        let client = &clients[usize::from(how >> 2 & 1)];
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
