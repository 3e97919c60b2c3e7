//! What stands between the product and the simulated world; tests put faulty parts here to show that
//! the oracle notices.

use mstream_nic::Port;
use mstream_nic::sim::SimPort;
use mstream_pmem::region::Region;
use mstream_pmem::sim::SimRegion;

/// Wraps the simulated parts before the product gets them.
pub trait Parts {
    /// The region that the log is on.
    type Region: Region;
    /// The port of the shard.
    type ShardPort: Port;
    /// The ports of clients.
    type ClientPort: Port;

    /// Wraps a region.
    fn region(&mut self, region: SimRegion) -> Self::Region;
    /// The region inside, for cutting its power.
    fn inner(region: &Self::Region) -> &SimRegion;
    /// Wraps the shard's port.
    fn shard_port(&mut self, port: SimPort) -> Self::ShardPort;
    /// Wraps a client's port.
    fn client_port(&mut self, port: SimPort) -> Self::ClientPort;
}

/// The simulated parts as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Honest;

impl Parts for Honest {
    type Region = SimRegion;
    type ShardPort = SimPort;
    type ClientPort = SimPort;

    fn region(&mut self, region: SimRegion) -> SimRegion {
        region
    }

    fn inner(region: &SimRegion) -> &SimRegion {
        region
    }

    fn shard_port(&mut self, port: SimPort) -> SimPort {
        port
    }

    fn client_port(&mut self, port: SimPort) -> SimPort {
        port
    }
}
