//! Accounts of numbered messages: what is missing, came twice, or came late.

/// Holes that are remembered, to tell a late message from a repeated one.
const HOLES: usize = 1024;

/// What was found wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Never came.
    pub(crate) lost: u64,
    /// Came again.
    pub(crate) duplicated: u64,
    /// Came behind one with a higher number.
    pub(crate) out_of_order: u64,
    /// Came with other bytes.
    pub(crate) mismatched: u64,
}

impl Faults {
    /// Nothing was wrong.
    pub(crate) fn none(&self) -> bool {
        *self == Faults::default()
    }
}

/// Numbers that should come one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    next: u64,
    came: u64,
    faults: Faults,
    /// Ranges [from, to) that did not come, oldest first.
    holes: Vec<(u64, u64)>,
}

impl Tally {
    /// Begins with number `first`.
    pub(crate) fn new(first: u64) -> Tally {
        Tally { next: first, came: 0, faults: Faults::default(), holes: Vec::with_capacity(HOLES) }
    }

    /// Number `number` came.
    #[inline]
    pub(crate) fn came(&mut self, number: u64) {
        self.came += 1;
        if number == self.next {
            self.next += 1;
        } else {
            self.unexpected(number);
        }
    }

    /// A message came that is not what it should be, so that its number means nothing: it stands where the
    /// returned one should.
    #[cold]
    pub(crate) fn mismatched(&mut self) -> u64 {
        self.faults.mismatched += 1;
        self.next
    }

    #[cold]
    fn unexpected(&mut self, number: u64) {
        if number > self.next {
            self.faults.lost += number - self.next;
            if self.holes.len() == HOLES {
                self.holes.remove(0);
            }
            self.holes.push((self.next, number));
            self.next = number + 1;
            return;
        }
        let hole = self.holes.iter().position(|(from, to)| (*from..*to).contains(&number));
        let Some(index) = hole else {
            self.faults.duplicated += 1;
            return;
        };
        self.faults.out_of_order += 1;
        self.faults.lost -= 1;
        let (from, to) = self.holes.remove(index);
        for part in [(number + 1, to), (from, number)] {
            if part.0 < part.1 && self.holes.len() < HOLES {
                self.holes.insert(index, part);
            }
        }
    }

    /// Messages that came.
    pub(crate) fn messages(&self) -> u64 {
        self.came
    }

    /// What is wrong if `end` is the number behind the last that should have come.
    pub(crate) fn faults(&self, end: u64) -> Faults {
        let missing = end.saturating_sub(self.next);
        Faults { lost: self.faults.lost + missing, ..self.faults }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(numbers: &[u64], end: u64) -> Faults {
        let mut tally = Tally::new(0);
        numbers.iter().for_each(|number| tally.came(*number));
        assert_eq!(tally.messages(), numbers.len() as u64);
        tally.faults(end)
    }

    #[test]
    fn whole_sequences_have_no_faults() {
        assert!(faults(&[0, 1, 2, 3], 4).none());
        assert!(faults(&[], 0).none());
    }

    #[test]
    fn each_fault_is_told_apart() {
        let none = Faults::default();
        assert_eq!(faults(&[0, 3], 4), Faults { lost: 2, ..none });
        assert_eq!(faults(&[0, 1], 4), Faults { lost: 2, ..none }, "a lost tail");
        assert_eq!(faults(&[0, 1, 1, 2], 3), Faults { duplicated: 1, ..none });
        assert_eq!(faults(&[0, 3, 2, 1], 4), Faults { out_of_order: 2, ..none });
        assert_eq!(
            faults(&[0, 5, 3, 3, 1], 6),
            Faults { lost: 2, duplicated: 1, out_of_order: 2, mismatched: 0 }
        );
    }
}
