//! The shard's way out: where it gets empty frames and gives filled ones.

/// The ports of a shard, as the shard sees them.
pub trait Outbox<F> {
    /// An empty frame of port `port`, or `None` when its pool is exhausted.
    fn frame(&mut self, port: usize) -> Option<F>;

    /// Sends a frame on port `port`.
    ///
    /// # Errors
    /// Gives the frame back when the port has no room for that peer now.
    fn send(&mut self, port: usize, frame: F) -> Result<(), F>;
}

impl<P: mstream_nic::Port> Outbox<P::Frame> for [P] {
    #[inline]
    fn frame(&mut self, port: usize) -> Option<P::Frame> {
        self.get_mut(port)?.frame()
    }

    #[inline]
    fn send(&mut self, port: usize, frame: P::Frame) -> Result<(), P::Frame> {
        match self.get_mut(port) {
            Some(port) => port.send(frame),
            None => Err(frame),
        }
    }
}
