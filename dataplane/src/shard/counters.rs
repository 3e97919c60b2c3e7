//! What the shard counts: plain numbers that only the shard writes.

use mstream_wire::WireError;

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a frame, datagram or protocol frame was not used.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Refusal { $($(#[$doc])* $name,)* }

        impl Refusal {
            /// All reasons, in order of their numbers.
            pub const ALL: &[Refusal] = &[$(Refusal::$name,)*];

            /// The reason's name in counters.
            pub fn name(self) -> &'static str {
                match self { $(Refusal::$name => $text,)* }
            }
        }
    };
}

refusals! {
    /// Not Ethernet, a malformed VLAN tag, or an EtherType that is neither IPv4, IPv6 nor ARP.
    Ethernet = "ethernet",
    /// Of another VLAN than the port's, or with a tag on a port without one, or the reverse.
    OtherVlan = "other_vlan",
    /// Not for the shard's MAC address.
    OtherMac = "other_mac",
    /// ARP that is malformed, asks for somebody else, or is a reply.
    Arp = "arp",
    /// ARP of somebody who claims the shard's address.
    ArpSpoof = "arp_spoof",
    /// Neighbour discovery that is malformed, asks for somebody else, or is an advertisement.
    Neighbour = "neighbour",
    /// Neighbour discovery of somebody who claims the shard's address.
    NeighbourSpoof = "neighbour_spoof",
    /// A malformed IPv4 header.
    Ipv4 = "ipv4",
    /// A malformed IPv6 header.
    Ipv6 = "ipv6",
    /// A fragment of an IP packet.
    Fragment = "ip_fragment",
    /// IPv4 options or IPv6 extension headers.
    IpOptions = "ip_options",
    /// A wrong checksum of an IPv4 header.
    Ipv4Checksum = "ipv4_checksum",
    /// Not for the shard's IP address.
    OtherIp = "other_ip",
    /// For everybody, or for a group.
    Broadcast = "broadcast",
    /// From a MAC or IP address that is not one host's.
    NoHost = "no_host",
    /// An IP protocol that is not spoken here, or ICMP other than an echo request.
    Protocol = "protocol",
    /// A wrong checksum of ICMP or ICMPv6.
    IcmpChecksum = "icmp_checksum",
    /// A malformed UDP header.
    Udp = "udp",
    /// A wrong UDP checksum, or over IPv6 none.
    UdpChecksum = "udp_checksum",
    /// Not for the shard's UDP port.
    OtherPort = "other_port",
    /// A datagram outside a session that is no complete hello or open.
    SetUp = "set_up",
    /// An open with a cookie that does not fit.
    Cookie = "cookie",
    /// An open that was answered with an error.
    Open = "open",
    /// A slot without a session, or a token that is not the session's.
    UnknownSession = "unknown_session",
    /// A session's datagram from another address or port.
    WrongSource = "wrong_source",
    /// A frame type that clients do not send.
    Direction = "direction",
    /// A handle that is not the session's.
    UnknownHandle = "unknown_handle",
    /// A publish frame of another round.
    WrongRound = "wrong_round",
    /// A publish frame whose messages are all stored already.
    Repeat = "repeat",
    /// A publish frame behind a missing one.
    Gap = "gap",
    /// A publish frame that overlaps what is stored.
    Overlap = "overlap",
    /// A publish frame beyond the session's credit.
    OverCredit = "over_credit",
    /// A block over the limit.
    TooLarge = "too_large",
    /// A publisher's older life.
    Fenced = "fenced",
    /// The log had no room: the publisher sends again.
    LogFull = "log_full",
    /// What waits to be synced is as much as may wait: the publisher sends again.
    SyncWindow = "sync_window",
    /// The log's medium failed: nothing is taken until the node is started again.
    LogPoisoned = "log_poisoned",
    /// The log is damaged: nothing is taken until an operator decides.
    LogDamaged = "log_damaged",
    /// Too many records wait for the watermark: the publisher sends again.
    PendingFull = "pending_full",
    /// No buffer was free for an answer.
    NoFrame = "no_frame",
    /// The port had no room for an answer.
    PortFull = "port_full",
}

/// Messages that readers asked for and that the log holds but cannot be read: what was promised changed under it. Counted
/// each time that a reader is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// How many.
    pub messages: u64,
    /// Id of the stream and offset of the first that was met.
    pub first: (u64, u64),
    /// The same of the last that was met.
    pub last: (u64, u64),
}

