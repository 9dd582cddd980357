//! `fulmen._core.MetricStore`.

use fulmen_core::metrics::{Parts, Reduction, Slot, Store};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pyo3::{PyTraverseError, intern};

use crate::exchange;
use crate::metrics_batch::Batch;
use crate::metrics_sites::{Options, Sites};
use crate::py_imports;
use crate::timeline::{Timeline, now};

/// Accumulators for logged values, addressed by the number that `add` gave, and the short way of `self.log` to them.
#[pyclass(module = "fulmen._core")]
#[derive(Default)]
pub struct MetricStore {
    inner: Store,
    sites: Sites,
    batch: Batch,
    changed: bool,
    nonfinite: Option<usize>,
    timeline: Option<(Py<Timeline>, usize)>,
}

impl MetricStore {
    fn slot(&self, number: usize) -> PyResult<&Slot> {
        self.inner.get(number).ok_or_else(|| missing(number, self.inner.len()))
    }

    fn slot_mut(&mut self, number: usize) -> PyResult<&mut Slot> {
        let have = self.inner.len();
        self.inner.get_mut(number).ok_or_else(|| missing(number, have))
    }

    /// The batch that hooks now run for, and the index of its loader where there are several; the one before is given back,
    /// see [`Batch::set`].
    #[inline]
    #[must_use = "to be dropped when nothing is borrowed any more"]
    pub fn begin_batch(&mut self, batch: Option<Py<PyAny>>, loader: Option<u32>) -> Option<Py<PyAny>> {
        if self.sites.loader != loader {
            self.sites.loader = loader;
            self.sites.moved();
        }
        self.batch.set(batch)
    }

    fn take(&mut self, number: usize, value: f64, weight: f64) -> PyResult<()> {
        if !value.is_finite() {
            self.nonfinite = Some(number);
        }
        self.slot_mut(number)?.update(value, weight);
        self.changed = true;
        Ok(())
    }
}

fn missing(number: usize, have: usize) -> PyErr {
    PyIndexError::new_err(format!("no slot {number}: there are {have}"))
}

fn reduction(name: &str) -> PyResult<Reduction> {
    Ok(match name {
        "mean" => Reduction::Mean,
        "sum" => Reduction::Sum,
        "min" => Reduction::Min,
        "max" => Reduction::Max,
        _ => return Err(PyValueError::new_err(format!("no reduction is called {name:?}"))),
    })
}

/// The number behind a logged object; None where it takes more than a look to find out.
fn number(value: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    let py = value.py();
    if value.is_exact_instance_of::<pyo3::types::PyFloat>() || value.is_exact_instance_of::<pyo3::types::PyInt>() {
        return value.extract().map(Some);
    }
    if let Some(value) = exchange::scalar(value)? {
        return Ok(Some(value));
    }
    if !value.get_type().is(py_imports::tensor_class(py)?) || !value.getattr(intern!(py, "is_cpu"))?.is_truthy()? {
        return Ok(None);
    }
    // fails for a tensor of several elements: the long way words that better
    Ok(value.call_method0(intern!(py, "item")).ok().and_then(|item| item.extract().ok()))
}

#[pymethods]
impl MetricStore {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Makes a slot for "mean", "sum", "min" or "max", and gives its number.
    #[pyo3(signature = (reduction, double=false))]
    fn add(&mut self, reduction: &str, double: bool) -> PyResult<usize> {
        Ok(self.inner.add(self::reduction(reduction)?, double))
    }

    /// Takes a value in; `weight` is the number of samples that it stands for.
    #[pyo3(signature = (number, value, weight=1.0))]
    fn update(&mut self, number: usize, value: f64, weight: f64) -> PyResult<()> {
        self.take(number, value, weight)
    }

    /// The value last taken in; None before the first.
    fn last(&self, number: usize) -> PyResult<Option<f64>> {
        Ok(self.slot(number)?.last())
    }

    /// All values reduced to one; None before the first.
    fn compute(&self, number: usize) -> PyResult<Option<f64>> {
        Ok(self.slot(number)?.compute())
    }

    /// What this process adds to a reduction over several: the value, and its weight (0: nothing).
    #[pyo3(signature = (number, last=false))]
    fn parts(&self, number: usize, last: bool) -> PyResult<(f64, f64)> {
        let slot = self.slot(number)?;
        let parts = if last { slot.last_parts() } else { slot.parts() };
        Ok((parts.value, parts.amount))
    }

    /// Such parts of several processes as one value, rounded as this slot's type is; None if there was none.
    fn merge(&self, number: usize, parts: Vec<(f64, f64)>) -> PyResult<Option<f64>> {
        let slot = self.slot(number)?;
        let parts = parts.into_iter().map(|(value, amount)| Parts { value, amount });
        Ok(slot.reduction().merge(parts).map(|value| slot.round(value)))
    }

    /// How many values a slot took in.
    fn updates(&self, number: usize) -> PyResult<u64> {
        Ok(self.slot(number)?.updates())
    }

