//! Where a run with restored counters goes on.

use super::{Kind, Schedule};

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
        let between_epochs = epoch.started <= epoch.completed || epoch.processed > epoch.completed;
        if !self.restarting || between_epochs || self.ended_with_batch() {
            Resumption::Fresh
        } else if batch.is_last_batch && batch.current.completed == batch.current.ready && batch.current.ready > 0 {
            Resumption::EpochEnd
        } else if batch.current.processed > 0 {
            Resumption::MidEpoch
        } else {
            Resumption::Fresh
        }
    }

    /// Was the state written by an end hook of the epoch's last batch? Then the epoch counts as done.
    fn ended_with_batch(&self) -> bool {
        let batch = self.progress(Kind::Batch);
        let current = batch.current;
        batch.is_last_batch && current.processed == current.ready && current.completed < current.ready
    }

    /// Takes up a restored state: brings half-done things back to their last completed point.
    pub fn resume(&mut self) -> Resumption {
        let place = self.resumption();
        if !self.restarting {
            return place;
        }
        let batch = self.progress(Kind::Batch).current;
        if batch.processed > batch.completed {
            // written by an end hook of the batch: its window was not counted yet
            let closes = batch.ready.is_multiple_of(self.config.accumulate) || self.progress(Kind::Batch).is_last_batch;
            self.closed_windows += u64::from(closes);
        }
        if self.ended_with_batch() {
            let epoch = self.progress_mut(Kind::Epoch);
            for counts in [&mut epoch.total, &mut epoch.current] {
                counts.processed = counts.ready;
            }
        }
        for kind in [Kind::Batch, Kind::OptimizerStep, Kind::ZeroGrad, Kind::ManualStep, Kind::Scheduler, Kind::FitVal]
        {
            self.progress_mut(kind).rewind();
        }
        match place {
            Resumption::Fresh => {
                // the end hooks of a processed epoch had run when its file was written
                self.progress_mut(Kind::Epoch).rewind();
                self.progress_mut(Kind::Batch).new_round();
            }
            Resumption::MidEpoch => self.progress_mut(Kind::Batch).is_last_batch = false,
            Resumption::EpochEnd => {}
        }
        self.restarting = false;
        place
    }
}
