//! The shard on the network: both families, VLANs, neighbours, and frames that are not for it.

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::{
    CLIENT_IP, CLIENT_IP6, CLIENT_MAC, Client, SHARD_IP, SHARD_IP6, SHARD_MAC, SHARD_PORT, World,
    pair_in, port_address,
};
use mstream_dataplane::{PortAddress, Refusal};
use mstream_nic::headers::{
    ARP_BYTES, Arp, Inbound, IpPair, Link, NEIGHBOUR_BYTES, UdpHeaders, arp_reply_in_place,
    classify, emit_advertisement, emit_arp_request, emit_solicitation, group_mac, solicited_node,
};
use mstream_nic::{Capabilities, Frame, TxChecksum};

const STRANGER: [u8; 6] = [2, 0, 0, 0, 9, 9];

fn vlan(id: u16) -> PortAddress {
    PortAddress { vlan: Some(id), ..port_address() }
}

/// How often each named reason was counted, and nothing else was refused.
fn assert_refused(world: &World, expected: &[(Refusal, u64)]) {
    for reason in Refusal::ALL {
        let wanted = expected.iter().find(|(name, _)| name == reason).map_or(0, |(_, n)| *n);
        assert_eq!(world.shard.counters().refused(*reason), wanted, "{}", reason.name());
    }
}

/// Publishes one message and lets both clients read.
fn carries(world: &mut World, publisher: &mut Client, subscriber: &mut Client, sequence: u64) {
    let handle = publisher.streams[0].handle.get();
    let payload = sequence.to_le_bytes();
    let datagram = publisher.publish(handle, sequence, 1, &[&payload]);
    world.exchange(publisher, &datagram);
    world.deliver(subscriber);
    assert_eq!(publisher.ack().committed.get(), sequence);
    let delivered = subscriber.delivered.last().expect("a delivery");
    assert_eq!((delivered.offset, &delivered.payloads[0][..]), (sequence - 1, &payload[..]));
}

#[test]
fn both_families_are_served_alike_with_and_without_a_tag() {
    for tag in [None, Some(100)] {
        for v6 in [false, true] {
            let world = World::on(PortAddress { vlan: tag, ..port_address() });
            let [publisher, subscriber] =
                [Client::claiming(1001, 1), Client::new(1002)].map(|mut client| {
                    client.link.vlan = tag;
                    if v6 { client.v6() } else { client }
                });
            let (mut world, mut publisher, mut subscriber) = pair_in(world, publisher, subscriber);
            for sequence in 1..=3 {
                carries(&mut world, &mut publisher, &mut subscriber, sequence);
            }
            let counters = world.shard.counters();
            assert_eq!((counters.delivered_in_place, counters.delivered_by_copy), (3, 0));
            assert_refused(&world, &[]);
        }
    }
}

#[test]
fn a_message_goes_from_one_family_to_the_other_by_copy() {
    for publisher_v6 in [false, true] {
        let (publisher, subscriber) = (Client::claiming(1001, 1), Client::new(1002));
        let (publisher, subscriber) = match publisher_v6 {
            true => (publisher.v6(), subscriber),
            false => (publisher, subscriber.v6()),
        };
        let (mut world, mut publisher, mut subscriber) =
            pair_in(World::on(vlan(7)), publisher.on_vlan(7), subscriber.on_vlan(7));
        for sequence in 1..=3 {
            carries(&mut world, &mut publisher, &mut subscriber, sequence);
        }
        let counters = world.shard.counters();
        assert_eq!((counters.delivered_in_place, counters.delivered_by_copy), (0, 3));
    }
}

#[test]
fn a_session_is_bound_to_its_family() {
    let (mut world, mut publisher, _) =
        pair_in(World::new(), Client::claiming(1001, 1), Client::new(1002));
    let handle = publisher.streams[0].handle.get();
    let datagram = publisher.publish(handle, 1, 1, &[b"x"]);
    world.frame(Client::new(1001).v6().wrap(&datagram));
    let mapped = IpPair::V6 { src: CLIENT_IP.to_ipv6_mapped(), dst: SHARD_IP6 };
    let mut mapped_client = Client::new(1001);
    mapped_client.ips = mapped;
    world.frame(mapped_client.wrap(&datagram));
    assert_refused(&world, &[(Refusal::WrongSource, 2)]);
}

