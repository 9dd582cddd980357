//! `fulmen._core.RingProducer`, `RingConsumer` and `RingBatch`: batches in memory that worker processes share.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, TryFromFloatSecsError};

use fulmen_core::prefetch::ring::message::MESSAGE;
use fulmen_core::prefetch::ring::{Consumer, Held, Message, Part, Producer, note_fork, wake};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::dlpack::{self, Element};
use crate::enter::{detached, enter};

/// From this many bytes on, other Python threads may run while a batch is copied.
const DETACH_FROM: usize = 64 * 1024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn borrowed<'a>(fd: i32) -> PyResult<BorrowedFd<'a>> {
    if fd < 0 {
        return Err(PyValueError::new_err("a closed file"));
    }
    // SAFETY: `fulmen.prefetch` passes descriptors of objects that it keeps open during the call.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// A worker's end of a ring.
#[pyclass(module = "fulmen._core", frozen)]
pub struct RingProducer {
    inner: Mutex<Producer>,
}

#[pymethods]
impl RingProducer {
    /// Opens a ring; takes the descriptor over.
    #[new]
    fn new(py: Python<'_>, fd: i32) -> PyResult<Self> {
        borrowed(fd)?;
        // SAFETY: the caller hands the descriptor over.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { inner: Mutex::new(enter(py, || Producer::open(file))?) })
    }

    /// Is the batch of this task still wanted?
    fn wanted(&self, task: u64) -> bool {
        lock(&self.inner).wanted(task)
    }

    /// Begins a batch.
    fn begin(&self) {
        lock(&self.inner).begin();
    }

    /// A capsule over a contiguous tensor in the slot that is being filled, None if there is no room.
    fn reserve<'py>(
        &self,
        py: Python<'py>,
        code: u8,
        bits: u8,
        shape: Vec<i64>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
        let bytes = elements.and_then(|n| n.checked_mul(usize::from(bits / 8)));
        let Some(bytes) = bytes.filter(|&bytes| bytes > 0) else { return Ok(None) };
        let Some((start, owner)) = lock(&self.inner).reserve(bytes) else { return Ok(None) };
        // SAFETY: the memory was reserved for this caller, has room for the elements, and stays mapped as long as the owner
        // lives.
        unsafe { dlpack::tensor(py, start, shape, Element { code, bits }, Box::new(owner)) }.map(Some)
    }

    /// Completes a batch; the message about it, None if no slot is free.
    ///
    /// `parts` are addresses and lengths of memory that stays as it is during the call.
    fn seal<'py>(
        &self,
        py: Python<'py>,
        task: u64,
        kind: u16,
        first: &Bound<'py, PyBytes>,
        parts: Vec<(usize, usize)>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let first = first.as_bytes();
        let mut all = vec![Part { start: first.as_ptr(), len: first.len() }];
        all.extend(parts.into_iter().map(|(at, len)| Part { start: std::ptr::with_exposed_provenance(at), len }));
        let bytes: usize = all.iter().map(|part| part.len).sum();
        let work = || {
            // SAFETY: `first` is alive, and `fulmen.prefetch.transport` keeps tensors and arrays alive whose addresses and
            // lengths it gives.
            unsafe { lock(&self.inner).seal(task, kind, &all) }
        };
        let message = if bytes < DETACH_FROM {
            enter(py, work)?
        } else {
            detached(py, work).or_else(|e| enter(py, || Err(e)))?
        };
        Ok(message.map(|message| PyBytes::new(py, &message.to_bytes())))
    }

    /// Bytes that the slots have now.
    fn memory(&self) -> usize {
        lock(&self.inner).bytes()
    }
}

/// The parent's end of a ring.
#[pyclass(module = "fulmen._core", frozen)]
pub struct RingConsumer {
    inner: Consumer,
}

#[pymethods]
impl RingConsumer {
    /// Makes a ring with so many slots.
    #[new]
    fn new(py: Python<'_>, slots: usize) -> PyResult<Self> {
        Ok(Self { inner: enter(py, || Consumer::new(slots))? })
    }

