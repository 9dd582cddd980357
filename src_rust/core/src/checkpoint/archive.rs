//! Writes an archive in one pass: no seek, so that any `Write` will do, a file as well as an upload.
//!
//! Entries of some size are written straight from the caller's memory in large pieces that begin at page boundaries of the
//! file, while helper threads compute their sums, which follow the bytes. Small entries are gathered in one buffer.

use std::io::Write;

use super::crc::{self, Sums};
use super::zip::{Record, end};

/// Upper bound for the memory that a write takes beside the caller's own bytes.
pub const EXTRA_MEMORY: usize = 48 << 20;

/// The name of the folder that all entries lie in.
const FOLDER: &str = "archive";
/// Entries from this size on are written without copying.
const LARGE: usize = 256 << 10;
/// Bytes of one write of a large entry.
const PIECE: usize = 8 << 20;
/// Small entries are gathered up to here.
const GATHER: usize = 1 << 20;
const PAGE: u64 = 4096;

/// Fills a buffer with an entry's bytes from an offset on; for bytes that do not lie in main memory.
pub type Pull<'a> = dyn Fn(u64, &mut [u8]) -> std::io::Result<()> + Sync + 'a;

/// Where an entry's bytes come from.
pub enum Source<'a> {
    /// Main memory.
    Memory(&'a [u8]),
    /// Somewhere else, asked for piece by piece.
    Pull {
        /// Bytes of the entry.
        length: u64,
        /// Gives them.
        pull: &'a Pull<'a>,
    },
}

impl Source<'_> {
    /// Bytes of the entry.
    pub fn length(&self) -> u64 {
        match self {
            Source::Memory(bytes) => bytes.len() as u64,
            Source::Pull { length, .. } => *length,
        }
    }

    fn large(&self) -> Option<&[u8]> {
        match self {
            Source::Memory(bytes) if bytes.len() >= LARGE => Some(bytes),
            _ => None,
        }
    }
}

/// A small entry of a user's own beside the pickle, which `torch.load` does not look at: name and content.
pub type Beside = (String, Vec<u8>);

