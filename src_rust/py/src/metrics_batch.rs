//! The batch in hand, and how many samples it holds.

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyList, PyString, PyTuple};

use crate::py_imports;

/// A step on the way from a batch to its first tensor.
enum Step {
    /// Into a tuple or list.
    Index(usize),
    /// Into a dict.
    Key(Py<PyAny>),
}

/// The batch in hand. Its size is found when it is first asked for; the way to it is remembered for batches to come.
#[derive(Default)]
pub struct Batch {
    object: Option<Py<PyAny>>,
    size: Option<f64>,
    way: Option<Vec<Step>>,
}

impl Batch {
    /// Another batch is in hand, or none. The one before is given back: letting go of it may run anything, and other
    /// threads, which nobody may do who has borrowed what they want.
    #[inline]
    #[must_use = "to be dropped when nothing is borrowed any more"]
    pub fn set(&mut self, batch: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
        self.size = None;
        std::mem::replace(&mut self.object, batch)
    }

    /// The given number, or the size of the batch; 1 without a batch.
    #[inline]
    pub fn weight(&mut self, given: &Bound<'_, PyAny>) -> PyResult<f64> {
        if !given.is_none() {
            return given.extract();
        }
        if let Some(size) = self.size {
            return Ok(size);
        }
        let py = given.py();
        let size = match &self.object {
            None => 1.0,
            Some(batch) => {
                let batch = batch.bind(py);
                if batch.is_none() {
                    1.0
                } else if let Some(size) = self.way.as_ref().and_then(|way| follow(batch, way)) {
                    size
                } else {
                    let size = py_imports::extract_batch_size(py)?.call1((batch,))?.extract()?;
                    let mut way = Vec::new();
                    self.way = search(batch, &mut way).unwrap_or(false).then_some(way);
                    size
                }
            }
        };
        self.size = Some(size);
        Ok(size)
    }

    /// For Python's garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)?;
        for step in self.way.iter().flatten() {
            if let Step::Key(key) = step {
                visit.call(key)?;
            }
        }
        Ok(())
    }
}

fn is_tensor(object: &Bound<'_, PyAny>) -> bool {
    py_imports::tensor_class(object.py()).is_ok_and(|class| object.get_type().is(class))
}

/// Only text and whole numbers may stand before the tensor: in the next batch, anything else might hold one.
fn is_plain(object: &Bound<'_, PyAny>) -> bool {
    object.is_instance_of::<PyString>() || object.is_instance_of::<PyInt>()
}

/// The first dimension of the tensor at the end of the way; None if this batch is built differently.
fn follow(batch: &Bound<'_, PyAny>, way: &[Step]) -> Option<f64> {
    let mut here = batch.clone();
    for step in way {
        here = match step {
            Step::Index(index) => {
                if let Ok(tuple) = here.cast_exact::<PyTuple>() {
                    tuple.get_item(*index).ok()?
                } else {
                    here.cast_exact::<PyList>().ok()?.get_item(*index).ok()?
                }
            }
            Step::Key(key) => here.cast_exact::<PyDict>().ok()?.get_item(key).ok()??,
        };
    }
    let py = here.py();
    // a 0-dim tensor has no size(0): the long way knows what to do
    is_tensor(&here).then(|| here.call_method1(intern!(py, "size"), (0,)).ok()?.extract().ok()).flatten()
}

/// The way to the first tensor; false if something unknown stands before it.
fn search(here: &Bound<'_, PyAny>, way: &mut Vec<Step>) -> PyResult<bool> {
    if is_tensor(here) {
        return Ok(true);
    }
    if let Ok(dict) = here.cast_exact::<PyDict>() {
        for (key, value) in dict {
            way.push(Step::Key(key.unbind()));
            if search(&value, way)? {
                return Ok(true);
            }
            way.pop();
            if !is_plain(&value) {
                return Ok(false);
            }
        }
        return Ok(false);
    }
    let items: Vec<Bound<'_, PyAny>> = if let Ok(tuple) = here.cast_exact::<PyTuple>() {
        tuple.iter().collect()
    } else if let Ok(list) = here.cast_exact::<PyList>() {
        list.iter().collect()
    } else {
        return Ok(false);
    };
    for (index, item) in items.iter().enumerate() {
        way.push(Step::Index(index));
        if search(item, way)? {
            return Ok(true);
        }
        way.pop();
        if !is_plain(item) {
            return Ok(false);
        }
    }
    Ok(false)
}
