//! From the indices of a batch to the addresses of its rows.

use std::any::Any;
use std::sync::Arc;

use super::copy::copy_rows;
use crate::{Error, Result};

/// A piece of memory that holds rows of equal width at equal distances.
#[derive(Clone)]
pub struct Region {
    base: *const u8,
    stride: usize,
    rows: usize,
    width: usize,
    /// What owns the memory.
    _keep: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the memory is only read, lives as long as `_keep`, which may be sent and shared, and `new` demands that reading
// it from any thread is fine.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Describes `rows` rows of `width` bytes each, the next one `stride` bytes after the one before.
    ///
    /// # Errors
    /// Rows that overlap, or that do not fit into the address space.
    ///
    /// # Safety
    /// From `base` on, `(rows - 1) * stride + width` bytes may be read (none if there are no rows), from any thread, for as
    /// long as `keep` lives. If somebody writes to them meanwhile, what is read may be the old, the new, or partly both.
    pub unsafe fn new(
        base: *const u8,
        rows: usize,
        stride: usize,
        width: usize,
        keep: Arc<dyn Any + Send + Sync>,
    ) -> Result<Self> {
        let fits = rows == 0
            || (rows - 1)
                .checked_mul(stride)
                .and_then(|n| n.checked_add(width))
                .is_some_and(|n| n <= isize::MAX as usize);
        if !fits || (rows > 1 && stride < width) {
            return Err(invalid("rows that do not overlap", format!("{rows} rows of {width} bytes every {stride}")));
        }
        Ok(Self { base, stride, rows, width, _keep: keep })
    }

    /// The address of a row.
    #[inline]
    fn row(&self, index: i64) -> Option<*const u8> {
        let index = usize::try_from(index).ok().filter(|&i| i < self.rows)?;
        Some(self.base.wrapping_add(index * self.stride))
    }
}

/// Which rows of something a subset has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Indices {
    /// One by one.
    Listed(Vec<i64>),
    /// `start, start + step, …`
    Range {
        /// The first.
        start: i64,
        /// From one to the next.
        step: i64,
        /// How many.
        len: usize,
    },
}

impl Indices {
    #[inline]
    fn get(&self, index: i64) -> Option<i64> {
        let index = usize::try_from(index).ok()?;
        match self {
            Self::Listed(all) => all.get(index).copied(),
            Self::Range { start, step, len } => {
                (index < *len).then(|| i64::try_from(index).ok()?.checked_mul(*step)?.checked_add(*start)).flatten()
            }
        }
    }
}

/// How a dataset is put together.
#[derive(Clone)]
pub enum Node {
    /// The rows of one field.
    Rows {
        /// The field's number.
        field: usize,
        /// Where they lie.
        region: Region,
    },
    /// Several fields with the same index.
    Fields(Vec<Node>),
    /// Some rows, in some order.
    Subset {
        /// Which.
        indices: Indices,
        /// Of what.
        of: Box<Node>,
    },
    /// One after the other.
    Concat {
        /// The index after the last one of each part.
        ends: Vec<i64>,
        /// The parts.
        parts: Vec<Node>,
    },
}

/// Addresses of the rows of a batch: first those of field 0, then those of field 1, …
#[derive(Debug, Default)]
pub struct Located {
    pub(super) sources: Vec<*const u8>,
    pub(super) rows: usize,
}

// SAFETY: these are numbers to anybody but `Plan::gather` and the engine, which read from the addresses while the plan
// keeps the regions alive, and regions may be read from any thread.
unsafe impl Send for Located {}
// SAFETY: as above.
unsafe impl Sync for Located {}

/// A dataset in memory, as it is put together, checked.
#[derive(Clone)]
pub struct Plan {
    root: Node,
    widths: Vec<usize>,
}

impl Plan {
    /// Checks that every way through the dataset gives every field once, in the same width.
    ///
    /// # Errors
    /// It does not.
    pub fn new(root: Node) -> Result<Self> {
        let mut widths = Vec::new();
        collect(&root, &mut widths)?;
        let widths: Vec<usize> =
            widths.into_iter().map(|w| w.ok_or_else(|| invalid("fields 0, 1, 2 …", "a gap"))).collect::<Result<_>>()?;
        let plan = Self { root, widths };
        let mut seen = vec![false; plan.widths.len()];
        covers(&plan.root, &mut seen)?;
        if seen.iter().all(|&s| s) { Ok(plan) } else { Err(invalid("every field in every part", "one is missing")) }
    }

