//! The state machine itself: events in.

use serde::{Deserialize, Serialize};

use super::{Config, Progress, ValInterval, decide};
use crate::{Error, Result};

/// What [`Schedule::tick`] and [`Schedule::due`] say is to be done now, as a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Due(pub u32);

impl Due {
    /// Send a row of step values to the loggers.
    pub const LOG: u32 = 1;
    /// Run validation.
    pub const VALIDATE: u32 = 2;
    /// Step the plateau schedulers that count steps.
    pub const PLATEAU: u32 = 4;
    /// The epoch has no further batch.
    pub const EPOCH_END: u32 = 8;
    /// Somebody asked from outside to be served between two batches (a signal).
    pub const INTERRUPT: u32 = 16;
    /// A time that somebody waits for has come ([`Schedule::ring`]).
    pub const ALARM: u32 = 32;

    /// Is any of these bits set?
    #[inline]
    pub const fn has(self, bits: u32) -> bool {
        self.0 & bits != 0
    }
}

/// The things that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Training epochs.
    Epoch,
    /// Training batches.
    Batch,
    /// Optimizer steps of automatic optimization.
    OptimizerStep,
    /// Times the gradients were zeroed in automatic optimization.
    ZeroGrad,
    /// Optimizer steps of manual optimization.
    ManualStep,
    /// Steps of learning-rate schedulers.
    Scheduler,
    /// Validation batches within fit.
    FitVal,
    /// Batches of a stand-alone validation.
    Validate,
    /// Batches of a test.
    Test,
    /// Batches of a prediction.
    Predict,
}

impl Kind {
    /// How many kinds there are.
    pub const COUNT: usize = 10;
}

/// Every counter of a run, and the decisions that follow from them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    pub(super) config: Config,
    pub(super) progress: [Progress; Kind::COUNT],
    /// Closed accumulation windows: the loggers' x axis.
    pub(super) closed_windows: u64,
    pub(super) automatic: bool,
    pub(super) should_stop: bool,
    pub(super) interrupt: bool,
    pub(super) alarm: bool,
    pub(super) step_plateau: bool,
    pub(super) validation: bool,
    /// Training batches in an epoch, after limits.
    pub(super) train_batches: Option<u64>,
    pub(super) val_check_batch: Option<u64>,
    pub(super) last_validation: f64,
    /// Does the batch in hand close its window?
    pub(super) closes: bool,
    /// Decided by the last tick and not settled yet.
    pub(super) due: Due,
    /// Set by a restored state until the run has found its place.
    pub(super) restarting: bool,
    /// Does the restored state come with everything that is needed to go on within the end of an epoch?
    #[serde(default)]
    pub(super) exact: bool,
}