    /// The file's descriptor.
    fn fileno(&self) -> i32 {
        self.inner.file().as_fd().as_raw_fd()
    }

    /// How many batches of the ring are in use.
    fn held(&self) -> usize {
        self.inner.held()
    }

    /// Tasks below this number are not wanted any more.
    fn set_floor(&self, task: u64) {
        self.inner.set_floor(task);
    }

    /// Takes the batch that a message speaks of.
    fn take(&self, py: Python<'_>, message: &[u8]) -> PyResult<RingBatch> {
        let held = enter(py, || self.inner.take(&Message::parse(message)?))?;
        Ok(RingBatch { held: Arc::new(held) })
    }
}

/// A batch in a ring; its slot is free again when this and all tensors over it are gone.
#[pyclass(module = "fulmen._core", frozen)]
pub struct RingBatch {
    held: Arc<Held>,
}

#[pymethods]
impl RingBatch {
    /// The number of the task.
    #[getter]
    fn task(&self) -> u64 {
        self.held.message().task
    }

    /// What kind of batch it is.
    #[getter]
    fn kind(&self) -> u16 {
        self.held.message().kind
    }

    /// The first part, copied.
    fn first<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.held.copy(0).ok_or_else(|| PyIndexError::new_err("a batch without parts"))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// A capsule over a part.
    fn part<'py>(&self, py: Python<'py>, number: usize) -> PyResult<Bound<'py, PyAny>> {
        let (start, len) =
            self.held.part(number).ok_or_else(|| PyIndexError::new_err(format!("a batch has no part {number}")))?;
        // SAFETY: the part stays where it is as long as `held` lives, and the producer does not write to it.
        unsafe { dlpack::bytes(py, start, len, Box::new(Arc::clone(&self.held))) }
    }
}

/// Channels and messages, closed channels, ended processes.
type News<'py> = (Vec<(usize, Bound<'py, PyBytes>)>, Vec<usize>, Vec<usize>);

/// Waits for messages of workers: channels and messages, closed channels, ended processes. Signals end the wait. For the
/// first `awake` seconds of it the thread does not sleep.
#[pyfunction]
pub fn ring_wait<'py>(
    py: Python<'py>,
    channels: Vec<i32>,
    watched: Vec<i32>,
    seconds: f64,
    awake: f64,
) -> PyResult<News<'py>> {
    let open = |files: &[i32]| files.iter().map(|fd| borrowed(*fd)).collect::<PyResult<Vec<_>>>();
    let (channels, watched) = (open(&channels)?, open(&watched)?);
    let duration = |seconds| {
        Duration::try_from_secs_f64(seconds)
            .map_err(|error: TryFromFloatSecsError| PyValueError::new_err(error.to_string()))
    };
    let (time, awake) = (duration(seconds)?, duration(awake)?);
    let news =
        detached(py, || wake::wait(&channels, &watched, time, awake)).or_else(|error| enter(py, || Err(error)))?;
    if news.messages.is_empty() {
        // not otherwise: an exception would lose the messages
        py.check_signals()?;
    }
    let messages = news
        .messages
        .iter()
        .flat_map(|(channel, bytes)| bytes.chunks_exact(MESSAGE).map(|message| (*channel, PyBytes::new(py, message))));
    Ok((messages.collect(), news.closed, news.ended))
}

/// Sends a message.
#[pyfunction]
pub fn ring_send(py: Python<'_>, fd: i32, message: &[u8]) -> PyResult<()> {
    let file = borrowed(fd)?;
    enter(py, || wake::send(file, message))
}

/// To be called before the process forks.
#[pyfunction]
pub fn ring_note_fork() {
    note_fork();
}

/// Ends this process when its parent ends.
#[pyfunction]
pub fn ring_die_with_parent(py: Python<'_>) -> PyResult<()> {
    enter(py, wake::die_with_parent)
}
