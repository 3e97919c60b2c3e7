//! After its start a shard on a memif port makes no system call, calls no allocator and takes no page
//! fault: while clients come, publish, read, lag and go, while the log rolls and is recycled, and while readers are
//! served from cold segments.
//!
//! A program of its own (no test harness): the shard's thread gets a seccomp filter that ends the
//! process at any system call whatever, so that thread can never end, and the program leaves with it
//! still polling.
#![expect(clippy::print_stdout, reason = "this program is its own test harness")]
#![expect(unsafe_code, reason = "a global allocator, and a thread id from the kernel")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use mstream_client::{Client, Event, From, Identity, PublicationConfig, SessionConfig, connect};
use mstream_dataplane::{
    Clock, ColdFound, ColdLink, Command, Limits, PollLoop, PortAddress, PublisherEntry, Reply,
    Shard, ShardConfig, Status, StreamEntry, StreamRules, TscClock,
};
use mstream_nic::Port;
use mstream_nic::memif::{ClientPort, Listener, ListenerConfig, ServerPortSeed};
use mstream_pmem::cold::{ColdPage, ColdStore, DirDisk, Keep};
use mstream_pmem::prepare::{DirConfig, SyncConfig, open_dir};
use mstream_pmem::sealed::Sealed;
use mstream_pmem::staged::default_window_bytes;
use mstream_pmem::wal::{TableLimits, Wal, WalConfig};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Calls of the allocator by the shard's thread once it polls.
static CALLS: AtomicU64 = AtomicU64::new(0);
thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

fn count_call() {
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        CALLS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is the system allocator's; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_call();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count_call();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SEGMENT_BYTES: u64 = 2 << 20;
const SEGMENTS: u32 = 8;
const STREAM: u64 = 7;
const LOG_ID: [u8; 16] = [1; 16];
const PAGES: usize = 2;
const SHARD: &str = "10.0.0.1:7500";

/// Streams that the shard's tables hold: the one with traffic and a few that come and go.
const STREAMS: usize = 100;
/// Streams that are created and deleted in all.
const COME_AND_GO: u64 = 10_000;

/// The queues between the shard's thread and the one that commands it.
#[derive(Clone)]
struct Queues {
    commands: Arc<ArrayQueue<Command>>,
    replies: Arc<ArrayQueue<Reply>>,
    sealed: Arc<ArrayQueue<Sealed>>,
    cold: ColdLink,
}

impl Queues {
    fn new() -> Queues {
        Queues {
            commands: Arc::new(ArrayQueue::new(64)),
            replies: Arc::new(ArrayQueue::new(64)),
            sealed: Arc::new(ArrayQueue::new(4)),
            cold: ColdLink::new(PAGES),
        }
    }

    /// Copies what the shard seals to cold segments in `dir`, and reads what it asks for, until `stop`.
    fn copy_and_read(&self, dir: &Path, stop: &AtomicBool) {
        let disk = DirDisk::open(dir, false).expect("a directory");
        let mut store = ColdStore::open(disk, LOG_ID, 0).expect("empty");
        let keep = |stream| (stream == STREAM).then(Keep::default);
        let push = |mut command| {
            while let Err(back) = self.commands.push(command) {
                command = back;
                std::thread::yield_now();
            }
        };
        while !stop.load(Ordering::Relaxed) {
            if let Some(sealed) = self.sealed.pop() {
                let (sequence, end) = (sealed.sequence(), sealed.end());
                store.copy(sequence, sealed.bytes(), end, &keep).expect("copied");
                for (stream, range) in store.ranges() {
                    push(Command::ColdRange { stream, range });
                }
                push(Command::SegmentRead(sealed));
            }
            while let Some(mut request) = self.cold.requests.pop() {
                let read = store.read(request.stream, request.from, &mut request.page);
                let found = match read.expect("sound") {
                    true => ColdFound::Page,
                    false => ColdFound::Nothing,
                };
                self.cold.answers.push(request.answer(found)).expect("a place for each page");
            }
            std::thread::yield_now();
        }
    }

    /// Sends a command and waits for the answer.
    fn ask(&self, command: Command) -> Reply {
        self.commands.push(command).expect("room for commands");
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(reply) = self.replies.pop() {
                return reply;
            }
            assert!(Instant::now() < deadline, "no answer");
            std::thread::yield_now();
        }
    }

    /// Streams come, are asked about, and go, some of them in use by `client`. What the shard gives back is freed
    /// here.
    fn come_and_go(&self, client: &mut Seen) {
        let session = client.client.open_session(SessionConfig::new(Identity::Anonymous));
        for number in 0..COME_AND_GO {
            let id = 1_000 + number;
            let name = format!("stream number {number}");
            let entry = StreamEntry { id, name: name.into(), rules: StreamRules::NONE };
            let created = self.ask(Command::CreateStream { request: number, entry });
            let Reply::StreamCreated { result: Ok(()), spare: None, .. } = created else {
                panic!("{created:?}");
            };
            if number.is_multiple_of(500) {
                let out =
                    client.client.open_publication(session, id, &PublicationConfig::default());
                client.client.subscribe(session, id, From::Earliest, 100);
                let deadline = Instant::now() + Duration::from_secs(60);
                let mut published = false;
                while client.client.sequences(out).0 == 0 {
                    published |=
                        !published && client.client.publish(out, b"", b"", b"message").is_ok();
                    client.client.flush();
                    client.poll();
                    assert!(Instant::now() < deadline, "{id} is not open");
                }
                let (ids, rows) = (vec![id], Vec::with_capacity(1));
                let reply = self.ask(Command::Streams { request: 0, ids, rows });
                let Reply::Streams { rows, .. } = reply else { panic!("{reply:?}") };
                assert!(rows.len() == 1 && rows[0].next_offset > 0, "{rows:?}");
            }
            // Some stay for a while, as many as the table holds beside the one with traffic.
            if let Some(old) = number.checked_sub(STREAMS as u64 - 2) {
                self.delete(1_000 + old);
            }
            client.poll();
        }
        for number in COME_AND_GO - STREAMS as u64 + 2..COME_AND_GO {
            self.delete(1_000 + number);
        }
        client.client.close();
    }

    fn delete(&self, id: u64) {
        let deleted = self.ask(Command::DeleteStream { request: id, id });
        let Reply::StreamDeleted { result: Ok(Some(_)), .. } = deleted else {
            panic!("{deleted:?}");
        };
    }
}

