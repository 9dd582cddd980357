//! `fulmen._core.MetricStore`.

use fulmen_core::metrics::{Reduction, Slot, Store};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;

/// Accumulators for logged values, addressed by the number that `add` gave.
#[pyclass(module = "fulmen._core")]
#[derive(Default)]
pub struct MetricStore {
    inner: Store,
}

impl MetricStore {
    fn slot(&self, number: usize) -> PyResult<&Slot> {
        self.inner.get(number).ok_or_else(|| missing(number, self.inner.len()))
    }

    fn slot_mut(&mut self, number: usize) -> PyResult<&mut Slot> {
        let have = self.inner.len();
        self.inner.get_mut(number).ok_or_else(|| missing(number, have))
    }
}

fn missing(number: usize, have: usize) -> PyErr {
    PyIndexError::new_err(format!("no slot {number}: there are {have}"))
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
        let reduction = match reduction {
            "mean" => Reduction::Mean,
            "sum" => Reduction::Sum,
            "min" => Reduction::Min,
            "max" => Reduction::Max,
            _ => return Err(PyValueError::new_err(format!("no reduction is called {reduction:?}"))),
        };
        Ok(self.inner.add(reduction, double))
    }

    /// Takes a value in; `weight` is the number of samples that it stands for.
    #[pyo3(signature = (number, value, weight=1.0))]
    fn update(&mut self, number: usize, value: f64, weight: f64) -> PyResult<()> {
        self.slot_mut(number)?.update(value, weight);
        Ok(())
    }

    /// The value last taken in; None before the first.
    fn last(&self, number: usize) -> PyResult<Option<f64>> {
        Ok(self.slot(number)?.last())
    }

    /// All values reduced to one; None before the first.
    fn compute(&self, number: usize) -> PyResult<Option<f64>> {
        Ok(self.slot(number)?.compute())
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

    /// The whole state as JSON text.
    fn state(&self) -> PyResult<String> {
        serde_json::to_string(&self.inner).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// A store with the slots of such a text.
    #[staticmethod]
    fn from_state(state: &str) -> PyResult<Self> {
        let inner = serde_json::from_str(state).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { inner })
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (String,))> {
        let state = slf.borrow().state()?;
        Ok((slf.get_type().getattr("from_state")?, (state,)))
    }
}
