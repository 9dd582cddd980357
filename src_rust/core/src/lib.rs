//! The parts of fulmen that know neither Python nor torch.
//!
//! | module | manages |
//! | --- | --- |
//! | [`schedule`] | every counter of a run and every decision of *when* |
//! | [`metrics`] | the accumulators behind `self.log` |
//! | [`checkpoint`] | checkpoint files |
//! | [`timeline`] | where the time of a run goes |
//!
//! Schedule and metrics do no I/O, start no thread and read no clock; time is an argument where it matters.

pub mod checkpoint;
pub mod error;
pub mod metrics;
pub mod schedule;
pub mod timeline;

pub use error::{Error, Result};
