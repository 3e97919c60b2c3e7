//! A way for numbered messages out and back again: through an appliance, or an echo.

/// What the driver sends through and hears from.
pub(crate) trait Lane {
    /// Silence while something is under way after which it counts as lost, in ns; `None`: the lane sends
    /// again by itself, and lasting silence is a failure.
    const GIVES_UP_NS: Option<u64>;

    /// Sends messages `first`, `first` + 1, ... as one datagram of `count`; how many were taken: fewer when
    /// there is no room now. They leave at the latest with [`Lane::flush`].
    fn send(&mut self, first: u64, count: u16) -> u16;

    /// Lets everything leave that was sent.
    fn flush(&mut self);

    /// Takes what came; `on` is told the number of each message, or of the last one of a datagram. Returns
    /// how many datagrams came.
    fn poll(&mut self, now_ns: u64, on: impl FnMut(u64)) -> usize;

    /// What went wrong for good.
    fn trouble(&self) -> Option<&str>;
}
