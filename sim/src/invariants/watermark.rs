//! Nobody sees what the watermark has not passed.

use mstream_dataplane::Shard;
use mstream_nic::Frame;
use mstream_pmem::region::Region;

use super::{Check, ensure};

pub(crate) const NAME: &str = "never-beyond-the-watermark";

pub(crate) fn delivered(stream: u32, offset: u64, visible: u64) -> Check {
    ensure!(
        NAME,
        offset < visible,
        "stream {stream} offset {offset} was delivered, and the watermark stood at {visible}"
    );
    Ok(())
}

pub(crate) fn of_appended<R: Region, F: Frame>(shard: &Shard<R, F>) -> Check {
    let (committed, appended) = (shard.committed(), shard.wal().appended());
    ensure!(
        NAME,
        committed <= appended,
        "record {committed} counts as committed, {appended} is next"
    );
    Ok(())
}
