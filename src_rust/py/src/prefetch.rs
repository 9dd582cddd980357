//! `fulmen._core.Gatherer` and `fulmen._core.Batch`: rows of datasets in memory, as batches of tensors.

use std::any::Any;
use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fulmen_core::prefetch::{Buffer, Engine, Indices, Located, Node, Plan, Pool, Region, Ticket};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyList, PyTuple};

use crate::dlpack::{self, Element};
use crate::enter::{detached, enter};
use crate::order::Span;

/// From this many bytes on, other Python threads may run while a batch is copied.
const DETACH_FROM: usize = 64 * 1024;
/// How long to wait for threads before looking for signals.
const PATIENCE: Duration = Duration::from_millis(50);

/// The threads of this process.
///
/// Only locked by threads that are attached to the interpreter, and never while they detach: a process forked off by Python
/// finds it unlocked.
static ENGINE: Mutex<Option<Arc<Engine>>> = Mutex::new(None);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn engine() -> Arc<Engine> {
    let mut engine = lock(&ENGINE);
    match &*engine {
        Some(engine) if !engine.foreign() => Arc::clone(engine),
        _ => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let new = Arc::new(Engine::new((cores / 2).clamp(1, 8)));
            // one that was forked along has locks that nobody will release
            std::mem::forget(engine.replace(Arc::clone(&new)));
            new
        }
    }
}

/// One field of a batch: type and the shape of a row.
struct Field {
    kind: Element,
    shape: Vec<i64>,
}

/// Gathers the rows of a dataset in memory.
#[pyclass(module = "fulmen._core", frozen)]
pub struct Gatherer {
    plan: Arc<Plan>,
    fields: Arc<Vec<Field>>,
    pool: Arc<Pool>,
    empty_like: Py<PyAny>,
    from_dlpack: Py<PyAny>,
    scratch: Mutex<Located>,
}

#[pymethods]
impl Gatherer {
    /// Takes a dataset's description: nested tuples, see `fulmen.prefetch.datasets`.
    #[new]
    fn new(
        py: Python<'_>,
        plan: &Bound<'_, PyAny>,
        fields: Vec<(u8, u8, Vec<i64>)>,
        keep_bytes: usize,
        empty_like: Py<PyAny>,
        from_dlpack: Py<PyAny>,
    ) -> PyResult<Self> {
        let root = node(py, plan)?;
        let plan = enter(py, || Plan::new(root))?;
        if plan.widths().len() != fields.len() {
            return Err(PyValueError::new_err(format!("{} fields, types of {}", plan.widths().len(), fields.len())));
        }
        let fields: Vec<Field> =
            fields.into_iter().map(|(code, bits, shape)| Field { kind: Element { code, bits }, shape }).collect();
        for (field, &width) in fields.iter().zip(plan.widths()) {
            let elements = field.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(u64::try_from(d).ok()?));
            if elements.map(|n| n * u64::from(field.kind.bits) / 8) != Some(width as u64) {
                return Err(PyValueError::new_err(format!(
                    "a row of {width} bytes cannot have shape {:?}",
                    field.shape
                )));
            }
        }
        Ok(Self {
            plan: Arc::new(plan),
            fields: Arc::new(fields),
            pool: Pool::new(keep_bytes),
            empty_like,
            from_dlpack,
            scratch: Mutex::default(),
        })
    }

    /// A batch at once, as new tensors like `templates`, one per field; None if an index is no int within bounds.
    fn now<'py>(
        &self,
        py: Python<'py>,
        indices: &Bound<'py, PyAny>,
        templates: &Bound<'py, PyList>,
    ) -> PyResult<Option<Bound<'py, PyList>>> {
        let Some(indices) = numbers(indices)? else { return Ok(None) };
        if templates.len() != self.fields.len() {
            return Err(PyValueError::new_err("one template for each field"));
        }
        let batch = PyList::empty(py);
        let mut into = Vec::with_capacity(self.fields.len());
        let empty_like = self.empty_like.bind(py);
        for (at, &width) in self.plan.widths().iter().enumerate() {
            let tensor = empty_like.call1((templates.get_item(at)?,))?;
            let address: usize = tensor.call_method0(intern!(py, "data_ptr"))?.extract()?;
            debug_assert!(width == 0 || address != 0);
            into.push(std::ptr::with_exposed_provenance_mut::<u8>(address));
            batch.append(tensor)?;
        }
        let mut found = std::mem::take(&mut *lock(&self.scratch));
        if !self.plan.locate(&indices, &mut found) {
            return Ok(None);
        }
        let bytes = self.plan.widths().iter().sum::<usize>() * indices.len();
        let pointers = Pointers(into);
        let copy = |found: &Located, pointers: &Pointers| {
            // SAFETY: `found` was just located by this plan. The tensors are new, contiguous, referred to by `batch`, and
            // as large as their templates, which the caller made for as many rows as there are indices.
            unsafe { self.plan.gather(found, pointers.get()) };
        };
        if bytes < DETACH_FROM {
            copy(&found, &pointers);
        } else {
            detached(py, || copy(&found, &pointers));
        }
        *lock(&self.scratch) = found;
        Ok(Some(batch))
    }

    /// The same fields and buffers over the same dataset, whose parts may have moved.
    fn replanned(&self, py: Python<'_>, plan: &Bound<'_, PyAny>) -> PyResult<Self> {
        let root = node(py, plan)?;
        let plan = enter(py, || Plan::new(root))?;
        if plan.widths() != self.plan.widths() {
            return Err(PyValueError::new_err("rows of another width"));
        }
        Ok(Self {
            plan: Arc::new(plan),
            fields: Arc::clone(&self.fields),
            pool: Arc::clone(&self.pool),
            empty_like: self.empty_like.clone_ref(py),
            from_dlpack: self.from_dlpack.clone_ref(py),
            scratch: Mutex::default(),
        })
    }

    /// Begins a batch in the background; None if an index is no int within bounds.
    fn start(&self, py: Python<'_>, indices: &Bound<'_, PyAny>) -> PyResult<Option<Batch>> {
        let Some(indices) = numbers(indices)? else { return Ok(None) };
        let ticket = enter(py, || engine().start(&self.plan, &indices, &self.pool))?;
        Ok(ticket.map(|ticket| Batch {
            ticket: Mutex::new(Some(ticket)),
            fields: Arc::clone(&self.fields),
            from_dlpack: self.from_dlpack.clone_ref(py),
        }))
    }

    /// Buffers allocated so far, and the bytes of those that wait for a batch.
    fn pool_counts(&self) -> (usize, usize) {
        self.pool.counts()
    }
}