/// What the shard's thread tells the others.
#[derive(Default)]
struct Told {
    /// The thread's id once it polls under the filter.
    thread: AtomicU64,
    /// All memory could be locked.
    locked: AtomicBool,
}

/// Opens the log in `dir`, puts a shard on it and polls for ever without a system call.
fn shard_thread(
    dir: &Path,
    seed: ServerPortSeed,
    told: &Told,
    status: &Arc<Status>,
    queues: &Queues,
) {
    let port = seed.open(4096);
    let (region, mut slots, mut preparer) = open_dir(DirConfig {
        dir: dir.to_path_buf(),
        segment_bytes: SEGMENT_BYTES,
        segments: SEGMENTS,
        require: None,
        trust_host_pmem: false,
        sync: Some(SyncConfig {
            poll: Duration::from_micros(50),
            window_bytes: default_window_bytes(SEGMENT_BYTES),
        }),
    })
    .expect("the directory opens");
    while preparer.has_next() {
        slots.push(preparer.prepare_next().expect("room for the segments"));
    }
    let config = WalConfig {
        shard: 0,
        new_log_id: LOG_ID,
        new_secret: [0x5e; 16],
        boot_id: [2; 16],
        tables: TableLimits { streams: STREAMS, publications: 64, publishers: 4 },
        ready_segments: 2,
        time_ns: 1,
    };
    let (wal, _) = Wal::open_holding(region, &slots, config, None).expect("a new log opens");
    let mut clock = TscClock::new(Arc::new(AtomicI64::new(0)));
    let config = ShardConfig {
        ports: vec![PortAddress {
            mac: [2, 0, 0, 0, 0, 1],
            ip: Some([10, 0, 0, 1].into()),
            ip6: None,
            vlan: None,
            capabilities: port.capabilities(),
        }],
        udp_port: 7500,
        limits: Limits { session_timeout_ms: 500, ..Limits::default() },
        streams: vec![StreamEntry {
            id: STREAM,
            name: "trades".into(),
            rules: StreamRules { cold: true, ..StreamRules::default() },
        }],
        publishers: vec![PublisherEntry { id: 42, name: "feed".into() }],
        secret: [3; 16],
    };
    let now = clock.now();
    let shard = Shard::new(config, wal, now).expect("the tables hold the configuration");
    let (commands, replies) = (Arc::clone(&queues.commands), Arc::clone(&queues.replies));
    let pages = (0..PAGES).map(|_| ColdPage::new(64 * 1024)).collect();
    let shard = shard.with_cold(pages, []);
    let mut polls = PollLoop::new(vec![port], shard, clock, commands, replies, Arc::clone(status))
        .with_cold(queues.cold.clone())
        .lending_to(Arc::clone(&queues.sealed));
    touch_stack();
    // As mstreamd does: tables of fixed size get their pages now.
    // SAFETY: locking memory changes no byte of it.
    let locked = unsafe { libc::mlockall(libc::MCL_CURRENT) } == 0;
    told.locked.store(locked, Ordering::Relaxed);
    let filter: BpfProgram = SeccompFilter::new(
        Default::default(),
        // For calls that no rule names, so for all; then the action for those that a rule does.
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into().expect("a known architecture"),
    )
    .expect("an empty filter")
    .try_into()
    .expect("it compiles");
    // SAFETY: gettid has no preconditions.
    let thread = unsafe { libc::gettid() };
    COUNTED.set(true);
    seccompiler::apply_filter(&filter).expect("seccomp is available");
    CALLS.store(0, Ordering::Relaxed);
    told.thread.store(thread as u64, Ordering::Release);
    loop {
        polls.poll();
    }
}

