//! What goes through the socket, and the table at the end of a batch.
//!
//! All numbers are in the machine's own byte order: both ends run on the same machine.

use crate::{Error, Result};

/// Bytes of a message.
pub const MESSAGE: usize = 48;
/// Every segment begins at a multiple of this.
pub const ALIGN: usize = 64;

const MAGIC: u32 = 0x6675_6c31;
const ROW: usize = 16;

/// A batch lies ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The number of the task.
    pub task: u64,
    /// What it is; the ring does not care.
    pub kind: u16,
    /// Number of the slot.
    pub slot: u32,
    /// How many segments it has.
    pub segments: u32,
    /// Where in the file the slot begins.
    pub offset: u64,
    /// How many bytes it has.
    pub capacity: u64,
    /// Where in the slot the table of the segments begins.
    pub table: u64,
}

/// A piece of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where in the slot it begins.
    pub start: usize,
    /// Its bytes.
    pub len: usize,
}

fn broken(why: impl Into<String>) -> Error {
    Error::Transport { why: why.into() }
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    bytes
        .get(at..at.saturating_add(N))
        .and_then(|found| found.try_into().ok())
        .ok_or_else(|| broken("a message is too short"))
}

impl Message {
    /// As bytes.
    pub fn to_bytes(self) -> [u8; MESSAGE] {
        let mut bytes = [0; MESSAGE];
        bytes[0..4].copy_from_slice(&MAGIC.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.kind.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.slot.to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.segments.to_ne_bytes());
        bytes[16..24].copy_from_slice(&self.task.to_ne_bytes());
        bytes[24..32].copy_from_slice(&self.offset.to_ne_bytes());
        bytes[32..40].copy_from_slice(&self.capacity.to_ne_bytes());
        bytes[40..48].copy_from_slice(&self.table.to_ne_bytes());
        bytes
    }

    /// Reads one; the numbers in it are not checked against anything yet.
    ///
    /// # Errors
    /// These bytes are no message.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() != MESSAGE || u32::from_ne_bytes(word(bytes, 0)?) != MAGIC {
            return Err(broken("a message from a worker is damaged"));
        }
        Ok(Self {
            kind: u16::from_ne_bytes(word(bytes, 4)?),
            slot: u32::from_ne_bytes(word(bytes, 8)?),
            segments: u32::from_ne_bytes(word(bytes, 12)?),
            task: u64::from_ne_bytes(word(bytes, 16)?),
            offset: u64::from_ne_bytes(word(bytes, 24)?),
            capacity: u64::from_ne_bytes(word(bytes, 32)?),
            table: u64::from_ne_bytes(word(bytes, 40)?),
        })
    }
}

/// Bytes of a table.
///
/// Saturates where no memory could hold it.
pub fn table_bytes(segments: usize) -> usize {
    segments.saturating_mul(ROW)
}

/// The table of these segments.
pub fn table(segments: &[Segment]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(table_bytes(segments.len()));
    for segment in segments {
        bytes.extend_from_slice(&(segment.start as u64).to_ne_bytes());
        bytes.extend_from_slice(&(segment.len as u64).to_ne_bytes());
    }
    bytes
}

/// Reads a table, and checks that every segment lies before `end`.
///
/// # Errors
/// It does not have this many rows, or a segment lies elsewhere.
pub fn parse_table(bytes: &[u8], segments: usize, end: usize) -> Result<Vec<Segment>> {
    if bytes.len() != table_bytes(segments) {
        return Err(broken("the table of a batch is damaged"));
    }
    bytes
        .chunks_exact(ROW)
        .map(|row| {
            let start = usize::try_from(u64::from_ne_bytes(word(row, 0)?)).unwrap_or(usize::MAX);
            let len = usize::try_from(u64::from_ne_bytes(word(row, 8)?)).unwrap_or(usize::MAX);
            match start.checked_add(len) {
                Some(after) if after <= end && start.is_multiple_of(ALIGN) => Ok(Segment { start, len }),
                _ => Err(broken(format!("a part of a batch lies outside its slot: {len} bytes at {start} of {end}"))),
            }
        })
        .collect()
}
