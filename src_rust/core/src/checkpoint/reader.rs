//! Opens an archive, and believes nothing it says before having checked it.
//!
//! Bytes are read with positioned reads and not through a map, since a failing disk answers a read with an error, and a map
//! with a signal. The sums of large files are computed by several threads.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::crc;
use super::zip::{
    CENTRAL, CENTRAL_SIZE, END, END_SIZE, END64, END64_SIZE, EXTRA64, FLAG_DESCRIPTOR, LOCAL, LOCAL_SIZE, LOCATOR64,
    LOCATOR64_SIZE, SEE64,
};
use crate::error::{Error, Result};

/// Bytes that can be read from any place.
pub trait ReadAt: Sync {
    /// Fills the buffer from an offset on.
    ///
    /// # Errors
    /// The disk's, or `UnexpectedEof` past the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Number of bytes.
    ///
    /// # Errors
    /// The disk's.
    fn length(&self) -> io::Result<u64>;
}

impl ReadAt for File {
    #[cfg(unix)]
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let count = std::os::windows::fs::FileExt::seek_read(self, buffer, offset)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            offset += count as u64;
            buffer = &mut buffer[count..];
        }
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        self.metadata().map(|data| data.len())
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let to = from.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(self.get(from..to).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// One entry, its place checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name below the archive's folder: `data.pkl`, `data/0`.
    pub name: String,
    /// Where its bytes begin.
    pub start: u64,
    /// How many there are.
    pub size: u64,
    /// Their sum as the file tells it.
    pub crc: u32,
}

/// The checked directory of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// In the order of their places.
    pub entries: Vec<Entry>,
    names: HashMap<String, usize>,
}

/// What the first bytes of something that is no torch archive say that it is.
pub fn foreign(head: &[u8]) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 6] = [
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x1f\x8b", "a gzip file"),
        (b"PAR1", "a Parquet file"),
        (b"\x93NUMPY", "a numpy array"),
        (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
        (b"<", "a text or web page"),
    ];
    if let Some((_, what)) = KNOWN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(what);
    }
    (head.len() > 9 && head[8] == b'{' && head[6..8] == [0, 0]).then_some("a safetensors file")
}

impl Archive {
    /// Reads the directory and the header of every entry.
    ///
    /// # Errors
    /// [`Error::Damaged`] says what is wrong; [`Error::Io`] that the disk failed.
    pub fn open(source: &(impl ReadAt + ?Sized)) -> Result<Self> {
        let length = source.length().map_err(|error| Error::io("", "read", &error))?;
        let (entries, start, size) = find_directory(source, length)?;
        let mut directory = vec![0; size as usize];
        read(source, start, &mut directory)?;
        let raw = parse_directory(&directory, entries)?;
        let mut found = Vec::with_capacity(raw.len());
        for entry in raw {
            found.push(check_entry(source, entry, start)?);
        }
        found.sort_by_key(|entry: &Entry| entry.start);
        for pair in found.windows(2) {
            if pair[0].start + pair[0].size > pair[1].start {
                return Err(damaged(format!("the entries {} and {} overlap", pair[0].name, pair[1].name)));
            }
        }
        Self::under_one_folder(found)
    }

    fn under_one_folder(mut entries: Vec<Entry>) -> Result<Self> {
        let folder = match entries.first().and_then(|entry| entry.name.split_once('/')) {
            Some((folder, _)) => format!("{folder}/"),
            None => return Err(damaged("a zip archive, but none that torch wrote: its entries lie in no folder")),
        };
        let mut names = HashMap::with_capacity(entries.len());
        for (number, entry) in entries.iter_mut().enumerate() {
            let Some(name) = entry.name.strip_prefix(&folder).map(str::to_owned) else {
                return Err(damaged(format!("the entry {} lies outside of the folder {folder}", entry.name)));
            };
            entry.name = name;
            if names.insert(entry.name.clone(), number).is_some() {
                return Err(damaged(format!("the entry {} is there twice", entry.name)));
            }
        }
        let archive = Self { entries, names };
        if archive.entry("data.pkl").is_none() {
            return Err(damaged("a zip archive, but no checkpoint: it has no data.pkl"));
        }
        Ok(archive)
    }

