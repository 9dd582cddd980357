//! The parts of fulmen that know neither Python nor torch.
//!
//! | module | manages |
//! | --- | --- |
//! | [`schedule`] | every counter of a run and every decision of *when* |
//! | [`metrics`] | the accumulators behind `self.log` |
//! | [`timeline`] | where the time of a run goes |
//!
//! Nothing here does I/O, starts a thread or reads a clock; time is an argument where it matters.

pub mod error;
pub mod metrics;
pub mod schedule;
pub mod timeline;

pub use error::{Error, Result};
