//! What Python passes to the schedule, in the core's types.

use fulmen_core::schedule::{Kind, Limit, ValInterval};
use fulmen_core::{Error, Result};
use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt};

/// `None` and -1 stand for "without limit" in Python.
pub fn unlimited(argument: &str, value: Option<i64>) -> Result<Option<u64>> {
    match value {
        None | Some(-1) => Ok(None),
        Some(n) => u64::try_from(n)
            .map(Some)
            .map_err(|_| Error::configuration(argument, "at least -1", n.to_string(), "Pass -1 for no limit.")),
    }
}

/// A number with a meaning by type: an int counts, a float is a share.
pub fn number<'py>(argument: &str, value: &Bound<'py, PyAny>) -> PyResult<Limit> {
    if value.is_instance_of::<PyInt>() && !value.is_instance_of::<PyBool>() {
        Ok(Limit::Batches(value.extract()?))
    } else if value.is_instance_of::<PyFloat>() {
        Ok(Limit::Fraction(value.extract()?))
    } else {
        Err(PyTypeError::new_err(format!("`{argument}` must be an int or a float, got {}.", value.repr()?)))
    }
}

/// When validation runs: after so many batches, or a share of the epoch.
pub fn interval<'py>(value: &Bound<'py, PyAny>) -> PyResult<ValInterval> {
    Ok(match number("val_check_interval", value)? {
        Limit::Batches(n) => ValInterval::Batches(n),
        Limit::Fraction(share) => ValInterval::Fraction(share),
    })
}

/// The counter of a name.
pub fn kind(name: &str) -> PyResult<Kind> {
    Ok(match name {
        "epoch" => Kind::Epoch,
        "batch" => Kind::Batch,
        "optimizer_step" => Kind::OptimizerStep,
        "zero_grad" => Kind::ZeroGrad,
        "manual_step" => Kind::ManualStep,
        "scheduler" => Kind::Scheduler,
        "fit_val" => Kind::FitVal,
        "validate" => Kind::Validate,
        "test" => Kind::Test,
        "predict" => Kind::Predict,
        _ => return Err(PyKeyError::new_err(format!("no counter is called {name:?}"))),
    })
}
