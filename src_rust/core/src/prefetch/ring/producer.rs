//! The worker's end.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::message::{ALIGN, Message, Segment, table, table_bytes};
use super::region::{Control, FREE, FULL, Mapping, PAGE, RETIRED, grow, release_pages, size};
use crate::Result;

/// Slots grow by steps of this.
const STEP: usize = 64 * 1024;

/// With more slots than this under tensors that the worker itself keeps, it gets none to keep any more.
const MOST_LENT: usize = 4;

/// Bytes that are to be part of a batch. They may lie in the slot already ([`Producer::reserve`]).
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The first one.
    pub start: *const u8,
    /// How many.
    pub len: usize,
}

// SAFETY: an address and a number; whoever reads from it has to know that he may.
unsafe impl Send for Part {}
// SAFETY: as above.
unsafe impl Sync for Part {}

struct Slot {
    offset: u64,
    map: Option<Arc<Mapping>>,
}

/// The slot that is being filled.
struct Current {
    slot: usize,
    map: Arc<Mapping>,
    used: usize,
}

/// Fills slots.
pub struct Producer {
    file: OwnedFd,
    control: Control,
    slots: Vec<Slot>,
    end: u64,
    typical: usize,
    current: Option<Current>,
}

impl Producer {
    /// Opens the ring that the consumer made, once.
    ///
    /// # Errors
    /// It is no ring, or the system refuses.
    pub fn open(file: OwnedFd) -> Result<Self> {
        let control = Control::open(&file)?;
        let slots = (0..control.slots()).map(|_| Slot { offset: 0, map: None }).collect();
        let end = size(&file)?.next_multiple_of(PAGE as u64);
        Ok(Self { file, control, slots, end, typical: 0, current: None })
    }

    /// Is this task's batch still wanted?
    pub fn wanted(&self, task: u64) -> bool {
        task >= self.control.floor().load(Acquire)
    }

    /// Forgets what was reserved for a batch that was not sealed, and begins another.
    pub fn begin(&mut self) {
        self.current = None;
    }

    /// Memory in the slot for a part of the batch, if there is room; it stays in the slot until the batch is sealed.
    ///
    /// Whoever keeps the returned owner keeps the slot from being used for another batch.
    pub fn reserve(&mut self, len: usize) -> Option<(*mut u8, Arc<Mapping>)> {
        if self.current.is_none() {
            if len > self.typical || (0..self.slots.len()).filter(|slot| self.is_lent(*slot)).count() > MOST_LENT {
                return None;
            }
            let slot = self.choose(self.typical).or_else(|| self.with_new_memory())?;
            let map = self.slots[slot].map.clone()?;
            if map.len() < len {
                return None;
            }
            self.current = Some(Current { slot, map, used: 0 });
        }
        let current = self.current.as_mut()?;
        let after = current.used.checked_add(len)?;
        if after > current.map.len() {
            return None;
        }
        // SAFETY: `used` is at most the length of the mapping.
        let start = unsafe { current.map.start().add(current.used) };
        current.used = after.next_multiple_of(ALIGN);
        Some((start, Arc::clone(&current.map)))
    }

    /// Completes a batch: copies those parts that do not lie in the slot yet, and marks it full.
    ///
    /// Returns:
    /// The message for the consumer, None if no slot is free.
    ///
    /// # Errors
    /// There is no memory.
    ///
    /// # Safety
    /// Every part can be read, and nobody writes to it meanwhile.
    pub unsafe fn seal(&mut self, task: u64, kind: u16, parts: &[Part]) -> Result<Option<Message>> {
        let table_len = table_bytes(parts.len());
        let total = parts.iter().map(|part| part.len.next_multiple_of(ALIGN)).sum::<usize>() + table_len;
        let outside: usize = parts
            .iter()
            .filter(|part| self.position(part).is_none())
            .map(|part| part.len.next_multiple_of(ALIGN))
            .sum::<usize>()
            + table_len;
        let old = match self.current.take() {
            Some(current) if current.used + outside <= current.map.len() => {
                self.current = Some(current);
                None
            }
            other => {
                let filled = other.as_ref().map(|current| current.slot);
                let Some((slot, map)) = self.with_room(total, filled)? else {
                    self.current = other;
                    return Ok(None);
                };
                self.current = Some(Current { slot, map, used: 0 });
                other
            }
        };
        self.typical = total.max(self.typical - self.typical / 8);
        let mut segments = Vec::with_capacity(parts.len());
        for part in parts {
            // SAFETY: as the caller promises.
            segments.push(unsafe { self.place(part) });
        }
        drop(old);
        let Some(current) = self.current.take() else { return Ok(None) };
        let table = table(&segments);
        let at = current.used;
        // SAFETY: room for the table was counted in; the slot is free, so that only we use its memory.
        unsafe { current.map.start().add(at).copy_from_nonoverlapping(table.as_ptr(), table.len()) };
        let state = self.control.state(current.slot);
        state.inspect(|state| state.store(FULL, Release));
        Ok(Some(Message {
            task,
            kind,
            slot: u32::try_from(current.slot).unwrap_or(u32::MAX),
            segments: u32::try_from(segments.len()).unwrap_or(u32::MAX),
            offset: self.slots[current.slot].offset,
            capacity: current.map.len() as u64,
            table: at as u64,
        }))
    }

