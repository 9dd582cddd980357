//! The one door between Python and the core: errors are mapped here, and nowhere else.
//!
//! Calls that the hot path makes take well under a microsecond and keep the GIL; work above some ten microseconds, and
//! waiting, goes through [`detached`] or [`enter_detached`], which release it.

use fulmen_core::{Error, Result};
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::py_imports;

/// Runs a short piece of core work and turns its error into the Python exception that users expect.
pub fn enter<T>(py: Python<'_>, work: impl FnOnce() -> Result<T>) -> PyResult<T> {
    work().map_err(|error| to_python(py, &error))
}

/// Runs longer core work without the GIL. A Ctrl-C that came meanwhile is noticed after it: what is written is complete.
pub fn enter_detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    let result = py.detach(work).map_err(|error| to_python(py, &error))?;
    py.check_signals()?;
    Ok(result)
}

/// Runs long work, or waits, while other Python threads run.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    py.detach(work)
}

/// The table of errors: which kind becomes which exception.
fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Value { .. } => PyValueError::new_err(message),
        Error::Configuration { .. } => instance(py_imports::misconfiguration_exception(py), message),
        Error::Memory { .. } => PyMemoryError::new_err(message),
        Error::System { .. } => PyOSError::new_err(message),
        Error::Transport { .. } | Error::State { .. } => PyRuntimeError::new_err(message),
        // with a number the exception becomes the fitting kind of OSError, PermissionError for one
        Error::Io { code: Some(code), path, .. } => PyOSError::new_err((*code, message, path.clone())),
        Error::Io { code: None, .. } => PyOSError::new_err(message),
        Error::Damaged { .. } => instance(py_imports::damaged_checkpoint(py), message),
    }
}

/// An exception of a class that is written in Python.
fn instance(class: PyResult<&Bound<'_, PyType>>, message: String) -> PyErr {
    match class.and_then(|class| class.call1((message,))) {
        Ok(instance) => PyErr::from_value(instance),
        Err(error) => error,
    }
}
