//! Memory of the core's as a DLPack capsule (<https://dmlc.github.io/dlpack/latest/c_api.html>, version 0), with an owner that is dropped
//! when the last tensor over them is gone.

use std::any::Any;
use std::ffi::{CStr, c_void};

use pyo3::ffi;
use pyo3::prelude::*;

/// `DLTensor` of `dlpack.h`: the same in versions 0 and 1.
#[repr(C)]
pub struct DlTensor {
    pub data: *mut c_void,
    pub device_type: i32,
    pub device_id: i32,
    pub ndim: i32,
    pub code: u8,
    pub bits: u8,
    pub lanes: u16,
    pub shape: *mut i64,
    pub strides: *mut i64,
    pub byte_offset: u64,
}

#[repr(C)]
struct DlManagedTensor {
    tensor: DlTensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut DlManagedTensor)>,
}

/// Everything that a tensor over the memory needs for as long as it lives.
#[repr(C)]
struct Exported {
    managed: DlManagedTensor,
    shape: Vec<i64>,
    strides: Vec<i64>,
    _owner: Box<dyn Any + Send>,
}

/// The device type of ordinary memory.
pub const CPU: i32 = 1;
#[cfg(target_os = "linux")]
const UNSIGNED: u8 = 1;
const NAME: &CStr = c"dltensor";

/// What the elements of a tensor are, in DLPack's terms.
#[derive(Clone, Copy)]
pub struct Element {
    pub code: u8,
    pub bits: u8,
}

/// A capsule over `len` bytes from `start`, as a row of unsigned 8-bit numbers.
///
/// # Safety
/// As for [`tensor`].
#[cfg(target_os = "linux")] // for the ring
pub unsafe fn bytes(
    py: Python<'_>,
    start: *mut u8,
    len: usize,
    owner: Box<dyn Any + Send>,
) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the caller's promise.
    unsafe { tensor(py, start, vec![i64::try_from(len)?], Element { code: UNSIGNED, bits: 8 }, owner) }
}

/// A capsule over a contiguous tensor of this shape, which begins at `start`.
///
/// # Safety
/// All its elements can be read and written for as long as `owner` lives, by whoever gets the capsule.
pub unsafe fn tensor(
    py: Python<'_>,
    start: *mut u8,
    shape: Vec<i64>,
    element: Element,
    owner: Box<dyn Any + Send>,
) -> PyResult<Bound<'_, PyAny>> {
    // as torch computes the strides of a contiguous tensor: an empty dimension counts as one
    let mut strides = vec![1; shape.len()];
    for at in (1..shape.len()).rev() {
        strides[at - 1] = strides[at] * shape[at].max(1);
    }
    let exported = Box::new(Exported {
        managed: DlManagedTensor {
            tensor: DlTensor {
                data: start.cast(),
                device_type: CPU,
                device_id: 0,
                ndim: i32::try_from(shape.len())?,
                code: element.code,
                bits: element.bits,
                lanes: 1,
                shape: std::ptr::null_mut(),
                strides: std::ptr::null_mut(),
                byte_offset: 0,
            },
            context: std::ptr::null_mut(),
            deleter: Some(delete),
        },
        shape,
        strides,
        _owner: owner,
    });
    let raw = Box::into_raw(exported);
    // SAFETY: `raw` is ours alone. The vectors are not changed any more, so that their addresses stay. On failure the box is
    // taken back; on success the capsule owns it: it calls the deleter, unless a consumer renamed it and does so itself.
    unsafe {
        (*raw).managed.tensor.shape = (*raw).shape.as_mut_ptr();
        (*raw).managed.tensor.strides = (*raw).strides.as_mut_ptr();
        let object = ffi::PyCapsule_New(raw.cast(), NAME.as_ptr(), Some(forget));
        if object.is_null() {
            drop(Box::from_raw(raw));
        }
        Bound::from_owned_ptr_or_err(py, object)
    }
}

/// The consumer's last tensor is gone. On whatever thread, with or without the interpreter.
///
/// # Safety
/// `managed` is what [`tensor`] made, and nobody uses it afterwards.
unsafe extern "C" fn delete(managed: *mut DlManagedTensor) {
    // SAFETY: it is the first field of an `Exported` with C's layout that was a box.
    drop(unsafe { Box::from_raw(managed.cast::<Exported>()) });
}

/// The capsule is gone.
///
/// # Safety
/// Called by the interpreter with a capsule that [`tensor`] made.
unsafe extern "C" fn forget(object: *mut ffi::PyObject) {
    // SAFETY: a consumer renames the capsule it takes over; under the old name it is still ours.
    unsafe {
        if ffi::PyCapsule_IsValid(object, NAME.as_ptr()) == 1 {
            delete(ffi::PyCapsule_GetPointer(object, NAME.as_ptr()).cast());
        }
    }
}
