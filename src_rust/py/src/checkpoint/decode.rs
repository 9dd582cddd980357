//! `CheckpointFile`: a checked archive, and the Python objects that its pickle describes.
//!
//! What may be called is the loader's decision, a Python object with four methods:
//! - `find(module, name)` gives the object of a name, or raises;
//! - `new(cls, *arguments)` makes an object without its constructor;
//! - `storage(kind, key, location, numel)` gives an untyped storage;
//! - `typed(kind, key, location, numel)` gives what stands for a storage outside of a plain tensor.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;

use fulmen_core::checkpoint::pickle::parser::{self, Id, Made, Node, Pickle};
use fulmen_core::checkpoint::reader::{Archive, ReadAt};
use fulmen_core::{Error, Result};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PySet, PyString, PyTuple};

use crate::enter::{enter, enter_detached};
use crate::py_imports;

/// Nesting above this is no checkpoint.
const DEEPEST: usize = 1000;

/// An open checkpoint whose directory has been checked.
#[pyclass(module = "fulmen._core", frozen)]
pub struct CheckpointFile {
    file: File,
    archive: Archive,
    pickle: Pickle,
}

#[pymethods]
impl CheckpointFile {
    /// Opens a file: checks the directory, every entry's header, and the pickle with its sum.
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        enter_detached(py, || {
            let file = File::open(&path).map_err(|error| Error::io(&path, "open", &error))?;
            let archive = Archive::open(&file)?;
            let pickle = parser::parse(&archive.contents(&file, "data.pkl")?)?;
            Ok(Self { file, archive, pickle })
        })
    }

    /// Compares the checksums of all entries.
    fn verify(&self, py: Python<'_>) -> PyResult<()> {
        enter_detached(py, || self.archive.verify(&self.file))
    }

    /// Name, place, size and checksum of every entry.
    fn entries(&self) -> Vec<(String, u64, u64, u32)> {
        self.archive.entries.iter().map(|entry| (entry.name.clone(), entry.start, entry.size, entry.crc)).collect()
    }

    /// Place and size of one entry.
    fn entry(&self, py: Python<'_>, name: &str) -> PyResult<(u64, u64)> {
        enter(py, || match self.archive.entry(name) {
            Some(entry) => Ok((entry.start, entry.size)),
            None => Err(Error::Damaged { why: format!("the entry {name} is missing") }),
        })
    }

    /// The contents of a small entry.
    fn contents<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = enter_detached(py, || self.archive.contents(&self.file, name))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Reads an entry's bytes into memory at an address, which the caller keeps.
    fn read_into(&self, py: Python<'_>, name: &str, address: usize, count: usize) -> PyResult<()> {
        enter_detached(py, || {
            let entry = self.archive.entry(name).filter(|entry| entry.size >= count as u64);
            let entry =
                entry.ok_or_else(|| Error::Damaged { why: format!("the entry {name} is missing or too short") })?;
            // SAFETY: the caller passes memory of `count` bytes that it owns and that nobody else uses now.
            let buffer = unsafe { std::slice::from_raw_parts_mut(address as *mut u8, count) };
            self.file.read_at(entry.start, buffer).map_err(|error| Error::io("", "read", &error))
        })
    }

    /// The number of the open file, for a map of it.
    #[cfg(unix)]
    fn fileno(&self) -> i32 {
        use std::os::fd::AsRawFd;
        self.file.as_raw_fd()
    }

    /// Every name that the pickle refers to: ("torch._utils", "_rebuild_tensor_v2").
    fn globals(&self) -> Vec<(String, String)> {
        self.pickle.globals().into_iter().map(|(module, name)| (module.to_owned(), name.to_owned())).collect()
    }

    /// Makes the objects.
    fn load<'py>(&self, py: Python<'py>, loader: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let torch = py_imports::torch(py)?;
        let mut decoder = Decoder {
            py,
            pickle: &self.pickle,
            loader: loader.clone(),
            made: vec![None; self.pickle.nodes.len()],
            open: vec![false; self.pickle.nodes.len()],
            storages: HashMap::new(),
            dtypes: HashMap::new(),
            empty: torch.getattr("empty")?,
            torch: torch.into_any(),
            depth: 0,
        };
        decoder.make(self.pickle.root)
    }
}

