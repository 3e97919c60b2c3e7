//! The codes of `docs/protocol.md` section 5.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        /// Why something was refused; `Ok` when it was not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Code { $($(#[$doc])* $name = $value,)* }

        impl Code {
            /// The code with this number, if this version knows it.
            pub fn from_number(number: u16) -> Option<Code> {
                match number { $($value => Some(Code::$name),)* _ => None }
            }

            /// The code in words.
            pub fn text(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }
        }
    };
}

codes! {
    /// Not refused.
    Ok = 0, "ok";
    /// The shard does not know the session: set up again.
    UnknownSession = 1, "unknown session";
    /// The cookie is too old or from elsewhere.
    BadCookie = 2, "bad cookie";
    /// All session slots are taken.
    SessionsFull = 3, "sessions full";
    /// No publisher with this id.
    UnknownPublisher = 4, "unknown publisher";
    /// A newer life of the publisher exists.
    Fenced = 5, "fenced";
    /// The log does not know the incarnation.
    UnknownIncarnation = 6, "unknown incarnation";
    /// No stream with this id or name.
    UnknownStream = 7, "unknown stream";
    /// No protocol version in common.
    WrongVersion = 8, "wrong version";
    /// The block is over the limit.
    TooLarge = 9, "too large";
    /// The messages do not fit the block.
    MalformedBlock = 10, "malformed block";
    /// A feature of a later version.
    Unsupported = 11, "unsupported";
    /// Part of the batch is stored already.
    Overlap = 12, "overlap";
    /// The offset is no longer held.
    OffsetGone = 13, "offset gone";
    /// The log lost what the client saw.
    Diverged = 14, "diverged";
    /// A table of the shard is full.
    LimitReached = 15, "limit reached";
    /// The shard is ending.
    ShuttingDown = 16, "shutting down";
    /// Reserved: the stream lives elsewhere.
    Moved = 17, "moved";
    /// The log takes nothing new at present.
    LogFull = 18, "log full";
    /// The log's medium failed: nothing new is taken or acknowledged until the node was started again.
    LogPoisoned = 19, "log poisoned";
}

impl core::fmt::Display for Code {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.text())
    }
}