#[test]
fn frames_of_other_vlans_are_refused_and_priorities_are_not_looked_at() {
    let hello = Client::new(1).hello();
    let untagged = Client::new(1).wrap(&hello);
    let tagged = Client::new(1).v6().on_vlan(100).wrap(&hello);
    let other = Client::new(1).on_vlan(101).wrap(&hello);
    let mut urgent = tagged.clone();
    urgent[14] |= 0xf0;

    let mut world = World::on(vlan(100));
    for frame in [&untagged, &other, &tagged, &urgent] {
        world.frame(frame.clone());
    }
    assert_refused(&world, &[(Refusal::OtherVlan, 2)]);
    assert_eq!(world.out.sent.len(), 2);
    for frame in &world.out.sent {
        assert_eq!(frame.bytes()[12..16], [0x81, 0, 0, 100], "tagged, with priority 0");
    }

    let mut world = World::new();
    for frame in [&untagged, &other, &tagged] {
        world.frame(frame.clone());
    }
    assert_refused(&world, &[(Refusal::OtherVlan, 2)]);
    assert_eq!(world.out.sent.len(), 1);
}

#[test]
fn what_came_with_a_priority_only_is_delivered_without_a_tag() {
    let (mut world, mut publisher, mut subscriber) =
        pair_in(World::new(), Client::claiming(1001, 1), Client::new(1002));
    let handle = publisher.streams[0].handle.get();
    let datagram = publisher.publish(handle, 1, 1, &[b"urgent"]);
    let mut frame = publisher.wrap(&datagram);
    frame.splice(12..12, [0x81, 0, 0xa0, 0]);
    world.frame(frame);
    world.finish();
    world.deliver(&mut subscriber);
    assert_eq!(subscriber.delivered[0].payloads, [b"urgent"]);
    assert_eq!(world.shard.counters().delivered_in_place, 0);
}

#[test]
fn a_port_answers_to_the_addresses_that_it_has() {
    for (v4, v6) in [(true, false), (false, true)] {
        let mut world = World::on(PortAddress {
            ip: v4.then_some(SHARD_IP),
            ip6: v6.then_some(SHARD_IP6),
            ..port_address()
        });
        let client = Client::new(1);
        let hello = client.hello();
        world.frame(client.wrap(&hello));
        world.frame(client.v6().wrap(&hello));
        world.frame(arp_request(CLIENT_IP, SHARD_IP));
        world.frame(solicitation(CLIENT_IP6, SHARD_IP6));
        let neighbour = if v4 { Refusal::Neighbour } else { Refusal::Arp };
        assert_refused(&world, &[(Refusal::OtherIp, 1), (neighbour, 1)]);
        assert_eq!(world.out.sent.len(), 2);
    }
}

#[test]
fn datagrams_for_others_or_for_many_are_refused_by_reason() {
    let mut world = World::new();
    let hello = Client::new(1).hello();
    let mut send = |change: fn(&mut Client)| {
        let mut client = Client::new(1);
        change(&mut client);
        world.frame(client.wrap(&hello));
    };
    send(|client| client.link.dst_mac = STRANGER);
    send(|client| client.link.dst_mac = [0xff; 6]);
    send(|client| client.link.dst_mac = [0x01, 0, 0x5e, 0, 0, 1]);
    send(|client| client.ips = IpPair::V4 { src: CLIENT_IP, dst: Ipv4Addr::BROADCAST });
    send(|client| client.ips = IpPair::V4 { src: CLIENT_IP, dst: Ipv4Addr::new(239, 0, 0, 1) });
    send(|client| client.ips = IpPair::V6 { src: CLIENT_IP6, dst: solicited_node(SHARD_IP6) });
    send(|client| client.ips = IpPair::V4 { src: CLIENT_IP, dst: CLIENT_IP });
    send(|client| client.ips = IpPair::V6 { src: CLIENT_IP6, dst: CLIENT_IP6 });
    // Answers would go to many.
    send(|client| client.link.src_mac = [0xff; 6]);
    send(|client| client.ips = IpPair::V4 { src: Ipv4Addr::BROADCAST, dst: SHARD_IP });
    send(|client| client.ips = IpPair::V4 { src: Ipv4Addr::UNSPECIFIED, dst: SHARD_IP });
    send(|client| client.ips = IpPair::V6 { src: solicited_node(CLIENT_IP6), dst: SHARD_IP6 });
    let expected = [
        (Refusal::OtherMac, 1),
        (Refusal::Broadcast, 5),
        (Refusal::OtherIp, 2),
        (Refusal::NoHost, 4),
    ];
    assert_refused(&world, &expected);
    assert!(world.out.sent.is_empty());
}