    /// The entry of a name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.names.get(name).map(|&number| &self.entries[number])
    }

    /// An entry's bytes, their sum compared.
    ///
    /// # Errors
    /// [`Error::Damaged`], also if there is no such entry.
    pub fn contents(&self, source: &(impl ReadAt + ?Sized), name: &str) -> Result<Vec<u8>> {
        let entry = self.entry(name).ok_or_else(|| damaged(format!("the entry {name} is missing")))?;
        let mut bytes = vec![0; usize::try_from(entry.size).map_err(|_| damaged("an entry beyond all memory"))?];
        read(source, entry.start, &mut bytes)?;
        if crc::of(&bytes) != entry.crc {
            return Err(wrong_sum(entry));
        }
        Ok(bytes)
    }

    /// Compares the sums of all entries.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the first entry in the file whose bytes are not those that were written.
    pub fn verify(&self, source: &(impl ReadAt + ?Sized)) -> Result<()> {
        let total = self.entries.iter().map(|entry| entry.size).sum();
        let next = AtomicUsize::new(0);
        let chunks: Vec<(usize, u64, usize)> = self.entries.iter().enumerate().flat_map(chunks_of).collect();
        let sums = Mutex::new(vec![0u32; chunks.len()]);
        let work = || -> Result<()> {
            let mut buffer = vec![0; crc::CHUNK.min(usize::try_from(total).unwrap_or(crc::CHUNK))];
            while let Some(&(_, at, size)) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                read(source, at, &mut buffer[..size])?;
                let sum = crc::of(&buffer[..size]);
                if let Ok(mut sums) = sums.lock() {
                    let place = chunks.partition_point(|chunk| chunk.1 < at);
                    sums[place] = sum;
                }
            }
            Ok(())
        };
        let helpers = if chunks.len() > 1 { crc::helpers(total) } else { 0 };
        std::thread::scope(|scope| {
            let others: Vec<_> = (0..helpers)
                .filter_map(|_| std::thread::Builder::new().name("fulmen-crc".into()).spawn_scoped(scope, work).ok())
                .collect();
            let own = work();
            others.into_iter().fold(own, |result, other| result.and(other.join().unwrap_or(Ok(()))))
        })?;
        let sums = sums.into_inner().unwrap_or_default();
        let mut at = 0;
        for (number, entry) in self.entries.iter().enumerate() {
            let mut whole = crc32fast::Hasher::new();
            while at < chunks.len() && chunks[at].0 == number {
                whole.combine(&crc32fast::Hasher::new_with_initial_len(sums[at], chunks[at].2 as u64));
                at += 1;
            }
            if whole.finalize() != entry.crc {
                return Err(wrong_sum(entry));
            }
        }
        Ok(())
    }
}

fn chunks_of((number, entry): (usize, &Entry)) -> impl Iterator<Item = (usize, u64, usize)> + use<> {
    let (start, size) = (entry.start, entry.size);
    (0..size.div_ceil(crc::CHUNK as u64)).map(move |index| {
        let from = index * crc::CHUNK as u64;
        (number, start + from, (size - from).min(crc::CHUNK as u64) as usize)
    })
}

fn wrong_sum(entry: &Entry) -> Error {
    damaged(format!("the bytes of {} are not those that were written: their checksum differs", entry.name))
}

fn damaged(why: impl Into<String>) -> Error {
    Error::Damaged { why: why.into() }
}

fn read(source: &(impl ReadAt + ?Sized), offset: u64, buffer: &mut [u8]) -> Result<()> {
    source.read_at(offset, buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(format!("truncated: nothing at byte {offset}")),
        _ => Error::io("", "read", &error),
    })
}

fn u16_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 2).map_or(0, |b| u64::from(u16::from_le_bytes([b[0], b[1]])))
}

fn u32_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 4).map_or(0, |b| u64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]])))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u32_at(bytes, at) | u32_at(bytes, at + 4) << 32
}

/// Number of entries, start and size of the directory, which lies before the end record.
fn find_directory(source: &(impl ReadAt + ?Sized), length: u64) -> Result<(u64, u64, u64)> {
    let mut head = [0; 64];
    let known = (length as usize).min(head.len());
    read(source, 0, &mut head[..known])?;
    if length == 0 {
        return Err(damaged("it is empty"));
    }
    if known < 4 || u32_at(&head, 0) != u64::from(LOCAL) {
        let what = foreign(&head[..known]).unwrap_or("no zip archive");
        return Err(damaged(format!("not a checkpoint that torch wrote, but {what}")));
    }
    let tail = length.min(END_SIZE as u64 + u64::from(u16::MAX));
    let mut bytes = vec![0; tail as usize];
    read(source, length - tail, &mut bytes)?;
    let place = (0..=bytes.len().saturating_sub(END_SIZE))
        .rev()
        .find(|&at| {
            u32_at(&bytes, at) == u64::from(END) && at as u64 + END_SIZE as u64 + u16_at(&bytes, at + 20) == tail
        })
        .ok_or_else(|| damaged(format!("truncated after {length} bytes: the archive's end is missing")))?;
    let end = &bytes[place..];
    let position = length - tail + place as u64;
    if u16_at(end, 4) != 0 || u16_at(end, 6) != 0 || u16_at(end, 8) != u16_at(end, 10) {
        return Err(damaged("the archive's end record contradicts itself"));
    }
    let (mut entries, mut size, mut start, mut limit) = (u16_at(end, 10), u32_at(end, 12), u32_at(end, 16), position);
    if entries == u64::from(u16::MAX) || size == u64::from(SEE64) || start == u64::from(SEE64) {
        (entries, size, start, limit) = find_directory64(source, position)?;
    }
    // torch's own files have zip64 records between the directory and the end, whether needed or not
    if start.checked_add(size).is_none_or(|end| end > limit) {
        return Err(damaged("the archive's directory is not where its end record says"));
    }
    if entries > size / CENTRAL_SIZE as u64 {
        return Err(damaged("the archive's end record tells more entries than the directory can hold"));
    }
    Ok((entries, start, size))
}

