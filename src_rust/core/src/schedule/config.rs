//! The settings that decide when things happen. They may be changed between two events of a run.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// `val_check_interval`: how often validation runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum ValInterval {
    /// After this share of an epoch's training batches.
    Fraction(f64),
    /// After so many training batches.
    Batches(u64),
    /// At the first batch end after so many seconds.
    Seconds(f64),
}

/// Limits, intervals and windows of a run. `None` stands for "without limit" throughout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The run ends after so many epochs.
    pub max_epochs: Option<u64>,
    /// A stop flag is not honoured before so many epochs are done.
    pub min_epochs: Option<u64>,
    /// The run ends after so many optimizer steps.
    pub max_steps: Option<u64>,
    /// A stop flag is not honoured before so many optimizer steps.
    pub min_steps: Option<u64>,
    /// Batches in an accumulation window; at least 1.
    pub accumulate: u64,
    /// A log row is due every so many closed windows; 0: never.
    pub log_every_n_steps: u64,
    /// A log row is due after every closed window, whatever the interval (`fast_dev_run`).
    pub log_always: bool,
    /// Validation runs only in every n-th epoch. `None`: epochs do not matter, batches are counted across them.
    pub check_val_every_n_epoch: Option<u64>,
    /// How often validation runs within an epoch where it may.
    pub val_interval: ValInterval,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_epochs: None,
            min_epochs: None,
            max_steps: None,
            min_steps: None,
            accumulate: 1,
            log_every_n_steps: 50,
            log_always: false,
            check_val_every_n_epoch: Some(1),
            val_interval: ValInterval::Fraction(1.0),
        }
    }
}

impl Config {
    /// Checks what the state machine relies on.
    ///
    /// # Errors
    /// [`Error::Value`] for a window or an interval of nothing.
    pub fn validate(&self) -> Result<()> {
        if self.accumulate == 0 {
            return Err(Error::value(
                "accumulate_grad_batches",
                "at least 1",
                "0",
                "Pass 1 to step after every batch.",
            ));
        }
        if self.check_val_every_n_epoch == Some(0) {
            return Err(Error::value(
                "check_val_every_n_epoch",
                "at least 1, or None",
                "0",
                "Pass limit_val_batches=0 to switch validation off.",
            ));
        }
        match self.val_interval {
            ValInterval::Batches(0) => Err(interval_error("0")),
            ValInterval::Fraction(share) if !(share > 0.0 && share <= 1.0) => Err(interval_error(&share.to_string())),
            ValInterval::Seconds(seconds) if !seconds.is_finite() || seconds < 0.0 => {
                Err(interval_error(&format!("{seconds} s")))
            }
            _ => Ok(()),
        }
    }

    /// After how many batches validation runs, given the epoch's number of training batches: `None` means only after
    /// the last one of an epoch, or by the clock.
    ///
    /// # Errors
    /// [`Error::Value`] for an interval longer than the epoch, [`Error::Configuration`] for a share of an unknown length.
    pub fn val_check_batch(&self, train_batches: Option<u64>, validation: bool) -> Result<Option<u64>> {
        match (self.val_interval, train_batches) {
            (ValInterval::Seconds(_), _) | (ValInterval::Fraction(1.0), None) => Ok(None),
            (ValInterval::Batches(n), Some(batches))
                if n > batches && validation && self.check_val_every_n_epoch.is_some() =>
            {
                Err(Error::value(
                    "val_check_interval",
                    format!("an int that must be less than or equal to the number of the training batches ({batches})"),
                    n.to_string(),
                    "Pass check_val_every_n_epoch=None to count batches across epochs.",
                ))
            }
            (ValInterval::Batches(n), _) => Ok(Some(n)),
            (ValInterval::Fraction(share), Some(batches)) => Ok(Some(((batches as f64 * share) as u64).max(1))),
            (ValInterval::Fraction(share), None) => Err(Error::configuration(
                "val_check_interval",
                "1.0 or an int for a training loader that has no length",
                share.to_string(),
                "Pass the number of training batches between two validations.",
            )),
        }
    }
}

fn interval_error(received: &str) -> Error {
    Error::value(
        "val_check_interval",
        "a share of the epoch in (0.0, 1.0], a number of batches of at least 1, or a length of time",
        received,
        "Pass limit_val_batches=0 to switch validation off.",
    )
}
