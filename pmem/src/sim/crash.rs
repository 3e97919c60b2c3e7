//! What a crash may leave of stores that are not durable: any of them enumerated, some picked at random, and the
//! fewest with which something still fails.

use std::fmt;

use super::{LINE, SimRegion, Way};
use crate::region::{Level, Region};

/// Lines of a sector, the unit in which a block device writes.
const SECTOR_LINES: u64 = 8;
/// Lines of a page, the unit in which a kernel writes back.
const PAGE_LINES: u64 = 64;

/// In which order pending pieces survive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// In none: any subset of the aligned 8-byte words stored since they were last durable.
    #[default]
    Any,
    /// As the hardware does at its weakest that is described: cached stores to one line (pmem), or all stores to
    /// one 512-byte sector (files), as they stood at a moment, which may lie within a store. Streamed
    /// lines on pmem in none.
    Program,
}

/// What survives of a region's pending pieces, oldest first: a bit for each aligned 8-byte word of the line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Survivors(pub(super) Vec<u8>);

/// What a crash leaves of one unit: this many of its pieces, and these words of the next.
#[derive(Clone, Copy, Debug, Default)]
struct Moment {
    whole: usize,
    torn: u8,
}

impl SimRegion {
    /// How many pieces of at most a line are not durable.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Pieces by what survives as one: indices, in program order.
    fn units(&self) -> Vec<Vec<usize>> {
        let mut units: Vec<(u64, Vec<usize>)> = Vec::new();
        for (index, piece) in self.pending.iter().enumerate() {
            let unit = match (self.order, self.level()) {
                (Order::Any, _) => None,
                (Order::Program, Level::Pmem | Level::PmemEmulated) => {
                    (piece.way != Way::Streamed).then_some(piece.line)
                }
                (Order::Program, _) => Some(piece.line / SECTOR_LINES),
            };
            match unit.and_then(|unit| units.iter_mut().find(|known| known.0 == unit)) {
                Some((_, pieces)) => pieces.push(index),
                None => units.push((unit.unwrap_or(u64::MAX), vec![index])),
            }
        }
        units.into_iter().map(|(_, pieces)| pieces).collect()
    }

    fn survivors(&self, units: &[Vec<usize>], moments: &[Moment]) -> Survivors {
        let mut masks = vec![0; self.pending.len()];
        for (unit, moment) in units.iter().zip(moments) {
            for piece in &unit[..moment.whole] {
                masks[*piece] = self.pending[*piece].covers;
            }
            if let Some(torn) = unit.get(moment.whole) {
                masks[*torn] = self.pending[*torn].covers & moment.torn;
            }
        }
        Survivors(masks)
    }

    /// Calls `visit` with what every crash could leave, and returns how many there are, if not more than `limit`: all
    /// subsets of the pending words; where those are too many, every combination of what survives whole, alone
    /// and with any one piece torn in every way. Visits nothing where those are too many, too.
    pub fn each_survivors(&self, limit: u64, mut visit: impl FnMut(&Survivors)) -> Option<u64> {
        let words: u32 = self.pending.iter().map(|piece| piece.covers.count_ones()).sum();
        if self.order == Order::Any && words < u64::BITS && 1 << words <= limit {
            return Some(self.each_word(words, visit));
        }
        let units = self.units();
        let combinations = units
            .iter()
            .try_fold(1u64, |product, unit| product.checked_mul(unit.len() as u64 + 1))?;
        let torn = |unit: &Vec<usize>| -> u64 {
            let ways = |piece: &usize| (1 << self.pending[*piece].covers.count_ones()) - 2;
            combinations / (unit.len() as u64 + 1) * unit.iter().map(ways).sum::<u64>()
        };
        if combinations > limit || combinations + units.iter().map(torn).sum::<u64>() > limit {
            return None;
        }
        let mut moments = vec![Moment::default(); units.len()];
        let mut visited = 0;
        for number in 0..combinations {
            let mut rest = number;
            for (moment, unit) in moments.iter_mut().zip(&units) {
                let moments = unit.len() as u64 + 1;
                *moment = Moment { whole: (rest % moments) as usize, torn: 0 };
                rest /= moments;
            }
            visit(&self.survivors(&units, &moments));
            visited += 1;
            for (index, unit) in units.iter().enumerate() {
                let Some(torn) = unit.get(moments[index].whole) else { continue };
                let covers = self.pending[*torn].covers;
                // All proper parts of the piece.
                let mut mask = covers & covers.wrapping_sub(1);
                while mask != 0 {
                    moments[index].torn = mask;
                    visit(&self.survivors(&units, &moments));
                    visited += 1;
                    mask = (mask - 1) & covers;
                }
                moments[index].torn = 0;
            }
        }
        Some(visited)
    }