fn find_directory64(source: &(impl ReadAt + ?Sized), end: u64) -> Result<(u64, u64, u64, u64)> {
    let missing = || damaged("the archive's zip64 record is missing or damaged");
    let at = end.checked_sub(LOCATOR64_SIZE as u64).ok_or_else(missing)?;
    let mut locator = [0; LOCATOR64_SIZE];
    read(source, at, &mut locator)?;
    let position = u64_at(&locator, 8);
    if u32_at(&locator, 0) != u64::from(LOCATOR64) || position.checked_add(END64_SIZE as u64) != Some(at) {
        return Err(missing());
    }
    let mut record = [0; END64_SIZE];
    read(source, position, &mut record)?;
    if u32_at(&record, 0) != u64::from(END64) || u64_at(&record, 24) != u64_at(&record, 32) {
        return Err(missing());
    }
    Ok((u64_at(&record, 32), u64_at(&record, 40), u64_at(&record, 48), position))
}

/// An entry as the directory tells it, unchecked.
struct Claim {
    name: String,
    crc: u32,
    size: u64,
    offset: u64,
}

fn parse_directory(bytes: &[u8], entries: u64) -> Result<Vec<Claim>> {
    let mut claims = Vec::with_capacity(entries as usize);
    let mut at = 0;
    for number in 0..entries {
        let broken = || damaged(format!("line {number} of the archive's directory is damaged"));
        let header = bytes.get(at..at + CENTRAL_SIZE).ok_or_else(broken)?;
        let (name, extra, comment) = (u16_at(header, 28), u16_at(header, 30), u16_at(header, 32));
        let name_at = at + CENTRAL_SIZE;
        let extra_at = name_at + name as usize;
        let next = extra_at + (extra + comment) as usize;
        if u32_at(header, 0) != u64::from(CENTRAL) || next > bytes.len() || u16_at(header, 34) != 0 {
            return Err(broken());
        }
        let name = std::str::from_utf8(&bytes[name_at..extra_at]).map_err(|_| broken())?.to_owned();
        if u16_at(header, 8) & 1 != 0 || u16_at(header, 10) != 0 {
            return Err(damaged(format!(
                "the entry {name} is compressed or encrypted, which torch's files never are: the archive was packed anew"
            )));
        }
        let (mut compressed, mut size, mut offset) = (u32_at(header, 20), u32_at(header, 24), u32_at(header, 42));
        let mut wide = wide_field(&bytes[extra_at..extra_at + extra as usize]).chunks_exact(8);
        for value in [&mut size, &mut compressed, &mut offset] {
            if *value == u64::from(SEE64) {
                *value = u64_at(wide.next().ok_or_else(broken)?, 0);
            }
        }
        if compressed != size {
            return Err(broken());
        }
        claims.push(Claim { name, crc: u32_at(header, 16) as u32, size, offset });
        at = next;
    }
    if at != bytes.len() {
        return Err(damaged("the archive's directory is longer than its entries"));
    }
    Ok(claims)
}

/// The contents of the zip64 field among the extra fields; empty if there is none.
fn wide_field(mut extra: &[u8]) -> &[u8] {
    while extra.len() >= 4 {
        let (id, size) = (u16_at(extra, 0), u16_at(extra, 2) as usize);
        let Some(body) = extra.get(4..4 + size) else { break };
        if id == u64::from(EXTRA64) {
            return body;
        }
        extra = &extra[4 + size..];
    }
    &[]
}

/// Compares the entry's own header with the directory, and finds where its bytes are.
fn check_entry(source: &(impl ReadAt + ?Sized), claim: Claim, directory: u64) -> Result<Entry> {
    let broken = || damaged(format!("the header of {} is damaged", claim.name));
    let mut header = vec![0; LOCAL_SIZE + claim.name.len()];
    let after = claim.offset.checked_add(header.len() as u64).ok_or_else(broken)?;
    if after > directory {
        return Err(broken());
    }
    read(source, claim.offset, &mut header)?;
    let flags = u16_at(&header, 6);
    if u32_at(&header, 0) != u64::from(LOCAL)
        || &header[LOCAL_SIZE..] != claim.name.as_bytes()
        || u16_at(&header, 26) != claim.name.len() as u64
        || u16_at(&header, 8) != 0
        || flags & 1 != 0
        || (flags & u64::from(FLAG_DESCRIPTOR) == 0 && u32_at(&header, 14) as u32 != claim.crc)
    {
        return Err(broken());
    }
    let start = after + u16_at(&header, 28);
    match start.checked_add(claim.size) {
        Some(end) if end <= directory => Ok(Entry { name: claim.name, start, size: claim.size, crc: claim.crc }),
        _ => Err(damaged(format!("the entry {} reaches beyond the archive's directory", claim.name))),
    }
}
