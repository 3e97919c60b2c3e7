//! The port of a shard under test: frames in vectors.

use std::collections::VecDeque;

use mstream_dataplane::Outbox;
use mstream_nic::{ChecksumRequest, Frame, Peer};

/// A frame in a vector.
#[derive(Clone, Debug)]
pub struct TestFrame {
    bytes: Vec<u8>,
    peer: Peer,
    /// What the port is to fill in.
    pub request: Option<ChecksumRequest>,
}

impl TestFrame {
    pub fn new(bytes: Vec<u8>) -> TestFrame {
        TestFrame { bytes, peer: Peer::WIRE, request: None }
    }
}

impl Frame for TestFrame {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
    fn capacity(&self) -> usize {
        2000
    }
    fn set_len(&mut self, len: usize) {
        assert!(len <= 2000);
        self.bytes.resize(len, 0);
    }
    fn peer(&self) -> Peer {
        self.peer
    }
    fn set_peer(&mut self, peer: Peer) {
        self.peer = peer;
    }
    fn request_checksum(&mut self, request: ChecksumRequest) {
        self.request = Some(request);
    }
}

/// What the shard sent; can be told to have no room.
#[derive(Default)]
pub struct Out {
    pub sent: VecDeque<TestFrame>,
    pub full: bool,
}

impl Outbox<TestFrame> for Out {
    fn frame(&mut self, _port: usize) -> Option<TestFrame> {
        Some(TestFrame::new(Vec::new()))
    }
    fn send(&mut self, _port: usize, frame: TestFrame) -> Result<(), TestFrame> {
        if self.full {
            return Err(frame);
        }
        self.sent.push_back(frame);
        Ok(())
    }
}
