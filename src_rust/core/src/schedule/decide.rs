//! The decisions: what follows from the counters. No function here changes anything but [`Schedule::finished`].

use super::{Due, Kind, Schedule, ValInterval};

/// The roles of a batch in its accumulation window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Gradients are zeroed before its backward pass.
    pub opens: bool,
    /// The optimizer steps after its backward pass.
    pub closes: bool,
}

/// What is due after a batch whose end hooks have run.
#[inline]
pub(super) fn after_batch(s: &Schedule, now: Option<f64>) -> Due {
    let mut due = 0;
    if s.closes && s.log_due() {
        due |= Due::LOG;
    }
    if s.validation && validation_due(s, now) {
        due |= Due::VALIDATE;
    }
    if s.step_plateau && s.closes {
        due |= Due::PLATEAU;
    }
    if s.interrupt {
        due |= Due::INTERRUPT;
    }
    if s.epoch_done() {
        due |= Due::EPOCH_END;
    }
    Due(due)
}

pub(super) fn validation_due(s: &Schedule, now: Option<f64>) -> bool {
    if !s.epoch_validates() {
        return false;
    }
    if let ValInterval::Seconds(interval) = s.config.val_interval {
        return s.stop_now() || now.is_some_and(|now| now - s.last_validation >= interval);
    }
    if s.stop_now() {
        return true;
    }
    let batch = s.progress(Kind::Batch);
    match s.val_check_batch {
        None => batch.is_last_batch,
        Some(n) if s.config.check_val_every_n_epoch.is_none() => batch.total.ready.is_multiple_of(n),
        Some(n) => batch.current.ready.is_multiple_of(n),
    }
}

impl Schedule {
    /// Is this one of the epochs in which validation may run?
    fn epoch_validates(&self) -> bool {
        let epoch = self.progress(Kind::Epoch).current.completed;
        self.config.check_val_every_n_epoch.is_none_or(|n| (epoch + 1).is_multiple_of(n))
    }

    /// Does [`Schedule::tick`] want to know the time in this epoch?
    pub fn epoch_needs_time(&self) -> bool {
        self.needs_time() && self.epoch_validates()
    }

    /// Optimizer steps so far, as the user counts them.
    #[inline]
    pub fn global_step(&self) -> u64 {
        let kind = if self.automatic { Kind::OptimizerStep } else { Kind::ManualStep };
        self.progress(kind).total.completed
    }

    /// Epochs done; within epoch `n` it is `n`.
    #[inline]
    pub fn current_epoch(&self) -> u64 {
        self.progress(Kind::Epoch).current.completed
    }

    /// Index of the batch in hand within its epoch.
    #[inline]
    pub fn batch_idx(&self) -> u64 {
        self.progress(Kind::Batch).current.ready.saturating_sub(1)
    }

    /// Closed accumulation windows so far: the loggers' x axis.
    #[inline]
    pub fn closed_windows(&self) -> u64 {
        self.closed_windows
    }

    /// Will the step in hand send a row to the loggers when its window closes?
    #[inline]
    pub fn log_due(&self) -> bool {
        let n = self.config.log_every_n_steps;
        self.config.log_always || n != 0 && ((self.closed_windows + 1).is_multiple_of(n) || self.should_stop)
    }

    /// Is the batch in hand inside an accumulation window, so that no optimizer steps after it?
    #[inline]
    pub fn accumulating(&self) -> bool {
        !self.closes
    }

    /// Has somebody asked to stop?
    #[inline]
    pub fn should_stop(&self) -> bool {
        self.should_stop
    }

    /// Was an interrupt asked for?
    pub fn interrupt(&self) -> bool {
        self.interrupt
    }

    /// Are the minimums met, so that a stop flag counts?
    #[inline]
    pub fn can_stop_early(&self) -> bool {
        let processed = self.progress(Kind::Epoch).current.processed;
        self.config.min_epochs.is_none_or(|n| processed >= n)
            && self.config.min_steps.is_none_or(|n| self.global_step() >= n)
    }

    #[inline]
    pub(super) fn stop_now(&self) -> bool {
        self.should_stop && self.can_stop_early()
    }

    #[inline]
    fn max_steps_reached(&self) -> bool {
        self.config.max_steps.is_some_and(|n| self.global_step() >= n)
    }

    /// Has the epoch's last batch been fetched?
    #[inline]
    pub fn batches_exhausted(&self) -> bool {
        let batch = self.progress(Kind::Batch);
        batch.is_last_batch || self.train_batches.is_some_and(|n| batch.current.ready >= n)
    }

    /// Will a validation run right after the batch in hand, before another one changes the weights?
    pub fn validation_follows(&self, now: Option<f64>) -> bool {
        self.validation && validation_due(self, now)
    }

    /// Does the epoch end here?
    #[inline]
    pub fn epoch_done(&self) -> bool {
        self.batches_exhausted() || self.max_steps_reached() || self.stop_now()
    }

    /// Is the run over? Called between epochs.
    pub fn finished(&mut self) -> bool {
        if self.train_batches == Some(0) {
            return true;
        }
        let epoch = self.progress(Kind::Epoch).current;
        let goes_on = self.restarting && self.exact && self.stopped_short();
        if !goes_on && self.config.max_epochs.is_some_and(|n| epoch.processed >= n) {
            // resumed from the end of the last epoch: its end hooks had run
            self.progress_mut(Kind::Epoch).current.completed = epoch.processed;
            return true;
        }
        self.max_steps_reached() || self.stop_now()
    }

    /// Is a scheduler due that steps every `frequency` epochs?
    pub fn epoch_scheduler_due(&self, frequency: u64) -> bool {
        frequency != 0 && (self.current_epoch() + 1).is_multiple_of(frequency)
    }

    /// Is a scheduler due that steps every `frequency` batches of the epoch?
    #[inline]
    pub fn step_scheduler_due(&self, frequency: u64) -> bool {
        frequency == 1 || frequency != 0 && (self.batch_idx() + 1).is_multiple_of(frequency)
    }

    /// Training batches in an epoch; `None`: without end.
    pub fn train_batches(&self) -> Option<u64> {
        self.train_batches
    }

    /// After how many batches validation runs; `None`: after an epoch's last one, or by the clock.
    pub fn val_check_batch(&self) -> Option<u64> {
        self.val_check_batch
    }

    /// Optimizer steps that the whole run will make; `None`: no end in sight.
    pub fn estimated_steps(&self, train_batches: Option<u64>) -> Option<u64> {
        let by_epochs = match (train_batches, self.config.max_epochs) {
            (Some(batches), Some(epochs)) => Some(batches.div_ceil(self.config.accumulate) * epochs.max(1)),
            _ => None,
        };
        match (by_epochs, self.config.max_steps) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}
