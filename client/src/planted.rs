//! Bugs that the simulator plants to see that it finds them (`docs/simulation.md`). In builds without the feature
//! `planted`, and in all release builds, none can be planted and the questions cost nothing.

mstream_planted::bugs! {
    /// One message too many is taken off the beginning of a batch that was read in part.
    TrimOffByOne,
    /// A batch behind a missing one is handed on.
    GapSkipped,
    /// A batch that was handed on already is handed on again.
    RepeatHandedOn,
    /// What was sent is not sent again.
    NothingResent,
    /// What the shard has received counts as durable.
    ReceivedIsAcknowledged,
    /// A window that was emptied takes nothing more.
    EmptyWindowIsFull,
    /// An anonymous publisher sends again in a new session what it sent in the old one.
    OutcomeHidden,
    /// A new session goes on counting the old one's bytes.
    LostCreditKept,
    /// A shard that says nothing any more is waited for.
    SilenceUnnoticed,
    /// A datagram's token is not compared with its session's.
    TokenUnchecked,
    /// A delivered block's crc is not compared.
    BlockCrcUnchecked,
}
