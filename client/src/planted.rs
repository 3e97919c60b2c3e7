//! Bugs that the simulator plants to see that it finds them (`docs/simulation.md`). In builds without the feature
//! `planted`, and in all release builds, none can be planted and the questions cost nothing.

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

#[cfg(all(feature = "planted", debug_assertions))]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug in all clients of this thread, or none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    #[inline]
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
