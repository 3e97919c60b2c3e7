//! Clients of both families, with and without a VLAN, over a simulated network.

mod common;

use common::{MS, PUBLISHER, Seen, World, publisher, subscriber};
use mstream_client::{From, Identity, IpPair};
use mstream_nic::headers::{
    ARP_BYTES, Inbound, NEIGHBOUR_BYTES, VLAN_TAG_BYTES, classify, emit_arp_request,
    emit_solicitation,
};
use mstream_nic::{Frame, FrameQueue, Port};

const NAMED: Identity = Identity::Publisher(PUBLISHER);

/// A publisher of one family and subscribers of both, in a world that may lose the shard.
fn session(mut world: World, v6: bool) {
    world.v6 = v6;
    let (mut user, publication) = publisher(&mut world, 1, NAMED);
    let (mut same, _) = subscriber(&mut world, 2, From::Earliest, 64);
    world.v6 = !v6;
    let (mut other, _) = subscriber(&mut world, 3, From::Earliest, 64);
    let sent: Vec<Vec<u8>> = (0..200u64).map(|n| n.to_le_bytes().repeat(20)).collect();
    for (at, payload) in sent.iter().enumerate() {
        user.send(publication, payload);
        world.run(100_000, &mut [&mut user, &mut same, &mut other]);
        if at == 100 {
            let region = world.kill();
            world.start(region);
            // The publisher notices, and takes messages again once it has found the new one.
            world.run_until(&mut user, |user| {
                let opened = |seen: &&Seen| matches!(seen, Seen::PublicationOpened(_));
                user.seen.iter().filter(opened).count() == 2
            });
        }
    }
    let mut users = [&mut user, &mut same, &mut other];
    for _ in 0..200 {
        world.run(50 * MS, &mut users);
        if users[1..].iter().all(|user| user.messages().len() == 200) {
            break;
        }
    }
    assert_eq!(user.acknowledged(), 200);
    assert_eq!((same.messages(), other.messages()), (sent.clone(), sent));
    for user in [&user, &same, &other] {
        let counters = user.client.counters();
        assert_eq!(counters.malformed, 0);
    }
}

#[test]
fn both_families_carry_a_stream_over_a_restart_of_the_shard() {
    session(World::new(), false);
    session(World::new(), true);
}

#[test]
fn both_families_carry_a_stream_on_a_vlan() {
    session(World::on_vlan(100), false);
    session(World::on_vlan(4094), true);
}

#[test]
fn a_client_on_another_vlan_reaches_nobody() {
    let mut world = World::on_vlan(100);
    for v6 in [false, true] {
        world.v6 = v6;
        let (port, mut addresses) = world.attach(7);
        addresses.vlan = Some(101);
        let end = port.endpoint();
        let mut user = common::User::new(end, port, addresses, 7, NAMED);
        world.run(3_000 * MS, &mut [&mut user]);
        assert!(user.seen.is_empty());
    }
    let counters = world.shard().counters();
    assert!(counters.refused(mstream_dataplane::Refusal::OtherVlan) >= 4);
}

#[test]
fn a_client_tells_its_own_address_and_no_other() {
    for (vlan, v6) in [(None, false), (None, true), (Some(9), false), (Some(9), true)] {
        let mut world = vlan.map_or_else(World::new, World::on_vlan);
        world.v6 = v6;
        let (own_port, addresses) = world.attach(1);
        let end = own_port.endpoint();
        let mut user = common::User::new(end, own_port, addresses, 1, NAMED);
        // Somebody else in the network asks.
        let mac = [2, 0, 0, 0, 5, 5];
        let mut port = world.net.attach(mac, 64);
        for (own, answers) in [(true, 1), (false, 0)] {
            let mut frame = port.frame().expect("free");
            frame.set_len(NEIGHBOUR_BYTES.max(ARP_BYTES) + VLAN_TAG_BYTES);
            let len = match addresses.ips {
                IpPair::V4 { src, dst } => {
                    let target = if own { src } else { dst };
                    let asker = [10, 9, 9, 9].into();
                    emit_arp_request(frame.bytes_mut(), mac, vlan, asker, target)
                }
                IpPair::V6 { src, dst } => {
                    let target = if own { src } else { dst };
                    let asker = "fd00::99".parse().expect("an address");
                    emit_solicitation(frame.bytes_mut(), mac, vlan, asker, target)
                }
            };
            frame.set_len(len);
            port.send(frame).expect("room");
            port.flush();
            user.poll(world.now_ns());
            world.advance(MS);
            let mut got = FrameQueue::new();
            port.receive(&mut got, 32);
            let told: Vec<_> = got
                .iter()
                .filter(|frame| frame.bytes()[..6] == mac)
                .map(|frame| match classify(frame.bytes(), true) {
                    Ok(Inbound::Arp(arp)) => (arp.link.vlan, arp.sender_mac),
                    Ok(Inbound::Advertisement(told)) => {
                        (told.link.vlan, told.target_mac.expect("it is told"))
                    }
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(told, vec![(vlan, addresses.mac); answers]);
        }
    }
}
