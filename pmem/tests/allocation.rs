//! After a log was opened, nothing on its path allocates. Alone in its file: the allocator counts for the whole process.
#![expect(unsafe_code, reason = "a global allocator that counts")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use common::{config, dir_config, open_whole};
use mstream_pmem::format::crc32c;
use mstream_pmem::wal::{AppendData, AppendError, Wal};

struct Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is the callee's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is the callee's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn appending_rolling_and_recycling_allocate_nothing() {
    allocates_nothing("/dev/shm", 100_000);
    // The thread that syncs is counted with the one that appends.
    allocates_nothing(env!("CARGO_TARGET_TMPDIR"), 40_000);
}

fn allocates_nothing(parent: &str, records: u64) {
    let dir = tempfile::tempdir_in(parent).expect("a directory");
    let (region, slots, _) = open_whole(dir_config(dir.path(), 1 << 20, 8)).expect("a directory");
    let (mut wal, _) = Wal::open(region, &slots, config(0)).expect("a new log");
    let stream = wal.open_stream(11).expect("room");
    let block = [3; 200];
    let mut appended = 0;
    let before = CALLS.load(Ordering::Relaxed);
    while appended < records {
        // Anonymous publishers come and go.
        let publisher = (1 << 63) | (appended / 100);
        let publication = wal.open_publication(publisher, stream).expect("room");
        let data = AppendData {
            stream,
            publication,
            incarnation: 1,
            count: 1,
            block_crc: crc32c(&block),
            time_ns: appended,
            block: &block,
        };
        match wal.append_data(&data) {
            Ok(at) => {
                appended += 1;
                let found = wal.lookup(stream, at.offset, 0).and_then(|(_, at)| wal.record(at));
                assert!(found.is_some_and(|record| record.block == block));
            }
            Err(AppendError::Full | AppendError::Window) => {}
            Err(other) => panic!("{other}"),
        }
        if appended % 100 == 0 {
            wal.release_publication(publication);
        }
        if appended % 1000 == 0 {
            // Refused while too much waits.
            let _ = wal.append_life(21, appended + 1, &[1; 16], appended);
        }
        wal.barrier();
        wal.persisted();
        wal.housekeep(8);
    }
    let calls = CALLS.load(Ordering::Relaxed) - before;
    assert!(wal.stream(stream).earliest_offset > 0, "segments were recycled");
    assert_eq!(calls, 0);
}
