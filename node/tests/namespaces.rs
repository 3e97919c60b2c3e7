//! The appliance on a network: in a network namespace of its own, over AF_XDP, a packet socket and a tap, with
//! kernel clients in another namespace.

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Instant;

use common::net::{self, APPLIANCE_END, CLIENT, CLIENT_END, Lan, Place, TAGGED, UNTAGGED};
use common::programs::{Program, Running};
use common::traffic::{self, PUBLISHER, Traffic, holds_exactly};
use common::{Node, PATIENCE, Setting};
use mstream_bench::itch::generate::Session;
use mstream_client::{From, Identity, connect};

const MESSAGES: u64 = 5000;

/// The appliance at `place` on a device, with more keys for its port.
fn setting(place: Place, device: &str, more: &str) -> Setting {
    let Place { ip, ip6, .. } = place;
    let port =
        format!("driver = \"dpdk\"\nip = \"{ip}\"\nip6 = \"{ip6}\"\ndevice = {device}\n{more}");
    let mut setting = Setting::new(&port);
    setting.add("[[stream]]\nid = 2\nname = \"itch\"\n[dpdk]\nhuge_pages = false");
    setting
}

#[test]
fn over_af_xdp() {
    let Some(lan) = net::lan("over_af_xdp", "x") else { return };
    let device = format!("\"af_xdp\"\ninterface = \"{APPLIANCE_END}\"");
    tagged(&lan, &device, |_| {});
    // The queue was just in use: the port waits until the kernel has cleared up.
    let mut setting = setting(UNTAGGED, &device, "");
    // A second port, to see that it is none of its business what happens to the first.
    setting.text = setting.text.replace("ports = [\"p\"]", "ports = [\"p\", \"m\"]");
    setting
        .add("[[port]]\nname = \"m\"\ndriver = \"memif\"\nip = \"10.77.9.1\"\nsocket = \"m.sock\"");
    let mut node = lan.start(&setting);
    appliance(&lan, &setting, &node, "ip_fragment");
    interface_goes(&lan, &node);
    let socket = setting.dir.path().join("run/m.sock");
    let mut client = traffic::memif_at(&socket, &setting, [10, 77, 9, 1], Identity::Anonymous)
        .reading("s", From::Offset(0), 4096);
    client.until("the whole stream read", |seen| seen.next == 2 * MESSAGES);
    ends_cleanly(&mut node);
}

#[test]
fn over_a_packet_socket() {
    let Some(lan) = net::lan("over_a_packet_socket", "p") else { return };
    let device = format!("\"af_packet\"\ninterface = \"{APPLIANCE_END}\"");
    tagged(&lan, &device, |_| {});
    let setting = setting(UNTAGGED, &device, "");
    let mut node = lan.start(&setting);
    appliance(&lan, &setting, &node, "ipv4");
    link_goes_and_comes(&lan, &node);
    interface_goes(&lan, &node);
    ends_cleanly(&mut node);
}

#[test]
fn over_a_tap_behind_a_bridge() {
    if !std::path::Path::new("/dev/net/tun").exists() {
        eprintln!("SKIP over_a_tap_behind_a_bridge: there is no /dev/net/tun");
        return;
    }
    let Some(lan) = net::lan("over_a_tap_behind_a_bridge", "t") else { return };
    lan.ip(&["link", "add", "br0", "type", "bridge"]);
    lan.ip(&["link", "set", APPLIANCE_END, "master", "br0"]);
    lan.ip(&["link", "set", "br0", "up"]);
    // The tap comes with the appliance.
    let bridge = |lan: &Lan| {
        lan.ip(&["link", "set", "tap0", "master", "br0", "up"]);
    };
    let device = "\"tap\"\ninterface = \"tap0\"";
    tagged(&lan, device, bridge);
    let setting = setting(UNTAGGED, device, "");
    let mut node = lan.start(&setting);
    bridge(&lan);
    appliance(&lan, &setting, &node, "ip_fragment");
    ends_cleanly(&mut node);
}

