//! Bugs that tests plant to see that the persistence model finds them (`docs/persistence-model.md`). In builds without
//! the feature `planted`, and in all release builds, none can be planted and the questions cost nothing.

mstream_planted::bugs! {
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
    /// A segment is recycled while one more is free than need be.
    RecycledTooEarly,
    /// A start forgets the first record that it finds of a stream.
    StartForgetsFirst,
    /// A recycled segment's stream offsets are not written again.
    StreamNotRestated,
    /// A recycled segment's publisher sequences are not written again.
    SequenceNotRestated,
    /// That a segment has records of a publisher is noted only where it is the first to have any of the stream.
    PublicationNotNoted,
    /// A recycled segment's publisher lives are not written again.
    LifeNotRestated,
    /// A sync thread's round is complete when all is written.
    RoundNotSynced,
    /// A sync thread syncs files before it writes to them.
    SyncedBeforeWritten,
    /// Of the files that a round writes to only the last one is synced.
    OneFileSynced,
    /// What a short write left over is not written.
    ShortWriteIsWhole,
    /// A cold segment counts while its content is not synced.
    ColdNotSynced,
    /// A cold segment counts while its name is not synced.
    ColdNameNotSynced,
    /// The inputs of a merge count beside its output.
    ColdInputsCount,
    /// Of the records of a key the displaced ones are kept.
    ColdKeepsDisplaced,
    /// The last record of an epoch is given up like any other.
    ColdEpochsForgotten,
    /// What a log lost and cold segments hold counts on.
    ColdNotSettled,
    /// A log that lost what it said of a stream begins it anew, below what cold segments hold of it.
    ColdContradicted,
    /// A footer leaves a segment's last data record out.
    FooterWithoutLast,
    /// A footer is taken for that of whatever segment the slot holds.
    FooterOfAnotherLife,
    /// What is not in the index is not looked up in footers.
    FootersNotSearched,
}
