//! Buffers that come back when they are dropped.

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Error, Result};

const ALIGN: usize = 64;
const PAGE: usize = 4096;

/// Memory that nobody uses at the moment.
struct Raw {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a `Raw` is the only owner of its memory.
unsafe impl Send for Raw {}

impl Raw {
    fn new(size: usize) -> Result<Self> {
        let out_of_memory = || Error::Memory { bytes: size };
        let layout = Layout::from_size_align(size, ALIGN).map_err(|_| out_of_memory())?;
        // SAFETY: `capacity_for` gives at least one line, so the size is not zero.
        let start = NonNull::new(unsafe { alloc(layout) }).ok_or_else(out_of_memory)?;
        Ok(Self { start, layout })
    }

    fn free(self) {
        // SAFETY: from `alloc` with this layout, and owned, so that nobody frees it twice.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// What a buffer of `size` bytes takes.
fn capacity_for(size: usize) -> usize {
    let unit = if size <= PAGE / 2 { ALIGN } else { PAGE };
    size.max(1).next_multiple_of(unit)
}

/// Keeps buffers that were dropped, up to a number of bytes, for those who need the same size again.
pub struct Pool {
    free: Mutex<Vec<Raw>>,
    most: usize,
    process: u32,
    allocated: AtomicUsize,
}

impl Pool {
    /// A pool that keeps at most `most` bytes beyond what is in use.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::new(Vec::new()),
            most,
            process: std::process::id(),
            allocated: AtomicUsize::new(0),
        })
    }

    /// A buffer of at least `size` bytes, with whatever content.
    ///
    /// # Errors
    /// There is no memory.
    pub fn take(self: &Arc<Self>, size: usize) -> Result<Buffer> {
        let capacity = capacity_for(size);
        let kept = if self.foreign() {
            None
        } else {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            free.iter().rposition(|raw| raw.layout.size() == capacity).map(|at| free.swap_remove(at))
        };
        let raw = match kept {
            Some(raw) => raw,
            None => {
                self.allocated.fetch_add(1, Relaxed);
                Raw::new(capacity)?
            }
        };
        Ok(Buffer { raw: Some(raw), pool: Arc::clone(self) })
    }

    /// How many buffers were ever allocated, and the bytes that wait for somebody.
    pub fn counts(&self) -> (usize, usize) {
        if self.foreign() {
            return (self.allocated.load(Relaxed), 0);
        }
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        (self.allocated.load(Relaxed), free.iter().map(|raw| raw.layout.size()).sum())
    }

    /// Is this a process that was forked off the one that made the pool? Then another thread may have held the lock.
    fn foreign(&self) -> bool {
        self.process != std::process::id()
    }

    fn give_back(&self, raw: Raw) {
        if self.foreign() {
            return raw.free();
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(raw);
        let mut kept: usize = free.iter().map(|raw| raw.layout.size()).sum();
        let mut too_many = Vec::new();
        while kept > self.most {
            // the oldest first: sizes that are no longer asked for leave
            let old = free.remove(0);
            kept -= old.layout.size();
            too_many.push(old);
        }
        drop(free);
        too_many.into_iter().for_each(Raw::free);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let free = self.free.get_mut().unwrap_or_else(PoisonError::into_inner);
        free.drain(..).for_each(Raw::free);
    }
}

/// Memory of a pool, owned; back in the pool when dropped.
pub struct Buffer {
    raw: Option<Raw>,
    pool: Arc<Pool>,
}

impl Buffer {
    /// Its first byte; aligned to a cache line. Null only while it is dropped.
    pub fn start(&self) -> *mut u8 {
        self.raw.as_ref().map_or(std::ptr::null_mut(), |raw| raw.start.as_ptr())
    }

    /// How many bytes it has.
    pub fn capacity(&self) -> usize {
        self.raw.as_ref().map_or(0, |raw| raw.layout.size())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(raw) = self.raw.take() {
            self.pool.give_back(raw);
        }
    }
}
