//! Where a run with restored counters goes on.

use super::{Kind, Schedule, decide};

/// The place at which a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumption {
    /// With an epoch's first batch: nothing was restored, or the state is from before or after an epoch.
    Fresh,
    /// In the middle of an epoch: its start hooks have run, some of its batches are done.
    MidEpoch,
    /// After an epoch's last batch, before its end hooks.
    EpochEnd,
}

impl Schedule {
    /// Is a restored state waiting to be taken up?
    pub fn restarting(&self) -> bool {
        self.restarting
    }

    /// Marks the counters as restored, or as taken up.
    pub fn set_restarting(&mut self, restarting: bool) {
        self.restarting = restarting;
    }

    /// Where [`Schedule::resume`] would go on.
    pub fn resumption(&self) -> Resumption {
        let epoch = self.progress(Kind::Epoch).current;
        let batch = self.progress(Kind::Batch);
        let ended = epoch.processed > epoch.completed
            && !(self.stopped_short() && (self.exact || self.config.max_steps.is_some()));
        if !self.restarting || epoch.started <= epoch.completed || ended || self.ended_with_batch() {
            Resumption::Fresh
        } else if batch.is_last_batch
            && batch.current.ready > 0
            && (batch.current.completed == batch.current.ready
                || self.exact && batch.current.processed == batch.current.ready)
        {
            Resumption::EpochEnd
        } else if batch.current.processed > 0 || self.exact {
            // an exact state knows the pass that had begun, even if no batch of it is done
            Resumption::MidEpoch
        } else {
            Resumption::Fresh
        }
    }

    /// Was the state written by an end hook of the epoch's last batch? Then the epoch counts as done.
    fn ended_with_batch(&self) -> bool {
        let batch = self.progress(Kind::Batch);
        let current = batch.current;
        !self.exact && batch.is_last_batch && current.processed == current.ready && current.completed < current.ready
    }

    /// Was the state written by the end hooks of an epoch that has batches left? With an exact state, and in a run that is
    /// counted in steps, those follow; otherwise the epoch counts as done.
    pub(super) fn stopped_short(&self) -> bool {
        let epoch = self.progress(Kind::Epoch).current;
        let batch = self.progress(Kind::Batch);
        let current = batch.current;
        epoch.processed > epoch.completed
            && !batch.is_last_batch
            && current.ready > 0
            && current.completed == current.ready
    }

    /// Does a restored state stand within an epoch, so that no sanity check comes before it?
    pub fn resumes_within_epoch(&self) -> bool {
        self.resumption() != Resumption::Fresh || self.restarting && self.ended_with_batch()
    }

    /// Does the restored batch still wait for its validation? Ask before [`Schedule::resume`].
    ///
    /// Either the state was written before it (by an end hook of the batch), or within it: then it is run anew from its
    /// first batch, since nobody knows what the first batches gave.
    pub fn validation_owed(&self) -> bool {
        if self.resumption() == Resumption::Fresh || !self.validation || !decide::validation_due(self, None) {
            return false;
        }
        let batch = self.progress(Kind::Batch).current;
        if batch.completed < batch.ready {
            return batch.processed == batch.ready;
        }
        self.progress(Kind::Epoch).current.processed == self.progress(Kind::Epoch).current.completed
            && !self.validation_finished()
    }

    fn validation_finished(&self) -> bool {
        let validation = self.progress(Kind::FitVal);
        let current = validation.current;
        current.ready > 0 && current.completed == current.ready && validation.is_last_batch
    }

    /// Takes up a restored state: brings half-done things back to their last completed point.
    pub fn resume(&mut self) -> Resumption {
        let place = self.resumption();
        if !self.restarting {
            return place;
        }
        let batch = self.progress(Kind::Batch).current;
        // the role of the last batch that is done, for a validation that follows it
        self.closes =
            batch.processed.is_multiple_of(self.config.accumulate) || self.progress(Kind::Batch).is_last_batch;
        if batch.processed > batch.completed {
            // written by an end hook of the batch: its window was not counted yet
            self.closed_windows += u64::from(self.closes);
        } else if place != Resumption::Fresh && batch.ready == batch.completed {
            // written while something due was served (a validation): the window is counted after that
            let kind = if self.automatic { Kind::OptimizerStep } else { Kind::Batch };
            if self.closed_windows + 1 == self.progress(kind).total.completed {
                self.closed_windows += 1;
            }
        }
        if self.validation_owed() {
            // what an interrupted validation did counts for nothing, but the batch that failed has begun once more
            let validation = self.progress_mut(Kind::FitVal);
            if validation.current.completed < validation.current.ready || !validation.is_last_batch {
                let done = validation.current.completed;
                let total = &mut validation.total;
                for count in [&mut total.ready, &mut total.started, &mut total.processed, &mut total.completed] {
                    *count = count.saturating_sub(done);
                }
                validation.new_round();
            }
        } else {
            self.progress_mut(Kind::FitVal).rewind();
        }
        if self.ended_with_batch() {
            let epoch = self.progress_mut(Kind::Epoch);
            for counts in [&mut epoch.total, &mut epoch.current] {
                counts.processed = counts.ready;
            }
        }
        for kind in [Kind::Batch, Kind::OptimizerStep, Kind::ZeroGrad, Kind::ManualStep, Kind::Scheduler] {
            self.progress_mut(kind).rewind();
        }
        match place {
            Resumption::Fresh => {
                // the end hooks of a processed epoch had run when its file was written
                self.progress_mut(Kind::Epoch).rewind();
                self.progress_mut(Kind::Batch).new_round();
            }
            Resumption::MidEpoch => {
                self.progress_mut(Kind::Batch).is_last_batch = false;
                let epoch = self.progress_mut(Kind::Epoch);
                for counts in [&mut epoch.total, &mut epoch.current] {
                    counts.processed = counts.completed;
                }
            }
            Resumption::EpochEnd => {}
        }
        self.restarting = false;
        place
    }
}
