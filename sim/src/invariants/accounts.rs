//! Every frame that came in was used or refused for one reason.

use mstream_dataplane::{Counters, Refusal};
use mstream_wire::WireError;

use super::{Check, ensure};

pub(crate) const NAME: &str = "frames-accounted-for";

/// Reasons for which a whole frame is not used; the others are about what is inside of used ones.
const FRAME_REFUSALS: [Refusal; 25] = [
    Refusal::Ethernet,
    Refusal::OtherVlan,
    Refusal::OtherMac,
    Refusal::Arp,
    Refusal::ArpSpoof,
    Refusal::Neighbour,
    Refusal::NeighbourSpoof,
    Refusal::Ipv4,
    Refusal::Ipv6,
    Refusal::Fragment,
    Refusal::IpOptions,
    Refusal::Ipv4Checksum,
    Refusal::OtherIp,
    Refusal::Broadcast,
    Refusal::NoHost,
    Refusal::Protocol,
    Refusal::IcmpChecksum,
    Refusal::Udp,
    Refusal::UdpChecksum,
    Refusal::OtherPort,
    Refusal::SetUp,
    Refusal::Cookie,
    Refusal::Open,
    Refusal::UnknownSession,
    Refusal::WrongSource,
];

/// As above: ways in which a whole datagram is malformed.
const DATAGRAM_ERRORS: [WireError; 7] = [
    WireError::TooShort,
    WireError::TooLong,
    WireError::Version,
    WireError::Flags,
    WireError::FrameLength,
    WireError::FrameType,
    WireError::FrameCheck,
];

/// The shard heard of every frame that its port handed over.
pub(crate) fn of_port(received: u64, counters: &Counters) -> Check {
    let counted = counters.frames_in;
    ensure!(NAME, counted == received, "the port handed over {received} frames, {counted} came in");
    Ok(())
}

pub(crate) fn check(counters: &Counters) -> Check {
    let refused: u64 = FRAME_REFUSALS.iter().map(|reason| counters.refused(*reason)).sum();
    let malformed: u64 = DATAGRAM_ERRORS.iter().map(|error| counters.malformed(*error)).sum();
    ensure!(
        NAME,
        counters.frames_in == counters.frames_used + refused + malformed,
        "{} frames came in, {} were used, {refused} refused, {malformed} malformed",
        counters.frames_in,
        counters.frames_used
    );
    Ok(())
}
