//! Footers of sealed segments (`docs/wal-format.md` section 7): made off the shards' threads.

use mstream_pmem::footer::FooterFiles;
use mstream_pmem::sealed::Sealed;

use crate::sealed::Job;

/// Makes the footers of all shards' logs.
#[derive(Debug)]
pub struct Footers {
    logs: Vec<FooterFiles>,
}

impl Footers {
    /// Of the logs of shards 0, 1, ...
    pub fn new(logs: Vec<FooterFiles>) -> Footers {
        Footers { logs }
    }
}

impl Job for Footers {
    fn read(&mut self, shard: usize, sealed: &mut Sealed) -> Result<(), String> {
        match self.logs.get_mut(shard) {
            Some(log) => log.attend(sealed).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }
}
