//! Which faults a world has, and how many it had.

use mstream_nic::sim::{Counts, Faults};

use crate::random::Random;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// All kinds, in order of their numbers.
            pub const ALL: &[Kind] = &[$(Kind::$name,)*];

            /// The kind's name on the command line and in reports.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// Frames are lost.
    Loss = "loss",
    /// Frames arrive twice.
    Duplicate = "duplicate",
    /// Frames are held back and overtaken.
    Reorder = "reorder",
    /// Frames take their time.
    Delay = "delay",
    /// Bits flip on the way.
    Corrupt = "corrupt",
    /// Bits flip on the way, and IP and UDP checksums are made to fit again.
    CorruptAbove = "corrupt-above",
    /// Somebody else sends datagrams for others: with another token, or from another address.
    Forgery = "forgery",
    /// A path in one direction is cut for a while.
    Cut = "cut",
    /// A path in one direction takes long for a while.
    Clog = "clog",
    /// Barriers complete some polls later.
    LateBarrier = "late-barrier",
    /// No barrier completes for a while, until as much waits for one as may.
    HungBarriers = "hung-barriers",
    /// No sealed segment is read for a while, so that none is free to be used again, until the log takes nothing more.
    FullLog = "full-log",
    /// No segment is made for a while.
    NoSegments = "no-segments",
    /// The shard's port has next to no buffers for a while.
    NoBuffers = "no-buffers",
    /// The process is killed and started again.
    Kill = "kill",
    /// Power is lost between two polls, and the process started again.
    PowerCut = "power-cut",
    /// Power is lost in the midst of a poll, before any of the log's stores, flushes, barriers and syncs.
    TornPoll = "torn-poll",
    /// The process is killed in the midst of a poll, likewise.
    TornKill = "torn-kill",
    /// The process is killed, or power is lost, in the midst of a start, likewise.
    TornStart = "torn-start",
    /// The machine of a log of level `process` is booted: anything that was not synced may be gone.
    Reboot = "reboot",
    /// The shard is not polled for a while.
    ShardStall = "shard-stall",
    /// A publisher is not polled for a while.
    ClientStall = "client-stall",
    /// The shard or a client dies while the client is set up.
    SetUpKill = "set-up-kill",
    /// The shard's wall clock is set to another time.
    ClockJump = "clock-jump",
    /// The clocks of shard and clients do not run equally fast.
    Drift = "drift",
    /// Streams are created and deleted.
    Streams = "streams",
    /// A client dies and comes back.
    ClientRestart = "client-restart",
    /// A publisher's new life begins while the old one still runs.
    Zombie = "zombie",
    /// A subscriber stops reading for a while, or reads slowly.
    SlowReader = "slow-reader",
    /// A subscriber moves to another place.
    Seek = "seek",
}

impl Kind {
    /// True when it happens now and then, and not to frames, barriers or clocks all the time.
    pub(crate) fn is_event(self) -> bool {
        !matches!(
            self,
            Kind::Loss
                | Kind::Duplicate
                | Kind::Reorder
                | Kind::Delay
                | Kind::Corrupt
                | Kind::CorruptAbove
                | Kind::Forgery
                | Kind::LateBarrier
                | Kind::Drift
        )
    }
}

/// The kinds of faults that a world may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix(u32);

impl Mix {
    /// No faults.
    pub const NONE: Mix = Mix(0);
    /// All kinds.
    pub const ALL: Mix = Mix((1 << Kind::ALL.len()) - 1);

    /// One kind alone.
    pub fn only(kind: Kind) -> Mix {
        Mix(1 << kind as u8)
    }

    /// True when the kind may happen.
    pub fn has(self, kind: Kind) -> bool {
        self.0 >> kind as u8 & 1 == 1
    }

    /// All of these kinds, or for three seeds in four a random part of them, so that each is also seen
    /// without the others.
    pub(crate) fn pick(self, random: &mut Random) -> Mix {
        let (whole, part) = (random.one_in(4), random.next() as u32);
        if whole || self.0.count_ones() == 1 { self } else { Mix(self.0 & part) }
    }