/// Makes the pages of the stack present that a poll may use.
#[inline(never)]
fn touch_stack() {
    let mut bytes = [0u8; 256 * 1024];
    for byte in bytes.iter_mut().step_by(4096) {
        *std::hint::black_box(byte) = 1;
    }
}

/// Minor and major page faults of a thread of this process (proc(5), stat, fields 10 and 12).
fn faults(thread: u64) -> (u64, u64) {
    let path = format!("/proc/self/task/{thread}/stat");
    let text = std::fs::read_to_string(path).expect("the thread lives");
    let behind_name = text.rsplit(')').next().expect("a name in parentheses");
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    let number = |at: usize| fields[at].parse().expect("a number");
    (number(7), number(9))
}

/// A client and what it saw.
struct Seen {
    client: Client<ClientPort>,
    clock: Instant,
    messages: u64,
    stopped: bool,
}

impl Seen {
    fn connect(socket: &Path) -> Seen {
        let shard: SocketAddr = SHARD.parse().expect("an address");
        let client = connect::memif(socket, shard, Duration::from_secs(5)).expect("it connects");
        Seen { client, clock: Instant::now(), messages: 0, stopped: false }
    }

    fn poll(&mut self) {
        let now = self.clock.elapsed().as_nanos() as u64;
        self.client.poll(now, |event| match event {
            Event::Message { .. } => self.messages += 1,
            Event::SubscriptionStopped { .. } => self.stopped = true,
            _ => {}
        });
        std::thread::yield_now();
    }
}

/// Publishes and reads `messages` messages of several sizes, with a reader that lags and one that is
/// gone without a word.
fn traffic(socket: &Path, messages: u64) {
    let mut both = Seen::connect(socket);
    let named = both.client.open_session(SessionConfig::new(Identity::Publisher(42)));
    let out = both.client.open_publication(named, STREAM, &PublicationConfig::default());
    let reader = both.client.open_session(SessionConfig::new(Identity::Anonymous));
    both.client.subscribe(reader, "trades", From::Latest, 4096);
    let mut slow = Seen::connect(socket);
    let session = slow.client.open_session(SessionConfig::new(Identity::Anonymous));
    slow.client.subscribe(session, "trades", From::Earliest, 64);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut sent = 0;
    while both.client.sequences(out).0 < both.client.sequences(out).1 - 1 || sent < messages {
        for _ in 0..64 {
            let size = (sent * 37 % 1200) as usize;
            if sent < messages
                && both.client.publish_with(out, b"k", b"", size, |room| room.fill(7)).is_ok()
            {
                sent += 1;
            }
        }
        both.client.flush();
        both.poll();
        if sent % 512 == 0 {
            slow.poll();
        }
        assert!(Instant::now() < deadline, "{sent} sent, {} read", both.messages);
    }
    assert!(both.messages > 0, "the reader heard something");
    both.client.close();
    // The slow one goes without a word: its connection ends under the shard.
}

