//! `fulmen._core`: thin bindings, one file per core module.

mod checkpoint;
mod dlpack;
mod enter;
mod exchange;
mod metrics;
mod metrics_batch;
mod metrics_sites;
mod order;
mod prefetch;
mod py_imports;
#[cfg(target_os = "linux")]
mod ring;
mod schedule;
mod schedule_arguments;
mod timeline;

use pyo3::prelude::*;

/// The core of fulmen, compiled.
#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<checkpoint::CheckpointArchive>()?;
    module.add_class::<checkpoint::CheckpointBuffers>()?;
    module.add_class::<checkpoint::CheckpointFile>()?;
    module.add_class::<metrics::MetricStore>()?;
    module.add_class::<order::Order>()?;
    module.add_class::<order::Span>()?;
    module.add_class::<prefetch::Batch>()?;
    module.add_class::<prefetch::Gatherer>()?;
    module.add_class::<schedule::Schedule>()?;
    module.add_function(wrap_pyfunction!(checkpoint::clean_checkpoint_folder, module)?)?;
    module.add_function(wrap_pyfunction!(checkpoint::encode_checkpoint, module)?)?;
    module.add_class::<timeline::Timeline>()?;
    module.add_function(wrap_pyfunction!(schedule::resolve_limit, module)?)?;
    #[cfg(target_os = "linux")]
    {
        module.add_class::<ring::RingBatch>()?;
        module.add_class::<ring::RingConsumer>()?;
        module.add_class::<ring::RingProducer>()?;
        module.add_function(wrap_pyfunction!(ring::ring_die_with_parent, module)?)?;
        module.add_function(wrap_pyfunction!(ring::ring_note_fork, module)?)?;
        module.add_function(wrap_pyfunction!(ring::ring_send, module)?)?;
        module.add_function(wrap_pyfunction!(ring::ring_wait, module)?)?;
    }
    Ok(())
}
