//! Looking at a tensor's memory through the table of C functions that its class offers
//! (`__dlpack_c_exchange_api__`, <https://dmlc.github.io/dlpack/latest/c_api.html#c-exchange-api>), without a call of Python's.
//!
//! torch has the table from 2.10 on; without it, and for whatever it cannot describe, the caller goes by methods.

use std::ffi::{CStr, c_int, c_void};
use std::mem::MaybeUninit;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCapsule, PyType};
use pyo3::{ffi, intern};

use crate::dlpack::{CPU, DlTensor};
use crate::py_imports;

const NAME: &CStr = c"dlpack_exchange_api";
/// The version whose layout this file knows: within a major version it stays.
const MAJOR: u32 = 1;
const FLOAT: u8 = 2;
/// torch's allocator for ordinary memory aligns to so many bytes.
const ALLOCATION: usize = 64;

#[repr(C)]
struct Version {
    major: u32,
    minor: u32,
}

/// `DLPackExchangeAPI` of `dlpack.h`, version 1. Functions that nobody calls here are plain pointers.
#[repr(C)]
#[allow(dead_code)] // the layout is what counts
struct Table {
    version: Version,
    older: *const c_void,
    allocate: *const c_void,
    export: *const c_void,
    import: *const c_void,
    look: Option<Look>,
    stream: *const c_void,
}

/// `DLPackDLTensorFromPyObjectNoSync`: fills in the description, or sets an exception and gives -1.
type Look = unsafe extern "C" fn(object: *mut ffi::PyObject, out: *mut DlTensor) -> c_int;

fn find(class: &Bound<'_, PyType>) -> Option<Look> {
    let capsule = class.getattr("__dlpack_c_exchange_api__").ok()?.cast_into::<PyCapsule>().ok()?;
    let table = capsule.pointer_checked(Some(NAME)).ok()?.cast::<Table>();
    // SAFETY: a capsule of this name holds such a table, which lives as long as the process; its header is the same in all
    // versions.
    if unsafe { table.as_ref() }.version.major != MAJOR {
        return None;
    }
    // SAFETY: the same, and the rest is as this version has it.
    unsafe { table.as_ref() }.look
}

/// The value of a tensor with one element, of the class `torch.Tensor` itself, that lies in the CPU's memory as a 32- or
/// 64-bit float. None: it is something else.
#[inline]
pub fn scalar(value: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    static LOOK: PyOnceLock<Option<Look>> = PyOnceLock::new();
    let py = value.py();
    let class = py_imports::tensor_class(py)?;
    if !value.get_type().is(class) {
        return Ok(None);
    }
    let Some(look) = LOOK.get_or_init(py, || find(class)) else { return Ok(None) };
    let mut out = MaybeUninit::<DlTensor>::uninit();
    // SAFETY: the object is of the very class whose table this is.
    if unsafe { look(value.as_ptr(), out.as_mut_ptr()) } != 0 {
        // sparse, under a transformation, on a device without addresses
        drop(PyErr::take(py));
        return Ok(None);
    }
    // SAFETY: the call succeeded, so that it is filled in, and the shape is valid for as long as the tensor, which we hold.
    let (tensor, single) = unsafe {
        let tensor = out.assume_init();
        let single = (0..usize::try_from(tensor.ndim).unwrap_or(0)).all(|at| *tensor.shape.add(at) == 1);
        (tensor, single)
    };
    if !single || tensor.device_type != CPU || tensor.code != FLOAT || tensor.lanes != 1 || tensor.data.is_null() {
        return Ok(None);
    }
    let at = (tensor.data as usize).wrapping_add(usize::try_from(tensor.byte_offset)?);
    // A tensor may stand for the negative of what lies in memory, which the description does not say: the imaginary part of
    // a lazily conjugated one. Such a part lies at an odd multiple of its size, so never where an allocation begins.
    if at % ALLOCATION != 0 && value.call_method0(intern!(py, "is_neg"))?.is_truthy()? {
        return Ok(None);
    }
    // SAFETY: one element of this type lies there, at whatever alignment.
    unsafe {
        let start = tensor.data.cast::<u8>().wrapping_add(usize::try_from(tensor.byte_offset)?);
        Ok(match tensor.bits {
            32 => Some(f64::from(start.cast::<f32>().read_unaligned())),
            64 => Some(start.cast::<f64>().read_unaligned()),
            _ => None,
        })
    }
}