/// Reads all that was ever published, most of which the log does not hold any more.
fn read_all(socket: &Path, messages: u64) {
    let mut reader = Seen::connect(socket);
    let session = reader.client.open_session(SessionConfig::new(Identity::Anonymous));
    reader.client.subscribe(session, "trades", From::Earliest, 4096);
    let deadline = Instant::now() + Duration::from_secs(60);
    while reader.messages < messages {
        reader.poll();
        assert!(Instant::now() < deadline && !reader.stopped, "{} read", reader.messages);
    }
    reader.client.close();
}

/// Names the directory below which the log is to be, and makes this the process that does the test.
const PARENT: &str = "MSTREAM_QUIET_PARENT";

/// One process for each medium: a shard's thread that may make no call cannot be ended.
fn main() {
    if let Some(parent) = std::env::var_os(PARENT) {
        quiet(Path::new(&parent));
    }
    for parent in ["/dev/shm", env!("CARGO_TARGET_TMPDIR")] {
        let this = std::env::current_exe().expect("this test");
        let ended =
            std::process::Command::new(this).env(PARENT, parent).status().expect("it starts");
        assert!(ended.success(), "with the log below {parent}: {ended}");
    }
    println!("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}

fn quiet(parent: &Path) -> ! {
    let dir = tempfile::tempdir_in(parent).expect("a directory");
    let socket = dir.path().join("port.sock");
    let (mut listener, seed) = Listener::bind(&ListenerConfig::new(&socket)).expect("it binds");
    let stop = Arc::new(AtomicBool::new(false));
    let control = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || listener.run(&stop).expect("the listener runs"))
    };
    let (told, status) = (Arc::new(Told::default()), Arc::new(Status::new(1)));
    let queues = Queues::new();
    let shard = {
        let (dir, told, status) = (dir.path().join("log"), Arc::clone(&told), Arc::clone(&status));
        let queues = queues.clone();
        std::thread::spawn(move || shard_thread(&dir, seed, &told, &status, &queues))
    };
    while told.thread.load(Ordering::Acquire) == 0 {
        assert!(!shard.is_finished(), "the shard's thread ended before it polled");
        std::thread::yield_now();
    }
    let thread = told.thread.load(Ordering::Acquire);
    let facts = std::fs::read_to_string(format!("/proc/self/task/{thread}/status"));
    let filtered = facts.is_ok_and(|facts| facts.lines().any(|line| line == "Seccomp:\t2"));
    assert!(filtered, "the shard's thread runs under the filter");
    let before = faults(thread);
    let copier = {
        let (queues, stop, dir) = (queues.clone(), Arc::clone(&stop), dir.path().join("cold"));
        std::thread::spawn(move || queues.copy_and_read(&dir, &stop))
    };
    // More than the log holds: it rolls and recycles, and the slow reader falls behind it. Meanwhile streams come and
    // go.
    std::thread::scope(|scope| {
        scope.spawn(|| queues.come_and_go(&mut Seen::connect(&socket)));
        for _ in 0..3 {
            traffic(&socket, 20_000);
        }
    });
    read_all(&socket, 60_000);
    // Sessions that went without a word expire.
    std::thread::sleep(Duration::from_millis(1500));
    let after = faults(thread);
    let counters: std::collections::HashMap<_, _> = status.counters().collect();
    let bytes = counters["bytes"];
    let level = status.log().level.expect("it runs");
    println!(
        "shard at {level}: {} messages, {bytes} bytes of blocks, under a filter that forbids every system call",
        counters["messages"]
    );
    println!(
        "allocator calls {}, page faults {:?} -> {:?}",
        CALLS.load(Ordering::Relaxed),
        before,
        after
    );
    assert!(bytes > 2 * u64::from(SEGMENTS) * SEGMENT_BYTES, "the log was recycled");
    assert!(counters["delivered_from_cold"] > 0, "cold segments were read");
    assert!(counters["sessions_expired"] > 0, "sessions expired");
    let positions: std::collections::HashMap<_, _> = status.positions().collect();
    assert_eq!((positions["streams"], positions["streams_dying"]), (1, 0), "all others went");
    assert!(status.poll_times().max_ns > 0, "polls are timed");
    assert_eq!(CALLS.load(Ordering::Relaxed), 0, "calls of the allocator");
    if told.locked.load(Ordering::Relaxed) {
        assert_eq!(before, after, "page faults");
    } else {
        println!("SKIP page-faults: memory may not be locked");
    }
    stop.store(true, Ordering::Release);
    control.join().expect("the listener ends");
    copier.join().expect("it copied");
    drop(dir);
    // The shard's thread cannot end: it may not even ask to.
    std::process::exit(0);
}
