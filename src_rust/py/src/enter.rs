//! The one door between Python and the core: errors are mapped here, and nowhere else.
//!
//! Calls that the hot path makes take well under a microsecond and keep the GIL; work above some ten microseconds, and
//! waiting, goes through [`detached`], which releases it.

use fulmen_core::{Error, Result};
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::py_imports;

/// Runs a short piece of core work and turns its error into the Python exception that users expect.
pub fn enter<T>(py: Python<'_>, work: impl FnOnce() -> Result<T>) -> PyResult<T> {
    work().map_err(|error| to_python(py, &error))
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
        Error::Configuration { .. } => match py_imports::misconfiguration_exception(py) {
            Ok(class) => match class.call1((message,)) {
                Ok(instance) => PyErr::from_value(instance),
                Err(error) => error,
            },
            Err(error) => error,
        },
        Error::Memory { .. } => PyMemoryError::new_err(message),
        Error::System { .. } => PyOSError::new_err(message),
        Error::Transport { .. } | Error::State { .. } => PyRuntimeError::new_err(message),
    }
}
