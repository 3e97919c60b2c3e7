//! What a poll tells its caller.

use mstream_wire::{Code, Message};

/// Names a session of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub(crate) usize);

/// Names a stream that a session publishes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublicationId(pub(crate) usize);

/// Names a stream that a session reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionId(pub(crate) usize);

/// Why a session ended and is set up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lost {
    /// Nothing was heard for too long while an answer was due.
    Silence,
    /// The shard does not know the session: it restarted, or the session expired.
    Unknown,
    /// The shard closed it.
    Closed,
}

/// Why a subscription delivers nothing more until [`crate::Client::seek`] moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// The wanted offset is no longer held.
    OffsetGone {
        /// The first offset that is.
        earliest: u64,
    },
    /// The log lost what was seen before: from `common` on it holds, or will hold, other messages.
    Diverged {
        /// The offset that would have come next.
        next: u64,
        /// What lies below this offset is what was seen.
        common: u64,
    },
    /// The shard refused the subscription, or ended it: `UnknownStream` when the stream was deleted.
    Refused(Code),
}

/// Why a publication takes nothing more, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// The log holds another sequence than was acknowledged, or than was ever sent: it lost its tail,
    /// or somebody else published in this publisher's name.
    Diverged {
        /// The last sequence that was acknowledged here.
        acknowledged: u64,
        /// The last one in the log.
        stored: u64,
    },
    /// The shard refused to open the stream, or ended the publication: `UnknownStream` when the stream was
    /// deleted. What was not acknowledged by then is gone with it.
    Refused(Code),
    /// The session failed for good.
    Session(Code),
}

/// What happened. Given to the function that [`crate::Client::poll`] is called with.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A message, in offset order within its subscription, each once.
    Message {
        /// Where it was asked for.
        subscription: SubscriptionId,
        /// Its number in the stream.
        offset: u64,
        /// Who published it.
        publisher: u64,
        /// Key, headers and payload.
        message: Message<'a>,
    },
    /// All messages up to a sequence are durable.
    Acknowledged {
        /// Of which publication.
        publication: PublicationId,
        /// The last one.
        sequence: u64,
        /// Offset behind it.
        offset: u64,
        /// Number of the level at which they are (`docs/protocol.md` section 4.3).
        level: u8,
    },
    /// A batch was refused and taken out. Messages behind it moved up: their sequences are lower by
    /// `count` now.
    Refused {
        /// Of which publication.
        publication: PublicationId,
        /// Sequence of its first message.
        sequence: u64,
        /// Messages in it.
        count: u16,
        /// Why.
        code: Code,
    },
    /// A session is open.
    SessionOpened {
        /// Which one.
        session: SessionId,
        /// Id of its publisher.
        publisher: u64,
        /// Life of the publisher.
        incarnation: u64,
        /// Number of the durability level (`docs/protocol.md` section 4.3).
        level: u8,
    },
    /// A session ended and is being set up again. Nothing that was acknowledged is lost by it.
    SessionLost {
        /// Which one.
        session: SessionId,
        /// Why.
        why: Lost,
    },
    /// What was asked for is not granted for a reason that may pass: sessions full, the log full, a limit
    /// reached. It is asked for again, and this is said again.
    Delayed {
        /// The session that is to be opened, or asked for a publication or subscription.
        session: SessionId,
        /// Why.
        code: Code,
    },
    /// A session ended for good.
    SessionFailed {
        /// Which one.
        session: SessionId,
        /// Why.
        code: Code,
        /// What the shard said with it: with a wrong version the one that it speaks.
        value: u64,
    },
    /// A stream is open for publishing.
    PublicationOpened {
        /// Which one.
        publication: PublicationId,
        /// The last sequence that is stored.
        sequence: u64,
    },
    /// A publication ended for good.
    PublicationEnded {
        /// Which one.
        publication: PublicationId,
        /// Why.
        why: Ended,
    },
    /// An anonymous publisher's session ended: whether these messages were stored is not known, and
    /// they are not sent again. Sequences start at 1 again.
    OutcomeUnknown {
        /// Of which publication.
        publication: PublicationId,
        /// First sequence.
        first: u64,
        /// Last sequence.
        last: u64,
    },
    /// A subscription was answered.
    Subscribed {
        /// Which one.
        subscription: SubscriptionId,
        /// First offset that will be delivered.
        start: u64,
        /// Offset behind the last message that was visible.
        end: u64,
    },
    /// Offsets have no content, and said so.
    Skipped {
        /// In which subscription.
        subscription: SubscriptionId,
        /// First offset.
        from: u64,
        /// Offset behind the last.
        to: u64,
        /// Reason number (`docs/protocol.md` section 4.7).
        reason: u16,
    },
    /// A subscription stopped.
    SubscriptionStopped {
        /// Which one.
        subscription: SubscriptionId,
        /// Why.
        why: Stop,
    },
}

/// Why a message was not taken. It may be tried again where the text says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PublishError {
    /// The window is full of messages that are not acknowledged: poll and try again.
    #[error("back-pressured: the window is full, poll and try again")]
    BackPressured,
    /// There is no session, or the stream is not open yet: poll and try again.
    #[error("not connected: poll and try again")]
    NotConnected,
    /// The message does not fit a block.
    #[error("message takes {bytes} bytes of a block, the most is {limit}")]
    TooLarge {
        /// Bytes that it takes in a block.
        bytes: usize,
        /// The most bytes of a block.
        limit: usize,
    },
    /// A newer life of this publisher exists.
    #[error("fenced: a newer life of this publisher exists")]
    Fenced,
    /// The log holds something else than was acknowledged.
    #[error("diverged: {acknowledged} messages were acknowledged, the log holds {stored}")]
    Diverged {
        /// The last sequence that was acknowledged here.
        acknowledged: u64,
        /// The last one in the log.
        stored: u64,
    },
    /// The session or the stream was refused.
    #[error("refused: {0}")]
    Refused(Code),
}