/// An appliance in a VLAN is reached from there, and frames from elsewhere are counted.
fn tagged(lan: &Lan, device: &str, started: impl FnOnce(&Lan)) {
    let vlan = match lan.vlan() {
        Ok(vlan) => vlan,
        Err(reason) => {
            let device = device.lines().next().unwrap_or_default();
            eprintln!("SKIP vlan over {device}: {reason}");
            return;
        }
    };
    let setting = setting(TAGGED, device, "vlan = 7");
    let mut node = lan.start(&setting);
    started(lan);
    arping_and_ping(&node, TAGGED);
    kernel_clients(&setting, TAGGED);
    itch_session(&setting, TAGGED);
    // Without a tag, and with another one.
    for frame in [spoof(TAGGED), tagged_with(8, &spoof(TAGGED))] {
        let before = node.count("other_vlan");
        net::send_frame(&frame);
        node.wait_count("other_vlan", before + 1);
    }
    assert_eq!(node.count("arp_spoof"), 0);
    // In its own VLAN the same frame is looked at.
    net::send_frame(&tagged_with(7, &spoof(TAGGED)));
    node.wait_count("arp_spoof", 1);
    drop(vlan);
    ends_cleanly(&mut node);
}

/// The frame with the tag of a VLAN.
fn tagged_with(vlan: u16, frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0x00], &vlan.to_be_bytes(), &frame[12..]].concat()
}

/// What must be true of an appliance on any kind of port; IP fragments are refused as `fragments` says.
fn appliance(lan: &Lan, setting: &Setting, node: &Node, fragments: &str) {
    let addresses = String::from_utf8(lan.ip(&["-oneline", "address"]).stdout).expect("text");
    for ip in [IpAddr::from(UNTAGGED.ip), UNTAGGED.ip6.into()] {
        assert!(!addresses.contains(&ip.to_string()), "{addresses}");
    }
    arping_and_ping(node, UNTAGGED);
    kernel_clients(setting, UNTAGGED);
    itch_session(setting, UNTAGGED);
    wrong_things(lan, setting, node, fragments);
    // And all is as it was before.
    arping_and_ping(node, UNTAGGED);
    holds_exactly(connect::udp(at(setting, UNTAGGED.ip)).expect("a client"), 2 * MESSAGES);
}

/// Where clients find the shard at one of its addresses.
fn at(setting: &Setting, ip: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(ip.into(), setting.address.1)
}

/// Both address families answer, and the appliance's own counters say that it was it who did.
fn arping_and_ping(node: &Node, place: Place) {
    let before = node.count("arp_replies");
    let deadline = Instant::now() + PATIENCE;
    // A bridge needs a moment to forward.
    while !Command::new("arping")
        .args(["-c", "1", "-w", "2", "-I", place.from, &place.ip.to_string()])
        .output()
        .expect("arping runs")
        .status
        .success()
    {
        assert!(Instant::now() < deadline, "no answer to arping");
    }
    node.wait_count("arp_replies", before + 1);
    for ip in [IpAddr::from(place.ip), place.ip6.into()] {
        let before = node.count("echo_replies");
        net::succeeded("ping", &["-c", "1", "-W", "30", &ip.to_string()]);
        node.wait_count("echo_replies", before + 1);
    }
    assert!(node.count("neighbour_replies") > 0);
}

/// The library's clients, over both address families.
fn kernel_clients(setting: &Setting, place: Place) {
    let publisher = |ip: IpAddr| {
        let client = connect::udp(at(setting, ip)).expect("a client");
        Traffic::new(client, Identity::Publisher(PUBLISHER))
    };
    let mut client = publisher(place.ip.into()).publishing("s").reading("s", From::Earliest, 1024);
    client.publish_all(MESSAGES);
    assert!(client.seen.lost.is_empty(), "{:?}", client.seen);
    let mut client = publisher(place.ip6.into()).publishing("s").reading("s", From::Earliest, 1024);
    client.seen.published = MESSAGES;
    client.seen.acknowledged = MESSAGES;
    client.publish_all(MESSAGES);
    assert!(client.seen.lost.is_empty(), "{:?}", client.seen);
}

