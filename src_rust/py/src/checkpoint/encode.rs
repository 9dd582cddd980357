//! From a dictionary of tensors and plain data to a pickle, as `torch.save` would write it.
//!
//! Tensors and the plain types are written here, by their exact type. Everything else goes by its `__reduce_ex__`, as in
//! Python's pickle; every class and function that is named on the way is put before a judge, which knows what may be saved.

use std::collections::{HashMap, HashSet};

use fulmen_core::checkpoint::pickle::writer::Writer;
use pyo3::exceptions::{PyRecursionError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};

use super::archive::{CheckpointArchive, Storage};
use crate::py_imports;

/// As deep as Python's own pickle gets with the default recursion limit.
const DEEPEST: usize = 330;

/// Numpy's and Python's names for the dtypes whose tensors refer to a storage of their own type.
const STORAGES: [(&str, &str, u64); 10] = [
    ("float32", "FloatStorage", 4),
    ("float64", "DoubleStorage", 8),
    ("float16", "HalfStorage", 2),
    ("bfloat16", "BFloat16Storage", 2),
    ("int64", "LongStorage", 8),
    ("int32", "IntStorage", 4),
    ("int16", "ShortStorage", 2),
    ("int8", "CharStorage", 1),
    ("uint8", "ByteStorage", 1),
    ("bool", "BoolStorage", 1),
];

/// Encodes a checkpoint.
///
/// `judge(module, name, path, type)` is asked about every class and function that the pickle would name: True: always fine;
/// False: fine here; it raises what must not be saved.
#[pyfunction]
pub fn encode_checkpoint<'py>(
    checkpoint: &Bound<'py, PyAny>,
    judge: &Bound<'py, PyAny>,
) -> PyResult<CheckpointArchive> {
    let mut encoder = Encoder::new(checkpoint.py(), judge.clone())?;
    encoder.save(checkpoint)?;
    Ok(CheckpointArchive::new(encoder.writer.finish(), encoder.storages))
}

/// What a storage was first seen as: its number, its type's name, and where that was.
struct Seen {
    number: usize,
    kind: &'static str,
    path: String,
}

enum Key<'py> {
    Name(Bound<'py, PyAny>),
    Index(usize),
}

