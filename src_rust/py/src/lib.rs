//! `fulmen._core`: thin bindings, one file per core module.

mod enter;
mod metrics;
mod metrics_batch;
mod metrics_sites;
mod prefetch;
mod py_imports;
mod schedule;
mod timeline;

use pyo3::prelude::*;

/// The core of fulmen, compiled.
#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<metrics::MetricStore>()?;
    module.add_class::<prefetch::Batch>()?;
    module.add_class::<prefetch::Gatherer>()?;
    module.add_class::<schedule::Schedule>()?;
    module.add_class::<timeline::Timeline>()?;
    module.add_function(wrap_pyfunction!(schedule::resolve_limit, module)?)?;
    Ok(())
}