impl Schedule {
    /// A schedule at the very beginning of a run.
    ///
    /// # Errors
    /// What [`Config::validate`] finds.
    pub fn new(config: Config) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            config,
            progress: [Progress::default(); Kind::COUNT],
            closed_windows: 0,
            automatic: true,
            should_stop: false,
            interrupt: false,
            alarm: false,
            step_plateau: false,
            validation: false,
            train_batches: None,
            val_check_batch: None,
            last_validation: 0.0,
            closes: true,
            due: Due::default(),
            restarting: false,
            exact: false,
        })
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Changes settings in the middle of a run.
    ///
    /// # Errors
    /// What [`Config::validate`] finds; then nothing is changed.
    pub fn configure(&mut self, change: impl FnOnce(&mut Config)) -> Result<()> {
        let mut config = self.config.clone();
        change(&mut config);
        config.validate()?;
        self.config = config;
        Ok(())
    }

    /// One of the counters.
    #[inline]
    pub fn progress(&self, kind: Kind) -> &Progress {
        &self.progress[kind as usize]
    }

    /// One of the counters, to be changed: for restoring a foreign state.
    #[inline]
    pub fn progress_mut(&mut self, kind: Kind) -> &mut Progress {
        &mut self.progress[kind as usize]
    }

    /// Tells what the epoch's data looks like.
    ///
    /// # Errors
    /// What [`Config::val_check_batch`] finds.
    pub fn set_data(&mut self, train_batches: Option<u64>, validation: bool) -> Result<()> {
        self.val_check_batch = self.config.val_check_batch(train_batches, validation)?;
        self.train_batches = train_batches;
        self.validation = validation;
        Ok(())
    }

    /// The clock at the start of training: time-based validation counts from here.
    pub fn start_clock(&mut self, now: f64) {
        self.last_validation = now;
    }

    /// Does [`Schedule::tick`] want to know the time?
    #[inline]
    pub fn needs_time(&self) -> bool {
        matches!(self.config.val_interval, ValInterval::Seconds(_))
    }

    // ---- epochs ------------------------------------------------------------------------------------------------------

    /// An epoch is about to begin: its batches are counted from zero.
    pub fn begin_epoch(&mut self) {
        for kind in [Kind::Batch, Kind::OptimizerStep, Kind::ZeroGrad, Kind::Scheduler] {
            self.progress_mut(kind).new_round();
        }
        *self.progress_mut(Kind::FitVal) = Progress::default();
        let epoch = self.progress_mut(Kind::Epoch);
        epoch.current.ready = epoch.current.completed;
        epoch.current.started = epoch.current.completed;
        epoch.current.processed = epoch.current.completed;
        epoch.ready();
        self.due = Due::default();
    }

    /// The epoch's start hooks have run.
    pub fn epoch_started(&mut self) {
        self.progress_mut(Kind::Epoch).started();
    }

    /// The epoch's batches are done, its end hooks follow.
    pub fn epoch_processed(&mut self) {
        self.progress_mut(Kind::Epoch).processed();
    }

    /// The epoch's end hooks have run: `current_epoch` moves on.
    pub fn epoch_completed(&mut self) {
        self.progress_mut(Kind::Epoch).completed();
        self.restarting = false;
    }

    // ---- batches -----------------------------------------------------------------------------------------------------

    /// A batch was fetched; `last`: the loader has no further one. Says which roles it plays in its window.
    #[inline]
    pub fn begin_batch(&mut self, last: bool) -> decide::Batch {
        let batch = &mut self.progress[Kind::Batch as usize];
        batch.ready();
        batch.started();
        let ready = batch.current.ready;
        let last = last || self.train_batches.is_some_and(|n| ready >= n);
        batch.is_last_batch = last;
        let window = self.config.accumulate;
        // a division costs some ten times the rest of this function
        let (opens, closes) = if window == 1 {
            (true, true)
        } else {
            ((ready - 1).is_multiple_of(window), ready.is_multiple_of(window) || last)
        };
        self.closes = closes;
        if closes && self.automatic {
            self.progress[Kind::OptimizerStep as usize].ready();
        }
        decide::Batch { opens, closes }
    }

    /// The user's hook asked to drop the rest of the epoch: the fetched batch was never started.
    pub fn skip_epoch(&mut self) {
        let batch = self.progress_mut(Kind::Batch);
        for counts in [&mut batch.total, &mut batch.current] {
            counts.started = counts.started.saturating_sub(1);
        }
        if self.closes && self.automatic {
            let step = self.progress_mut(Kind::OptimizerStep);
            step.total.ready = step.total.ready.saturating_sub(1);
            step.current.ready = step.current.ready.saturating_sub(1);
        }
    }

    /// The gradients were zeroed (automatic optimization).
    #[inline]
    pub fn zeroed(&mut self) {
        self.progress[Kind::ZeroGrad as usize].once();
    }

    /// An optimizer of automatic optimization has stepped.
    #[inline]
    pub fn stepped(&mut self) {
        let step = &mut self.progress[Kind::OptimizerStep as usize];
        step.total.completed += 1;
        step.current.completed += 1;
    }

    /// The work on the batch is done, its end hooks follow.
    #[inline]
    pub fn processed(&mut self) {
        self.progress[Kind::Batch as usize].processed();
    }

    /// The batch is wrapped up. If anything is due, [`Schedule::due`] says what, and [`Schedule::settle`] has to follow.
    #[inline]
    pub fn tick(&mut self, now: Option<f64>) -> bool {
        let batch = &mut self.progress[Kind::Batch as usize];
        batch.completed();
        let mut due = decide::after_batch(self, now);
        if std::mem::take(&mut self.alarm) {
            due.0 |= Due::ALARM;
        }
        self.due = due;
        if due.0 == 0 {
            self.closed_windows += u64::from(self.closes);
            return false;
        }
        true
    }

    /// What the last tick found due.
    #[inline]
    pub fn due(&self) -> Due {
        self.due
    }

    /// Everything due was served. Is the epoch over (a validation may have asked to stop)?
    pub fn settle(&mut self) -> bool {
        self.closed_windows += u64::from(self.closes);
        self.due = Due::default();
        self.epoch_done()
    }

    /// Validation within fit ran at this time.
    pub fn validated(&mut self, now: Option<f64>) {
        if let Some(now) = now {
            self.last_validation = now;
        }
    }

    // ---- flags -------------------------------------------------------------------------------------------------------

    /// Asks the run to end as soon as the minimums are met, or takes that back.
    pub fn set_should_stop(&mut self, stop: bool) {
        self.should_stop = stop;
    }

    /// Asks to be served at the next batch end, or takes that back.
    pub fn set_interrupt(&mut self, interrupt: bool) {
        self.interrupt = interrupt;
    }

    /// The time that somebody waits for has come: the next tick says so.
    pub fn ring(&mut self) {
        self.alarm = true;
    }

    /// Does the module optimize automatically? Decides which counter `global_step` reads.
    pub fn set_automatic(&mut self, automatic: bool) {
        self.automatic = automatic;
    }

    /// Is there a plateau scheduler that counts steps?
    pub fn set_step_plateau(&mut self, present: bool) {
        self.step_plateau = present;
    }

    /// Does the restored state hold sums and data places too?
    pub fn exact(&self) -> bool {
        self.exact
    }

    /// Says that the restored state holds sums and data places too: an epoch whose last batch had just ended goes on with its
    /// end, where counters alone (files of Lightning) can only take it as done.
    pub fn set_exact(&mut self, exact: bool) {
        self.exact = exact;
    }

    /// Sets the loggers' x axis.
    pub fn set_closed_windows(&mut self, windows: u64) {
        self.closed_windows = windows;
    }

    // ---- state -------------------------------------------------------------------------------------------------------

    /// Takes over counters and flags of `saved`, but keeps the settings and what is known of the data.
    ///
    /// # Errors
    /// [`Error::State`] if the counters contradict each other.
    pub fn restore(&mut self, saved: Self) -> Result<()> {
        for progress in &saved.progress {
            let c = progress.current;
            if c.completed > c.ready || progress.total.completed > progress.total.ready {
                return Err(Error::State {
                    what: "the schedule",
                    why: format!("more completed than begun: {progress:?}"),
                });
            }
        }
        let fresh = std::mem::replace(self, saved);
        self.config = fresh.config;
        self.train_batches = fresh.train_batches;
        self.val_check_batch = fresh.val_check_batch;
        self.validation = fresh.validation;
        self.automatic = fresh.automatic;
        self.step_plateau = fresh.step_plateau;
        Ok(())
    }
}