impl Unreadable {
    /// Notes that a reader of the stream with this id is told that it does not get offsets `from..to`.
    #[cold]
    pub(crate) fn note(&mut self, stream: u64, from: u64, to: u64) {
        let (first, last) = ((stream, from), (stream, to.saturating_sub(1)));
        self.add(&Unreadable { messages: to - from, first, last });
    }

    /// Adds what was met later.
    #[cold]
    pub(crate) fn add(&mut self, more: &Unreadable) {
        if self.messages == 0 {
            self.first = more.first;
        }
        self.messages += more.messages;
        self.last = more.last;
    }
}

/// Counts since the shard started.
#[derive(Clone, Debug)]
pub struct Counters {
    refusals: [u64; Refusal::ALL.len()],
    wire: [u64; WireError::ALL.len()],
    /// Frames taken from ports.
    pub frames_in: u64,
    /// Frames of which at least a part was used.
    pub frames_used: u64,
    /// Frames given to ports.
    pub frames_out: u64,
    /// Batches stored.
    pub batches: u64,
    /// Messages stored.
    pub messages: u64,
    /// Block bytes stored.
    pub bytes: u64,
    /// Batches delivered by rewriting the received buffer.
    pub delivered_in_place: u64,
    /// Batches delivered by copying.
    pub delivered_by_copy: u64,
    /// Datagrams filled from cold segments.
    pub delivered_from_cold: u64,
    /// What could not be read from the log.
    pub unreadable: Unreadable,
    /// ARP requests answered.
    pub arp_replies: u64,
    /// Neighbour solicitations answered.
    pub neighbour_replies: u64,
    /// ICMP and ICMPv6 echo requests answered.
    pub echo_replies: u64,
    /// Sessions opened.
    pub sessions_opened: u64,
    /// Sessions that ended because nothing was heard.
    pub sessions_expired: u64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            refusals: [0; Refusal::ALL.len()],
            wire: [0; WireError::ALL.len()],
            frames_in: 0,
            frames_used: 0,
            frames_out: 0,
            batches: 0,
            messages: 0,
            bytes: 0,
            delivered_in_place: 0,
            delivered_by_copy: 0,
            delivered_from_cold: 0,
            unreadable: Unreadable::default(),
            arp_replies: 0,
            neighbour_replies: 0,
            echo_replies: 0,
            sessions_opened: 0,
            sessions_expired: 0,
        }
    }
}

impl Counters {
    #[inline]
    pub(crate) fn refuse(&mut self, reason: Refusal) {
        self.refusals[reason as usize] += 1;
    }

    #[inline]
    pub(crate) fn refuse_wire(&mut self, reason: WireError) {
        self.wire[reason as usize] += 1;
    }

    /// Changes whenever a message was stored or delivered.
    #[inline]
    pub(crate) fn carried(&self) -> u64 {
        self.batches + self.delivered_in_place + self.delivered_by_copy
    }

    /// How often something was refused for `reason`.
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refusals[reason as usize]
    }

    /// How often a datagram or block was malformed in the way `reason` says.
    pub fn malformed(&self, reason: WireError) -> u64 {
        self.wire[reason as usize]
    }

    /// All counters with their names.
    pub fn each(&self, mut visit: impl FnMut(&'static str, u64)) {
        visit("frames_in", self.frames_in);
        visit("frames_used", self.frames_used);
        visit("frames_out", self.frames_out);
        visit("batches", self.batches);
        visit("messages", self.messages);
        visit("bytes", self.bytes);
        visit("delivered_in_place", self.delivered_in_place);
        visit("delivered_by_copy", self.delivered_by_copy);
        visit("delivered_from_cold", self.delivered_from_cold);
        visit("unreadable_messages", self.unreadable.messages);
        visit("arp_replies", self.arp_replies);
        visit("neighbour_replies", self.neighbour_replies);
        visit("echo_replies", self.echo_replies);
        visit("sessions_opened", self.sessions_opened);
        visit("sessions_expired", self.sessions_expired);
        for reason in Refusal::ALL {
            visit(reason.name(), self.refused(*reason));
        }
        for reason in WireError::ALL {
            visit(reason.name(), self.malformed(reason));
        }
    }
}
