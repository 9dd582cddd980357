//! Every Python object that Rust touches.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyModule, PyType};

/// `fulmen.utilities.exceptions.MisconfigurationException`.
pub fn misconfiguration_exception(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "fulmen.utilities.exceptions", "MisconfigurationException")
}

/// `fulmen.utilities.exceptions.DamagedCheckpoint`.
pub fn damaged_checkpoint(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "fulmen.utilities.exceptions", "DamagedCheckpoint")
}

/// The module `torch`.
pub fn torch(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("torch")
}

/// `copyreg.dispatch_table`: classes whose pickling somebody registered.
pub fn dispatch_table(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static TABLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    TABLE.import(py, "copyreg", "dispatch_table")
}

/// `copyreg.__newobj__`: stands for `cls.__new__` in what `__reduce_ex__` gives.
pub fn newobj(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    FUNCTION.import(py, "copyreg", "__newobj__")
}

/// `pickle.whichmodule`: the module in which an object has a name.
pub fn which_module(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    FUNCTION.import(py, "pickle", "whichmodule")
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
