//! The file that both processes map: slot states on its first page, slots behind it.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use crate::{Error, Result};

/// Slots begin at multiples of this, and the first page is no slot.
pub const PAGE: usize = 4096;
/// More slots than this do not fit the page of states.
pub const MOST_SLOTS: usize = (PAGE - STATES) / 4;

const FLOOR: usize = 8;
const COUNT: usize = 16;
const STATES: usize = 64;

/// Nobody uses the slot.
pub const FREE: u32 = 0;
/// A batch lies in it that nobody has taken.
pub const FULL: u32 = 1;
/// The consumer has tensors over it.
pub const HELD: u32 = 2;
/// Its memory must never change again; the producer may give the slot other memory.
pub const RETIRED: u32 = 3;

/// A [`Error::System`].
pub fn system(what: &'static str, error: rustix::io::Errno) -> Error {
    Error::System { what, why: std::io::Error::from(error).to_string() }
}

/// Memory of the file in this process.
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is plain memory, owned by this value; who reads and writes when is the users' affair (slot states).
unsafe impl Send for Mapping {}
// SAFETY: as above; no method writes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a part of a file for reading and writing. The part must exist; the file must not shrink.
    ///
    /// # Errors
    /// The system refuses.
    pub fn new(file: impl AsFd, offset: u64, len: usize) -> Result<Self> {
        // SAFETY: a new mapping at an address of the system's choice touches nothing that exists.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                offset,
            )
        }
        .map_err(|error| system("map shared memory", error))?;
        let start = NonNull::new(start.cast()).ok_or(Error::Memory { bytes: len })?;
        Ok(Self { start, len })
    }

    /// Its first byte.
    pub fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: the system maps no empty parts.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and nobody has a reference into it any more.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The first page.
pub struct Control {
    map: Mapping,
    slots: usize,
}

impl Control {
    /// Of a new file, for so many slots.
    fn set_up(file: &OwnedFd, slots: usize) -> Result<Self> {
        let control = Self { map: Mapping::new(file, 0, PAGE)?, slots };
        let count = u32::try_from(slots).unwrap_or(u32::MAX);
        control.word(COUNT).store(count, std::sync::atomic::Ordering::Release);
        Ok(control)
    }

    /// Of a file that the other process made.
    ///
    /// # Errors
    /// It is no ring.
    pub fn open(file: &OwnedFd) -> Result<Self> {
        if size(file)? < PAGE as u64 {
            return Err(Error::Transport { why: "the shared memory is too small".into() });
        }
        let mut control = Self { map: Mapping::new(file, 0, PAGE)?, slots: 0 };
        control.slots = control.word(COUNT).load(std::sync::atomic::Ordering::Acquire) as usize;
        if control.slots == 0 || control.slots > MOST_SLOTS {
            return Err(Error::Transport { why: format!("a ring of {} slots", control.slots) });
        }
        Ok(control)
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// The state of a slot, None for one that does not exist.
    pub fn state(&self, slot: usize) -> Option<&AtomicU32> {
        (slot < self.slots).then(|| self.word(STATES + 4 * slot))
    }

    /// Tasks below this number need not be done any more.
    pub fn floor(&self) -> &AtomicU64 {
        // SAFETY: within the page, aligned to 8, and both processes use it as an atomic only.
        unsafe { &*self.map.start().add(FLOOR).cast() }
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at.is_multiple_of(4) && at + 4 <= PAGE);
        // SAFETY: `at` is a constant or follows from a slot's number below `slots`, so it lies within the page; it is
        // aligned to 4, and both processes use it as an atomic only.
        unsafe { &*self.map.start().add(at).cast() }
    }
}

/// A new file with a page of states, all free.
///
/// # Errors
/// The system refuses, or so many slots do not fit.
pub fn create(slots: usize) -> Result<(OwnedFd, Control)> {
    if slots == 0 || slots > MOST_SLOTS {
        return Err(Error::value("slots", format!("between 1 and {MOST_SLOTS}"), slots.to_string(), "Take fewer"));
    }
    let file = rustix::fs::memfd_create("fulmen-ring", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|error| system("make shared memory", error))?;
    rustix::fs::ftruncate(&file, PAGE as u64).map_err(|error| system("make shared memory", error))?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).map_err(|error| system("seal shared memory", error))?;
    let control = Control::set_up(&file, slots)?;
    Ok((file, control))
}

/// The file's bytes.
///
/// # Errors
/// The system refuses.
pub fn size(file: &OwnedFd) -> Result<u64> {
    let status = rustix::fs::fstat(file).map_err(|error| system("look at shared memory", error))?;
    Ok(u64::try_from(status.st_size).unwrap_or(0))
}

/// Appends memory to the file: its pages are there afterwards, so that writing to them cannot fail.
///
/// # Errors
/// There is no memory.
pub fn grow(file: &OwnedFd, end: u64, by: usize) -> Result<()> {
    let bytes = by as u64;
    match rustix::fs::fallocate(file, FallocateFlags::empty(), end, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            rustix::fs::ftruncate(file, end + bytes).map_err(|_| Error::Memory { bytes: by })
        }
        Err(rustix::io::Errno::INTR) => grow(file, end, by),
        Err(_) => Err(Error::Memory { bytes: by }),
    }
}

/// Gives the pages of a part of the file back to the system; the file stays as long as it is.
pub fn release_pages(file: &OwnedFd, offset: u64, len: usize) {
    // a system that cannot do it keeps the memory until the end
    let _ = rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len as u64);
}