#[test]
fn headers_that_are_not_spoken_are_refused_by_reason() {
    let client = Client::new(1);
    let hello = client.hello();
    let (v4, v6) = (client.wrap(&hello), Client::new(1).v6().wrap(&hello));
    let cases: [(&[u8], usize, u8, Refusal); 9] = [
        (&v4, 14, 0x46, Refusal::IpOptions),
        (&v6, 20, 0, Refusal::IpOptions),
        (&v4, 20, 0x20, Refusal::Fragment),
        (&v6, 20, 44, Refusal::Fragment),
        (&v4, 14, 0x44, Refusal::Ipv4),
        (&v6, 14, 0x50, Refusal::Ipv6),
        (&v4, 24, 1, Refusal::Ipv4Checksum),
        (&v4, 40, 1, Refusal::UdpChecksum),
        (&v6, 100, 1, Refusal::UdpChecksum),
    ];
    for (frame, at, byte, reason) in cases {
        let mut world = World::new();
        let mut frame = frame.to_vec();
        frame[at] = byte;
        world.frame(frame);
        assert_refused(&world, &[(reason, 1)]);
    }
}

fn arp_request(sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0; 60];
    emit_arp_request(&mut frame, CLIENT_MAC, None, sender, target);
    frame
}

fn solicitation(src: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let mut frame = vec![0; NEIGHBOUR_BYTES];
    emit_solicitation(&mut frame, CLIENT_MAC, None, src, target);
    frame
}

#[test]
fn arp_for_the_shard_is_answered_and_claims_of_its_address_are_not() {
    let mut world = World::new();
    world.frame(arp_request(CLIENT_IP, SHARD_IP));
    // Somebody asks whether the address is taken.
    world.frame(arp_request(Ipv4Addr::UNSPECIFIED, SHARD_IP));
    for frame in world.out.sent.drain(..) {
        let Ok(Inbound::Arp(arp)) = classify(frame.bytes(), true) else { panic!("not ARP") };
        let Arp { request, sender_mac, sender_ip, .. } = arp;
        assert_eq!((request, sender_mac, sender_ip), (false, SHARD_MAC, SHARD_IP));
        assert_eq!(arp.link, Link { src_mac: SHARD_MAC, dst_mac: CLIENT_MAC, vlan: None });
    }
    // Announced, asked in its name, and replied in its name.
    world.frame(arp_request(SHARD_IP, SHARD_IP));
    world.frame(arp_request(SHARD_IP, CLIENT_IP));
    let mut reply = arp_request(CLIENT_IP, SHARD_IP);
    arp_reply_in_place(&mut reply, STRANGER);
    world.frame(reply);
    world.frame(arp_request(CLIENT_IP, CLIENT_IP));
    let mut for_another = arp_request(CLIENT_IP, SHARD_IP);
    for_another[..6].copy_from_slice(&STRANGER);
    world.frame(for_another);
    world.frame(arp_request(CLIENT_IP, SHARD_IP)[..ARP_BYTES - 1].to_vec());
    // A reply is nothing to answer, though it names the shard as its target.
    let mut reply = arp_request(SHARD_IP, CLIENT_IP);
    arp_reply_in_place(&mut reply, STRANGER);
    world.frame(reply);
    let expected = [(Refusal::ArpSpoof, 3), (Refusal::Arp, 3), (Refusal::OtherMac, 1)];
    assert_refused(&world, &expected);
    assert_eq!(world.shard.counters().arp_replies, 2);
    assert!(world.out.sent.is_empty());
}

#[test]
fn neighbour_solicitations_are_answered_and_claims_of_the_address_are_not() {
    let mut world = World::new();
    let asked = solicitation(CLIENT_IP6, SHARD_IP6);
    let mut directly = asked.clone();
    directly[..6].copy_from_slice(&SHARD_MAC);
    world.frame(asked.clone());
    world.frame(directly);
    for frame in world.out.sent.drain(..) {
        assert_eq!(frame.bytes().len(), NEIGHBOUR_BYTES);
        let Ok(Inbound::Advertisement(told)) = classify(frame.bytes(), true) else {
            panic!("not an advertisement")
        };
        assert_eq!((told.target, told.target_mac), (SHARD_IP6, Some(SHARD_MAC)));
        assert_eq!(told.link, Link { src_mac: SHARD_MAC, dst_mac: CLIENT_MAC, vlan: None });
    }
    // In the shard's name, for another, to a group that it is not in, and what it did not ask for.
    world.frame(solicitation(SHARD_IP6, SHARD_IP6));
    world.frame(solicitation(CLIENT_IP6, CLIENT_IP6));
    let mut elsewhere = asked.clone();
    elsewhere[..6].copy_from_slice(&group_mac(solicited_node(CLIENT_IP6)));
    elsewhere[5] ^= 1;
    world.frame(elsewhere);
    let claim = |target| {
        let Ok(Inbound::Solicitation(asked)) = classify(&asked, true) else { panic!("none") };
        let mut frame = vec![0; NEIGHBOUR_BYTES];
        let asked = mstream_nic::headers::Solicitation { target, src: SHARD_IP6, ..asked };
        emit_advertisement(&mut frame, STRANGER, &asked);
        frame
    };
    world.frame(claim(SHARD_IP6));
    world.frame(claim(CLIENT_IP6));
    let mut damaged = asked;
    damaged[70] ^= 1;
    world.frame(damaged);
    let expected = [
        (Refusal::NeighbourSpoof, 2),
        (Refusal::Neighbour, 2),
        (Refusal::OtherMac, 1),
        (Refusal::IcmpChecksum, 1),
    ];
    assert_refused(&world, &expected);
    assert_eq!(world.shard.counters().neighbour_replies, 2);
    assert!(world.out.sent.is_empty());
}