    /// Bytes of the file that are slots now.
    pub fn bytes(&self) -> usize {
        self.slots.iter().filter_map(|slot| slot.map.as_ref()).map(|map| map.len()).sum()
    }

    /// Where a part lies in the current slot.
    fn position(&self, part: &Part) -> Option<usize> {
        let current = self.current.as_ref()?;
        let at = part.start.addr().checked_sub(current.map.start().addr())?;
        (at % ALIGN == 0 && at.checked_add(part.len)? <= current.used).then_some(at)
    }

    /// # Safety
    /// The part can be read, and room for it was found.
    unsafe fn place(&mut self, part: &Part) -> Segment {
        if let Some(start) = self.position(part) {
            return Segment { start, len: part.len };
        }
        let Some(current) = self.current.as_mut() else { return Segment { start: 0, len: 0 } };
        let start = current.used;
        if part.len > 0 {
            // SAFETY: the part does not lie in what is free of this slot, and the room was counted by `seal`.
            unsafe { current.map.start().add(start).copy_from_nonoverlapping(part.start, part.len) };
        }
        current.used = (start + part.len).next_multiple_of(ALIGN);
        Segment { start, len: part.len }
    }

    /// Has the consumer nothing to do with this slot? One whose memory is retired loses it here.
    fn is_ours(&mut self, slot: usize) -> bool {
        let Some(state) = self.control.state(slot) else { return false };
        match state.load(Acquire) {
            FREE => true,
            RETIRED => {
                // the memory is somebody else's for good: neither used nor given back
                self.slots[slot].map = None;
                state.store(FREE, Relaxed);
                true
            }
            _ => false,
        }
    }

    /// Does a tensor that the worker itself keeps lie over it?
    fn is_lent(&self, slot: usize) -> bool {
        self.slots[slot].map.as_ref().is_some_and(|map| Arc::strong_count(map) > 1)
    }

    /// May this slot be written to?
    fn is_free(&mut self, slot: usize) -> bool {
        self.is_ours(slot) && !self.is_lent(slot)
    }

    /// The free slot with memory that fits best.
    fn choose(&mut self, want: usize) -> Option<usize> {
        let mut best: Option<(usize, usize)> = None;
        for slot in 0..self.slots.len() {
            if !self.is_free(slot) {
                continue;
            }
            if let Some(len) = self.slots[slot].map.as_ref().map(|map| map.len())
                && len >= want
                && best.is_none_or(|(_, least)| len < least)
            {
                best = Some((slot, len));
            }
        }
        best.map(|(slot, _)| slot)
    }

    /// A free slot with at least this much room, made if there is none.
    fn with_room(&mut self, want: usize, but_not: Option<usize>) -> Result<Option<(usize, Arc<Mapping>)>> {
        let found = self.choose(want).filter(|slot| Some(*slot) != but_not);
        let slot = match found {
            Some(slot) => slot,
            None => {
                let free: Vec<usize> =
                    (0..self.slots.len()).filter(|slot| Some(*slot) != but_not && self.is_free(*slot)).collect();
                // one that is too small is worth less than its pages
                let small = free.iter().copied().find(|slot| self.slots[*slot].map.is_some());
                let lent = || (0..self.slots.len()).find(|slot| Some(*slot) != but_not && self.is_ours(*slot));
                let Some(slot) = small.or(free.first().copied()).or_else(lent) else { return Ok(None) };
                self.give_memory(slot, want)?;
                slot
            }
        };
        Ok(self.slots[slot].map.clone().map(|map| (slot, map)))
    }

    /// A free slot that had no memory yet, with room for a typical batch: memory of its own would have to be found, and
    /// copied from, for every batch that is made while the other slots are busy.
    fn with_new_memory(&mut self) -> Option<usize> {
        let slot = (0..self.slots.len()).find(|slot| self.is_free(*slot) && self.slots[*slot].map.is_none())?;
        self.give_memory(slot, self.typical).ok()?;
        Some(slot)
    }

    fn give_memory(&mut self, slot: usize, want: usize) -> Result<()> {
        let out_of_memory = || crate::Error::Memory { bytes: want };
        if self.is_lent(slot) {
            // whoever keeps the memory has it for himself from now on
            self.slots[slot].map = None;
        }
        if let Some(map) = self.slots[slot].map.take() {
            release_pages(&self.file, self.slots[slot].offset, map.len());
        }
        // room to spare: batches differ a little
        let capacity = want
            .checked_add(want / 8)
            .and_then(|n| n.checked_next_multiple_of(STEP))
            .ok_or_else(out_of_memory)?
            .max(STEP);
        grow(&self.file, self.end, capacity)?;
        let map = Mapping::new(&self.file, self.end, capacity)?;
        self.slots[slot] = Slot { offset: self.end, map: Some(Arc::new(map)) };
        self.end += capacity as u64;
        Ok(())
    }
}
