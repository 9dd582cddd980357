//! `CheckpointArchive`: an encoded checkpoint on its way to the disk.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fulmen_core::checkpoint::{archive as core, durable};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::snapshot::{Block, CheckpointBuffers, Copy, copy};
use crate::enter::enter_detached;

/// Copies above this size are worth a second thread.
const SHARED_COPY: usize = 8 << 20;

/// The bytes of one storage.
pub struct Storage {
    /// The storage itself, so that its memory stays; None when it was copied.
    owner: Option<Py<PyAny>>,
    address: usize,
    length: usize,
    on_cpu: bool,
    /// Does `owner` hold a copy already, which nobody changes?
    staged: bool,
    /// Where its copy lies, if it has one.
    copy: Option<(Arc<Block>, usize)>,
}

impl Storage {
    pub fn new(owner: Py<PyAny>, address: usize, length: usize, on_cpu: bool) -> Self {
        Self { owner: Some(owner), address, length, on_cpu, staged: false, copy: None }
    }
}

#[derive(Default)]
struct State {
    storages: Vec<Storage>,
    /// Entries beside the pickle.
    records: Vec<core::Beside>,
    /// Copies that are still to be made, into this block.
    pending: Vec<Copy>,
    block: Option<Arc<Block>>,
}

/// Where the copies of lasting storages lie, by address and length.
type Lasting = HashMap<(usize, usize), (Arc<Block>, usize)>;

/// An encoded checkpoint: a pickle, and the places of the storages that it refers to.
#[pyclass(module = "fulmen._core", frozen)]
pub struct CheckpointArchive {
    pickle: Vec<u8>,
    state: Mutex<State>,
    /// Apart from the state, which a write holds for as long as it takes.
    lasting: Mutex<Lasting>,
}

impl CheckpointArchive {
    pub fn new(pickle: Vec<u8>, storages: Vec<Storage>) -> Self {
        let state = State { storages, ..State::default() };
        Self { pickle, state: Mutex::new(state), lasting: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lasting(&self) -> MutexGuard<'_, Lasting> {
        self.lasting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to anything, with the GIL released by the caller.
    fn write_all(&self, out: &mut dyn Write, fetch: Option<&Py<PyAny>>) -> io::Result<u64> {
        let state = self.state();
        if !state.pending.is_empty() {
            return Err(io::Error::other("the checkpoint's copy is not complete"));
        }
        let guards: Vec<_> = state
            .storages
            .iter()
            .map(|storage| {
                storage.copy.as_ref().map(|(block, _)| block.bytes.read().unwrap_or_else(PoisonError::into_inner))
            })
            .collect();
        let pulls: Vec<Box<core::Pull<'_>>> = state
            .storages
            .iter()
            .enumerate()
            .map(|(number, _)| {
                Box::new(move |at: u64, buffer: &mut [u8]| pull(fetch, number, at, buffer)) as Box<core::Pull<'_>>
            })
            .collect();
        let sources: Vec<core::Source<'_>> = state
            .storages
            .iter()
            .zip(&guards)
            .zip(&pulls)
            .map(|((storage, guard), pull)| match (guard, &storage.copy) {
                (Some(bytes), Some((_, at))) => core::Source::Memory(&bytes[*at..*at + storage.length]),
                _ if storage.length == 0 => core::Source::Memory(&[]),
                _ if storage.on_cpu => {
                    // SAFETY: `owner` keeps the memory allocated; whoever wrote this archive without a copy waits for it
                    // and changes nothing meanwhile.
                    core::Source::Memory(unsafe {
                        std::slice::from_raw_parts(storage.address as *const u8, storage.length)
                    })
                }
                _ => core::Source::Pull { length: storage.length as u64, pull: pull.as_ref() },
            })
            .collect();
        core::write(&self.pickle, &sources, &state.records, out)
    }
}

fn pull(fetch: Option<&Py<PyAny>>, number: usize, at: u64, buffer: &mut [u8]) -> io::Result<()> {
    let fetch = fetch.ok_or_else(|| io::Error::other("a storage on a device, and nothing to fetch it with"))?;
    Python::attach(|py| {
        fetch.call1(py, (number, at, buffer.as_mut_ptr() as usize, buffer.len())).map_err(io::Error::other)
    })?;
    Ok(())
}

#[pymethods]
impl CheckpointArchive {
    /// Bytes of all storages.
    #[getter]
    fn nbytes(&self) -> usize {
        self.state().storages.iter().map(|storage| storage.length).sum()
    }

    /// Number of storages.
    fn __len__(&self) -> usize {
        self.state().storages.len()
    }

    /// The pickle.
    #[getter]
    fn pickle<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.pickle)
    }

    /// Keeps something beside the pickle, as an entry of the archive that `torch.load` does not look at.
    fn keep_beside(&self, name: String, content: Vec<u8>) {
        self.state().records.push((name, content));
    }

    /// The storages that do not lie in main memory, by number.
    fn device_storages(&self, py: Python<'_>) -> Vec<(usize, Py<PyAny>)> {
        let state = self.state();
        let found = state.storages.iter().enumerate().filter(|(_, storage)| !storage.on_cpu && storage.length > 0);
        found
            .filter_map(|(number, storage)| storage.owner.as_ref().map(|owner| (number, owner.clone_ref(py))))
            .collect()
    }

    /// A storage's bytes are, or will be before `write`, in main memory at another place, which `owner` keeps.
    fn substitute(&self, number: usize, address: usize, owner: Py<PyAny>) -> PyResult<()> {
        let mut state = self.state();
        let storage =
            state.storages.get_mut(number).ok_or_else(|| PyRuntimeError::new_err(format!("no storage {number}")))?;
        (storage.owner, storage.address, storage.on_cpu, storage.staged) = (Some(owner), address, true, true);
        Ok(())
    }

