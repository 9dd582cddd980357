//! Four-stage counters: how often a thing was about to happen, began, was done, and was wrapped up.

use serde::{Deserialize, Serialize};

/// How far something got, in order: `ready ≥ started ≥ processed ≥ completed` while a run goes forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// About to begin (a batch was fetched, an epoch announced).
    pub ready: u64,
    /// Its start hooks have run.
    pub started: u64,
    /// Its work is done.
    pub processed: u64,
    /// Its end hooks have run.
    pub completed: u64,
}

/// One [`Counts`] over the whole run, one over the enclosing round (the epoch for batches, the run for epochs).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Over the whole run.
    pub total: Counts,
    /// Over the enclosing round.
    pub current: Counts,
    /// Is the batch in hand the last of its round? Only meaningful for batches.
    pub is_last_batch: bool,
}

impl Progress {
    /// One more is about to begin.
    #[inline]
    pub fn ready(&mut self) {
        self.total.ready += 1;
        self.current.ready += 1;
    }

    /// Its start hooks have run.
    #[inline]
    pub fn started(&mut self) {
        self.total.started += 1;
        self.current.started += 1;
    }

    /// Its work is done.
    #[inline]
    pub fn processed(&mut self) {
        self.total.processed += 1;
        self.current.processed += 1;
    }

    /// Its end hooks have run.
    #[inline]
    pub fn completed(&mut self) {
        self.total.completed += 1;
        self.current.completed += 1;
    }

    /// Something without stages of its own happened.
    #[inline]
    pub fn once(&mut self) {
        self.ready();
        self.started();
        self.processed();
        self.completed();
    }

    /// A new round begins.
    pub fn new_round(&mut self) {
        self.current = Counts::default();
        self.is_last_batch = false;
    }

    /// Takes back what was begun and not done: after a restart it will be begun again, so totals would count it twice.
    ///
    /// What was processed counts as completed: a file written by an end hook holds the finished work.
    pub fn rewind(&mut self) {
        for counts in [&mut self.total, &mut self.current] {
            let done = counts.processed.max(counts.completed);
            *counts = Counts { ready: done, started: done, processed: done, completed: done };
        }
    }
}
