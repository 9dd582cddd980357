//! The newest stretches of a timeline.

/// A part's time, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Number of the part.
    pub part: usize,
    /// Training steps done before it.
    pub step: u64,
    /// When it began, in nanoseconds.
    pub start: u64,
    /// How long it was.
    pub nanos: u64,
}

/// A ring of stretches: the newest replaces the oldest.
#[derive(Debug, Clone)]
pub struct Stretches {
    ring: Vec<Stretch>,
    keep: usize,
    next: usize,
}

impl Stretches {
    /// Room for `keep` of them, taken when they come.
    pub fn new(keep: usize) -> Self {
        Self { ring: Vec::new(), keep: keep.max(1), next: 0 }
    }

    /// Keeps one.
    #[inline]
    pub fn push(&mut self, stretch: Stretch) {
        if self.ring.len() < self.keep {
            self.ring.push(stretch);
            return;
        }
        self.ring[self.next] = stretch;
        self.next += 1;
        if self.next == self.keep {
            self.next = 0;
        }
    }

    /// Keeps one that lies inside another's stretch. Several of a part in a row are one: the times between them are the
    /// enclosing part's, and the stretch has their sum.
    #[inline]
    pub fn push_nested(&mut self, stretch: Stretch) {
        let newest = if self.next == 0 { self.ring.last_mut() } else { self.ring.get_mut(self.next - 1) };
        match newest {
            Some(newest) if newest.part == stretch.part && newest.step == stretch.step => newest.nanos += stretch.nanos,
            _ => self.push(stretch),
        }
    }

    /// Those that are kept, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Stretch> {
        self.ring[self.next..].iter().chain(&self.ring[..self.next]).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_in_order() {
        let mut ring = Stretches::new(3);
        for step in 0..5 {
            ring.push(Stretch { part: 0, step, start: step, nanos: 1 });
        }
        assert_eq!(ring.iter().map(|s| s.step).collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn nested_ones_of_a_part_in_a_row_are_one() {
        let mut ring = Stretches::new(3);
        let of = |part, step| Stretch { part, step, start: 10 * step, nanos: 1 };
        for (part, step) in [(1, 0), (1, 0), (2, 0), (1, 0), (1, 1), (1, 1), (2, 1), (2, 1), (2, 1)] {
            ring.push_nested(of(part, step));
        }
        assert_eq!(
            ring.iter().map(|s| (s.part, s.step, s.nanos)).collect::<Vec<_>>(),
            [(1, 0, 1), (1, 1, 2), (2, 1, 3)]
        );
    }
}