/// Addresses that the copying thread alone uses.
struct Pointers(Vec<*mut u8>);

impl Pointers {
    fn get(&self) -> &[*mut u8] {
        &self.0
    }
}

// SAFETY: the memory is that of tensors nobody else knows yet.
unsafe impl Send for Pointers {}
// SAFETY: as above.
unsafe impl Sync for Pointers {}

/// A batch on its way.
#[pyclass(module = "fulmen._core", frozen)]
pub struct Batch {
    ticket: Mutex<Option<Ticket>>,
    fields: Arc<Vec<Field>>,
    from_dlpack: Py<PyAny>,
}

#[pymethods]
impl Batch {
    /// Waits for it, and gives its tensors, one per field. Once.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let ticket = lock(&self.ticket).take().ok_or_else(|| PyRuntimeError::new_err("the batch was taken before"))?;
        let rows = ticket.rows();
        while !detached(py, || ticket.wait(PATIENCE)) {
            py.check_signals()?;
        }
        let buffers = ticket.take().ok_or_else(|| PyRuntimeError::new_err("the batch is not ready"))?;
        let batch = PyList::empty(py);
        let from_dlpack = self.from_dlpack.bind(py);
        for (buffer, field) in buffers.into_iter().zip(&*self.fields) {
            batch.append(from_dlpack.call1((capsule(py, buffer, rows, field)?,))?)?;
        }
        Ok(batch)
    }
}

/// The indices of a span, list or tuple; None if one of them is not exactly an int.
fn numbers<'a>(indices: &'a Bound<'_, PyAny>) -> PyResult<Option<Cow<'a, [i64]>>> {
    fn exact(item: &Bound<'_, PyAny>) -> Option<i64> {
        item.cast_exact::<PyInt>().ok()?.extract().ok()
    }
    if let Ok(span) = indices.cast_exact::<Span>() {
        Ok(Some(Cow::Borrowed(span.get().indices())))
    } else if let Ok(list) = indices.cast_exact::<PyList>() {
        Ok(list.iter().map(|item| exact(&item)).collect::<Option<Vec<_>>>().map(Cow::Owned))
    } else if let Ok(tuple) = indices.cast_exact::<PyTuple>() {
        Ok(tuple.iter_borrowed().map(|item| exact(&item)).collect::<Option<Vec<_>>>().map(Cow::Owned))
    } else {
        Ok(None)
    }
}

/// Reads a description.
fn node(py: Python<'_>, description: &Bound<'_, PyAny>) -> PyResult<Node> {
    let parts = description.cast::<PyTuple>()?;
    let kind: String = parts.get_item(0)?.extract()?;
    let many = |item: Bound<'_, PyAny>| item.try_iter()?.map(|part| node(py, &part?)).collect::<PyResult<Vec<_>>>();
    Ok(match kind.as_str() {
        "rows" => {
            let (field, address, rows, stride, width): (usize, usize, usize, usize, usize) =
                parts.get_slice(1, 6).extract()?;
            let keep: Arc<dyn Any + Send + Sync> = Arc::new(parts.get_item(6)?.unbind());
            let base = std::ptr::with_exposed_provenance::<u8>(address);
            // SAFETY: `fulmen.prefetch.datasets` describes tensors and arrays by their own addresses, numbers of rows and
            // strides, and `keep` holds a reference to what owns their memory. User code may write to them at any time,
            // as it may while torch copies them.
            let region = enter(py, || unsafe { Region::new(base, rows, stride, width, keep) })?;
            Node::Rows { field, region }
        }
        "fields" => Node::Fields(many(parts.get_item(1)?)?),
        "subset" => {
            let given = parts.get_item(1)?;
            let indices = if let Ok((start, step, len)) = given.extract::<(i64, i64, usize)>() {
                Indices::Range { start, step, len }
            } else {
                match numbers(&given)? {
                    Some(listed) => Indices::Listed(listed.into_owned()),
                    None => return Err(PyValueError::new_err("indices that are no ints")),
                }
            };
            Node::Subset { indices, of: Box::new(node(py, &parts.get_item(2)?)?) }
        }
        "concat" => Node::Concat { ends: parts.get_item(1)?.extract()?, parts: many(parts.get_item(2)?)? },
        _ => return Err(PyValueError::new_err(format!("no part of a dataset is called {kind:?}"))),
    })
}

/// A DLPack capsule over a buffer, which goes back to its pool when the last tensor over it is gone.
fn capsule<'py>(py: Python<'py>, buffer: Buffer, rows: usize, field: &Field) -> PyResult<Bound<'py, PyAny>> {
    let mut shape = vec![i64::try_from(rows)?];
    shape.extend_from_slice(&field.shape);
    let start = buffer.start();
    // SAFETY: the buffer has room for its rows, is nobody else's, and is the owner.
    unsafe { dlpack::tensor(py, start, shape, field.kind, Box::new(buffer)) }
}
