//! Which cold segments are merged next.

use std::ops::Range;

/// As many files at least make a merge.
const FEWEST: usize = 4;
/// Files below this are taken for as large.
const SMALL: u64 = 64 * 1024;

/// What the choice knows of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) bytes: u64,
    /// Of them given up.
    pub(crate) dead: u64,
    /// A chunk of it cannot be read.
    pub(crate) damaged: bool,
}

/// The files to merge next: neighbours, by their number in order of hot segments.
pub(crate) fn choose(files: &[Candidate]) -> Option<Range<usize>> {
    let size = |number: usize| files[number].bytes.max(SMALL);
    for newest in (0..files.len()).rev().filter(|newest| !files[*newest].damaged) {
        let (mut oldest, mut sum) = (newest, size(newest));
        while let Some(next) = oldest.checked_sub(1)
            && !files[next].damaged
            && size(next) <= sum
        {
            sum += size(next);
            oldest = next;
        }
        if newest + 1 - oldest >= FEWEST {
            return Some(oldest..newest + 1);
        }
    }
    let wasted = |file: &Candidate| !file.damaged && file.dead > file.bytes / 2;
    let alone = files.iter().position(wasted)?;
    Some(alone..alone + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(sizes: &[u64]) -> Vec<Candidate> {
        let file = |size: &u64| Candidate { bytes: size << 20, dead: 0, damaged: false };
        sizes.iter().map(file).collect()
    }

    #[test]
    fn neighbours_of_like_size_are_merged() {
        assert_eq!(choose(&files(&[])), None);
        assert_eq!(choose(&files(&[1, 1, 1])), None);
        assert_eq!(choose(&files(&[1, 1, 1, 1])), Some(0..4));
        assert_eq!(choose(&files(&[64, 1, 1, 1, 1])), Some(1..5));
        assert_eq!(choose(&files(&[4, 4, 4, 1, 1, 1, 1])), Some(0..7));
        assert_eq!(choose(&files(&[4, 4, 4, 4, 1])), Some(0..4), "the newest is too small to join");
        assert_eq!(choose(&files(&[4, 1, 1, 1])), None);
    }

    #[test]
    fn what_is_mostly_given_up_is_written_again() {
        let mut files = files(&[64, 8, 1]);
        files[1].dead = 5 << 20;
        assert_eq!(choose(&files), Some(1..2));
        files[1].damaged = true;
        assert_eq!(choose(&files), None);
    }

    #[test]
    fn nothing_is_merged_over_a_damaged_file() {
        let mut files = files(&[1, 1, 1, 1, 1, 1, 1]);
        files[3].damaged = true;
        assert_eq!(choose(&files), None);
        files[3].damaged = false;
        assert_eq!(choose(&files), Some(0..7));
    }

    #[test]
    fn files_stay_few_and_are_written_seldom() {
        let (mut sizes, mut written) = (Vec::new(), 0);
        for _ in 0..4_096 {
            sizes.push(1);
            while let Some(range) = choose(&files(&sizes)) {
                let sum: u64 = sizes[range.clone()].iter().sum();
                written += sum;
                sizes.splice(range, [sum]);
            }
            assert!(sizes.len() <= 24, "{sizes:?}");
        }
        assert!(written <= 8 * 4_096, "each byte is written {} times", written / 4_096);
    }
}
