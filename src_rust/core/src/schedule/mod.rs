//! When things happen in a run: a pure, serialisable state machine.
//!
//! **What.** [`Schedule`] owns every counter of a run (epochs, batches, optimizer steps, validation batches …) and answers
//! every question of *when*: does this batch open or close an accumulation window, is a log row due, does validation
//! run now, is the epoch over, is the run. Events go in (`begin_batch`, `stepped`, `tick` …), decisions come out.
//!
//! **Invariants.**
//! - No I/O and no clock: time is an argument of [`Schedule::tick`], wanted only if [`Schedule::needs_time`] says so.
//! - The same events give the same decisions; a [`Schedule`] restored from its serialised state goes on exactly as the
//!   one that was saved, at whatever point between two calls that was.
//! - `ready ≥ started ≥ processed ≥ completed` in every [`Progress`], and no counter of `total` ever falls, but in
//!   [`Schedule::resume`], which takes back what was begun and not done.
//!
//! **Cost.** [`Schedule::begin_batch`], [`Schedule::stepped`] and [`Schedule::tick`] are a handful of additions and
//! comparisons on one cache line or two: see `benches/schedule.rs`.

mod config;
mod decide;
mod limit;
mod machine;
mod progress;
mod resume;

pub use config::{Config, ValInterval};
pub use decide::Batch;
pub use limit::{Limit, resolve_limit};
pub use machine::{Due, Kind, Schedule};
pub use progress::{Counts, Progress};
pub use resume::Resumption;
