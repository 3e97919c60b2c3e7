//! The poll loop: commands only while answers have room, and what it publishes about polls and the log.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use mstream_client::{Addresses, Client, From, Identity, IpPair, PublicationConfig, SessionConfig};
use mstream_dataplane::{
    Clock, Command, CreateError, Limits, Now, PollLoop, PollTimes, PortAddress, PublisherEntry,
    Reply, Shard, ShardConfig, Status, StreamEntry, StreamRules,
};
use mstream_nic::Port;
use mstream_nic::sim::{SimNet, SimPort};
use mstream_pmem::region::Level;
use mstream_pmem::sim::SimRegion;
use mstream_pmem::wal::{TableLimits, Wal, WalConfig};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const STEP_NS: u64 = 1_000;

#[derive(Clone, Default)]
struct Time(Rc<Cell<u64>>);

impl Clock for Time {
    fn now(&mut self) -> Now {
        Now { mono_ns: self.0.get(), wall_ns: self.0.get() }
    }
}

struct Node {
    polls: PollLoop<SimPort, SimRegion, Time>,
    commands: Arc<ArrayQueue<Command>>,
    replies: Arc<ArrayQueue<Reply>>,
    status: Arc<Status>,
    net: SimNet,
    time: Time,
}

fn node(replies: usize) -> Node {
    let (net, time) = (SimNet::new(1), Time::default());
    time.0.set(1_000_000_000);
    let config = WalConfig {
        shard: 0,
        new_log_id: [9; 16],
        new_secret: [8; 16],
        boot_id: [1; 16],
        tables: TableLimits { streams: 4, publications: 64, publishers: 4 },
        ready_segments: 1,
        time_ns: 0,
    };
    let slots: Vec<u32> = (0..8).collect();
    let (wal, _) = Wal::open(SimRegion::new(8, 64 * 1024, 0), &slots, config).expect("a new log");
    let port = net.attach(MAC, 256);
    let config = ShardConfig {
        ports: vec![PortAddress {
            mac: MAC,
            ip: Some(IP),
            ip6: None,
            vlan: None,
            capabilities: port.capabilities(),
        }],
        udp_port: 7500,
        limits: Limits::default(),
        streams: Vec::new(),
        publishers: Vec::new(),
        secret: [3; 16],
    };
    let shard = Shard::new(config, wal, time.clone().now()).expect("room");
    let (commands, replies) = (Arc::new(ArrayQueue::new(256)), Arc::new(ArrayQueue::new(replies)));
    let status = Arc::new(Status::new(1));
    let polls = PollLoop::new(
        vec![port],
        shard,
        time.clone(),
        Arc::clone(&commands),
        Arc::clone(&replies),
        Arc::clone(&status),
    );
    Node { polls, commands, replies, status, net, time }
}

impl Node {
    fn poll(&mut self) {
        self.time.0.set(self.time.0.get() + STEP_NS);
        self.net.advance(self.time.0.get());
        self.polls.poll();
    }

    fn tell(&self, command: Command) {
        self.commands.push(command).expect("room for commands");
    }
}

fn publisher(request: u64) -> Command {
    let entry = PublisherEntry { id: request, name: format!("feed-{request}").into() };
    Command::AddPublisher { request, entry }
}

#[test]
fn no_command_is_taken_while_its_answer_has_no_room() {
    let mut node = node(3);
    for request in 1..=6 {
        node.tell(publisher(request));
    }
    for (from, results) in [(1, [true; 3]), (4, [true, false, false])] {
        node.poll();
        node.poll();
        for (request, added) in (from..).zip(results) {
            let Some(Reply::PublisherAdded { request: answered, result, spare }) =
                node.replies.pop()
            else {
                panic!("request {request} was not answered");
            };
            assert_eq!((answered, spare), (request, Some(format!("feed-{request}").into())));
            assert_eq!(result.is_ok(), added, "{request}: {result:?}");
            // Four fit the table.
            assert!(added || matches!(result, Err(CreateError::Full(full)) if full.limit == 4));
        }
        assert!(node.replies.pop().is_none());
    }
}

#[test]
fn times_are_those_of_polls_that_carried_messages() {
    let mut node = node(3);
    let entry = StreamEntry { id: 7, name: "trades".into(), rules: StreamRules::default() };
    node.tell(Command::CreateStream { request: 1, entry });
    let mac = [2, 0, 0, 0, 1, 1];
    let addresses = Addresses {
        mac,
        vlan: None,
        ips: IpPair::V4 { src: Ipv4Addr::new(10, 0, 0, 2), dst: IP },
        udp_port: 40_000,
        shard_udp_port: 7500,
    };
    let mut client = Client::new(node.net.attach(mac, 64), addresses, [1; 16]);
    let session = client.open_session(SessionConfig::new(Identity::Anonymous));
    let out = client.open_publication(session, "trades", &PublicationConfig::default());
    client.subscribe(session, "trades", From::Earliest, 1000);
    while !client.is_open(out) {
        node.poll();
        client.poll(node.time.0.get(), |_| {});
    }
    let carried = |node: &Node| node.status.poll_times().counts.iter().sum::<u64>();
    for _ in 0..2_000 {
        node.poll();
    }
    assert_eq!(carried(&node), 0, "set-up and idling carry nothing");
    client.publish(out, b"", b"", b"message").expect("room");
    client.flush();
    for _ in 0..2_000 {
        node.poll();
        client.poll(node.time.0.get(), |_| {});
    }
    let times = node.status.poll_times();
    assert_eq!((carried(&node), times.sum_ns, times.max_ns), (1, STEP_NS, STEP_NS));
    let bucket = PollTimes::bounds().iter().position(|bound| *bound >= STEP_NS).expect("one");
    assert_eq!(times.counts[bucket], 1);
    let log = node.status.log();
    assert_eq!((log.level, log.epoch, log.log_id), (Some(Level::Pmem), 1, [9; 16]));
    assert_eq!((log.possible_loss, log.unreadable_at, log.poison), (false, None, None));
    assert_eq!(node.polls.ports()[0].stats().tx_dropped, 0);
}
