//! What cold segments hold is compared with the history.

use mstream_pmem::cold::{ColdDisk, ColdFrom, ColdPage, ColdStore};
use mstream_pmem::region::Region;
use mstream_pmem::wal::Wal;
use mstream_wire::Block;

use super::{Entry, History};
use crate::content::Content;
use crate::invariants::{Check, bytes, compacted, kept};

impl History {
    /// What the log holds of a cold stream no more is in cold segments, as it was; what is not was compacted away. They
    /// hold nothing from where the log goes on.
    pub(crate) fn holds_cold<R: Region, D: ColdDisk>(
        &self,
        wal: &Wal<R>,
        store: &mut ColdStore<D>,
    ) -> Check {
        for (id, _) in (1..).zip(&self.streams).filter(|(_, known)| !known.deleted) {
            let end = store.range(u64::from(id)).map_or(0, |range| range.end);
            let next = wal.stream_by_id(id.into()).map_or(0, |state| state.next_offset);
            compacted::within(id, end, next)?;
        }
        let mut page = ColdPage::new(1 << 16);
        for (id, known) in (1..).zip(&self.streams) {
            let Some(slot) = wal.stream_slot(u64::from(id)).filter(|_| !known.deleted) else {
                continue;
            };
            let hot = wal.stream(slot).earliest_offset;
            let end = store.range(id.into()).map_or(0, |range| range.end);
            if known.keep.is_none() || hot == 0 {
                continue;
            }
            // Passed over may be what was lost, and what a message displaced that was lost itself.
            if self.losses == 0 || !known.is_passed_over(end, hot) {
                compacted::reaches(id, end, hot)?;
            }
            let mut next = 0;
            while next < end {
                let read = store.read(id.into(), ColdFrom::Offset(next), &mut page);
                let from = page.from();
                let is_held = from <= next || self.losses > 0 && known.is_passed_over(next, from);
                compacted::readable(id, next, read.is_ok_and(|found| found && is_held))?;
                let mut at = next.max(from);
                for record in page.records() {
                    let (first, lsn) = (record.header.offset.get(), record.header.lsn.get());
                    compacted::of_this_log(id, first, lsn, wal.appended())?;
                    if at < first {
                        self.compacted(id, at, first)?;
                    }
                    let (count, crc) = (record.header.count.get(), record.header.block_crc.get());
                    let block = Block::parse(record.block, count, crc);
                    let publisher = record.header.publisher.get();
                    for (offset, message) in (first..).zip(block.iter().flat_map(Block::messages)) {
                        let content = Content::read(&message).ok_or_else(|| {
                            bytes::nobody_published(format_args!(
                                "cold stream {id} offset {offset}"
                            ))
                        })?;
                        let entry = Entry { content, publisher };
                        // What a reboot took may have been copied before.
                        if !known.lost.contains(&(offset, entry)) || known.at(offset).is_some() {
                            kept::same(id, offset, &entry, known.at(offset))?;
                        }
                    }
                    at = record.end_offset();
                }
                if at < page.end() {
                    self.compacted(id, at, page.end())?;
                }
                next = page.end();
            }
        }
        Ok(())
    }
}