    /// All but one of these kinds.
    pub(crate) fn without(self, kind: Kind) -> Mix {
        Mix(self.0 & !(1 << kind as u8))
    }

    /// How paths misbehave under this mix.
    pub(crate) fn network(self, random: &mut Random) -> Faults {
        // Drawn whether it is used or not: another mix changes nothing else.
        let mut rate = |kind, most| {
            let drawn = random.within(1_000..=most) as u32;
            if self.has(kind) { drawn } else { 0 }
        };
        let loss_ppm = rate(Kind::Loss, 300_000);
        let duplicate_ppm = rate(Kind::Duplicate, 200_000);
        let reorder_ppm = rate(Kind::Reorder, 200_000);
        let (below, above) = (rate(Kind::Corrupt, 100_000), rate(Kind::CorruptAbove, 100_000));
        let forge_ppm = rate(Kind::Forgery, 100_000);
        let corrupt_ppm = below + above;
        let mend_ppm = (u64::from(above) * 1_000_000).checked_div(corrupt_ppm.into()).unwrap_or(0);
        let mend_ppm = mend_ppm as u32;
        let delay_ns = match random.below(3) {
            _ if !self.has(Kind::Delay) => 0..=0,
            0 => 1_000..=20_000,
            1 => 0..=1_000_000,
            _ => 100_000..=30_000_000,
        };
        let reorder_ns = match random.below(4) {
            _ if !self.has(Kind::Reorder) => 0,
            0 => 3_000_000_000,
            1 => 50_000_000,
            _ => 500_000,
        };
        Faults {
            loss_ppm,
            duplicate_ppm,
            reorder_ppm,
            corrupt_ppm,
            mend_ppm,
            forge_ppm,
            delay_ns,
            reorder_ns,
        }
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut space = "";
        for kind in Kind::ALL.iter().filter(|kind| self.has(**kind)) {
            write!(f, "{space}{}", kind.name())?;
            space = ",";
        }
        if space.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

impl std::str::FromStr for Mix {
    type Err = String;

    /// Kinds by name, with commas between them; `none` and `all` are names too.
    fn from_str(names: &str) -> Result<Mix, String> {
        let mut mix = Mix::NONE;
        for name in names.split(',') {
            mix.0 |= match name {
                "none" => 0,
                "all" => Mix::ALL.0,
                name => {
                    let kind = Kind::ALL.iter().find(|kind| kind.name() == name);
                    Mix::only(*kind.ok_or_else(|| format!("no kind of fault: {name}"))?).0
                }
            };
        }
        Ok(mix)
    }
}

/// How many faults of each kind happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected([u64; Kind::ALL.len()]);

impl Injected {
    /// Faults of one kind.
    pub fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// Kinds that did not happen.
    pub fn missing(&self) -> impl Iterator<Item = Kind> {
        Kind::ALL.iter().copied().filter(|kind| self.of(*kind) == 0)
    }

    /// Adds another world's faults.
    pub fn add(&mut self, other: &Injected) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    pub(crate) fn note(&mut self, kind: Kind, times: u64) {
        self.0[kind as usize] += times;
    }

    /// Takes over what a network counted; `delays` tells whether its frames took time.
    pub(crate) fn note_network(&mut self, counts: &Counts, delays: bool) {
        self.note(Kind::Loss, counts.lost);
        self.note(Kind::Duplicate, counts.duplicated);
        self.note(Kind::Reorder, counts.reordered);
        self.note(Kind::Corrupt, counts.corrupted - counts.mended);
        self.note(Kind::CorruptAbove, counts.mended);
        self.note(Kind::Forgery, counts.forged);
        self.note(Kind::Cut, counts.cut);
        self.note(Kind::Delay, if delays { counts.delivered } else { 0 });
    }
}

impl std::fmt::Display for Injected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, kind) in Kind::ALL.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{}={}", kind.name(), self.of(*kind))?;
        }
        Ok(())
    }
}