/// Writes a checkpoint: the pickle, the storages under the numbers that the pickle calls them by, and records beside them.
///
/// # Errors
/// Whatever the writer or a pull reports.
pub fn write(pickle: &[u8], storages: &[Source<'_>], records: &[Beside], out: &mut dyn Write) -> std::io::Result<u64> {
    let sums = Sums::new(storages.iter().filter_map(Source::large));
    let helpers = if sums.chunks() > 1 { crc::helpers(storages.iter().map(Source::length).sum()) } else { 0 };
    std::thread::scope(|scope| {
        for _ in 0..helpers {
            // without a helper the sums are computed here, later: slower, not wrong
            let _ = std::thread::Builder::new().name("fulmen-crc".into()).spawn_scoped(scope, || sums.work());
        }
        let written = write_entries(pickle, storages, records, &sums, out);
        sums.cancel();
        written
    })
}

fn write_entries(
    pickle: &[u8],
    storages: &[Source<'_>],
    records: &[Beside],
    sums: &Sums<'_>,
    out: &mut dyn Write,
) -> std::io::Result<u64> {
    let mut writer = Writer { out, gathered: Vec::with_capacity(GATHER + LARGE), flushed: 0, records: Vec::new() };
    writer.small("data.pkl", pickle)?;
    writer.small(".format_version", b"1")?;
    writer.small(".storage_alignment", b"64")?;
    writer.small("byteorder", if cfg!(target_endian = "big") { b"big" } else { b"little" })?;
    let mut large = 0;
    for (number, storage) in storages.iter().enumerate() {
        let name = format!("data/{number}");
        match storage {
            Source::Memory(bytes) if bytes.len() < LARGE => writer.small(&name, bytes)?,
            Source::Memory(bytes) => {
                writer.large(&name, bytes, || sums.get(large))?;
                large += 1;
            }
            Source::Pull { length, pull } => writer.pulled(&name, *length, *pull)?,
        }
    }
    for (name, content) in records {
        writer.small(name, content)?;
    }
    writer.small("version", b"3\n")?;
    let id = writer.identity();
    writer.small(".data/serialization_id", id.as_bytes())?;
    writer.finish()
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    gathered: Vec<u8>,
    flushed: u64,
    records: Vec<Record>,
}

impl Writer<'_> {
    fn position(&self) -> u64 {
        self.flushed + self.gathered.len() as u64
    }

    fn begin(&mut self, name: &str, size: u64, crc: Option<u32>) {
        let record = Record {
            name: format!("{FOLDER}/{name}"),
            crc: crc.unwrap_or(0),
            size,
            offset: self.position(),
            descriptor: crc.is_none(),
        };
        record.local_header(&mut self.gathered);
        self.records.push(record);
    }

    fn end(&mut self, crc: u32) {
        if let Some(record) = self.records.last_mut() {
            record.crc = crc;
            record.data_descriptor(&mut self.gathered);
        }
    }

    fn small(&mut self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        self.begin(name, bytes.len() as u64, Some(crc::of(bytes)));
        if bytes.len() < LARGE {
            self.gathered.extend_from_slice(bytes);
        } else {
            self.direct(bytes)?;
        }
        if self.gathered.len() >= GATHER { self.flush() } else { Ok(()) }
    }

    fn large(&mut self, name: &str, bytes: &[u8], sum: impl FnOnce() -> u32) -> std::io::Result<()> {
        self.begin(name, bytes.len() as u64, None);
        self.direct(bytes)?;
        self.end(sum());
        Ok(())
    }

    /// Two buffers' worth of memory at most: one is filled, the other may still be on its way in the pull's own machinery.
    fn pulled(&mut self, name: &str, length: u64, pull: &Pull<'_>) -> std::io::Result<()> {
        self.begin(name, length, None);
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0u8; PIECE.min(usize::try_from(length).unwrap_or(PIECE))];
        let mut done = 0;
        while done < length {
            let piece = buffer.len().min(usize::try_from(length - done).unwrap_or(PIECE));
            pull(done, &mut buffer[..piece])?;
            hasher.update(&buffer[..piece]);
            self.direct(&buffer[..piece])?;
            done += piece as u64;
        }
        self.end(hasher.finalize());
        Ok(())
    }

    /// Large writes that begin at page boundaries; what is over at either end is gathered.
    fn direct(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let head = (((PAGE - self.position() % PAGE) % PAGE) as usize).min(bytes.len());
        self.gathered.extend_from_slice(&bytes[..head]);
        self.flush()?;
        let whole = (bytes.len() - head) / PAGE as usize * PAGE as usize;
        for piece in bytes[head..head + whole].chunks(PIECE) {
            self.out.write_all(piece)?;
            self.flushed += piece.len() as u64;
        }
        self.gathered.extend_from_slice(&bytes[head + whole..]);
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.write_all(&self.gathered)?;
        self.flushed += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }

    /// Forty digits that differ where names or contents differ: torch logs them when a file is loaded.
    fn identity(&self) -> String {
        let (mut names, mut contents) = (crc32fast::Hasher::new(), crc32fast::Hasher::new());
        for record in &self.records {
            names.update(record.name.as_bytes());
            contents.update(&record.crc.to_le_bytes());
        }
        format!("{:020}{:020}", names.finalize(), contents.finalize())
    }

    fn finish(mut self) -> std::io::Result<u64> {
        let start = self.position();
        let records = std::mem::take(&mut self.records);
        for record in &records {
            record.central_header(&mut self.gathered);
            if self.gathered.len() >= GATHER {
                self.flush()?;
            }
        }
        let size = self.position() - start;
        end(records.len() as u64, start, size, &mut self.gathered);
        self.flush()?;
        Ok(self.flushed)
    }
}
