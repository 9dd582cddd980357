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
}