#[test]
fn whoever_asks_whether_the_address_is_taken_is_told() {
    let mut world = World::on(vlan(100));
    // As a kernel asks: from nowhere, without the option; shorter than the answer.
    let mut frame = vec![0; NEIGHBOUR_BYTES + 4];
    emit_solicitation(&mut frame, CLIENT_MAC, Some(100), Ipv6Addr::UNSPECIFIED, SHARD_IP6);
    frame.truncate(frame.len() - 8);
    frame[23] = 24;
    let Err(error) = classify(&frame, true) else { panic!("its checksum covers the length") };
    assert_eq!(error, mstream_nic::headers::HeaderError::IcmpChecksum);
    // What was taken away were eight bytes of length, and the option.
    let taken: u32 = 8 + [0x0101u16, 0x0200, 0x0000, 0x0100].map(u32::from).iter().sum::<u32>();
    let checksum = u32::from(u16::from_be_bytes([frame[60], frame[61]])) + taken;
    let checksum = (checksum + (checksum >> 16)) as u16;
    frame[60..62].copy_from_slice(&checksum.to_be_bytes());
    world.frame(frame);
    let answer = world.out.sent.pop_front().expect("an answer");
    let Ok(Inbound::Advertisement(told)) = classify(answer.bytes(), true) else {
        panic!("not an advertisement")
    };
    assert_eq!((told.target, told.target_mac), (SHARD_IP6, Some(SHARD_MAC)));
    let all = group_mac(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
    assert_eq!(told.link, Link { src_mac: SHARD_MAC, dst_mac: all, vlan: Some(100) });
    assert_refused(&world, &[]);
}

/// A ping by hand: the payload of a UDP frame becomes an ICMP message.
fn ping(headers: &UdpHeaders) -> Vec<u8> {
    let sum = |bytes: &[u8]| {
        let words = bytes.chunks(2).map(|w| u64::from(w[0]) << 8 | u64::from(w[1]));
        let sum: u64 = words.sum();
        let sum = (sum >> 16) + (sum & 0xffff);
        !((sum >> 16) + sum) as u16
    };
    let (v6, ip) = (headers.ips.src().is_ipv6(), 14);
    let l4 = headers.bytes() - 8;
    let mut frame = vec![0; l4 + 16];
    mstream_nic::headers::emit_udp_headers(&mut frame, headers, 8);
    let (protocol, kind) = if v6 { (58, 128) } else { (1, 8) };
    frame[if v6 { ip + 6 } else { ip + 9 }] = protocol;
    frame[l4..].fill(0);
    frame[l4] = kind;
    frame[l4 + 8..].copy_from_slice(b"ping ABC");
    let checked = if v6 {
        let pseudo = [&frame[ip + 8..ip + 40], &[0, 16, 0, 58], &frame[l4..]].concat();
        sum(&pseudo)
    } else {
        frame[24..26].fill(0);
        let header = sum(&frame[ip..l4]);
        frame[24..26].copy_from_slice(&header.to_be_bytes());
        sum(&frame[l4..])
    };
    frame[l4 + 2..l4 + 4].copy_from_slice(&checked.to_be_bytes());
    frame
}

#[test]
fn pings_of_both_families_are_answered_if_they_are_for_the_shard() {
    for client in [Client::new(1), Client::new(1).v6()] {
        let mut world = World::new();
        world.frame(ping(&client.headers()));
        let answer = world.out.sent.pop_front().expect("an answer");
        assert_eq!(answer.bytes()[..12], [CLIENT_MAC, SHARD_MAC].concat());
        assert_eq!(answer.bytes()[answer.bytes().len() - 8..], *b"ping ABC");
        let mut elsewhere = client.headers();
        elsewhere.link.dst_mac = [0xff; 6];
        world.frame(ping(&elsewhere));
        elsewhere.link = client.link;
        elsewhere.ips = client.ips.swapped();
        world.frame(ping(&elsewhere));
        let mut from_all = client.headers();
        from_all.link.src_mac = [0xff; 6];
        world.frame(ping(&from_all));
        let expected = [(Refusal::Broadcast, 1), (Refusal::OtherIp, 1), (Refusal::NoHost, 1)];
        assert_refused(&world, &expected);
        assert_eq!(world.shard.counters().echo_replies, 1);
        assert!(world.out.sent.is_empty());
    }
}

/// What leaves a port that fills in what frames ask for.
fn leave(frame: &common::port::TestFrame) -> Vec<u8> {
    let mut bytes = frame.bytes().to_vec();
    let Some(request) = frame.request else { return bytes };
    let l3 = usize::from(request.l2_bytes);
    let l4 = l3 + usize::from(request.l3_bytes);
    let (range, at) = match request.what {
        TxChecksum::Ipv4Header => (l3..l4, l3 + 10),
        TxChecksum::UdpOverIpv6 => (l4..bytes.len(), l4 + 6),
    };
    let words = bytes[range].chunks(2);
    let sum: u32 =
        words.map(|w| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0))).sum();
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = !((sum >> 16) + sum) as u16;
    let sum = if sum == 0 { 0xffff } else { sum };
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    bytes
}