    /// Bytes of a row, field by field.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// The addresses of a batch's rows.
    ///
    /// Returns false if an index is out of bounds anywhere; `found` is then of no use.
    pub fn locate(&self, indices: &[i64], found: &mut Located) -> bool {
        found.rows = indices.len();
        found.sources.clear();
        found.sources.resize(indices.len() * self.widths.len(), std::ptr::null());
        locate_all(&self.root, indices, found)
    }

    /// Copies a batch at once, on the calling thread.
    ///
    /// # Safety
    /// `found` is from [`Plan::locate`] of this plan, which returned true. For each field there is an address in `into`
    /// where `rows * width` bytes may be written, overlapping nothing else.
    pub unsafe fn gather(&self, found: &Located, into: &[*mut u8]) {
        for (field, (&to, &width)) in into.iter().zip(&self.widths).enumerate() {
            let sources = &found.sources[field * found.rows..(field + 1) * found.rows];
            // SAFETY: the sources are rows of `width` bytes that the plan keeps alive; the caller vouches for `to`.
            unsafe { copy_rows(sources, to, width) };
        }
    }
}

fn invalid(expected: &str, received: impl Into<String>) -> Error {
    Error::value("plan", expected, received, "Describe the dataset as it is.")
}

/// The width of every field; the same wherever the field appears.
fn collect(node: &Node, widths: &mut Vec<Option<usize>>) -> Result<()> {
    match node {
        Node::Rows { field, region } => {
            if *field >= widths.len() {
                widths.resize(field + 1, None);
            }
            match widths[*field] {
                Some(width) if width != region.width => Err(invalid("one width per field", "two")),
                _ => {
                    widths[*field] = Some(region.width);
                    Ok(())
                }
            }
        }
        Node::Fields(nodes) => nodes.iter().try_for_each(|node| collect(node, widths)),
        Node::Subset { of, .. } => collect(of, widths),
        Node::Concat { ends, parts } => {
            if ends.len() != parts.len() || ends.first().is_some_and(|&e| e < 0) || !ends.is_sorted() {
                return Err(invalid("ascending ends, one for each part", format!("{ends:?} of {} parts", parts.len())));
            }
            parts.iter().try_for_each(|node| collect(node, widths))
        }
    }
}

/// Marks the fields that a node gives: each once, and the same in all parts of a concatenation.
fn covers(node: &Node, seen: &mut [bool]) -> Result<()> {
    match node {
        Node::Rows { field, .. } => {
            if std::mem::replace(&mut seen[*field], true) {
                Err(invalid("every field once", "one twice"))
            } else {
                Ok(())
            }
        }
        Node::Fields(nodes) => nodes.iter().try_for_each(|node| covers(node, seen)),
        Node::Subset { of, .. } => covers(of, seen),
        Node::Concat { parts, .. } => {
            let before = seen.to_vec();
            let mut all: Option<Vec<bool>> = None;
            for part in parts {
                let mut own = before.clone();
                covers(part, &mut own)?;
                if all.as_ref().is_some_and(|all| *all != own) {
                    return Err(invalid("the same fields in every part", "different ones"));
                }
                all = Some(own);
            }
            if let Some(all) = all {
                seen.copy_from_slice(&all);
            }
            Ok(())
        }
    }
}

fn locate_all(node: &Node, indices: &[i64], found: &mut Located) -> bool {
    match node {
        Node::Rows { field, region } => {
            let out = &mut found.sources[field * found.rows..(field + 1) * found.rows];
            for (out, &index) in out.iter_mut().zip(indices) {
                match region.row(index) {
                    Some(address) => *out = address,
                    None => return false,
                }
            }
            true
        }
        Node::Fields(nodes) => nodes.iter().all(|node| locate_all(node, indices, found)),
        Node::Subset { indices: subset, of } => {
            let inner: Option<Vec<i64>> = indices.iter().map(|&index| subset.get(index)).collect();
            inner.is_some_and(|inner| locate_all(of, &inner, found))
        }
        Node::Concat { .. } => (0..indices.len()).all(|at| locate_one(node, indices[at], at, found)),
    }
}

fn locate_one(node: &Node, index: i64, at: usize, found: &mut Located) -> bool {
    match node {
        Node::Rows { field, region } => match region.row(index) {
            Some(address) => {
                found.sources[field * found.rows + at] = address;
                true
            }
            None => false,
        },
        Node::Fields(nodes) => nodes.iter().all(|node| locate_one(node, index, at, found)),
        Node::Subset { indices, of } => indices.get(index).is_some_and(|inner| locate_one(of, inner, at, found)),
        Node::Concat { ends, parts } => {
            if index < 0 {
                return false;
            }
            let part = ends.partition_point(|&end| end <= index);
            let start = if part == 0 { 0 } else { ends[part - 1] };
            parts.get(part).is_some_and(|node| locate_one(node, index - start, at, found))
        }
    }
}