struct Encoder<'py> {
    py: Python<'py>,
    judge: Bound<'py, PyAny>,
    writer: Writer,
    /// By address; the object is kept, so that no other can take its address.
    memo: HashMap<usize, (u32, Bound<'py, PyAny>)>,
    globals: HashMap<(String, String), u32>,
    words: HashMap<&'static str, u32>,
    approved: HashSet<(String, String)>,
    storages: Vec<Storage>,
    seen: HashMap<(usize, usize), Seen>,
    path: Vec<Key<'py>>,
    tensor: Bound<'py, PyType>,
    dtypes: HashMap<usize, (&'static str, u64)>,
    strided: Bound<'py, PyAny>,
}

impl<'py> Encoder<'py> {
    fn new(py: Python<'py>, judge: Bound<'py, PyAny>) -> PyResult<Self> {
        let torch = py_imports::torch(py)?;
        let mut dtypes = HashMap::new();
        for (name, storage, width) in STORAGES {
            dtypes.insert(torch.getattr(name)?.as_ptr() as usize, (storage, width));
        }
        Ok(Self {
            py,
            judge,
            writer: Writer::new(),
            memo: HashMap::new(),
            globals: HashMap::new(),
            words: HashMap::new(),
            approved: HashSet::new(),
            storages: Vec::new(),
            seen: HashMap::new(),
            path: Vec::new(),
            tensor: torch.getattr("Tensor")?.cast_into()?,
            dtypes,
            strided: torch.getattr("strided")?,
        })
    }

    /// The place of the value that is being saved, as one would write it.
    fn place(&self) -> String {
        let mut text = String::from("checkpoint");
        for key in &self.path {
            match key {
                Key::Name(name) => {
                    let name = name.repr().map_or_else(|_| "?".to_owned(), |repr| repr.to_string());
                    text.push_str(&format!("[{name}]"));
                }
                Key::Index(index) => text.push_str(&format!("[{index}]")),
            }
        }
        text
    }

    fn save(&mut self, value: &Bound<'py, PyAny>) -> PyResult<()> {
        if self.path.len() > DEEPEST {
            return Err(PyRecursionError::new_err(format!("{} is nested too deeply to be saved", self.place())));
        }
        if value.is_none() {
            self.writer.none();
        } else if let Ok(text) = value.cast_exact::<PyString>() {
            if !self.recall(value) {
                self.text(text)?;
                self.remember(value);
            }
        } else if let Ok(number) = value.cast_exact::<PyInt>() {
            self.int(number)?;
        } else if let Ok(number) = value.cast_exact::<PyFloat>() {
            self.writer.float(number.value());
        } else if let Ok(flag) = value.cast_exact::<PyBool>() {
            self.writer.bool(flag.is_true());
        } else if self.recall(value) {
        } else if value.get_type().is(&self.tensor) {
            self.tensor(value)?;
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            self.writer.empty_dict();
            self.remember(value);
            self.pairs(&dict.items())?;
        } else if let Ok(list) = value.cast_exact::<PyList>() {
            self.writer.empty_list();
            self.remember(value);
            self.sequence(list.iter())?;
        } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            self.tuple(tuple)?;
            if !tuple.is_empty() {
                self.remember(value);
            }
        } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            self.bytes(bytes)?;
            self.remember(value);
        } else {
            self.other(value)?;
        }
        Ok(())
    }

    // ---- memo --------------------------------------------------------------------------------------------------------

    fn recall(&mut self, value: &Bound<'py, PyAny>) -> bool {
        let known = self.memo.get(&(value.as_ptr() as usize)).map(|(number, _)| *number);
        if let Some(number) = known {
            self.writer.get(number);
        }
        known.is_some()
    }

    fn remember(&mut self, value: &Bound<'py, PyAny>) {
        let number = self.writer.put();
        self.memo.insert(value.as_ptr() as usize, (number, value.clone()));
    }

    /// A text of our own, which occurs often.
    fn word(&mut self, word: &'static str) {
        if let Some(&number) = self.words.get(word) {
            self.writer.get(number);
            return;
        }
        self.writer.text(word.as_bytes());
        let number = self.writer.put();
        self.words.insert(word, number);
    }

    fn global(&mut self, module: &str, name: &str) {
        if let Some(&number) = self.globals.get(&(module.to_owned(), name.to_owned())) {
            self.writer.get(number);
            return;
        }
        self.writer.global(module, name);
        let number = self.writer.put();
        self.globals.insert((module.to_owned(), name.to_owned()), number);
    }

    // ---- plain data --------------------------------------------------------------------------------------------------

    fn text(&mut self, text: &Bound<'py, PyString>) -> PyResult<()> {
        let fits = match text.to_str() {
            Ok(utf8) => self.writer.text(utf8.as_bytes()),
            Err(_) => {
                let encoded = text.call_method1("encode", ("utf-8", "surrogatepass"))?;
                self.writer.text(encoded.cast::<PyBytes>()?.as_bytes())
            }
        };
        if fits { Ok(()) } else { Err(PyValueError::new_err(format!("{} is a text above 4 GiB", self.place()))) }
    }

    fn int(&mut self, number: &Bound<'py, PyInt>) -> PyResult<()> {
        if let Ok(value) = number.extract::<i64>() {
            self.writer.int(value);
            return Ok(());
        }
        let bits: usize = number.call_method0("bit_length")?.extract()?;
        let options = PyDict::new(self.py);
        options.set_item("signed", true)?;
        let bytes = number.call_method("to_bytes", (bits / 8 + 1, "little"), Some(&options))?;
        if self.writer.long(bytes.cast::<PyBytes>()?.as_bytes()) {
            return Ok(());
        }
        let place = self.place();
        Err(PyValueError::new_err(format!("{place} is an integer of {bits} bits; a checkpoint can hold 2039")))
    }

    fn sequence(&mut self, values: impl ExactSizeIterator<Item = Bound<'py, PyAny>>) -> PyResult<()> {
        if values.len() == 0 {
            return Ok(());
        }
        self.writer.mark();
        for (index, value) in values.enumerate() {
            self.path.push(Key::Index(index));
            self.save(&value)?;
            self.path.pop();
        }
        self.writer.appends();
        Ok(())
    }

    fn pairs(&mut self, pairs: &Bound<'py, PyList>) -> PyResult<()> {
        if pairs.is_empty() {
            return Ok(());
        }
        self.writer.mark();
        for pair in pairs.iter() {
            let (key, value): (Bound<'py, PyAny>, Bound<'py, PyAny>) = pair.extract()?;
            self.path.push(Key::Name(key.clone()));
            self.save(&key)?;
            self.save(&value)?;
            self.path.pop();
        }
        self.writer.setitems();
        Ok(())
    }

    fn tuple(&mut self, tuple: &Bound<'py, PyTuple>) -> PyResult<()> {
        if tuple.len() > 3 {
            self.writer.mark();
        }
        for (index, value) in tuple.iter().enumerate() {
            self.path.push(Key::Index(index));
            self.save(&value)?;
            self.path.pop();
        }
        self.writer.tuple(tuple.len());
        Ok(())
    }

    /// Protocol 2 knows no bytes: they are a text of the first 256 characters, and the call that turns it back.
    fn bytes(&mut self, bytes: &Bound<'py, PyBytes>) -> PyResult<()> {
        let text: String = bytes.as_bytes().iter().map(|&byte| char::from(byte)).collect();
        self.global("_codecs", "encode");
        if !self.writer.text(text.as_bytes()) {
            return Err(PyValueError::new_err(format!("{} is too long to be saved", self.place())));
        }
        self.word("latin1");
        self.writer.tuple(2);
        self.writer.reduce();
        Ok(())
    }

    // ---- tensors -----------------------------------------------------------------------------------------------------

    /// A plain tensor of a common type; any other one takes the way of all objects.
    fn tensor(&mut self, tensor: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = self.py;
        let dtype = tensor.getattr(intern!(py, "dtype"))?;
        let Some(&(kind, width)) = self.dtypes.get(&(dtype.as_ptr() as usize)) else { return self.reduced(tensor) };
        let plain = tensor.getattr(intern!(py, "layout"))?.is(&self.strided)
            && !tensor.call_method0(intern!(py, "is_neg"))?.is_truthy()?
            && !tensor.getattr(intern!(py, "is_meta"))?.is_truthy()?
            && tensor.getattr(intern!(py, "__dict__"))?.len()? == 0;
        if !plain {
            return self.reduced(tensor);
        }
        let storage = tensor.call_method0(intern!(py, "untyped_storage"))?;
        let on_cpu = tensor.getattr(intern!(py, "is_cpu"))?.is_truthy()?;
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.writer.mark();
        self.storage(&storage, kind, width, on_cpu)?;
        self.writer.int(tensor.call_method0(intern!(py, "storage_offset"))?.extract()?);
        self.sizes(&tensor.getattr(intern!(py, "shape"))?)?;
        self.sizes(&tensor.call_method0(intern!(py, "stride"))?)?;
        self.writer.bool(tensor.getattr(intern!(py, "requires_grad"))?.is_truthy()?);
        self.no_hooks();
        self.writer.tuple(6);
        self.writer.reduce();
        self.remember(tensor);
        Ok(())
    }

    fn no_hooks(&mut self) {
        self.global("collections", "OrderedDict");
        self.writer.tuple(0);
        self.writer.reduce();
    }

    fn sizes(&mut self, sizes: &Bound<'py, PyAny>) -> PyResult<()> {
        let sizes = sizes.cast::<PyTuple>()?;
        if sizes.len() > 3 {
            self.writer.mark();
        }
        for size in sizes.iter() {
            self.writer.int(size.extract()?);
        }
        self.writer.tuple(sizes.len());
        Ok(())
    }

    /// The stand-in of a storage; its bytes are an entry of the archive, once, however many tensors look at it.
    fn storage(&mut self, storage: &Bound<'py, PyAny>, kind: &'static str, width: u64, on_cpu: bool) -> PyResult<()> {
        let py = self.py;
        let length: usize = storage.call_method0(intern!(py, "nbytes"))?.extract()?;
        let mut address: usize = storage.call_method0(intern!(py, "data_ptr"))?.extract()?;
        if length == 0 || address == 0 {
            address = storage.getattr(intern!(py, "_cdata"))?.extract()?;
        }
        let number = match self.seen.get(&(address, length)) {
            Some(seen) if seen.kind != kind => return Err(self.two_types(seen, kind)),
            Some(seen) => seen.number,
            None => {
                let number = self.storages.len();
                self.storages.push(Storage::new(storage.clone().unbind(), address, length, on_cpu));
                self.seen.insert((address, length), Seen { number, kind, path: self.place_if_needed() });
                number
            }
        };
        self.writer.mark();
        self.word("storage");
        if kind == "UntypedStorage" {
            self.global("torch.storage", kind)
        } else {
            self.global("torch", kind)
        }
        self.writer.text(number.to_string().as_bytes());
        if on_cpu {
            self.word("cpu");
        } else {
            let location: String =
                py_imports::torch(py)?.getattr("serialization")?.call_method1("location_tag", (storage,))?.extract()?;
            self.writer.text(location.as_bytes());
        }
        self.writer.int((length as u64 / width) as i64);
        self.writer.tuple(5);
        self.writer.persistent();
        Ok(())
    }

    /// The place in words costs more than the storage itself: only for few of them, which is where a clash can be explained.
    fn place_if_needed(&self) -> String {
        if self.storages.len() <= 2000 { self.place() } else { String::from("another tensor") }
    }

    fn two_types(&self, seen: &Seen, kind: &str) -> PyErr {
        PyRuntimeError::new_err(format!(
            "{} and {} view the same memory as different types ({kind} and {}), which a checkpoint cannot hold. Save one of \
             them as a copy: `.clone()`.",
            self.place(),
            seen.path,
            seen.kind
        ))
    }

    // ---- everything else ---------------------------------------------------------------------------------------------

    fn other(&mut self, value: &Bound<'py, PyAny>) -> PyResult<()> {
        let kind = value.get_type();
        let module = kind.getattr(intern!(self.py, "__module__"))?;
        if module.cast::<PyString>().is_ok_and(|module| module == "torch.storage") {
            let name = kind.name()?;
            if name == "UntypedStorage" {
                let on_cpu = value.getattr("device")?.getattr("type")?.extract::<String>()? == "cpu";
                return self.storage(value, "UntypedStorage", 1, on_cpu);
            }
            if name == "TypedStorage" || name.to_str()?.ends_with("Storage") {
                return self.typed_storage(value);
            }
        }
        if value.is_instance_of::<PyType>() || is_function(value)? {
            return self.named(value);
        }
        self.reduced(value)
    }

    fn typed_storage(&mut self, storage: &Bound<'py, PyAny>) -> PyResult<()> {
        let kind: String = storage.call_method0("_pickle_storage_type")?.extract()?;
        let untyped = storage.getattr("_untyped_storage")?;
        let on_cpu = untyped.getattr("device")?.getattr("type")?.extract::<String>()? == "cpu";
        let known = STORAGES.iter().find(|(_, name, _)| *name == kind);
        let (name, width) = match (known, kind.as_str()) {
            (Some(&(_, name, width)), _) => (name, width),
            (None, "ComplexFloatStorage") => ("ComplexFloatStorage", 8),
            (None, "ComplexDoubleStorage") => ("ComplexDoubleStorage", 16),
            (None, "QInt8Storage") => ("QInt8Storage", 1),
            (None, "QUInt8Storage") => ("QUInt8Storage", 1),
            (None, "QInt32Storage") => ("QInt32Storage", 4),
            _ => {
                let place = self.place();
                return Err(PyTypeError::new_err(format!(
                    "{place} has a storage of a type that cannot be saved: {kind}"
                )));
            }
        };
        self.storage(&untyped, name, width, on_cpu)
    }

    /// A class or function, by its name.
    fn named(&mut self, value: &Bound<'py, PyAny>) -> PyResult<()> {
        let name: String = match value.getattr(intern!(self.py, "__qualname__")) {
            Ok(name) => name.extract()?,
            Err(_) => value.getattr(intern!(self.py, "__name__"))?.extract()?,
        };
        self.named_as(value, &name)
    }

    fn named_as(&mut self, value: &Bound<'py, PyAny>, name: &str) -> PyResult<()> {
        let module: String = match value.getattr(intern!(self.py, "__module__")) {
            Ok(module) if !module.is_none() => module.extract()?,
            _ => py_imports::which_module(self.py)?.call1((value, name))?.extract()?,
        };
        self.check_importable(value, &module, name)?;
        let key = (module, name.to_owned());
        if !self.approved.contains(&key) {
            let kind = value.get_type().name()?;
            if self.judge.call1((&key.0, &key.1, self.place(), kind))?.is_truthy()? {
                self.approved.insert(key.clone());
            }
        }
        let module = if key.0 == "builtins" { "__builtin__" } else { key.0.as_str() };
        match name.rsplit_once('.') {
            None => self.global(module, name),
            Some((outer, inner)) => {
                self.global("__builtin__", "getattr");
                let parent = self.find(&key.0, outer)?;
                self.named_as(&parent, outer)?;
                self.writer.text(inner.as_bytes());
                self.writer.tuple(2);
                self.writer.reduce();
            }
        }
        Ok(())
    }

    fn find(&self, module: &str, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let module: Bound<'py, PyAny> = self.py.import(module)?.into_any();
        name.split('.').try_fold(module, |value, part| value.getattr(part))
    }

    fn check_importable(&self, value: &Bound<'py, PyAny>, module: &str, name: &str) -> PyResult<()> {
        if self.find(module, name).is_ok_and(|found| found.is(value)) {
            return Ok(());
        }
        Err(PyTypeError::new_err(format!(
            "{} cannot be saved: `{module}.{name}` cannot be imported under its name (a lambda, or defined within a \
             function). Leave it out of the checkpoint, or define it at the top of a module.",
            self.place()
        )))
    }

    /// An object by its `__reduce_ex__`: what to call with what, and what to do with the result.
    fn reduced(&mut self, value: &Bound<'py, PyAny>) -> PyResult<()> {
        let kind = value.get_type();
        let table = py_imports::dispatch_table(self.py)?;
        let reduced = match table.get_item(&kind) {
            Ok(reduce) => reduce.call1((value,)),
            Err(_) => value.call_method1(intern!(self.py, "__reduce_ex__"), (2,)),
        }
        .map_err(|error| self.unpicklable(&kind, &error))?;
        if let Ok(name) = reduced.cast::<PyString>() {
            self.by_name(value, name.to_str()?)?;
            self.remember(value);
            return Ok(());
        }
        let parts = reduced.cast::<PyTuple>().map_err(|_| self.odd(&kind))?;
        if !(2..=6).contains(&parts.len()) || (parts.len() == 6 && !parts.get_item(5)?.is_none()) {
            return Err(self.odd(&kind));
        }
        let part = |index: usize| parts.get_item(index).ok().filter(|part| !part.is_none());
        let (callable, arguments) = (parts.get_item(0)?, parts.get_item(1)?);
        let arguments = arguments.cast_into::<PyTuple>().map_err(|_| self.odd(&kind))?;
        if callable.is(py_imports::newobj(self.py)?) {
            self.save(&arguments.get_item(0)?)?;
            self.tuple(&arguments.get_slice(1, arguments.len()))?;
            self.writer.newobj();
        } else {
            self.save(&callable)?;
            self.tuple(&arguments)?;
            self.writer.reduce();
        }
        self.remember(value);
        if let Some(values) = part(3) {
            let values: Vec<Bound<'py, PyAny>> = values.try_iter()?.collect::<PyResult<_>>()?;
            self.sequence(values.into_iter())?;
        }
        if let Some(pairs) = part(4) {
            let pairs = PyList::new(self.py, pairs.try_iter()?.collect::<PyResult<Vec<_>>>()?)?;
            self.pairs(&pairs)?;
        }
        if let Some(state) = part(2) {
            self.save(&state)?;
            self.writer.build();
        }
        Ok(())
    }

    /// An object that says it is a module's attribute: a dtype, a singleton.
    fn by_name(&mut self, value: &Bound<'py, PyAny>, name: &str) -> PyResult<()> {
        let module = py_imports::which_module(self.py)?.call1((value, name))?.extract::<String>()?;
        let kind = value.get_type().name()?;
        let module = if module == "__main__" && kind == "dtype" { String::from("torch") } else { module };
        self.check_importable(value, &module, name)?;
        self.judge.call1((&module, name, self.place(), kind))?;
        self.writer.global(&module, name);
        Ok(())
    }

    fn unpicklable(&self, kind: &Bound<'py, PyType>, error: &PyErr) -> PyErr {
        let name = kind.fully_qualified_name().map_or_else(|_| "object".into(), |name| name.to_string());
        let place = self.place();
        PyTypeError::new_err(format!(
            "{place} is a {name}, which cannot be saved ({}). Save what it is made of: numbers, texts, tensors, lists, dicts.",
            error.value(self.py)
        ))
    }

    fn odd(&self, kind: &Bound<'py, PyType>) -> PyErr {
        let name = kind.fully_qualified_name().map_or_else(|_| "object".into(), |name| name.to_string());
        PyTypeError::new_err(format!("{} is a {name}, whose `__reduce_ex__` gives no call", self.place()))
    }
}

/// Is it something that is saved by its name: a function, built-in or not?
fn is_function(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let name = value.get_type().name()?;
    let name = name.to_str()?;
    Ok(name == "function"
        || (name == "builtin_function_or_method"
            && value.getattr("__self__").map_or(true, |owner| {
                // a function of a module, and not a method that is bound to an object
                owner.is_none() || owner.get_type().name().is_ok_and(|kind| kind == "module")
            })))
}
