//! Buffers that hold a copy of a checkpoint's storages while training goes on.

use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use pyo3::prelude::*;

/// Buffers that nobody uses are kept up to this number: the lasting part of a state, and the rest.
const SPARE: usize = 2;

type Pool = Mutex<Vec<Box<[u8]>>>;

/// A pool of buffers, reused from save to save.
#[pyclass(module = "fulmen._core", frozen)]
#[derive(Default)]
pub struct CheckpointBuffers {
    pool: Arc<Pool>,
}

#[pymethods]
impl CheckpointBuffers {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Bytes that lie ready, in buffers that nobody uses now.
    #[getter]
    fn spare(&self) -> usize {
        lock(&self.pool).iter().map(|buffer| buffer.len()).sum()
    }

    /// Lets go of them.
    fn clear(&self) {
        lock(&self.pool).clear();
    }
}

fn lock(pool: &Pool) -> std::sync::MutexGuard<'_, Vec<Box<[u8]>>> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A buffer in use; it goes back to its pool when the last archive over it is gone.
pub struct Block {
    pub bytes: RwLock<Box<[u8]>>,
    home: Weak<Pool>,
}

impl Block {
    /// A buffer of at least so many bytes: one that fits without wasting half of it, or a new one.
    pub fn take(buffers: &CheckpointBuffers, size: usize) -> Arc<Self> {
        let mut pool = lock(&buffers.pool);
        let fitting = pool
            .iter()
            .enumerate()
            .filter(|(_, buffer)| buffer.len() >= size && buffer.len() / 2 <= size.max(1 << 20))
            .min_by_key(|(_, buffer)| buffer.len())
            .map(|(index, _)| index);
        let bytes = fitting.map(|index| pool.swap_remove(index));
        drop(pool);
        let bytes = bytes.unwrap_or_else(|| vec![0; size].into_boxed_slice());
        Arc::new(Self { bytes: RwLock::new(bytes), home: Arc::downgrade(&buffers.pool) })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(pool) = self.home.upgrade() {
            let bytes = std::mem::take(self.bytes.get_mut().unwrap_or_else(PoisonError::into_inner));
            let mut pool = lock(&pool);
            pool.push(bytes);
            // the larger ones are worth keeping
            pool.sort_by_key(|buffer| std::cmp::Reverse(buffer.len()));
            pool.truncate(SPARE);
        }
    }
}

/// One stretch of memory that is still to be copied into a block.
#[derive(Clone, Copy)]
pub struct Copy {
    pub from: usize,
    pub length: usize,
    pub to: usize,
}

/// Copies stretches into a block, with so many threads.
///
/// # Safety
/// The memory at every `from` has to stay allocated until this returns. What is written to it meanwhile may or may not be in
/// the copy: the caller sees to it that nobody does.
pub unsafe fn copy(block: &Block, copies: &[Copy], threads: usize) {
    let mut bytes = block.bytes.write().unwrap_or_else(PoisonError::into_inner);
    let base = Address(bytes.as_mut_ptr());
    let pieces: Vec<Copy> = copies
        .iter()
        .flat_map(|copy| {
            (0..copy.length.div_ceil(PIECE)).map(move |index| {
                let from = index * PIECE;
                Copy { from: copy.from + from, length: (copy.length - from).min(PIECE), to: copy.to + from }
            })
        })
        .collect();
    debug_assert!(pieces.iter().all(|piece| piece.to + piece.length <= bytes.len()));
    let share = pieces.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let mut shares = pieces.chunks(share);
        let own = shares.next();
        for share in shares {
            scope.spawn(move || copy_pieces(base, share));
        }
        if let Some(own) = own {
            copy_pieces(base, own);
        }
    });
}

const PIECE: usize = 1 << 20;

#[derive(Clone, Copy)]
struct Address(*mut u8);

// SAFETY: the pieces that threads get lie apart from each other within a block whose lock the caller holds.
unsafe impl Send for Address {}

fn copy_pieces(base: Address, pieces: &[Copy]) {
    let base = { base }.0;
    for piece in pieces {
        // SAFETY: `from` is allocated by the promise of `copy`; `to` lies within the block, which the caller of `copy_pieces`
        // holds locked; a block never overlaps the memory of a tensor.
        unsafe { std::ptr::copy_nonoverlapping(piece.from as *const u8, base.add(piece.to), piece.length) };
    }
}
