//! Every Python object that Rust touches.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// `fulmen.utilities.exceptions.MisconfigurationException`.
pub fn misconfiguration_exception(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "fulmen.utilities.exceptions", "MisconfigurationException")
}

/// `torch.Tensor`.
pub fn tensor_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "torch", "Tensor")
}

/// `fulmen.utilities.data.extract_batch_size`.
pub fn extract_batch_size(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    FUNCTION.import(py, "fulmen.utilities.data", "extract_batch_size")
}
