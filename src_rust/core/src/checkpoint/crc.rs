//! CRC-32 of large pieces, by chunks that several threads compute and that combine into one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crc32fast::Hasher;

/// Bytes that one thread takes on at a time: large enough that combining costs nothing, small enough to share the work.
pub const CHUNK: usize = 4 << 20;

/// CRC-32 of some bytes.
pub fn of(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Checksums of many pieces, each computed once, by whoever needs it first.
///
/// Helper threads call [`Sums::work`] until nothing is left; the thread that wants the sum of a piece calls [`Sums::get`],
/// which computes what no helper has reached yet.
pub struct Sums<'a> {
    chunks: Vec<(&'a [u8], OnceLock<u32>)>,
    /// Where each piece's chunks begin; one more entry than there are pieces.
    starts: Vec<usize>,
    next: AtomicUsize,
}

impl<'a> Sums<'a> {
    /// Nothing is computed yet.
    pub fn new(pieces: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut chunks, mut starts) = (Vec::new(), vec![0]);
        for piece in pieces {
            chunks.extend(piece.chunks(CHUNK).map(|chunk| (chunk, OnceLock::new())));
            starts.push(chunks.len());
        }
        Self { chunks, starts, next: AtomicUsize::new(0) }
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Computes until every chunk is taken.
    pub fn work(&self) {
        while let Some((bytes, sum)) = self.chunks.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            sum.get_or_init(|| of(bytes));
        }
    }

    /// Makes helpers stop early: nobody wants the rest.
    pub fn cancel(&self) {
        self.next.store(self.chunks.len(), Ordering::Relaxed);
    }

    /// The sum of piece number `piece`.
    pub fn get(&self, piece: usize) -> u32 {
        let mut whole = Hasher::new();
        for (bytes, sum) in &self.chunks[self.starts[piece]..self.starts[piece + 1]] {
            let sum = *sum.get_or_init(|| of(bytes));
            whole.combine(&Hasher::new_with_initial_len(sum, bytes.len() as u64));
        }
        whole.finalize()
    }
}

/// How many helper threads are worth their start for so many bytes.
pub fn helpers(bytes: u64) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let useful = usize::try_from(bytes / (2 * CHUNK as u64)).unwrap_or(usize::MAX);
    useful.min(cores.saturating_sub(1).max(1)).min(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combined_sums_are_those_of_the_whole() {
        let bytes: Vec<u8> = (0..CHUNK * 3 + 17).map(|i| (i * 31 % 251) as u8).collect();
        let pieces = [&bytes[..], &bytes[..5], &[], &bytes[7..CHUNK + 9]];
        let sums = Sums::new(pieces.into_iter());
        std::thread::scope(|scope| {
            scope.spawn(|| sums.work());
            for (number, piece) in pieces.iter().enumerate() {
                assert_eq!(sums.get(number), of(piece));
            }
        });
    }
}
