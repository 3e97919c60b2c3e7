//! The table of all metrics: what `/metrics`, OTLP and `docs/metrics.md` are made from.

use mstream_admin::v1;

use super::sample::{self, Sample};

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises while the node runs.
    Counter,
    /// Goes up and down, or marks a place.
    Gauge,
    /// Counts of values by upper bound.
    Histogram,
}

impl Kind {
    /// Its name in the Prometheus text format.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// Where in a snapshot a metric's values are.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// Read by a function of its own.
    Status(fn(&v1::Status) -> Vec<Sample>),
    /// The position of this name of each shard.
    Position(&'static str),
    /// The counter of this name of each shard.
    Counter(&'static str),
    /// The number of this name of each shard's cold segments.
    Cold(&'static str),
    /// Those counters of each shard that are reasons of [`REASONS`].
    Refusals,
    /// The counter of this name of each port.
    PortCounter(&'static str),
    /// The number of this name of each port's device: a level, not a count.
    DeviceLevel(&'static str),
    /// All counts of each port's device.
    DeviceCounters,
    /// This histogram of each shard, in nanoseconds.
    Histogram(fn(&v1::Shard) -> Option<&v1::Histogram>),
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name, by the conventions of Prometheus.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// What it tells, in one line.
    pub help: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// Where its values are.
    pub origin: Origin,
}

impl Metric {
    /// Its unit as OpenTelemetry writes it; empty for plain counts.
    pub fn unit(&self) -> &'static str {
        match self.name.trim_end_matches("_total") {
            name if name.ends_with("_seconds") => "s",
            name if name.ends_with("_bytes") => "By",
            _ => "",
        }
    }
}

const SHARD: &[&str] = &["shard"];
const PORT: &[&str] = &["shard", "port"];

const fn node(
    name: &'static str,
    labels: &'static [&'static str],
    read: fn(&v1::Status) -> Vec<Sample>,
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Gauge, help, labels, origin: Origin::Status(read) }
}

const fn position(name: &'static str, source: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, help, labels: SHARD, origin: Origin::Position(source) }
}

const fn counter(name: &'static str, source: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, help, labels: SHARD, origin: Origin::Counter(source) }
}

const fn cold(name: &'static str, kind: Kind, source: &'static str, help: &'static str) -> Metric {
    Metric { name, kind, help, labels: SHARD, origin: Origin::Cold(source) }
}

const fn port(name: &'static str, source: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, help, labels: PORT, origin: Origin::PortCounter(source) }
}

const fn device_level(name: &'static str, source: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, help, labels: PORT, origin: Origin::DeviceLevel(source) }
}

/// All metrics, in the order in which they are written.
pub const METRICS: &[Metric] = &[
    node("mstream_build_info", &["version"], sample::build, "Version of mstreamd; the value is 1."),
    node(
        "mstream_node_info",
        &["node", "name"],
        sample::node,
        "Number and name of the node; the value is 1.",
    ),
    node(
        "mstream_start_time_seconds",
        &[],
        sample::start_time,
        "When the node started, in seconds since 1970.",
    ),
    node("mstream_uptime_seconds", &[], sample::uptime, "How long the node has been running."),
    node(
        "mstream_ready",
        &[],
        sample::ready,
        "1 while all shards poll, 0 before that and once the node is told to stop.",
    ),
    node("mstream_streams", &[], sample::streams, "Streams in the catalogue."),
    node("mstream_publishers", &[], sample::publishers, "Named publishers in the catalogue."),
    node(
        "mstream_catalogue_faulty",
        &["condition"],
        sample::catalogue_condition,
        "1 while the catalogue's log takes no changes; condition says why.",
    ),
    node(
        "mstream_host_findings",
        &["check"],
        sample::findings,
        "Things that are not right on this host for low latency, by check.",
    ),
    node(
        "mstream_shard_info",
        &["shard", "core", "udp_port", "log_id"],
        sample::shard_info,
        "Core, UDP port and log of a shard; the value is 1.",
    ),
    node("mstream_shard_epoch", SHARD, sample::epoch, "Epoch of the shard's log."),
    node(
        "mstream_shard_level_info",
        &["shard", "level"],
        sample::level_info,
        "Durability level of the shard's log by name; the value is 1.",
    ),
    node(
        "mstream_shard_level",
        SHARD,
        sample::level,
        "Durability level of the shard's log: 1 process, 2 pmem-emulated, 3 media-sync, 4 pmem.",
    ),
    node(
        "mstream_shard_required_level",
        SHARD,
        sample::required_level,
        "Level that the configuration demands, as in mstream_shard_level; 0: none.",
    ),
    node(
        "mstream_shard_log_faulty",
        &["shard", "condition"],
        sample::log_condition,
        "1 while something keeps the shard's log from promising all it should; condition says what.",
    ),
    node(
        "mstream_shard_missing_messages",
        SHARD,
        sample::missing_messages,
        "Messages that were missing in the log when it was opened, as far as later ones of their streams tell.",
    ),
    position(
        "mstream_shard_appended_lsn",
        "appended_lsn",
        "Number of the next record to be appended to the log.",
    ),
    position(
        "mstream_shard_committed_lsn",
        "committed_lsn",
        "Every record below this number is durable as promised, and may be acknowledged and delivered.",
    ),
    position(
        "mstream_shard_segments_wanted",
        "slots_wanted",
        "Segments that the shard waits for; above 0 for long: preparation cannot keep up.",
    ),
    position(
        "mstream_shard_segments_ready",
        "slots_ready",
        "Segments that are ready to be written to; at 0 publishers may have to wait.",
    ),
    node(
        "mstream_shard_segments_ready_seconds",
        SHARD,
        sample::ready_seconds,
        "For how long those last at the highest rate (over 100 ms) at which the log was written since the start; 0: nothing was written yet.",
    ),
    node(
        "mstream_shard_segments_faulty",
        &["shard", "condition"],
        sample::shortage,
        "1 while no segment can be made, a full device for one; condition says why.",
    ),
    node(
        "mstream_shard_segments_faulty_seconds",
        SHARD,
        sample::shortage_seconds,
        "For how long that has been so; 0: all is well.",
    ),
    position(
        "mstream_shard_segments_in_footers",
        "segments_in_footers",
        "Oldest segments that the index has no room for: their records are looked up in footers.",
    ),
    position("mstream_shard_footer_bytes", "footer_bytes", "Memory that those footers take."),
    position("mstream_shard_sessions", "sessions", "Open sessions."),
    position("mstream_shard_publications", "publications", "Open publications."),
    position("mstream_shard_subscriptions", "subscriptions", "Open subscriptions."),
    position(
        "mstream_shard_subscriptions_behind",
        "subscriptions_behind",
        "Subscriptions that are served from the log because they did not keep up.",
    ),
    position(
        "mstream_shard_frames_held",
        "frames_held",
        "Received frames that are kept until their records are durable.",
    ),
    position("mstream_shard_streams", "streams", "Streams of the shard."),
    position(
        "mstream_shard_streams_dying",
        "streams_dying",
        "Deleted streams whose users are still told, or whose place in the tables is not free yet.",
    ),
    position(
        "mstream_shard_unreadable_address",
        "unreadable_at",
        "Byte of the log's region with a record that cannot be read any more: recycling stopped there; 0: none.",
    ),
    position(
        "mstream_shard_subscriptions_cold",
        "subscriptions_cold",
        "Subscriptions that wait for cold segments, or are served from them.",
    ),
    node(
        "mstream_shard_cold_faulty",
        &["shard", "condition"],
        sample::cold_condition,
        "1 while cold segments cannot be written or read as they should; condition says why.",
    ),
    cold("mstream_shard_cold_files", Kind::Gauge, "files", "Cold segments, one file each."),
    cold(
        "mstream_shard_cold_file_bytes",
        Kind::Gauge,
        "file_bytes",
        "Bytes of the cold segments' files.",
    ),
    cold(
        "mstream_shard_cold_live_bytes",
        Kind::Gauge,
        "live_bytes",
        "Bytes of the records in cold segments that readers can get; the files' bytes divided by this are the space \
         amplification.",
    ),
    cold(
        "mstream_shard_cold_streams",
        Kind::Gauge,
        "streams",
        "Streams that have records in cold segments.",
    ),
    cold(
        "mstream_shard_cold_waiting_segments",
        Kind::Gauge,
        "waiting_segments",
        "Sealed segments of the log that wait to be copied; above 0 for long: publishers will have to wait.",
    ),
    node(
        "mstream_shard_cold_lag_seconds",
        SHARD,
        sample::cold_lag,
        "How long the oldest of them has been waiting.",
    ),
    cold(
        "mstream_shard_cold_copied_bytes_total",
        Kind::Counter,
        "copied_bytes",
        "Bytes of the sealed segments that were copied.",
    ),
    cold(
        "mstream_shard_cold_moved_bytes_total",
        Kind::Counter,
        "moved_bytes",
        "Bytes that merging, compaction and retention read and wrote.",
    ),
    cold(
        "mstream_shard_cold_reads_total",
        Kind::Counter,
        "reads",
        "Pages that were read for subscriptions.",
    ),
    cold(
        "mstream_shard_cold_errors_total",
        Kind::Counter,
        "errors",
        "Times that copying, merging or reading cold segments failed.",
    ),
    counter(
        "mstream_shard_frames_received_total",
        "frames_in",
        "Frames that the shard took from its ports.",
    ),
    counter(
        "mstream_shard_frames_used_total",
        "frames_used",
        "Received frames of which at least a part was used.",
    ),
    counter(
        "mstream_shard_frames_sent_total",
        "frames_out",
        "Frames that the shard gave to its ports.",
    ),
    counter("mstream_shard_batches_stored_total", "batches", "Batches stored in the log."),
    counter("mstream_shard_messages_stored_total", "messages", "Messages stored in the log."),
    counter("mstream_shard_stored_bytes_total", "bytes", "Bytes of the blocks stored in the log."),
    counter(
        "mstream_shard_batches_delivered_in_place_total",
        "delivered_in_place",
        "Batches delivered in the buffer that they were received in.",
    ),
    counter(
        "mstream_shard_batches_delivered_by_copy_total",
        "delivered_by_copy",
        "Batches delivered as copies: to further subscriptions, and from the log.",
    ),
    counter(
        "mstream_shard_datagrams_delivered_from_cold_total",
        "delivered_from_cold",
        "Datagrams filled from cold segments.",
    ),
    counter(
        "mstream_shard_unreadable_messages_total",
        "unreadable_messages",
        "Messages that readers asked for and that the log holds but cannot read: it is damaged. Counted each time.",
    ),
    counter("mstream_shard_arp_replies_total", "arp_replies", "ARP requests answered."),
    counter(
        "mstream_shard_neighbour_replies_total",
        "neighbour_replies",
        "Neighbour solicitations answered.",
    ),
    counter(
        "mstream_shard_echo_replies_total",
        "echo_replies",
        "ICMP and ICMPv6 echo requests answered.",
    ),
    counter("mstream_shard_sessions_opened_total", "sessions_opened", "Sessions opened."),
    counter(
        "mstream_shard_sessions_expired_total",
        "sessions_expired",
        "Sessions that ended because nothing was heard of the client.",
    ),
    Metric {
        name: "mstream_shard_refusals_total",
        kind: Kind::Counter,
        help: "Frames, datagrams and protocol frames that were not used, by reason.",
        labels: &["shard", "reason"],
        origin: Origin::Refusals,
    },
    Metric {
        name: "mstream_shard_poll_seconds",
        kind: Kind::Histogram,
        help: "Time of polls that carried messages.",
        labels: SHARD,
        origin: Origin::Histogram(|shard| shard.poll_ns.as_ref()),
    },
    Metric {
        name: "mstream_shard_sync_seconds",
        kind: Kind::Histogram,
        help: "Time of each sync of a segment file (level media-sync): an acknowledgement takes at least one.",
        labels: SHARD,
        origin: Origin::Histogram(|shard| shard.sync_ns.as_ref()),
    },
    node(
        "mstream_port_info",
        &["shard", "port", "driver", "device", "addresses", "mac", "vlan"],
        sample::port_info,
        "What a port is; the value is 1.",
    ),
    node(
        "mstream_port_link_up",
        PORT,
        sample::link_up,
        "1 while the port's link is up, 0 while the other end is away.",
    ),
    port("mstream_port_received_frames_total", "rx_frames", "Frames received."),
    port("mstream_port_received_bytes_total", "rx_bytes", "Bytes of the received frames."),
    port(
        "mstream_port_no_buffer_total",
        "rx_no_buffer",
        "Frames that arrived and were dropped because no buffer was free: the port's pool was empty.",
    ),
    port(
        "mstream_port_refused_total",
        "rx_refused",
        "Frames or descriptors that the port itself refused: bad length, bad place, too long.",
    ),
    port("mstream_port_sent_frames_total", "tx_frames", "Frames sent."),
    port("mstream_port_sent_bytes_total", "tx_bytes", "Bytes of the sent frames."),
    port(
        "mstream_port_send_dropped_total",
        "tx_dropped",
        "Frames that could never leave and were dropped: peer gone, too long.",
    ),
    device_level(
        "mstream_port_pool_buffers",
        "pool_buffers",
        "Buffers of the port's pool, with DPDK: `frames` of the configuration.",
    ),
    device_level(
        "mstream_port_pool_free_buffers",
        "pool_free",
        "Buffers of that pool which are free at the moment.",
    ),
    Metric {
        name: "mstream_port_device_events_total",
        kind: Kind::Counter,
        help: "The device's own counts (DPDK's xstats), by their names there.",
        labels: &["shard", "port", "name"],
        origin: Origin::DeviceCounters,
    },
];

/// The reasons of `mstream_shard_refusals_total`, each with what it means.
pub const REASONS: &[(&str, &str)] = &[
    ("ethernet", "not Ethernet, a malformed VLAN tag, or an EtherType that is not spoken here"),
    (
        "other_vlan",
        "of another VLAN than the port's, with a tag on a port without a VLAN, or the reverse",
    ),
    ("other_mac", "for another MAC address"),
    ("arp", "ARP that is malformed, asks for somebody else, or is a reply"),
    ("arp_spoof", "ARP of somebody who claims the shard's address"),
    (
        "neighbour",
        "neighbour discovery that is malformed, asks for somebody else, or is an advertisement",
    ),
    ("neighbour_spoof", "neighbour discovery of somebody who claims the shard's address"),
    ("ipv4", "a malformed IPv4 header"),
    ("ipv6", "a malformed IPv6 header"),
    ("ip_fragment", "a fragment of an IP packet"),
    ("ip_options", "IPv4 options or IPv6 extension headers"),
    ("ipv4_checksum", "a wrong checksum of an IPv4 header"),
    ("other_ip", "for another IP address"),
    ("broadcast", "for everybody, or for a group"),
    ("no_host", "from a MAC or IP address that is not one host's"),
    ("protocol", "an IP protocol that is not spoken here, or ICMP other than an echo request"),
    ("icmp_checksum", "a wrong checksum of ICMP or ICMPv6"),
    ("udp", "a malformed UDP header"),
    ("udp_checksum", "a wrong UDP checksum, or over IPv6 none"),
    ("other_port", "for another UDP port"),
    ("set_up", "a datagram outside a session that is no complete hello or open"),
    ("cookie", "an open with a cookie that does not fit"),
    ("open", "an open that was answered with an error"),
    ("unknown_session", "a slot without a session, or a token that is not the session's"),
    ("wrong_source", "a session's datagram from another address or port"),
    ("direction", "a frame type that clients do not send"),
    ("unknown_handle", "a handle that is not the session's"),
    ("wrong_round", "a publish frame of another round"),
    ("repeat", "a publish frame whose messages are all stored already: harmless"),
    ("gap", "a publish frame behind a missing one: datagrams were lost or overtook each other"),
    ("overlap", "a publish frame that overlaps what is stored"),
    ("over_credit", "a publish frame beyond the session's credit"),
    ("too_large", "a block over the limit"),
    ("fenced", "a publisher's older life"),
    ("log_full", "the log had no room: the publisher sends again"),
    (
        "sync_window",
        "what waits to be synced is as much as may wait (`sync_window_bytes`): the publisher sends again",
    ),
    ("log_poisoned", "the log's medium failed: nothing is taken until the node is started again"),
    ("log_damaged", "the log is damaged: it takes nothing until an operator decides"),
    ("pending_full", "too many records wait to become durable: the publisher sends again"),
    ("no_frame", "no buffer was free for an answer"),
    ("port_full", "the port had no room for an answer"),
    ("datagram_too_short", "shorter than a datagram's header"),
    ("datagram_too_long", "longer than a datagram may be"),
    ("version", "another version of the protocol"),
    ("datagram_flags", "datagram flags that this version does not take"),
    ("frame_length", "a protocol frame whose length cannot be"),
    ("frame_type", "a protocol frame of an unknown type that may not be ignored"),
    ("frame_check", "the frame check does not fit: the datagram was damaged"),
    ("block_crc", "the block's crc does not fit: the block was damaged"),
    ("block_shape", "messages do not fill the block as its count says"),
    ("part", "a message in parts, which this version does not take"),
];
