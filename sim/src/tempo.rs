//! How much time passes between two steps.

use crate::random::Random;

/// A world's own way of passing time: some look at every microsecond, some at what happens over minutes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tempo {
    /// Once in this many steps there is a long pause, and a short one.
    long: u64,
    short: u64,
    /// Most nanoseconds of either, and of all other steps.
    long_ns: u64,
    short_ns: u64,
    usual_ns: u64,
}

impl Tempo {
    pub(crate) fn draw(random: &mut Random) -> Tempo {
        match random.below(3) {
            0 => Tempo {
                long: 200,
                short: 10,
                long_ns: 1_500_000_000,
                short_ns: 10_000_000,
                usual_ns: 150_000,
            },
            1 => Tempo {
                long: 200,
                short: 4,
                long_ns: 2_000_000_000,
                short_ns: 20_000_000,
                usual_ns: 2_000_000,
            },
            _ => Tempo {
                long: 200,
                short: 5,
                long_ns: 4_000_000_000,
                short_ns: 100_000_000,
                usual_ns: 4_000_000,
            },
        }
    }

    /// Nanoseconds until the next step.
    pub(crate) fn next(&self, random: &mut Random) -> u64 {
        let most = match () {
            () if random.one_in(self.long) => self.long_ns,
            () if random.one_in(self.short) => self.short_ns,
            () => self.usual_ns,
        };
        random.within(500..=most)
    }
}