/// What the tuple says that stands for a storage.
struct Reference<'a> {
    kind: &'a str,
    key: &'a str,
    location: &'a str,
    numel: i64,
}

struct Decoder<'a, 'py> {
    py: Python<'py>,
    pickle: &'a Pickle,
    loader: Bound<'py, PyAny>,
    made: Vec<Option<Bound<'py, PyAny>>>,
    /// Being made: a circle through something that has to be complete before it can be referred to.
    open: Vec<bool>,
    /// Storages by key, with the number of elements.
    storages: HashMap<&'a str, (Bound<'py, PyAny>, i64, &'a str)>,
    dtypes: HashMap<&'a str, Bound<'py, PyAny>>,
    torch: Bound<'py, PyAny>,
    empty: Bound<'py, PyAny>,
    depth: usize,
}

fn damaged(why: impl Into<String>) -> Error {
    Error::Damaged { why: why.into() }
}

impl<'a, 'py> Decoder<'a, 'py> {
    fn fail<T>(&self, why: impl Into<String>) -> PyResult<T> {
        enter(self.py, || Err(damaged(why)))
    }

    fn make(&mut self, id: Id) -> PyResult<Bound<'py, PyAny>> {
        if let Some(made) = &self.made[id as usize] {
            return Ok(made.clone());
        }
        if self.open[id as usize] {
            return self.fail("its pickle refers to an object within itself");
        }
        self.depth += 1;
        if self.depth > DEEPEST {
            return self.fail("its pickle is nested too deeply");
        }
        self.open[id as usize] = true;
        let made = self.make_node(id)?;
        self.open[id as usize] = false;
        self.depth -= 1;
        self.made[id as usize] = Some(made.clone());
        Ok(made)
    }

    fn make_node(&mut self, id: Id) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        Ok(match self.pickle.node(id) {
            Node::None => py.None().into_bound(py),
            Node::Bool(value) => value.into_pyobject(py)?.to_owned().into_any(),
            Node::Int(value) => value.into_pyobject(py)?.into_any(),
            Node::Float(value) => value.into_pyobject(py)?.into_any(),
            Node::Long(bytes) => self.long(bytes)?,
            Node::Text(bytes) => self.text(bytes)?,
            Node::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
            Node::Tuple(parts) => PyTuple::new(py, self.all(parts)?)?.into_any(),
            Node::Set(parts) => PySet::new(py, self.all(parts)?)?.into_any(),
            Node::List(parts) => {
                let list = PyList::empty(py);
                self.register(id, list.as_any());
                for &part in parts {
                    list.append(self.make(part)?)?;
                }
                list.into_any()
            }
            Node::Dict(pairs) => {
                let dict = PyDict::new(py);
                self.register(id, dict.as_any());
                for &(key, value) in pairs {
                    dict.set_item(self.make(key)?, self.make(value)?)?;
                }
                dict.into_any()
            }
            Node::Global { module, name } => self.find(module, name)?,
            Node::Persistent(reference) => {
                let Reference { kind, key, location, numel } = self.reference(*reference)?;
                self.loader.call_method1(intern!(py, "typed"), (kind, key, location, numel))?
            }
            Node::Made(made) => self.object(id, made)?,
        })
    }

    /// A container that may hold itself is known before it is filled.
    fn register(&mut self, id: Id, value: &Bound<'py, PyAny>) {
        self.made[id as usize] = Some(value.clone());
    }

    fn all(&mut self, parts: &[Id]) -> PyResult<Vec<Bound<'py, PyAny>>> {
        parts.iter().map(|&part| self.make(part)).collect()
    }

    fn long(&self, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let options = PyDict::new(self.py);
        options.set_item("signed", true)?;
        let int = self.py.get_type::<pyo3::types::PyInt>();
        int.call_method("from_bytes", (PyBytes::new(self.py, bytes), "little"), Some(&options))
    }

    fn text(&self, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return Ok(PyString::new(self.py, text).into_any());
        }
        PyBytes::new(self.py, bytes)
            .call_method1("decode", ("utf-8", "surrogatepass"))
            .or_else(|_| self.fail("its pickle holds a text that is none"))
    }

    fn find(&self, module: &str, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.loader.call_method1(intern!(self.py, "find"), (module, name))
    }

    // ---- storages and tensors ----------------------------------------------------------------------------------------

    fn str_of(&self, id: Id) -> Result<&'a str> {
        match self.pickle.node(id) {
            Node::Text(bytes) => std::str::from_utf8(bytes).map_err(|_| damaged("a name in its pickle is no text")),
            _ => Err(damaged("a name in its pickle is no text")),
        }
    }

    fn reference(&self, id: Id) -> PyResult<Reference<'a>> {
        enter(self.py, || {
            let odd = || damaged("its pickle refers to a storage in an unknown way");
            let Node::Tuple(parts) = self.pickle.node(id) else { return Err(odd()) };
            let &[word, kind, key, location, numel] = parts.as_slice() else { return Err(odd()) };
            let Node::Global { module, name: kind } = self.pickle.node(kind) else { return Err(odd()) };
            let Node::Int(numel) = *self.pickle.node(numel) else { return Err(odd()) };
            if self.str_of(word)? != "storage" || !(module == "torch" || module.starts_with("torch.")) || numel < 0 {
                return Err(odd());
            }
            Ok(Reference { kind, key: self.str_of(key)?, location: self.str_of(location)?, numel })
        })
    }

    /// A plain tensor without a detour through Python; None if it is not one.
    fn tensor(&mut self, arguments: &[Id]) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = self.py;
        let &[storage, offset, size, stride, gradient, _hooks] = arguments else { return Ok(None) };
        let (&Node::Persistent(storage), &Node::Int(offset), &Node::Bool(gradient)) =
            (self.pickle.node(storage), self.pickle.node(offset), self.pickle.node(gradient))
        else {
            return Ok(None);
        };
        let (Some(size), Some(stride)) = (self.sizes(size), self.sizes(stride)) else { return Ok(None) };
        let reference = self.reference(storage)?;
        let Some(dtype) = self.dtype(reference.kind)? else { return Ok(None) };
        let (storage, numel, _) = match self.storages.get(reference.key) {
            Some(known) if known.2 != reference.kind => return self.fail("one storage has two types"),
            Some(known) => known.clone(),
            None => {
                let call = (reference.kind, reference.key, reference.location, reference.numel);
                let storage = self.loader.call_method1(intern!(py, "storage"), call)?;
                let entry = (storage, reference.numel, reference.kind);
                self.storages.insert(reference.key, entry.clone());
                entry
            }
        };
        if !fits(offset, &size, &stride, numel) {
            return self.fail(format!("a tensor of shape {size:?} reaches beyond its storage of {numel} elements"));
        }
        let options = PyDict::new(py);
        options.set_item(intern!(py, "dtype"), dtype)?;
        options.set_item(intern!(py, "device"), storage.getattr(intern!(py, "device"))?)?;
        let tensor = self.empty.call((0,), Some(&options))?;
        let (size, stride) = (PyTuple::new(py, size)?, PyTuple::new(py, stride)?);
        tensor.call_method1(intern!(py, "set_"), (storage, offset, size, stride))?;
        if gradient {
            tensor.setattr(intern!(py, "requires_grad"), true)?;
        }
        Ok(Some(tensor))
    }

    fn sizes(&self, id: Id) -> Option<Vec<i64>> {
        let Node::Tuple(parts) = self.pickle.node(id) else { return None };
        let sizes = parts.iter().map(|&part| match *self.pickle.node(part) {
            Node::Int(value) if value >= 0 => Some(value),
            _ => None,
        });
        sizes.collect()
    }

    /// The dtype that goes with a typed storage.
    fn dtype(&mut self, kind: &'a str) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(known) = self.dtypes.get(kind) {
            return Ok(Some(known.clone()));
        }
        let name = match kind {
            "FloatStorage" => "float32",
            "DoubleStorage" => "float64",
            "HalfStorage" => "float16",
            "BFloat16Storage" => "bfloat16",
            "LongStorage" => "int64",
            "IntStorage" => "int32",
            "ShortStorage" => "int16",
            "CharStorage" => "int8",
            "ByteStorage" => "uint8",
            "BoolStorage" => "bool",
            _ => return Ok(None),
        };
        let dtype = self.torch.getattr(name)?;
        self.dtypes.insert(kind, dtype.clone());
        Ok(Some(dtype))
    }

    // ---- objects -----------------------------------------------------------------------------------------------------

    fn object(&mut self, id: Id, made: &'a Made) -> PyResult<Bound<'py, PyAny>> {
        let Node::Tuple(arguments) = self.pickle.node(made.arguments) else {
            return self.fail("a call whose arguments are no tuple");
        };
        if let Node::Global { module, name } = self.pickle.node(made.callable)
            && module == "torch._utils"
            && name == "_rebuild_tensor_v2"
            && made.state.is_none()
            && let Some(tensor) = self.tensor(arguments)?
        {
            return Ok(tensor);
        }
        let callable = self.make(made.callable)?;
        let arguments = self.all(arguments)?;
        let object = if made.new {
            let mut all = vec![callable.clone()];
            all.extend(arguments);
            self.loader.call_method1(intern!(self.py, "new"), PyTuple::new(self.py, all)?)?
        } else {
            callable.call1(PyTuple::new(self.py, arguments)?)?
        };
        self.register(id, &object);
        for &value in &made.appended {
            object.call_method1(intern!(self.py, "append"), (self.make(value)?,))?;
        }
        for &(key, value) in &made.items {
            object.set_item(self.make(key)?, self.make(value)?)?;
        }
        if let Some(state) = made.state {
            let state = self.make(state)?;
            self.set_state(&object, &state)?;
        }
        Ok(object)
    }

    /// As `pickle` does it: the object's own method, or its attributes one by one.
    fn set_state(&self, object: &Bound<'py, PyAny>, state: &Bound<'py, PyAny>) -> PyResult<()> {
        if let Ok(method) = object.getattr(intern!(self.py, "__setstate__")) {
            return method.call1((state,)).map(|_| ());
        }
        let (attributes, slots) = match state.cast::<PyTuple>() {
            Ok(pair) if pair.len() == 2 => (pair.get_item(0)?, Some(pair.get_item(1)?)),
            _ => (state.clone(), None),
        };
        if !attributes.is_none() {
            object.getattr(intern!(self.py, "__dict__"))?.call_method1(intern!(self.py, "update"), (attributes,))?;
        }
        if let Some(slots) = slots.filter(|slots| !slots.is_none()) {
            let slots =
                slots.cast::<PyDict>().map_err(|_| PyRuntimeError::new_err("its pickle sets slots from no dict"))?;
            for (name, value) in slots.iter() {
                object.setattr(
                    name.cast::<PyString>().map_err(|_| PyTypeError::new_err("a slot without a name"))?,
                    value,
                )?;
            }
        }
        Ok(())
    }
}

/// Does a tensor lie within its storage?
fn fits(offset: i64, size: &[i64], stride: &[i64], numel: i64) -> bool {
    if size.len() != stride.len() || offset < 0 {
        return false;
    }
    if size.contains(&0) {
        return true;
    }
    let last = size.iter().zip(stride).try_fold(offset, |last, (&size, &stride)| {
        (size - 1).checked_mul(stride).and_then(|reach| last.checked_add(reach))
    });
    last.is_some_and(|last| last < numel)
}
