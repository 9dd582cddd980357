//! The parent's end.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};

use super::message::{Message, Segment, parse_table, table_bytes};
use super::region::{Control, FREE, FULL, HELD, Mapping, PAGE, RETIRED, create, size};
use crate::{Error, Result};

/// How often this process was forked.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// To be called before the process forks: what is held now will not be written to again.
pub fn note_fork() {
    FORKS.fetch_add(1, AcqRel);
}

struct Shared {
    control: Control,
    process: u32,
    held: AtomicUsize,
}

/// Where a slot was when it was mapped, and its memory.
type Known = (u64, Arc<Mapping>);

/// Takes batches out of a ring.
pub struct Consumer {
    file: OwnedFd,
    shared: Arc<Shared>,
    mapped: Mutex<Vec<Option<Known>>>,
}

impl Consumer {
    /// A new ring with so many slots, which get their memory when they are used.
    ///
    /// # Errors
    /// The system refuses.
    pub fn new(slots: usize) -> Result<Self> {
        let (file, control) = create(slots)?;
        let mapped = Mutex::new((0..slots).map(|_| None).collect());
        let shared = Shared { control, process: std::process::id(), held: AtomicUsize::new(0) };
        Ok(Self { file, shared: Arc::new(shared), mapped })
    }

    /// The file, for the producer.
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// How many slots are held now.
    pub fn held(&self) -> usize {
        self.shared.held.load(Relaxed)
    }

    /// Tells the producer that tasks below this number are not wanted any more; a forked process has no say in that.
    pub fn set_floor(&self, task: u64) {
        if std::process::id() != self.shared.process {
            return;
        }
        self.shared.control.floor().store(task, Release);
    }

    /// Takes the batch that a message speaks of.
    ///
    /// # Errors
    /// The message, or the table in the slot, says what cannot be.
    pub fn take(&self, message: &Message) -> Result<Held> {
        let slot = message.slot as usize;
        if std::process::id() != self.shared.process {
            return Err(Error::Transport {
                why: "the ring belongs to the process that this one was forked off".into(),
            });
        }
        let broken = |why: &str| Error::Transport { why: format!("{why} (slot {slot})") };
        let state = self.shared.control.state(slot).ok_or_else(|| broken("a message names no slot"))?;
        let (capacity, table) = match (usize::try_from(message.capacity), usize::try_from(message.table)) {
            (Ok(capacity), Ok(table)) if capacity > 0 && table <= capacity => (capacity, table),
            _ => return Err(broken("a message has impossible sizes")),
        };
        let segments = message.segments as usize;
        if table_bytes(segments) > capacity - table {
            return Err(broken("a batch has more parts than room for their table"));
        }
        let map = self.map(slot, message.offset, capacity)?;
        if state.compare_exchange(FULL, HELD, AcqRel, Acquire).is_err() {
            return Err(broken("a message speaks of a slot that is not full"));
        }
        self.shared.held.fetch_add(1, Relaxed);
        // from here on the slot goes back when this is dropped
        let mut held = Held {
            map,
            shared: Arc::clone(&self.shared),
            slot,
            forks: FORKS.load(Acquire),
            segments: Vec::new(),
            message: *message,
        };
        let mut rows = vec![0; table_bytes(segments)];
        // SAFETY: `table` plus the rows' length is within the mapping, as checked above. The slot was full, so that the
        // producer does not write to it. (A copy: what is checked is what is used.)
        unsafe { rows.as_mut_ptr().copy_from_nonoverlapping(held.map.start().add(table), rows.len()) };
        held.segments = parse_table(&rows, segments, table)?;
        Ok(held)
    }

    fn map(&self, slot: usize, offset: u64, capacity: usize) -> Result<Arc<Mapping>> {
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        let known = mapped.get_mut(slot).ok_or_else(|| Error::Transport { why: "no such slot".into() })?;
        if let Some((at, map)) = known
            && *at == offset
            && map.len() == capacity
        {
            return Ok(Arc::clone(map));
        }
        let end = size(&self.file)?;
        let outside = offset.checked_add(capacity as u64).is_none_or(|after| after > end);
        if outside || offset < PAGE as u64 || !offset.is_multiple_of(PAGE as u64) {
            return Err(Error::Transport {
                why: format!("{capacity} bytes at {offset} are outside the shared memory"),
            });
        }
        let map = Arc::new(Mapping::new(&self.file, offset, capacity)?);
        *known = Some((offset, Arc::clone(&map)));
        Ok(map)
    }
}

/// A batch that was taken; its slot is free again when this is dropped.
pub struct Held {
    map: Arc<Mapping>,
    shared: Arc<Shared>,
    slot: usize,
    forks: u64,
    segments: Vec<Segment>,
    message: Message,
}

impl Held {
    /// What the message said.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The parts of the batch.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// A part's first byte and its length; the memory is there as long as `self` is.
    pub fn part(&self, number: usize) -> Option<(*mut u8, usize)> {
        let segment = self.segments.get(number)?;
        // SAFETY: every segment lies within the mapping; that was checked when the batch was taken.
        Some((unsafe { self.map.start().add(segment.start) }, segment.len))
    }

    /// A part's bytes, copied.
    pub fn copy(&self, number: usize) -> Option<Vec<u8>> {
        let (start, len) = self.part(number)?;
        let mut bytes = vec![0; len];
        // SAFETY: `start` and `len` are those of a part; tensors over it may write to it only from threads that own them,
        // and the part that is copied is one over which there are none.
        unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(start, len) };
        Some(bytes)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if std::process::id() != self.shared.process {
            // a forked child's copy: the slot is the parent's
            return;
        }
        let after = if FORKS.load(Acquire) == self.forks { FREE } else { RETIRED };
        if let Some(state) = self.shared.control.state(self.slot) {
            state.store(after, Release);
        }
        self.shared.held.fetch_sub(1, Relaxed);
    }
}