#[test]
fn what_leaves_is_the_same_whether_port_or_shard_makes_the_checksums() {
    let offloading = Capabilities {
        tx_ipv4_checksum: true,
        tx_udp6_checksum: true,
        ..port_address().capabilities
    };
    let sent = |capabilities| {
        let mut world = World::on(PortAddress { capabilities, ..vlan(9) });
        let mut publisher = Client::claiming(1001, 1).on_vlan(9);
        let mut subscribers = [Client::new(1002).on_vlan(9), Client::new(1003).on_vlan(9).v6()];
        let mut left = Vec::new();
        let mut asked = 0;
        let mut step = |world: &mut World, client: &mut Client, datagram: Vec<u8>| {
            world.frame(client.wrap(&datagram));
            world.finish();
            for frame in &mut world.out.sent {
                asked += u32::from(frame.request.is_some());
                let bytes = leave(frame);
                frame.bytes_mut().copy_from_slice(&bytes);
                left.push(bytes);
            }
            world.deliver(client);
            world.out.sent.clear();
        };
        for client in subscribers.iter_mut().chain([&mut publisher]) {
            let hello = client.hello();
            step(&mut world, client, hello);
            let open = client.open();
            step(&mut world, client, open);
        }
        for client in &mut subscribers {
            let subscribe = client.subscribe(0, 0, 1000, [0; 16], 0);
            step(&mut world, client, subscribe);
        }
        let open = publisher.open_stream(1, b"trades");
        step(&mut world, &mut publisher, open);
        let handle = publisher.streams[0].handle.get();
        for sequence in 1..=8 {
            let payload = vec![sequence as u8; 100 + sequence as usize];
            let publish = publisher.publish(handle, sequence, 1, &[&payload]);
            step(&mut world, &mut publisher, publish);
        }
        (left, asked)
    };
    let (by_shard, none) = sent(port_address().capabilities);
    let (by_port, all) = sent(offloading);
    assert_eq!(none, 0);
    assert!(by_shard.len() > 24);
    assert_eq!(all as usize, by_port.len());
    assert_eq!(by_shard, by_port);
    let v6 = by_port.iter().filter(|frame| frame[16..18] == [0x86, 0xdd]).count();
    assert!(v6 > 8 && v6 < by_port.len());
    for frame in &by_port {
        assert!(matches!(classify(frame, true), Ok(Inbound::Udp(_))));
    }
}

#[test]
fn the_largest_datagram_fits_1500_bytes_of_ip() {
    let client = Client::new(1).v6().on_vlan(1);
    let frame = client.wrap(&vec![0; mstream_wire::MAX_DATAGRAM_BYTES]);
    assert_eq!(frame.len() - 18, 1500);
    let Ok(Inbound::Udp(udp)) = classify(&frame, true) else { panic!("not UDP") };
    assert_eq!(udp.dst_ip(), IpAddr::V6(SHARD_IP6));
    assert_eq!(udp.dst_port(), SHARD_PORT);
}