    fn each_word(&self, words: u32, mut visit: impl FnMut(&Survivors)) -> u64 {
        for number in 0..1u64 << words {
            let mut rest = number;
            let mut masks = vec![0u8; self.pending.len()];
            for (mask, piece) in masks.iter_mut().zip(&self.pending) {
                for word in (0..8).filter(|word| piece.covers >> word & 1 == 1) {
                    *mask |= ((rest & 1) as u8) << word;
                    rest >>= 1;
                }
            }
            visit(&Survivors(masks));
        }
        1 << words
    }

    /// What a crash picked by `random` (64 random bits a call) leaves. Whole lines, sectors or pages are lost
    /// together as often as words; few and many are lost as often as half.
    pub fn random_survivors(&self, mut random: impl FnMut() -> u64) -> Survivors {
        let style = random();
        let together = [0, 1, SECTOR_LINES, PAGE_LINES][(style & 3) as usize];
        // Of 16: how likely something is kept, and how likely it is torn instead.
        let keeps = [2, 8, 14, 15][(style >> 2 & 3) as usize];
        let tears = [0, 1, 4, 12][(style >> 4 & 3) as usize];
        let salt = random();
        let kept = |index: usize| {
            let group = self.pending[index].line.checked_div(together).unwrap_or(index as u64);
            let mixed = (group ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 60 < keeps
        };
        let units = self.units();
        let moments: Vec<Moment> = units
            .iter()
            .map(|unit| {
                let bits = random();
                let torn = if bits & 15 < tears { (bits >> 8 & bits >> 16) as u8 } else { 0 };
                // A moment, not what came later: the first piece that is lost ends it.
                let mut whole = unit.iter().take_while(|piece| kept(**piece)).count();
                if unit.len() > 1 && bits >> 4 & 3 == 0 {
                    whole = whole.min((bits >> 32) as usize % (unit.len() + 1));
                }
                if torn != 0 && bits >> 6 & 1 == 0 {
                    whole = whole.saturating_sub(1);
                }
                Moment { whole, torn }
            })
            .collect();
        self.survivors(&units, &moments)
    }

    /// True if the region's order allows that exactly these survive.
    fn allows(&self, survivors: &Survivors) -> bool {
        self.units().iter().all(|unit| {
            let mut lost = false;
            unit.iter().all(|piece| {
                let (mask, covers) = (survivors.0[*piece], self.pending[*piece].covers);
                let fits = !lost || mask == 0;
                lost |= mask != covers;
                fits
            })
        })
    }

    /// The fewest survivors found with which `fails` is still true, beginning with some for which it is: first
    /// pieces are left out, many at a time, then words.
    pub fn shrink(
        &self,
        survivors: &Survivors,
        mut fails: impl FnMut(&Survivors) -> bool,
    ) -> Survivors {
        let mut least = survivors.clone();
        let mut chunk = least.0.len().max(1);
        while chunk > 0 {
            // From the end: what came later depends on what came before.
            for start in (0..least.0.len()).step_by(chunk).rev() {
                let end = (start + chunk).min(least.0.len());
                let mut less = least.clone();
                less.0[start..end].fill(0);
                if less != least && self.allows(&less) && fails(&less) {
                    least = less;
                }
            }
            chunk /= 2;
        }
        for piece in (0..least.0.len()).rev() {
            for word in 0..8 {
                let mut less = least.clone();
                less.0[piece] &= !(1 << word);
                if less != least && self.allows(&less) && fails(&less) {
                    least = less;
                }
            }
        }
        least
    }

    /// Says in words what survives and what does not.
    pub fn describe(&self, survivors: &Survivors) -> String {
        Description { region: self, survivors }.to_string()
    }
}

struct Description<'a> {
    region: &'a SimRegion,
    survivors: &'a Survivors,
}

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.survivors.0.iter().filter(|mask| **mask != 0).count();
        write!(f, "{kept} of {} pending pieces survive", self.survivors.0.len())?;
        for (piece, mask) in self.region.pending.iter().zip(&self.survivors.0) {
            if *mask == 0 {
                continue;
            }
            let at = piece.line * LINE;
            let (slot, byte) = (at / self.region.slot_bytes(), at % self.region.slot_bytes());
            let way = format!("{:?}", piece.way).to_lowercase();
            write!(f, "; {way} slot {slot} byte {byte}")?;
            if *mask != piece.covers {
                write!(f, " words {mask:08b}")?;
            }
        }
        Ok(())
    }
}
