//! The parts of fulmen that know neither Python nor torch.
//!
//! | module | manages |
//! | --- | --- |
//! | [`schedule`] | every counter of a run and every decision of *when* |
//! | [`metrics`] | the accumulators behind `self.log` |
//! | [`timeline`] | where the time of a run goes |
//! | [`prefetch`] | rows in memory, gathered into batches ahead of their consumer |
//!
//! Nothing here does I/O or reads a clock; time is an argument where it matters. Only [`prefetch`] starts threads, and only
//! when there is something to gather.

pub mod error;
pub mod metrics;
pub mod prefetch;
pub mod schedule;
pub mod timeline;

pub use error::{Error, Result};