    /// One slot forgets its values.
    fn reset(&mut self, number: usize) -> PyResult<()> {
        self.slot_mut(number)?.reset();
        Ok(())
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    /// Forgets all slots and all quantities that are known; numbers begin at 0 again.
    fn forget(slf: &Bound<'_, Self>) {
        let former = {
            let mut this = slf.borrow_mut();
            let timeline = this.timeline.take();
            std::mem::replace(&mut *this, Self { timeline, ..Self::default() })
        };
        drop(former);
    }

    // ---- the short way -----------------------------------------------------------------------------------------------

    /// `self.log` of a quantity that is known by now. False: it is not, or its value is none that can be read at once.
    #[allow(clippy::too_many_arguments)] // those of `self.log`, without keywords since they cost time
    #[pyo3(signature = (hook, name, value, prog_bar, logger, on_step, on_epoch, reduce_fx, enable_graph, sync_dist,
        sync_dist_group, add_dataloader_idx, batch_size, metric_attribute, rank_zero_only, /))]
    fn log(
        slf: &Bound<'_, Self>,
        hook: &Bound<'_, PyAny>,
        name: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        prog_bar: &Bound<'_, PyAny>,
        logger: &Bound<'_, PyAny>,
        on_step: &Bound<'_, PyAny>,
        on_epoch: &Bound<'_, PyAny>,
        reduce_fx: &Bound<'_, PyAny>,
        enable_graph: &Bound<'_, PyAny>,
        sync_dist: &Bound<'_, PyAny>,
        sync_dist_group: &Bound<'_, PyAny>,
        add_dataloader_idx: &Bound<'_, PyAny>,
        batch_size: &Bound<'_, PyAny>,
        metric_attribute: &Bound<'_, PyAny>,
        rank_zero_only: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let start = now();
        let options = [
            prog_bar,
            logger,
            on_step,
            on_epoch,
            reduce_fx,
            enable_graph,
            sync_dist,
            sync_dist_group,
            add_dataloader_idx,
            metric_attribute,
            rank_zero_only,
        ];
        let Some((slot, weighted)) = slf.borrow_mut().sites.find(hook, name, &options)? else { return Ok(false) };
        // reading a value may let other threads run, so nothing is borrowed meanwhile
        let Some(value) = number(value)? else { return Ok(false) };
        let mut this = slf.borrow_mut();
        let weight = if weighted { this.batch.weight(batch_size)? } else { 1.0 };
        this.take(slot, value, weight)?;
        if let Some((timeline, part)) = &this.timeline {
            timeline.borrow_mut(name.py()).inner.nested(*part, start, now());
        }
        Ok(true)
    }

    /// The time that `log` takes is this part of the timeline's.
    fn attach(&mut self, timeline: Py<Timeline>, part: usize) {
        self.timeline = Some((timeline, part));
    }

    /// From now on `log` knows this quantity in the present stage, for the present loader. `options` are the arguments of
    /// `log` from `prog_bar` to `rank_zero_only`, without `batch_size`.
    fn know(
        &mut self,
        hook: &Bound<'_, PyAny>,
        name: &Bound<'_, PyString>,
        slot: usize,
        weighted: bool,
        options: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        self.slot(slot)?;
        self.sites.add(hook, name, slot, weighted, Options::from_tuple(options)?)
    }

    /// Another stage (any number), with quantities of its own.
    fn select(&mut self, stage: u32) {
        self.sites.stage = stage;
        self.sites.moved();
    }

    /// The batch that hooks now run for, and the index of its loader where there are several.
    #[pyo3(signature = (batch, loader=None))]
    fn set_batch(slf: &Bound<'_, Self>, batch: Bound<'_, PyAny>, loader: Option<u32>) {
        let former = slf.borrow_mut().begin_batch(Some(batch.unbind()), loader);
        drop(former);
    }

    /// No batch is in hand.
    fn clear_batch(slf: &Bound<'_, Self>) {
        let former = slf.borrow_mut().begin_batch(None, None);
        drop(former);
    }

    #[getter]
    fn loader(&self) -> Option<u32> {
        self.sites.loader
    }

    /// The weight of a value: the given number, or the size of the batch in hand; 1 without a batch.
    #[pyo3(signature = (given=None))]
    fn weight(&mut self, py: Python<'_>, given: Option<Bound<'_, PyAny>>) -> PyResult<f64> {
        self.batch.weight(&given.unwrap_or_else(|| py.None().into_bound(py)))
    }

    /// Was anything taken in since the last call?
    fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Number of a slot that took a NaN or an infinity in since the last call; None: there was none.
    fn take_nonfinite(&mut self) -> Option<usize> {
        self.nonfinite.take()
    }

    // ---- state -------------------------------------------------------------------------------------------------------

    /// The whole state as JSON text.
    fn state(&self) -> PyResult<String> {
        serde_json::to_string(&self.inner).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// One slot's state as JSON text.
    fn slot_state(&self, number: usize) -> PyResult<String> {
        serde_json::to_string(self.slot(number)?).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// Puts such a state into a slot.
    fn restore_slot(&mut self, number: usize, state: &str) -> PyResult<()> {
        let slot = serde_json::from_str(state).map_err(|error| PyValueError::new_err(error.to_string()))?;
        *self.slot_mut(number)? = slot;
        self.changed = true;
        Ok(())
    }

    /// A store with the slots of such a text.
    #[staticmethod]
    fn from_state(state: &str) -> PyResult<Self> {
        let inner = serde_json::from_str(state).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { inner, ..Self::default() })
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (String,))> {
        let state = slf.borrow().state()?;
        Ok((slf.get_type().getattr("from_state")?, (state,)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.batch.traverse(&visit)?;
        self.sites.traverse(&visit)
    }

    fn __clear__(&mut self) {
        self.batch = Batch::default();
        self.sites = Sites::default();
    }
}
