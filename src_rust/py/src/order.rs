//! `fulmen._core.Order` and `fulmen._core.Span`: the indices of a pass, without a Python object for each.

use std::ops::Range;
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The indices of a pass, cut into batches: an iterator of spans.
#[pyclass(module = "fulmen._core")]
pub struct Order {
    all: Arc<[i64]>,
    next: usize,
    batch_size: usize,
    drop_last: bool,
}

#[pymethods]
impl Order {
    /// Takes a copy of `length` 64-bit integers that lie one after the other from `address` on.
    #[new]
    fn new(address: usize, length: usize, batch_size: usize, drop_last: bool) -> PyResult<Self> {
        if batch_size == 0 || !address.is_multiple_of(align_of::<i64>()) || (address == 0 && length > 0) {
            return Err(PyValueError::new_err("batches of at least one index, at an address of integers"));
        }
        let all = if length == 0 {
            Arc::from([])
        } else {
            // SAFETY: `fulmen.prefetch.samplers` gives the address and the length of a contiguous tensor of this type that
            // it holds during the call, and that nobody else knows.
            unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<i64>(address), length) }.into()
        };
        Ok(Self { all, next: 0, batch_size, drop_last })
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&mut self) -> Option<Span> {
        let to = self.next.saturating_add(self.batch_size).min(self.all.len());
        let short = to - self.next < self.batch_size;
        if to == self.next || (short && self.drop_last) {
            return None;
        }
        let at = std::mem::replace(&mut self.next, to)..to;
        Some(Span { all: Arc::clone(&self.all), at })
    }
}

/// The indices of a batch.
#[pyclass(module = "fulmen._core", frozen)]
pub struct Span {
    all: Arc<[i64]>,
    at: Range<usize>,
}

impl Span {
    /// They themselves.
    pub fn indices(&self) -> &[i64] {
        &self.all[self.at.clone()]
    }
}

#[pymethods]
impl Span {
    fn __len__(&self) -> usize {
        self.at.len()
    }

    /// As a list.
    fn tolist(&self) -> Vec<i64> {
        self.indices().to_vec()
    }
}