/// A market-data session moves intact, whoever publishes and whoever reads, over both address families.
fn itch_session(setting: &Setting, place: Place) {
    const COUNT: usize = 3000;
    let session: Vec<u8> = Session::new(7, COUNT as u64)
        .expect("enough messages")
        .flat_map(|message| [&(message.len() as u16).to_be_bytes()[..], &message].concat())
        .collect();
    let input = setting.dir.path().join("session");
    std::fs::write(&input, &session).expect("written");
    let programs = [Program::mstream("itch_session"), Some(Program::Python)];
    let programs: Vec<Program> = programs.into_iter().flatten().collect();
    let mut stored = 0;
    for ip in [IpAddr::from(place.ip), place.ip6.into()] {
        for publisher in &programs {
            // Readers do not wait until everything is there.
            let readers: Vec<Running> = (0..)
                .zip(&programs)
                .map(|(number, reader)| {
                    let file = setting.dir.path().join(format!("copy-{number}"));
                    reader.read(at(setting, ip), "itch", stored, COUNT, &file)
                })
                .collect();
            publisher.publish(at(setting, ip), "itch", &input);
            for (copy, reader) in readers.into_iter().map(Running::finished).zip(&programs) {
                let how = format!("{publisher:?} to {reader:?} at {ip}");
                assert!(copy == session, "{how}: {} of {} bytes", copy.len(), session.len());
            }
            stored += COUNT;
        }
    }
}

/// What is wrong is counted by its reason, and nothing breaks.
fn wrong_things(lan: &Lan, setting: &Setting, node: &Node, fragments: &str) {
    let shard = at(setting, UNTAGGED.ip);
    let socket = UdpSocket::bind((CLIENT, 0)).expect("a socket");
    socket.set_broadcast(true).expect("set");
    let counted = |reason: &str, what: &dyn Fn()| {
        let before = node.count(reason);
        what();
        node.wait_count(reason, before + 1);
    };
    counted("other_port", &|| {
        socket.send_to(b"nobody", (UNTAGGED.ip, shard.port() ^ 1)).expect("sent");
    });
    counted("version", &|| {
        socket.send_to(&[0; 40], shard).expect("sent");
    });
    counted("broadcast", &|| {
        socket.send_to(b"everybody", ("10.77.0.255", shard.port())).expect("sent");
    });
    // Fragments: the ping gets no answer. The kernel puts them together for a packet socket, too long for a frame.
    counted(fragments, &|| {
        let fragmented = ["-c", "1", "-W", "1", "-s", "4000", "10.77.0.1"];
        let output = Command::new("ping").args(fragmented).output().expect("ping runs");
        assert!(!output.status.success(), "{output:?}");
    });
    counted("arp_spoof", &|| net::send_frame(&spoof(UNTAGGED)));
    counted("other_vlan", &|| net::send_frame(&tagged_with(7, &spoof(UNTAGGED))));
    let head = [&UNTAGGED.mac()[..], &[2, 0, 0, 0, 0, 9]].concat();
    counted("ethernet", &|| net::send_frame(&[&head[..], &[0x88; 50]].concat()));
    jumbo(lan, &head);
}

/// A frame that is longer than any buffer.
fn jumbo(lan: &Lan, head: &[u8]) {
    let both = |mtu: &str| {
        lan.ip(&["link", "set", APPLIANCE_END, "mtu", mtu]);
        net::ip(&["link", "set", CLIENT_END, "mtu", mtu]);
    };
    both("3000");
    net::send_frame(&[head, &[8, 0, 0x45, 0, 11, 0], &[0x11; 2900]].concat());
    both("1500");
}

/// An ARP reply by which somebody claims the appliance's own address.
fn spoof(place: Place) -> Vec<u8> {
    let thief = [2, 0, 0, 0, 0, 0x66];
    let mut frame = Vec::new();
    frame.extend(place.mac());
    frame.extend(thief);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    frame.extend(thief);
    frame.extend(place.ip.octets());
    frame.extend(place.mac());
    frame.extend(place.ip.octets());
    frame.resize(60, 0);
    frame
}

/// While the other end is down the port waits; afterwards it goes on.
fn link_goes_and_comes(lan: &Lan, node: &Node) {
    lan.ip(&["link", "set", APPLIANCE_END, "down"]);
    node.wait_line("port p: the link is down");
    lan.ip(&["link", "set", APPLIANCE_END, "up"]);
    node.wait_line("port p: the link is up");
    arping_and_ping(node, UNTAGGED);
}

/// The interface is removed under the running appliance.
fn interface_goes(lan: &Lan, node: &Node) {
    lan.ip(&["link", "delete", APPLIANCE_END]);
    node.wait_line("port p: its interface is gone");
    node.status();
    let device = node.wait_line("device p: ");
    assert!(device.contains("link=gone"), "{device}");
}

fn ends_cleanly(node: &mut Node) {
    node.signal(nix::sys::signal::Signal::SIGTERM);
    let (status, text) = node.wait_end();
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(!text.contains("ERROR") && !text.contains("buffers did not"), "{text}");
}
