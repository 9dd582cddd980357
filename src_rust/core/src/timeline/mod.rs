//! Where the time of a run goes.
//!
//! **What.** A [`Timeline`] splits the time between its start and now among named parts: data wait, forward, backward, each
//! callback, and so on. The loop marks the end of a stretch ([`Timeline::mark`]), and everything since the last mark is that
//! part's. Work inside a stretch that is to be counted apart (a value logged within the forward pass) is taken out of it
//! ([`Timeline::nested`]). The last few thousand stretches are kept, to be looked at one by one.
//!
//! **Invariants.**
//! - The parts' times add up to the whole time, to the nanosecond: a stretch has one owner.
//! - No clock is read here: the time is an argument, in nanoseconds of any monotonic clock.
//! - Memory is bounded: totals per part, a histogram, a ring of stretches.
//!
//! **Cost.** A mark is two additions and a write into the ring: a few nanoseconds, besides the caller's look at the clock.

mod histogram;
mod stretches;

pub use histogram::Histogram;
pub use stretches::{Stretch, Stretches};

/// Time and number of stretches of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Total {
    /// Nanoseconds.
    pub nanos: u64,
    /// Stretches.
    pub count: u64,
}

/// The parts of a run's time.
#[derive(Debug, Clone)]
pub struct Timeline {
    names: Vec<String>,
    totals: Vec<Total>,
    /// Waits for a batch, to know what is usual.
    waits: Histogram,
    wait_part: usize,
    stretches: Stretches,
    began: u64,
    last: u64,
    /// Time before the present start: a run may pause.
    before: u64,
    steps: u64,
    alarm: u64,
}

impl Timeline {
    /// A timeline that keeps this many stretches; `wait_part` names the part whose stretches are waits for a batch.
    pub fn new(keep: usize, wait_part: &str) -> Self {
        let mut new = Self {
            names: Vec::new(),
            totals: Vec::new(),
            waits: Histogram::default(),
            wait_part: 0,
            stretches: Stretches::new(keep),
            began: 0,
            last: 0,
            before: 0,
            steps: 0,
            alarm: u64::MAX,
        };
        new.wait_part = new.part(wait_part);
        new
    }

    /// The number of the part with this name, which is made if there is none.
    pub fn part(&mut self, name: &str) -> usize {
        if let Some(number) = self.names.iter().position(|own| own == name) {
            return number;
        }
        self.names.push(name.to_owned());
        self.totals.push(Total::default());
        self.names.len() - 1
    }

    /// The clock runs from now on; what lies between a [`Timeline::pause`] and this is nobody's.
    pub fn start(&mut self, now: u64) {
        self.began = now;
        self.last = now;
    }

    /// The clock stands still; the time since the last mark goes to `part`.
    pub fn pause(&mut self, part: usize, now: u64) {
        self.mark(part, now);
        self.before += self.last - self.began;
        self.began = self.last;
    }

    /// Everything since the last mark was `part`. An unknown part is nobody's mistake at run time: it counts nothing.
    #[inline]
    pub fn mark(&mut self, part: usize, now: u64) {
        let nanos = now.saturating_sub(self.last);
        let Some(total) = self.totals.get_mut(part) else { return };
        total.nanos += nanos;
        total.count += 1;
        if part == self.wait_part {
            self.waits.add(nanos);
        }
        self.stretches.push(Stretch { part, step: self.steps, start: self.last, nanos });
        self.last = now.max(self.last);
    }

    /// From `start` to now was `part`, within a stretch of another part that loses this time.
    #[inline]
    pub fn nested(&mut self, part: usize, start: u64, now: u64) {
        // what a mark has closed is not given away again
        let start = start.max(self.last);
        let nanos = now.saturating_sub(start);
        let Some(total) = self.totals.get_mut(part) else { return };
        total.nanos += nanos;
        total.count += 1;
        self.stretches.push_nested(Stretch { part, step: self.steps, start, nanos });
        // the enclosing stretch begins so much later
        self.last += nanos;
    }

    /// A training step is over. True if the time of the alarm has come; it is then off.
    #[inline]
    pub fn end_step(&mut self, part: usize, now: u64) -> bool {
        self.mark(part, now);
        self.steps += 1;
        let rings = now >= self.alarm;
        if rings {
            self.alarm = u64::MAX;
        }
        rings
    }

    /// The alarm rings at the first end of a step at or after this time.
    pub fn set_alarm(&mut self, time: u64) {
        self.alarm = time;
    }

    /// Names of the parts with their totals.
    pub fn totals(&self) -> impl Iterator<Item = (&str, Total)> {
        self.names.iter().map(String::as_str).zip(self.totals.iter().copied())
    }

    /// Nanoseconds between starts and last marks: the sum of all parts.
    pub fn wall(&self) -> u64 {
        self.before + (self.last - self.began)
    }

    /// Training steps.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// When the last stretch ended.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The waits for a batch.
    pub fn waits(&self) -> &Histogram {
        &self.waits
    }

    /// The newest stretches, oldest first.
    pub fn stretches(&self) -> impl Iterator<Item = Stretch> {
        self.stretches.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn time_inside_a_stretch_is_taken_out_of_it() {
        let mut line = Timeline::new(8, "data wait");
        let (forward, logging) = (line.part("forward"), line.part("logging"));
        line.start(100);
        line.mark(0, 110);
        line.nested(logging, 120, 125);
        line.mark(forward, 150);
        let totals: Vec<_> = line.totals().map(|(name, total)| (name.to_owned(), total.nanos)).collect();
        assert_eq!(totals, [("data wait".into(), 10), ("forward".into(), 35), ("logging".into(), 5)]);
        assert_eq!(line.wall(), 50);
    }

    #[test]
    fn the_alarm_rings_once() {
        let mut line = Timeline::new(8, "data wait");
        line.start(0);
        line.set_alarm(15);
        assert_eq!([10, 20, 30].map(|now| line.end_step(0, now)), [false, true, false]);
        assert_eq!(line.steps(), 3);
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_whole(
            marks in prop::collection::vec((0usize..4, 0u64..1000, 0u64..1000, 0u8..8), 1..300)
        ) {
            let mut line = Timeline::new(16, "wait");
            for name in ["a", "b", "c"] {
                line.part(name);
            }
            let mut now = 5;
            line.start(now);
            for (part, before, inside, kind) in marks {
                now += before;
                let start = now;
                now += inside;
                match kind {
                    0 => line.nested(part, start, now),
                    1 => {
                        line.pause(part, now);
                        now += 1000;
                        line.start(now);
                    }
                    // a clock that goes back, and a nested stretch that began before the last mark
                    2 => line.mark(part, start.saturating_sub(500)),
                    3 => line.nested(part, start.saturating_sub(500), now),
                    _ => line.mark(part, now),
                }
                let sum: u64 = line.totals().map(|(_, total)| total.nanos).sum();
                prop_assert_eq!(sum, line.wall());
            }
        }
    }
}
