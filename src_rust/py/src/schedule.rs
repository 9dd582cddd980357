//! `fulmen._core.Schedule` and `resolve_limit`.

use fulmen_core::Error;
use fulmen_core::schedule::{self as core, Config, Kind, Resumption, ValInterval};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::enter::enter;
use crate::metrics::MetricStore;
use crate::schedule_arguments::{interval, kind, number, unlimited};
use crate::timeline::{Timeline, now};

/// Every counter of a run, and every decision of when: see the core's module documentation.
#[pyclass(module = "fulmen._core")]
pub struct Schedule {
    inner: core::Schedule,
    timeline: Option<Clock>,
    /// Who has to know the batch in hand.
    store: Option<Py<MetricStore>>,
    /// What `begin_batch` said of the batch in hand: 1 if it opens an accumulation window, plus 2 if it closes one.
    window: u64,
    /// Those of these roles that `finish` counts.
    counted: u64,
}

/// A timeline that begins and ends of batches are marked on, with the numbers of two parts.
struct Clock {
    timeline: Py<Timeline>,
    wait: usize,
    rest: usize,
}

#[pymethods]
impl Schedule {
    #[new]
    #[pyo3(signature = (*, max_epochs=None, min_epochs=None, max_steps=None, min_steps=None, accumulate=1,
        log_every_n_steps=50, log_always=false, check_val_every_n_epoch=Some(1), val_check_interval=None, val_check_seconds=None))]
    #[allow(clippy::too_many_arguments)] // the settings, by keyword
    fn new(
        py: Python<'_>,
        max_epochs: Option<i64>,
        min_epochs: Option<u64>,
        max_steps: Option<i64>,
        min_steps: Option<u64>,
        accumulate: u64,
        log_every_n_steps: u64,
        log_always: bool,
        check_val_every_n_epoch: Option<u64>,
        val_check_interval: Option<&Bound<'_, PyAny>>,
        val_check_seconds: Option<f64>,
    ) -> PyResult<Self> {
        let val_interval = match (val_check_seconds, val_check_interval) {
            (Some(seconds), _) => ValInterval::Seconds(seconds),
            (None, Some(value)) => interval(value)?,
            (None, None) => ValInterval::Fraction(1.0),
        };
        let inner = enter(py, || {
            core::Schedule::new(Config {
                max_epochs: unlimited("max_epochs", max_epochs)?,
                min_epochs,
                max_steps: unlimited("max_steps", max_steps)?,
                min_steps,
                accumulate,
                log_every_n_steps,
                log_always,
                check_val_every_n_epoch,
                val_interval,
            })
        })?;
        Ok(Self { inner, timeline: None, store: None, window: 0, counted: 0 })
    }

    // ---- settings ----------------------------------------------------------------------------------------------------

    #[getter]
    fn max_epochs(&self) -> Option<u64> {
        self.inner.config().max_epochs
    }

    #[setter]
    fn set_max_epochs(&mut self, py: Python<'_>, value: Option<i64>) -> PyResult<()> {
        enter(py, || {
            let value = unlimited("max_epochs", value)?;
            self.inner.configure(|c| c.max_epochs = value)
        })
    }

    #[getter]
    fn min_epochs(&self) -> Option<u64> {
        self.inner.config().min_epochs
    }

    #[setter]
    fn set_min_epochs(&mut self, py: Python<'_>, value: Option<u64>) -> PyResult<()> {
        enter(py, || self.inner.configure(|c| c.min_epochs = value))
    }

    #[getter]
    fn max_steps(&self) -> Option<u64> {
        self.inner.config().max_steps
    }

    #[setter]
    fn set_max_steps(&mut self, py: Python<'_>, value: Option<i64>) -> PyResult<()> {
        enter(py, || {
            let value = unlimited("max_steps", value)?;
            self.inner.configure(|c| c.max_steps = value)
        })
    }

    #[getter]
    fn min_steps(&self) -> Option<u64> {
        self.inner.config().min_steps
    }

    #[setter]
    fn set_min_steps(&mut self, py: Python<'_>, value: Option<u64>) -> PyResult<()> {
        enter(py, || self.inner.configure(|c| c.min_steps = value))
    }

    #[getter]
    fn accumulate(&self) -> u64 {
        self.inner.config().accumulate
    }

    #[setter]
    fn set_accumulate(&mut self, py: Python<'_>, value: u64) -> PyResult<()> {
        enter(py, || self.inner.configure(|c| c.accumulate = value))
    }

    #[getter]
    fn log_every_n_steps(&self) -> u64 {
        self.inner.config().log_every_n_steps
    }

    #[setter]
    fn set_log_every_n_steps(&mut self, py: Python<'_>, value: u64) -> PyResult<()> {
        enter(py, || self.inner.configure(|c| c.log_every_n_steps = value))
    }

    #[getter]
    fn check_val_every_n_epoch(&self) -> Option<u64> {
        self.inner.config().check_val_every_n_epoch
    }

    #[setter]
    fn set_check_val_every_n_epoch(&mut self, py: Python<'_>, value: Option<u64>) -> PyResult<()> {
        enter(py, || self.inner.configure(|c| c.check_val_every_n_epoch = value))
    }

    /// Changes how often validation runs: an int counts batches, a float is a share of the epoch.
    fn set_val_check_interval(&mut self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let interval = interval(value)?;
        enter(py, || self.inner.configure(|c| c.val_interval = interval))
    }

    /// Tells what the epoch's data looks like: training batches (None: without end), and whether validation runs at all.
    fn set_data(&mut self, py: Python<'_>, train_batches: Option<u64>, validation: bool) -> PyResult<()> {
        enter(py, || self.inner.set_data(train_batches, validation))
    }

    #[getter]
    fn train_batches(&self) -> Option<u64> {
        self.inner.train_batches()
    }

    #[getter]
    fn val_check_batch(&self) -> Option<u64> {
        self.inner.val_check_batch()
    }

    #[setter]
    fn set_automatic(&mut self, value: bool) {
        self.inner.set_automatic(value);
    }

    #[setter]
    fn set_step_plateau(&mut self, value: bool) {
        self.inner.set_step_plateau(value);
    }

    /// The clock at the start of training, in seconds: time-based validation counts from here.
    fn start_clock(&mut self, now: f64) {
        self.inner.start_clock(now);
    }

    /// Does a restored state stand within an epoch?
    fn resumes_within_epoch(&self) -> bool {
        self.inner.resumes_within_epoch()
    }

    /// Does the restored batch still wait for its validation? Asked before `resume()`.
    fn validation_owed(&self) -> bool {
        self.inner.validation_owed()
    }

    /// Does `tick()` want to know the time in this epoch?
    #[getter]
    fn epoch_needs_time(&self) -> bool {
        self.inner.epoch_needs_time()
    }

    #[getter]
    fn needs_time(&self) -> bool {
        self.inner.needs_time()
    }

    // ---- events ------------------------------------------------------------------------------------------------------

    fn begin_epoch(&mut self) {
        self.inner.begin_epoch();
    }

    fn epoch_started(&mut self) {
        self.inner.epoch_started();
    }

    fn epoch_processed(&mut self) {
        self.inner.epoch_processed();
    }

    fn epoch_completed(&mut self) {
        self.inner.epoch_completed();
    }

    /// Marks begins and ends of batches: what comes before a batch is part `wait` of the timeline's, the end of it `rest`.
    fn attach(&mut self, timeline: Py<Timeline>, wait: usize, rest: usize) {
        self.timeline = Some(Clock { timeline, wait, rest });
    }

    /// Every batch that begins becomes the one in hand of this store.
    fn attach_store(&mut self, store: Py<MetricStore>) {
        self.store = Some(store);
    }

    /// A batch was fetched: its index, times 8, plus 1 if it opens an accumulation window, 2 if it closes one, and 4 if
    /// windows are of several batches. One number and one call, since every call costs.
    #[pyo3(signature = (last, batch, /))]
    fn begin_batch(slf: &Bound<'_, Self>, last: bool, batch: Bound<'_, PyAny>) -> u64 {
        let py = slf.py();
        let mut this = slf.borrow_mut();
        if let Some(clock) = &this.timeline {
            clock.timeline.borrow_mut(py).inner.mark(clock.wait, now());
        }
        let store = this.store.as_ref().map(|store| store.borrow_mut(py));
        let former = store.and_then(|mut store| store.begin_batch(Some(batch.unbind()), None));
        let roles = this.inner.begin_batch(last);
        let windows = this.inner.config().accumulate != 1;
        this.window = u64::from(roles.opens) | u64::from(roles.closes) << 1;
        let code = this.inner.batch_idx() << 3 | this.window | u64::from(windows) << 2;
        // letting go of the batch before may let other threads run, which want to interrupt this schedule
        drop(this);
        drop(former);
        code
    }

    /// The fetched batch and the rest of the epoch are dropped.
    fn skip_epoch(&mut self) {
        self.inner.skip_epoch();
    }

    fn zeroed(&mut self) {
        self.inner.zeroed();
    }

    fn stepped(&mut self) {
        self.inner.stepped();
    }

    /// The work on the batch is done. `steps`: 1 if the gradients were zeroed for it, plus 2 if the optimizer stepped
    /// (automatic optimization), as far as `zeroed` and `stepped` have not said so.
    #[pyo3(signature = (steps=0, /))]
    fn processed(&mut self, steps: u64) {
        if steps & 1 != 0 {
            self.inner.zeroed();
        }
        if steps & 2 != 0 {
            self.inner.stepped();
        }
        self.inner.processed();
    }

    /// Which of a batch's roles `finish` counts, a sum of 1 and 2 as for `processed`.
    fn count(&mut self, roles: u64) {
        self.counted = roles;
    }

    /// `processed` and `tick` in one, for a batch that nothing has to be done for in between.
    fn finish(&mut self, py: Python<'_>) -> bool {
        self.processed(self.window & self.counted);
        self.tick(py, None)
    }

    /// The batch is wrapped up: is anything due? Then ask `due()`, serve it, and call `settle()`.
    #[pyo3(signature = (now=None, /))]
    fn tick(&mut self, py: Python<'_>, now: Option<f64>) -> bool {
        if let Some(clock) = &self.timeline
            && clock.timeline.borrow_mut(py).inner.end_step(clock.rest, crate::timeline::now())
        {
            self.inner.ring();
        }
        self.inner.tick(now)
    }

    fn due(&self) -> u32 {
        self.inner.due().0
    }

    /// Everything due was served; is the epoch over?
    fn settle(&mut self) -> bool {
        self.inner.settle()
    }

    #[pyo3(signature = (now=None))]
    fn validated(&mut self, now: Option<f64>) {
        self.inner.validated(now);
    }

    fn manual_step_begin(&mut self) {
        self.inner.progress_mut(Kind::ManualStep).ready();
    }

    fn manual_step_end(&mut self) {
        self.inner.progress_mut(Kind::ManualStep).completed();
    }

    fn scheduler_stepped(&mut self) {
        self.inner.progress_mut(Kind::Scheduler).once();
    }

    /// A batch of an evaluation ("fit_val", "validate", "test" or "predict") was fetched.
    fn begin_eval_batch(&mut self, stage: &str, last: bool) -> PyResult<()> {
        let progress = self.inner.progress_mut(kind(stage)?);
        progress.is_last_batch = last;
        progress.ready();
        progress.started();
        Ok(())
    }

    /// Its step is done.
    fn eval_processed(&mut self, stage: &str) -> PyResult<()> {
        self.inner.progress_mut(kind(stage)?).processed();
        Ok(())
    }

    /// Its end hooks have run.
    fn end_eval_batch(&mut self, stage: &str) -> PyResult<()> {
        self.inner.progress_mut(kind(stage)?).completed();
        Ok(())
    }

    /// Counts of this kind start a new round: `current` is zero again.
    fn new_round(&mut self, name: &str) -> PyResult<()> {
        self.inner.progress_mut(kind(name)?).new_round();
        Ok(())
    }

    // ---- flags -------------------------------------------------------------------------------------------------------

    #[getter]
    fn should_stop(&self) -> bool {
        self.inner.should_stop()
    }

    #[setter]
    fn set_should_stop(&mut self, value: bool) {
        self.inner.set_should_stop(value);
    }

    #[getter]
    fn interrupt(&self) -> bool {
        self.inner.interrupt()
    }

    #[setter]
    fn set_interrupt(&mut self, value: bool) {
        self.inner.set_interrupt(value);
    }

    #[getter]
    fn restarting(&self) -> bool {
        self.inner.restarting()
    }

    #[setter]
    fn set_restarting(&mut self, value: bool) {
        self.inner.set_restarting(value);
    }

    // ---- questions ---------------------------------------------------------------------------------------------------

    #[getter]
    fn global_step(&self) -> u64 {
        self.inner.global_step()
    }

    #[getter]
    fn current_epoch(&self) -> u64 {
        self.inner.current_epoch()
    }

    #[getter]
    fn batch_idx(&self) -> u64 {
        self.inner.batch_idx()
    }

    #[getter]
    fn closed_windows(&self) -> u64 {
        self.inner.closed_windows()
    }

    /// Does the restored state come with sums and data places?
    #[getter]
    fn exact(&self) -> bool {
        self.inner.exact()
    }

    #[setter]
    fn set_exact(&mut self, value: bool) {
        self.inner.set_exact(value);
    }

    #[setter]
    fn set_closed_windows(&mut self, value: u64) {
        self.inner.set_closed_windows(value);
    }

    #[getter]
    fn log_due(&self) -> bool {
        self.inner.log_due()
    }

    #[getter]
    fn accumulating(&self) -> bool {
        self.inner.accumulating()
    }

    #[getter]
    fn can_stop_early(&self) -> bool {
        self.inner.can_stop_early()
    }

    fn epoch_done(&self) -> bool {
        self.inner.epoch_done()
    }

    /// Will a validation run right after the batch in hand?
    #[pyo3(signature = (now=None))]
    fn validation_follows(&self, now: Option<f64>) -> bool {
        self.inner.validation_follows(now)
    }

    fn batches_exhausted(&self) -> bool {
        self.inner.batches_exhausted()
    }

    fn finished(&mut self) -> bool {
        self.inner.finished()
    }

    fn epoch_scheduler_due(&self, frequency: u64) -> bool {
        self.inner.epoch_scheduler_due(frequency)
    }

    fn step_scheduler_due(&self, frequency: u64) -> bool {
        self.inner.step_scheduler_due(frequency)
    }

    /// Optimizer steps of the whole run; None: no end in sight.
    fn estimated_steps(&self, train_batches: Option<u64>) -> Option<u64> {
        self.inner.estimated_steps(train_batches)
    }

    // ---- state -------------------------------------------------------------------------------------------------------

    /// Where a restored run goes on: "fresh", "mid_epoch" or "epoch_end".
    fn resumption(&self) -> &'static str {
        name(self.inner.resumption())
    }

    /// Takes up a restored state, and says where.
    fn resume(&mut self) -> &'static str {
        name(self.inner.resume())
    }

    /// One counter as `{"total": {...}, "current": {...}, "is_last_batch": bool}`.
    fn progress<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyDict>> {
        let progress = self.inner.progress(kind(name)?);
        let out = PyDict::new(py);
        for (name, counts) in [("total", &progress.total), ("current", &progress.current)] {
            let entry = PyDict::new(py);
            entry.set_item("ready", counts.ready)?;
            entry.set_item("started", counts.started)?;
            entry.set_item("processed", counts.processed)?;
            entry.set_item("completed", counts.completed)?;
            out.set_item(name, entry)?;
        }
        out.set_item("is_last_batch", progress.is_last_batch)?;
        Ok(out)
    }

    /// Overwrites one counter from such a dict; keys that are missing stay as they are.
    fn set_progress(&mut self, name: &str, state: &Bound<'_, PyDict>) -> PyResult<()> {
        let mut progress = *self.inner.progress(kind(name)?);
        for (name, counts) in [("total", &mut progress.total), ("current", &mut progress.current)] {
            let Some(entry) = state.get_item(name)? else { continue };
            let entry = entry.cast::<PyDict>()?;
            for (name, count) in [
                ("ready", &mut counts.ready),
                ("started", &mut counts.started),
                ("processed", &mut counts.processed),
                ("completed", &mut counts.completed),
            ] {
                if let Some(value) = entry.get_item(name)? {
                    *count = value.extract()?;
                }
            }
        }
        if let Some(value) = state.get_item("is_last_batch")? {
            progress.is_last_batch = value.extract()?;
        }
        *self.inner.progress_mut(kind(name)?) = progress;
        Ok(())
    }

    /// The whole state as JSON text.
    fn state(&self, py: Python<'_>) -> PyResult<String> {
        enter(py, || {
            serde_json::to_string(&self.inner)
                .map_err(|error| Error::State { what: "the schedule", why: error.to_string() })
        })
    }

    /// A schedule with the settings and counters of such a text.
    #[staticmethod]
    fn from_state(py: Python<'_>, state: &str) -> PyResult<Self> {
        let inner = enter(py, || {
            serde_json::from_str(state).map_err(|error| Error::State { what: "the schedule", why: error.to_string() })
        })?;
        Ok(Self { inner, timeline: None, store: None, window: 0, counted: 0 })
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (String,))> {
        let state = slf.borrow().state(slf.py())?;
        Ok((slf.get_type().getattr("from_state")?, (state,)))
    }

    /// Takes over counters and flags of such a text; settings and what is known of the data stay.
    fn restore(&mut self, py: Python<'_>, state: &str) -> PyResult<()> {
        enter(py, || {
            let saved = serde_json::from_str(state)
                .map_err(|error| Error::State { what: "the schedule", why: error.to_string() })?;
            self.inner.restore(saved)
        })
    }
}

fn name(place: Resumption) -> &'static str {
    match place {
        Resumption::Fresh => "fresh",
        Resumption::MidEpoch => "mid_epoch",
        Resumption::EpochEnd => "epoch_end",
    }
}

/// The number of batches that a limit leaves of a loader with `length` batches; None means without end.
#[pyfunction]
#[pyo3(signature = (limit, length, argument))]
pub fn resolve_limit(
    py: Python<'_>,
    limit: &Bound<'_, PyAny>,
    length: Option<u64>,
    argument: &str,
) -> PyResult<Option<u64>> {
    let limit = number(argument, limit)?;
    enter(py, || core::resolve_limit(limit, length, argument))
}
