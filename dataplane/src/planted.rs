//! Bugs that the simulator plants to see that it finds them (`docs/simulation.md`). In builds without the feature
//! `planted`, and in all release builds, none can be planted and the questions cost nothing.

mstream_planted::bugs! {
    /// Records count as persisted once they were appended.
    AckOfAppended,
    /// The record at the watermark counts as below it.
    WatermarkOneFurther,
    /// A datagram's token is not compared with its session's.
    StaleTokenAccepted,
    /// A session's datagrams are taken from anywhere.
    SourceNotCompared,
    /// A publication that is opened begins at sequence 0, whatever the log holds.
    SequenceNotRestored,
    /// A batch that is stored already is stored again.
    RepeatStored,
    /// A batch is stored though one before it is missing.
    GapStored,
    /// A session that is opened after a restart has no credit.
    CreditNotRestored,
    /// A credit that was lost is not said again.
    CreditNotRepeated,
    /// The buffer of a refused frame does not come back.
    BufferLeaked,
    /// A frame that was delivered still counts as held.
    HeldFramesMiscounted,
    /// Frames of unknown sessions are refused and not counted.
    RefusalUncounted,
    /// A block's crc is not compared.
    BlockCrcUnchecked,
    /// Readers that lag are sent what is not visible yet.
    DeliveredBeforeVisible,
    /// A reader behind what is held is moved on and not told.
    OffsetGoneUntold,
    /// A publisher's older session stays open beside the newer one.
    OldLifeGoesOn,
    /// A publisher may resume a life that is not its newest.
    FencedLifeResumed,
    /// A publication's answer counts what is not durable yet.
    OpenedBeforeDurable,
    /// Sessions that are not heard any more do not end.
    SessionsStay,
    /// The shard is not told what cold segments hold.
    ColdRangesUntold,
    /// A sealed segment is given back without having been copied.
    GivenBackUncopied,
    /// A stream keeps 1 KiB less than its rules say.
    RetentionTooTight,
    /// Messages go at half the age that their stream's rules say.
    AgeTooShort,
    /// Who asks for a time is sent what was stored after it, not at it.
    TimeExclusive,
    /// Who asks for the earliest offset is sent what is stored from then on.
    EarliestIsLatest,
    /// Why a subscription stopped is said once.
    StopNotRepeated,
    /// Subscriptions are not told what they were sent.
    BeatsForgotten,
    /// A position in a log that lost its tail is taken as it is.
    DivergedUntold,
    /// The last common offset is said one too high.
    CommonTooHigh,
    /// Publishers of a deleted stream are not told.
    DeletedStreamUntold,
    /// The highest level is said, whatever the region promises.
    LevelOverstated,
    /// Tables have room for one more than their limit.
    TablesTooLarge,
    /// One record more than may waits to become durable.
    PendingTooLong,
    /// The last frame of a burst of more than a few is dropped.
    FrameDropped,
    /// A subscription goes on where it was when it is asked to move.
    AnswerOfOldRequest,
    /// A subscription that ran out of credit does not go on with more.
    ParkedForEver,
}
