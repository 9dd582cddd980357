//! The parts of fulmen that know neither Python nor torch.
//!
//! | module | manages |
//! | --- | --- |
//! | [`schedule`] | every counter of a run and every decision of *when* |
//! | [`metrics`] | the accumulators behind `self.log` |
//! | [`checkpoint`] | checkpoint files |
//! | [`timeline`] | where the time of a run goes |
//! | [`prefetch`] | rows in memory, gathered into batches ahead of their consumer |
//!
//! No module reads a clock where time matters to what it decides: time is an argument. Only [`checkpoint`] does I/O. It and
//! [`prefetch`] start threads, and only when there is something to write or to gather.

pub mod checkpoint;
pub mod error;
pub mod metrics;
pub mod prefetch;
pub mod schedule;
pub mod timeline;

pub use error::{Error, Result};