    /// Makes the archive independent of the tensors: copies their bytes, now or in `settle`.
    ///
    /// `lasting` holds the addresses of the storages that nobody changes before the next optimizer step. They are left to
    /// `settle` if `overlap` says so, and taken from `like`, an archive of the same moment, if it has them. Gives the bytes
    /// that were copied.
    #[pyo3(signature = (buffers, lasting, overlap, like=None))]
    fn detach(
        &self,
        py: Python<'_>,
        buffers: &CheckpointBuffers,
        lasting: std::collections::HashSet<usize>,
        overlap: bool,
        like: Option<&Self>,
    ) -> PyResult<usize> {
        let known = like.map(|other| other.lasting().clone()).unwrap_or_default();
        enter_detached(py, || {
            let mut state = self.state();
            let Plan { now, lasting, copied } = state.plan(buffers, &lasting, overlap, &known);
            *self.lasting() = lasting;
            for (block, copies) in &now {
                let size: usize = copies.iter().map(|copy| copy.length).sum();
                // SAFETY: the storages' owners keep the memory, and are let go only below and in `settle`.
                unsafe { copy(block, copies, 1 + usize::from(size >= SHARED_COPY)) };
            }
            Ok(copied)
        })
    }

    /// Copies what `detach` left, and lets go of the tensors.
    fn settle(&self, py: Python<'_>) -> PyResult<()> {
        let owners = enter_detached(py, || {
            let mut state = self.state();
            let pending = std::mem::take(&mut state.pending);
            if let Some(block) = state.block.take() {
                // SAFETY: the storages' owners keep the memory, and are let go below.
                unsafe { copy(&block, &pending, 1) };
            }
            let copied = state.storages.iter_mut().filter(|storage| storage.copy.is_some());
            Ok(copied.filter_map(|storage| storage.owner.take()).collect::<Vec<_>>())
        })?;
        drop(owners);
        Ok(())
    }

    /// Writes the file, durable when this returns; gives its size. `fetch(number, offset, address, count)` brings bytes of a
    /// storage on a device.
    #[pyo3(signature = (path, fetch=None))]
    fn write(&self, py: Python<'_>, path: PathBuf, fetch: Option<Py<PyAny>>) -> PyResult<u64> {
        enter_detached(py, || durable::replace(&path, |out| self.write_all(out, fetch.as_ref())))
    }

    /// Hands the file's bytes to `take`, piece by piece; gives their number.
    #[pyo3(signature = (take, fetch=None))]
    fn write_to(&self, py: Python<'_>, take: Py<PyAny>, fetch: Option<Py<PyAny>>) -> PyResult<u64> {
        let mut out = Callback { take: &take, error: None };
        let written = py.detach(|| self.write_all(&mut out, fetch.as_ref()));
        match (written, out.error) {
            (_, Some(error)) => Err(error),
            (Ok(size), None) => Ok(size),
            (Err(error), None) => Err(error.into()),
        }
    }
}

impl State {
    /// Gives every storage a place in a block. What is to be copied at once is returned, the rest noted.
    fn plan(
        &mut self,
        buffers: &CheckpointBuffers,
        lasting: &std::collections::HashSet<usize>,
        overlap: bool,
        known: &Lasting,
    ) -> Plan {
        let mut places = Lasting::new();
        let mut groups: [Vec<usize>; 2] = [Vec::new(), Vec::new()];
        for (number, storage) in self.storages.iter_mut().enumerate() {
            let lasts = !storage.staged && lasting.contains(&storage.address);
            if let Some(place) = known.get(&(storage.address, storage.length)).filter(|_| lasts) {
                storage.copy = Some(place.clone());
                places.insert((storage.address, storage.length), place.clone());
            } else if storage.on_cpu && !storage.staged && storage.length > 0 {
                groups[usize::from(lasts)].push(number);
            }
        }
        let (mut now, mut copied) = (Vec::new(), 0);
        for (lasts, numbers) in groups.into_iter().enumerate() {
            if numbers.is_empty() {
                continue;
            }
            let size = numbers.iter().map(|&number| self.storages[number].length.next_multiple_of(64)).sum();
            let block = Block::take(buffers, size);
            let (mut at, mut copies) = (0, Vec::with_capacity(numbers.len()));
            for number in numbers {
                let storage = &mut self.storages[number];
                copies.push(Copy { from: storage.address, length: storage.length, to: at });
                storage.copy = Some((Arc::clone(&block), at));
                if lasts == 1 {
                    places.insert((storage.address, storage.length), (Arc::clone(&block), at));
                }
                at += storage.length.next_multiple_of(64);
            }
            if lasts == 1 && overlap {
                (self.pending, self.block) = (copies, Some(block));
            } else {
                copied += size;
                now.push((block, copies));
            }
        }
        Plan { now, lasting: places, copied }
    }
}

/// What is copied at once, and how much that is.
struct Plan {
    now: Vec<(Arc<Block>, Vec<Copy>)>,
    lasting: Lasting,
    copied: usize,
}

/// Passes pieces to Python.
struct Callback<'a> {
    take: &'a Py<PyAny>,
    error: Option<PyErr>,
}

impl Write for Callback<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let passed = Python::attach(|py| self.take.call1(py, (PyBytes::new(py, bytes),)).map(|_| ()));
        match passed {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.error = Some(error);
                Err(io::Error::other("the receiver refused"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Removes the temporary files that dead processes left in a folder; gives their number.
#[pyfunction]
pub fn clean_checkpoint_folder(py: Python<'_>, folder: PathBuf) -> PyResult<usize> {
    enter_detached(py, || durable::clean(&folder))
}
