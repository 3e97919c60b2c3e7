//! Bugs that tests plant to see that the persistence model finds them (`docs/persistence-model.md`). In builds without
//! the feature `planted`, and in all release builds, none can be planted and the questions cost nothing.

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug { $($(#[$doc])* $name,)* }

        impl Bug {
            /// All of them.
            #[cfg(feature = "planted")]
            pub const ALL: &[Bug] = &[$(Bug::$name,)*];
        }
    };
}

bugs! {
    /// A barrier counts as completed when it was issued.
    AckBeforeFence,
    /// No barrier is issued.
    NoFence,
    /// A barrier covers one record that was not written when it was issued.
    BarrierOffByOne,
    /// More than W bytes may wait for a barrier.
    WindowNotEnforced,
    /// A next segment's header is written while the roll record before it is not durable.
    HeaderBeforeRoll,
    /// Both copies of a next segment's header are written without a barrier between.
    HeaderCopiesTogether,
    /// A next segment's records are written while neither copy of its header is durable.
    RecordsBeforeHeader,
    /// A segment header's lines are not written back.
    HeaderNotFlushed,
    /// A segment header's lines are written back behind the barrier that should cover them.
    HeaderFlushedLate,
    /// The header of a start's segment is not synced before the start is done.
    HeaderNotSynced,
    /// All segments have the same generation.
    GenerationReused,
    /// A record's generation is not compared.
    GenerationUnchecked,
    /// A record header's check is not compared.
    RecordHeaderUnchecked,
    /// A segment header's check is not compared.
    SegmentHeaderUnchecked,
    /// The chain is not compared.
    ChainUnchecked,
    /// A block's crc is not compared.
    BlockUnchecked,
    /// Recovery looks for damage right behind a torn tail, not behind W.
    WindowTooSmall,
    /// Recovery looks for damage nowhere.
    WindowTooLarge,
    /// A start relies on a newest segment that it has not made durable.
    NotSettled,
    /// A start leaves half written headers in free slots.
    HalfHeaderLeft,
    /// A start keeps the epoch of the one before.
    EpochNotIncreased,
    /// A start takes the highest epoch from records alone.
    EpochOfRecordsOnly,
    /// A start clears headers that do not fit before it has looked whether they were damaged.
    WritesBeforeReading,
    /// A start does not notice that the machine was booted.
    RebootUnnoticed,
    /// A start after a possible loss goes on from the epochs that are left.
    EpochLost,
    /// A recycled segment's header is wiped before what was written again is durable.
    WipeBeforeFence,
    /// Both header copies of a recycled segment are wiped without a barrier between.
    WipedTogether,
    /// A wiped header is not written back.
    WipeNotFlushed,
    /// A recycled segment's stream offsets are not written again.
    StreamNotRestated,
    /// A recycled segment's publisher sequences are not written again.
    SequenceNotRestated,
    /// A recycled segment's publisher lives are not written again.
    LifeNotRestated,
    /// A footer leaves a segment's last data record out.
    FooterWithoutLast,
    /// A footer is taken for that of whatever segment the slot holds.
    FooterOfAnotherLife,
    /// What is not in the index is not looked up in footers.
    FootersNotSearched,
}

#[cfg(all(feature = "planted", debug_assertions))]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug in all logs of this thread, or none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(crate) fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(not(all(feature = "planted", debug_assertions)))]
mod switch {
    #[inline(always)]
    pub(crate) const fn planted(_: super::Bug) -> bool {
        false
    }
}

#[cfg(all(feature = "planted", debug_assertions))]
pub use switch::plant;
pub(crate) use switch::planted;
