//! Every section and key of the configuration. The tests compare it with what the parser knows: a new key needs
//! its line here.

/// A section of the file.
pub(super) struct Section {
    /// As it stands in the file.
    pub(super) header: &'static str,
    pub(super) about: &'static str,
    pub(super) keys: &'static [Key],
}

/// A key.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) unset: Unset,
    pub(super) allowed: &'static str,
    pub(super) meaning: &'static str,
}

/// What it means that a key is not in the file.
pub(super) enum Unset {
    /// The file is refused.
    Refused,
    /// The same as this value.
    Is(&'static str),
    /// Something that is no one value.
    Means(&'static str),
}

use Unset::{Is, Means, Refused};

const fn key(
    name: &'static str,
    kind: &'static str,
    unset: Unset,
    allowed: &'static str,
    meaning: &'static str,
) -> Key {
    Key { name, kind, unset, allowed, meaning }
}

/// The sections, in the order of the page.
pub(super) const SECTIONS: &[Section] = &[
    Section {
        header: "[node]",
        about: "The node. Must be there.",
        keys: &[
            key("id", "integer", Refused, "from 1", "Number of the node."),
            key(
                "name",
                "text",
                Means("`node-` and the id"),
                "1 to 31 bytes",
                "Name, told to memif clients and in status.",
            ),
            key(
                "run_dir",
                "path",
                Refused,
                "",
                "Directory of relative memif sockets; made if it does not exist.",
            ),
            key(
                "control_core",
                "integer",
                Means("the first core without a shard, else core of shard 0"),
                "a core that this process may use",
                "Core of everything that is not a shard: signals, memif handshakes, preparation of segments.",
            ),
            key(
                "admin",
                "text",
                Is("\"127.0.0.1:7400\""),
                "`\"ADDRESS:PORT\"` or `\"off\"`",
                "Address of the admin API: gRPC, and plain HTTP for `/healthz`, `/readyz` and `/metrics`. Port 0: any \
                 free one, told at start.",
            ),
            key(
                "insecure",
                "boolean",
                Is("false"),
                "",
                "Allow an admin address that is not loopback. The admin API has neither encryption nor passwords.",
            ),
            key(
                "catalogue_dir",
                "path",
                Means("`[wal] dir`; on hugetlbfs run_dir"),
                "",
                "Directory of the catalogue, which knows all streams and publishers.",
            ),
        ],
    },
    Section {
        header: "[[port]]",
        about: "A port: how frames come in and go out. At least one; one section for each.",
        keys: &[
            key(
                "name",
                "text",
                Refused,
                "unique",
                "Name, used by `[[shard]] ports` and in status.",
            ),
            key(
                "driver",
                "word",
                Refused,
                "`\"memif\"`, `\"socket\"`, `\"dpdk\"`",
                "memif: clients of this machine, over shared memory; socket: a kernel UDP socket; dpdk: a DPDK device.",
            ),
            key(
                "ip",
                "IPv4 address",
                Means("none: ip6 must be set then"),
                "of one host",
                "Address of the shards on this port; beside ip6 or alone.",
            ),
            key(
                "ip6",
                "IPv6 address",
                Means("none: ip must be set then"),
                "of one host; for socket not beside ip, and not link-local",
                "Address of the shards on this port.",
            ),
            key(
                "vlan",
                "integer",
                Means("none: frames have no tag"),
                "1 to 4094; not for socket",
                "VLAN that the port is on: all its frames are tagged with it (802.1Q).",
            ),
            key(
                "mac",
                "MAC address",
                Means(
                    "`02:00` and the bytes of ip, or the last four of ip6; of a PCI device its own",
                ),
                "of one station; not for socket",
                "MAC address of the shards on this port.",
            ),
            key(
                "frames",
                "integer",
                Means("4096, or the next power of two that is enough"),
                "more than `[limits] pending_frames` and 64 (dpdk: 1088, af_xdp: 4160), to 1048576",
                "Buffers in the port's pool.",
            ),
            key(
                "socket",
                "path",
                Refused,
                "at most 107 bytes; only memif, and dpdk with device memif",
                "Control socket, absolute or below run_dir; made with mode 0600.",
            ),
            key(
                "max_connections",
                "integer",
                Is("64"),
                "1 to 1024; only memif",
                "Clients at a time.",
            ),
            key(
                "trusted",
                "boolean",
                Is("false"),
                "only memif",
                "Accept memory that a client may shrink later, which would kill mstreamd.",
            ),
            key(
                "device",
                "word",
                Refused,
                "`\"af_xdp\"`, `\"af_packet\"`, `\"pci\"`, `\"tap\"`, `\"pcap\"`, `\"memif\"`, `\"ring\"`, \
                 `\"null\"`; only dpdk",
                "The DPDK device: a queue of a kernel interface that it takes over, a kernel interface by a packet \
                 socket, a NIC that DPDK drives, a kernel interface that mstreamd makes, capture files, DPDK's own \
                 memif for one trusted client, one that gives back what is sent, one that does nothing. See \
                 [ports.md](ports.md).",
            ),
            key(
                "interface",
                "text",
                Refused,
                "1 to 15 characters; only dpdk with device af_xdp, af_packet or tap",
                "Name of the kernel interface: with tap of the one to make, else of one that is there and up.",
            ),
            key(
                "queue",
                "integer",
                Is("0"),
                "0 to 65535; only dpdk with device af_xdp",
                "Number of the interface's receive and transmit queue.",
            ),
            key(
                "address",
                "text",
                Refused,
                "domain, bus, device and function: `0000:3b:00.0`; only dpdk with device pci",
                "Address of the PCI device, which must be bound to vfio-pci.",
            ),
            key(
                "rx_pcap",
                "path",
                Means("nothing is received"),
                "without , = [ ] \"; only dpdk with device pcap, which needs this or tx_pcap",
                "Capture file to receive from, once.",
            ),
            key(
                "tx_pcap",
                "path",
                Means("what is sent is forgotten"),
                "as rx_pcap, and another file",
                "Capture file to write what is sent to, made anew.",
            ),
            key(
                "role",
                "word",
                Is("\"server\""),
                "`\"server\"`, `\"client\"`; only dpdk with device memif",
                "Which end of the control socket it is.",
            ),
            key(
                "id",
                "integer",
                Is("0"),
                "only dpdk with device memif",
                "Id of the interface on the control socket.",
            ),
        ],
    },
    Section {
        header: "[[shard]]",
        about: "A shard: one core that polls, one log. At least one; the first section is shard 0.",
        keys: &[
            key(
                "core",
                "integer",
                Refused,
                "a core that this process may use, of one shard",
                "Core that it polls on.",
            ),
            key(
                "ports",
                "list of text",
                Refused,
                "names of ports",
                "Its ports. memif and dpdk ports belong to one shard; socket ports may be shared.",
            ),
            key(
                "udp_port",
                "integer",
                Refused,
                "1 to 65535",
                "UDP port of the shard on each of them.",
            ),
            key(
                "idle",
                "word",
                Refused,
                "`\"spin\"`, `\"yield\"`, `\"backoff\"`",
                "When there is nothing to do: poll on, let other threads of the core run, or yield and then sleep up \
                 to a millisecond.",
            ),
        ],
    },
    Section {
        header: "[wal]",
        about: "The write-ahead logs, one for each shard, in `dir/shard-N`. Must be there.",
        keys: &[
            key(
                "dir",
                "path",
                Refused,
                "",
                "Directory of the logs. tmpfs and hugetlbfs survive the process (level process); an ordinary file \
                 (media-sync) and a DAX file system (pmem) survive a power cut.",
            ),
            key(
                "segment_bytes",
                "bytes",
                Refused,
                "a multiple of 4096 of at least 64 KiB; on hugetlbfs of the huge page",
                "Size of a segment.",
            ),
            key(
                "max_bytes",
                "bytes",
                Refused,
                "a multiple of segment_bytes, at most 256 GiB",
                "Size of each shard's log at most. The oldest segment is used again when all are full.",
            ),
            key(
                "require",
                "word",
                Means("whatever the medium gives"),
                "`\"process\"`, `\"pmem-emulated\"`, `\"media-sync\"`, `\"pmem\"`",
                "The least durability level; if the medium gives less, mstreamd does not start.",
            ),
            key(
                "trust_host_pmem",
                "boolean",
                Is("false"),
                "",
                "Count persistent memory as pmem under a hypervisor, on modules that are not armed and on `memmap=` regions.",
            ),
            key(
                "sync",
                "boolean",
                Is("true"),
                "",
                "Keep a log on ordinary files in memory as well, and write and sync the files before anything is \
                 acknowledged (level media-sync). false: for tests and development; such files promise process only.",
            ),
            key(
                "sync_window_bytes",
                "bytes",
                Means("4 MiB, or a quarter of segment_bytes if that is less"),
                "a multiple of 64, 16 KiB to 1 GiB",
                "What may be written to an ordinary file and not yet be synced; beyond it publishers are held back.",
            ),
            key(
                "sync_poll_us",
                "integer",
                Is("50"),
                "1 to 10000",
                "How often, in microseconds, the thread that syncs a log looks for work when it has none; after a \
                 hundred looks in vain eight times as rarely.",
            ),
            key(
                "ready_segments",
                "integer",
                Is("2"),
                "from 1",
                "Segments that are kept ready to be written to.",
            ),
        ],
    },
    Section {
        header: "[cold]",
        about: "Cold segments: files that keep of cold streams what the logs recycle. A thread beside each shard, on \
                `control_core`, copies, merges and reads them.",
        keys: &[
            key(
                "dir",
                "path",
                Means("`cold` in each shard's directory of the log; on hugetlbfs, below run_dir"),
                "a medium that promises no less than the log's",
                "Directory that holds a directory `shard-N` for each shard.",
            ),
            key(
                "bandwidth_bytes_per_second",
                "bytes",
                Is("\"256 MiB\""),
                "1 MiB to 1 TiB",
                "What copying and merging move in a second at most, read and written, for each shard.",
            ),
            key(
                "read_buffers",
                "integer",
                Is("16"),
                "1 to 4096",
                "Buffers of each shard that cold segments are read into: as many subscriptions read from them at a time.",
            ),
            key(
                "read_buffer_bytes",
                "bytes",
                Is("\"256 KiB\""),
                "16 KiB to 16 MiB",
                "Bytes of each of these buffers.",
            ),
        ],
    },
    Section {
        header: "[limits]",
        about: "Table sizes and limits of each shard.",
        keys: &[
            key("sessions", "integer", Is("1024"), "1 to 1048576", "Sessions at a time."),
            key(
                "publications",
                "integer",
                Is("1024"),
                "1 to 1048576",
                "Publications open at a time.",
            ),
            key(
                "subscriptions",
                "integer",
                Is("1024"),
                "1 to 1048576",
                "Subscriptions open at a time.",
            ),
            key(
                "streams",
                "integer",
                Means("64, or as many as the file names"),
                "as many as the file names, to 1048576",
                "Streams at a time; deleted ones count until they are given up, a moment later.",
            ),
            key(
                "publishers",
                "integer",
                Means("64, or as many as the file names"),
                "as many as the file names, to 1048576",
                "Publishers that a log may know, former ones included.",
            ),
            key(
                "pending_records",
                "integer",
                Is("4096"),
                "64 to 1048576",
                "Records that may wait to become durable.",
            ),
            key(
                "pending_frames",
                "integer",
                Means("1024, or pending_records if that is less"),
                "0 to pending_records",
                "Received frames that are kept with them, to be delivered without a copy.",
            ),
            key("max_block_bytes", "bytes", Is("1280"), "64 to 1344", "Size of a batch at most."),
            key(
                "session_window_bytes",
                "bytes",
                Is("\"256 KiB\""),
                "max_block_bytes to 4 GiB",
                "What one session may have sent that is not acknowledged yet.",
            ),
            key(
                "session_timeout_ms",
                "integer",
                Is("30000"),
                "100 to 86400000",
                "Silence after which a session ends, in milliseconds.",
            ),
        ],
    },
    Section {
        header: "[[stream]]",
        about: "A stream: an ordered, durable log of messages. At start it goes into the catalogue with this id, if it is \
                not there yet; more can be created while the node runs. Ids are never used again.",
        keys: &[
            key("id", "integer", Refused, "from 1, unique", "Id of the stream."),
            key("name", "text", Refused, "1 to 255 bytes, unique", "Name that clients open it by."),
            key(
                "shard",
                "integer",
                Means("0; must be set if there are several shards"),
                "number of a shard",
                "The shard that it belongs to.",
            ),
            key(
                "cold",
                "boolean",
                Is("false"),
                "",
                "Keep in cold segments what the log recycles, for ever. As all rules, set when the stream is created.",
            ),
            key(
                "newest_per_key",
                "boolean",
                Is("false"),
                "",
                "Keep in cold segments of each key the newest message only. Such a stream is cold.",
            ),
        ],
    },
    Section {
        header: "[[publisher]]",
        about: "A publisher that may claim a life; goes into the catalogue as streams do. Clients without one publish \
                anonymously.",
        keys: &[
            key(
                "id",
                "integer",
                Refused,
                "1 to 9223372036854775807, unique",
                "Id of the publisher.",
            ),
            key("name", "text", Refused, "1 to 255 bytes, unique", "Name of the publisher."),
        ],
    },
    Section {
        header: "[dpdk]",
        about: "How DPDK starts. Only with a port whose driver is dpdk.",
        keys: &[
            key(
                "huge_pages",
                "boolean or word",
                Is("\"auto\""),
                "`true`, `false`, `\"auto\"`",
                "Memory from huge pages; auto: if there are enough.",
            ),
            key(
                "memory_mib",
                "integer",
                Means("what the ports' frames need"),
                "16 to 1048576",
                "MiB of memory that DPDK takes.",
            ),
        ],
    },
    Section {
        header: "[log]",
        about: "What is logged, and where to.",
        keys: &[
            key(
                "level",
                "word",
                Is("\"info\""),
                "`\"off\"`, `\"error\"`, `\"warn\"`, `\"info\"`, `\"debug\"`, `\"trace\"`",
                "The least important lines that are written. `--log` and the variable RUST_LOG go before it.",
            ),
            key(
                "format",
                "word",
                Is("\"text\""),
                "`\"text\"`, `\"json\"`",
                "Lines on standard error: for people, or one JSON object each.",
            ),
            key(
                "journald",
                "boolean or word",
                Is("\"auto\""),
                "`true`, `false`, `\"auto\"`",
                "Write to systemd's journal, with fields; auto: if standard error is connected to it. Standard error \
                 is written to as well unless the journal takes that up.",
            ),
        ],
    },
    Section {
        header: "[metrics]",
        about: "Who gets the metrics beside those who ask for `/metrics`. The metrics are listed in \
                [metrics.md](metrics.md).",
        keys: &[
            key(
                "otlp_endpoint",
                "URI",
                Means("nothing is exported"),
                "`http://HOST:PORT`",
                "OTLP receiver (gRPC, without TLS). One that does not answer is logged once and tried again.",
            ),
            key(
                "otlp_interval_ms",
                "integer",
                Is("10000"),
                "100 to 3600000; only with otlp_endpoint",
                "Milliseconds between two exports.",
            ),
        ],
    },
];
