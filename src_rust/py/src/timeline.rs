//! `fulmen._core.Timeline`.

use std::sync::OnceLock;
use std::time::Instant;

use fulmen_core::timeline as core;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// The parts of every run, by number. The first is that of waits for a batch.
const PARTS: [&str; 12] = [
    "data wait",
    "setup",
    "copy to device",
    "forward",
    "backward",
    "optimizer",
    "logging",
    "module hooks",
    "validation",
    "checkpoint",
    "trainer",
    "teardown",
];
const FORWARD: usize = 3;
const BACKWARD: usize = 4;
const OPTIMIZER: usize = 5;
const TRAINER: usize = 10;

/// Nanoseconds of a clock that only goes forward and counts from the first look at it.
#[inline]
pub fn now() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = ORIGIN.get_or_init(Instant::now);
    u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[allow(clippy::cast_precision_loss)] // seconds of a run need no more than 53 bits of nanoseconds
fn seconds(nanos: u64) -> f64 {
    nanos as f64 * 1e-9
}

/// Where the time of a run goes: see the core's module documentation.
#[pyclass(module = "fulmen._core")]
pub struct Timeline {
    pub inner: core::Timeline,
}

#[pymethods]
impl Timeline {
    #[new]
    #[pyo3(signature = (keep=8192))]
    fn new(keep: usize) -> Self {
        let mut inner = core::Timeline::new(keep, PARTS[0]);
        for name in PARTS {
            inner.part(name);
        }
        Self { inner }
    }

    /// Names of the parts that every timeline has, by number.
    #[classattr]
    #[pyo3(name = "PARTS")]
    fn parts(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        PyTuple::new(py, PARTS)
    }

    /// The number of the part with this name, made if there is none.
    fn part(&mut self, name: &str) -> usize {
        self.inner.part(name)
    }

    /// The clock runs.
    fn start(&mut self) {
        self.inner.start(now());
    }

    /// The clock stands still; the time since the last mark goes to `part`.
    fn pause(&mut self, part: usize) {
        self.inner.pause(part, now());
    }

    /// Everything since the last mark was `part`.
    #[pyo3(signature = (part, /))]
    fn mark(&mut self, part: usize) {
        self.inner.mark(part, now());
    }

    // A call with an argument costs 0.2 µs more between torch's operations, with cold caches: the marks of every step
    // have none.

    /// Everything since the last mark was forward.
    fn mark_forward(&mut self) {
        self.inner.mark(FORWARD, now());
    }

    /// Everything since the last mark was backward.
    fn mark_backward(&mut self) {
        self.inner.mark(BACKWARD, now());
    }

    /// Everything since the last mark was the optimizer's.
    fn mark_optimizer(&mut self) {
        self.inner.mark(OPTIMIZER, now());
    }

    /// Everything since the last mark was the trainer's own.
    fn mark_trainer(&mut self) {
        self.inner.mark(TRAINER, now());
    }

    /// Rings in so many seconds, at the end of a step; None: not at all.
    #[pyo3(signature = (seconds, /))]
    fn set_alarm(&mut self, seconds: Option<f64>) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // a float that is too large becomes the largest
        self.inner.set_alarm(seconds.map_or(u64::MAX, |s| now().saturating_add((s.max(0.0) * 1e9) as u64)));
    }

    /// Seconds and number of stretches by part, in the order in which the parts were made.
    fn totals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let out = PyDict::new(py);
        for (name, total) in self.inner.totals() {
            out.set_item(name, (seconds(total.nanos), total.count))?;
        }
        Ok(out)
    }

    /// The newest stretches, oldest first: (part, step, start, duration), in seconds.
    fn stretches(&self) -> Vec<(String, u64, f64, f64)> {
        let names: Vec<&str> = self.inner.totals().map(|(name, _)| name).collect();
        self.inner.stretches().map(|s| (names[s.part].to_owned(), s.step, seconds(s.start), seconds(s.nanos))).collect()
    }

    /// Seconds that the clock ran: the sum of all parts.
    #[getter]
    fn wall(&self) -> f64 {
        seconds(self.inner.wall())
    }

    #[getter]
    fn steps(&self) -> u64 {
        self.inner.steps()
    }

    /// Seconds since the last mark.
    #[getter]
    fn since_mark(&self) -> f64 {
        seconds(now().saturating_sub(self.inner.last()))
    }

    /// A wait for a batch that half of the waits do not exceed, in seconds; right up to a factor of two.
    #[getter]
    fn median_wait(&self) -> f64 {
        seconds(self.inner.waits().median())
    }
}
