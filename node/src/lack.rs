//! What a log lacked when it was opened, as the admin API tells of it.

use mstream_admin::v1;
use mstream_controlplane::catalogue::{Keeper, StreamKey};
use mstream_pmem::{Fault, Missing};

/// Ranges of missing offsets that a status tells one by one.
const MOST_RANGES: usize = 1000;

/// Known at the start, and the same for as long as the node runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lack {
    /// What keeps the log from taking anything; empty when nothing does.
    pub(crate) condition: String,
    /// Ranges of offsets, the first ones.
    pub(crate) ranges: Vec<v1::MissingOffsets>,
    /// Messages in all ranges.
    pub(crate) messages: u64,
}

impl Lack {
    /// Streams that the catalogue does not name were deleted: nothing of them is missed.
    pub(crate) fn new(fault: Option<&Fault>, missing: &[Missing], keeper: &Keeper) -> Lack {
        let condition = fault.map_or_else(String::new, |fault| {
            format!("FAULT: read-only, {} records are missing: {fault}", fault.records())
        });
        let mut lack = Lack { condition, ..Lack::default() };
        keeper.read(|catalogue| {
            for missing in missing {
                let Some(stream) = catalogue.stream(&StreamKey::Id(missing.stream)) else {
                    continue;
                };
                lack.messages += missing.to - missing.from;
                if lack.ranges.len() < MOST_RANGES {
                    lack.ranges.push(v1::MissingOffsets {
                        stream: stream.name.to_string(),
                        stream_id: missing.stream,
                        from: missing.from,
                        to: missing.to,
                    });
                }
            }
        });
        lack
    }
}
