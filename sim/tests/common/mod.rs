//! Wrappers from which faulty parts are made.

use mstream_nic::headers::{Inbound, classify, emit_udp_headers};
use mstream_nic::sim::SimPort;
use mstream_nic::{Capabilities, Frame, FrameQueue, Port, PortStats};
use mstream_pmem::region::{Barrier, Level, Region};
use mstream_pmem::sim::SimRegion;
use mstream_wire::{Datagram, DatagramWriter, Frame as Wire};

pub type PortFrame = <SimPort as Port>::Frame;

/// A port that does something to each frame before it is sent.
pub struct Meddling {
    port: SimPort,
    /// Gets the frame; false drops it.
    meddle: Box<dyn FnMut(&mut PortFrame) -> bool>,
}

impl Meddling {
    pub fn new(port: SimPort, meddle: impl FnMut(&mut PortFrame) -> bool + 'static) -> Meddling {
        Meddling { port, meddle: Box::new(meddle) }
    }
}

impl Port for Meddling {
    type Frame = PortFrame;

    fn capabilities(&self) -> Capabilities {
        self.port.capabilities()
    }
    fn receive(&mut self, into: &mut FrameQueue<PortFrame>, max: usize) -> usize {
        self.port.receive(into, max)
    }
    fn send(&mut self, mut frame: PortFrame) -> Result<(), PortFrame> {
        if (self.meddle)(&mut frame) { self.port.send(frame) } else { Ok(()) }
    }
    fn flush(&mut self) {
        self.port.flush();
    }
    fn frame(&mut self) -> Option<PortFrame> {
        self.port.frame()
    }
    fn stats(&self) -> PortStats {
        self.port.stats()
    }
    fn frames_out(&self) -> usize {
        self.port.frames_out()
    }
}

/// The datagram in a frame, if there is one.
pub fn datagram(frame: &PortFrame) -> Option<Vec<u8>> {
    match classify(frame.bytes(), true) {
        Ok(Inbound::Udp(udp)) => Some(udp.payload().to_vec()),
        _ => None,
    }
}

/// Writes all frames of a datagram anew, as `write` does for those that it returns true for; the
/// other acks, deliveries and publish frames as they are. Datagrams with other frames are left alone.
pub fn rewrite(
    frame: &mut PortFrame,
    mut write: impl FnMut(&Wire<'_>, &mut DatagramWriter<'_>) -> bool,
) {
    let Some(old) = datagram(frame) else { return };
    let Ok(parsed) = Datagram::parse(&old) else { return };
    let Ok(Inbound::Udp(udp)) = classify(frame.bytes(), true) else { return };
    let headers = *udp.headers();
    let mut new = vec![0; mstream_wire::MAX_DATAGRAM_BYTES];
    let mut writer = DatagramWriter::new(&mut new, parsed.header).expect("the header fits");
    for part in parsed.frames() {
        if write(&part, &mut writer) {
            continue;
        }
        let written = match part {
            Wire::Ack(ack) => writer.ack(ack),
            Wire::Beat(beat) => writer.beat(beat),
            Wire::Credit(credit) => writer.credit(credit),
            Wire::Publish(data) | Wire::Deliver(data) => writer.data(data.header, data.block),
            _ => return,
        };
        assert!(written, "what was in a datagram fits one");
    }
    let len = writer.finish();
    frame.set_len(headers.bytes() + len);
    frame.bytes_mut()[headers.bytes()..].copy_from_slice(&new[..len]);
    emit_udp_headers(frame.bytes_mut(), &headers, len);
}

/// A region that says that barriers are complete as soon as they are issued.
pub struct Eager {
    pub region: SimRegion,
    issued: Barrier,
}

impl Eager {
    pub fn new(region: SimRegion) -> Eager {
        Eager { region, issued: Barrier(0) }
    }
}

impl Region for Eager {
    fn level(&self) -> Level {
        self.region.level()
    }
    fn slot_bytes(&self) -> u64 {
        self.region.slot_bytes()
    }
    fn slots(&self) -> u32 {
        self.region.slots()
    }
    fn window_bytes(&self) -> u64 {
        self.region.window_bytes()
    }
    fn store(&mut self, at: u64, bytes: &[u8]) {
        self.region.store(at, bytes);
    }
    fn stream(&mut self, at: u64, bytes: &[u8]) {
        self.region.stream(at, bytes);
    }
    fn flush(&mut self, at: u64, len: usize) {
        self.region.flush(at, len);
    }
    fn barrier(&mut self) -> Barrier {
        self.issued = self.region.barrier();
        self.issued
    }
    fn completed(&mut self) -> Barrier {
        self.region.completed();
        self.issued
    }
    fn bytes(&self, at: u64, len: usize) -> &[u8] {
        self.region.bytes(at, len)
    }
    fn prefetch(&self, at: u64) {
        self.region.prefetch(at);
    }
    fn sync(&mut self, at: u64, len: usize) -> std::io::Result<()> {
        self.region.sync(at, len)
    }
}
