//! Bytes as a DLPack capsule (<https://dmlc.github.io/dlpack/latest/c_api.html>, version 0), with an owner that is dropped
//! when the last tensor over them is gone.

use std::any::Any;
use std::ffi::{CStr, c_void};

use pyo3::ffi;
use pyo3::prelude::*;

#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct DlManagedTensor {
    tensor: DlTensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut DlManagedTensor)>,
}

/// Everything that a tensor over the bytes needs for as long as it lives.
#[repr(C)]
struct Exported {
    managed: DlManagedTensor,
    shape: [i64; 1],
    strides: [i64; 1],
    _owner: Box<dyn Any + Send>,
}

const CPU: i32 = 1;
const UNSIGNED: u8 = 1;
const NAME: &CStr = c"dltensor";

/// A capsule over `len` bytes from `start`, as a row of unsigned 8-bit numbers.
///
/// # Safety
/// The bytes can be read and written for as long as `owner` lives, by whoever gets the capsule.
pub unsafe fn bytes(
    py: Python<'_>,
    start: *mut u8,
    len: usize,
    owner: Box<dyn Any + Send>,
) -> PyResult<Bound<'_, PyAny>> {
    let exported = Box::new(Exported {
        managed: DlManagedTensor {
            tensor: DlTensor {
                data: start.cast(),
                device_type: CPU,
                device_id: 0,
                ndim: 1,
                code: UNSIGNED,
                bits: 8,
                lanes: 1,
                shape: std::ptr::null_mut(),
                strides: std::ptr::null_mut(),
                byte_offset: 0,
            },
            context: std::ptr::null_mut(),
            deleter: Some(delete),
        },
        shape: [i64::try_from(len)?],
        strides: [1],
        _owner: owner,
    });
    let raw = Box::into_raw(exported);
    // SAFETY: `raw` is ours alone, and stays where it is. On failure the box is taken back; on success the capsule owns it: it
    // calls the deleter, unless a consumer renamed it and does so itself.
    unsafe {
        (*raw).managed.tensor.shape = (&raw mut (*raw).shape).cast();
        (*raw).managed.tensor.strides = (&raw mut (*raw).strides).cast();
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
/// `managed` is what [`bytes`] made, and nobody uses it afterwards.
unsafe extern "C" fn delete(managed: *mut DlManagedTensor) {
    // SAFETY: it is the first field of an `Exported` with C's layout that was a box.
    drop(unsafe { Box::from_raw(managed.cast::<Exported>()) });
}

/// The capsule is gone.
///
/// # Safety
/// Called by the interpreter with a capsule that [`bytes`] made.
unsafe extern "C" fn forget(object: *mut ffi::PyObject) {
    // SAFETY: a consumer renames the capsule it takes over; under the old name it is still ours.
    unsafe {
        if ffi::PyCapsule_IsValid(object, NAME.as_ptr()) == 1 {
            delete(ffi::PyCapsule_GetPointer(object, NAME.as_ptr()).cast());
        }
    }
}
