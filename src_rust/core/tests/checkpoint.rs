//! The writer against the reader, and the reader against everything else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::type_complexity)] // a test that fails is meant to panic

use std::io::{self, Write};

use fulmen_core::checkpoint::archive::{self, Source};
use fulmen_core::checkpoint::durable;
use fulmen_core::checkpoint::reader::Archive;
use proptest::prelude::*;

fn written(pickle: &[u8], storages: &[Vec<u8>]) -> Vec<u8> {
    let sources: Vec<Source<'_>> = storages.iter().map(|bytes| Source::Memory(bytes)).collect();
    let mut out = Vec::new();
    let size = archive::write(pickle, &sources, &[], &mut out).unwrap();
    assert_eq!(size, out.len() as u64);
    out
}

fn check(file: &[u8], pickle: &[u8], storages: &[Vec<u8>]) {
    let archive = Archive::open(file).unwrap();
    archive.verify(file).unwrap();
    assert_eq!(archive.contents(file, "data.pkl").unwrap(), pickle);
    for (number, bytes) in storages.iter().enumerate() {
        let name = format!("data/{number}");
        assert_eq!(&archive.contents(file, &name).unwrap(), bytes);
        assert_eq!(archive.entry(&name).unwrap().start % 64, 0);
    }
}

#[test]
fn small_large_and_empty_entries_come_back_aligned() {
    let storages: Vec<Vec<u8>> = [0, 1, 63, 64, 4095, 300_000, 5_000_000, 9_000_001]
        .iter()
        .map(|&n| (0..n).map(|i| (i % 249) as u8).collect())
        .collect();
    let pickle = vec![7u8; 600_000];
    let file = written(&pickle, &storages);
    check(&file, &pickle, &storages);
}

#[test]
fn what_is_pulled_equals_what_lies_in_memory() {
    let bytes: Vec<u8> = (0..20_000_003u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let pull = |at: u64, buffer: &mut [u8]| {
        buffer.copy_from_slice(&bytes[at as usize..at as usize + buffer.len()]);
        Ok(())
    };
    let mut pulled = Vec::new();
    let sources = [Source::Pull { length: bytes.len() as u64, pull: &pull }];
    archive::write(b"p", &sources, &[], &mut pulled).unwrap();
    assert!(pulled == written(b"p", std::slice::from_ref(&bytes)));
}

#[test]
fn more_entries_than_16_bits_count() {
    let storages: Vec<Vec<u8>> = (0..70_000u32).map(|i| i.to_le_bytes().to_vec()).collect();
    let file = written(b"p", &storages);
    check(&file, b"p", &storages);
}

/// A disk that fails after some bytes.
struct Failing {
    left: usize,
    kind: io::ErrorKind,
}

impl Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.left {
            return Err(self.kind.into());
        }
        self.left -= bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_failing_disk_is_reported_wherever_it_fails() {
    let storages = vec![vec![1u8; 3_000_000], vec![2u8; 100], vec![3u8; 12_000_000]];
    let whole = written(b"pickle", &storages).len();
    let sources: Vec<Source<'_>> = storages.iter().map(|bytes| Source::Memory(bytes)).collect();
    for place in (0..40).map(|i| whole * i / 40) {
        let mut disk = Failing { left: place, kind: io::ErrorKind::StorageFull };
        let error = archive::write(b"pickle", &sources, &[], &mut disk).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}

#[test]
fn a_failing_disk_leaves_the_former_file() {
    let folder = std::env::temp_dir().join(format!("fulmen-core-faults-{}", std::process::id()));
    let target = folder.join("a.ckpt");
    durable::replace(&target, |out| archive::write(b"old", &[], &[], out)).unwrap();
    let before = std::fs::read(&target).unwrap();
    let big = vec![0u8; 2_000_000];
    let error = durable::replace(&target, |out| {
        archive::write(b"new", &[Source::Memory(&big)], &[], out)?;
        Err(io::Error::from_raw_os_error(5))
    });
    assert!(error.unwrap_err().to_string().contains("a.ckpt"));
    assert_eq!(std::fs::read(&target).unwrap(), before);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    std::fs::remove_dir_all(folder).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_contents_come_back(pickle in proptest::collection::vec(any::<u8>(), 0..300),
                              storages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 0..20)) {
        check(&written(&pickle, &storages), &pickle, &storages);
    }

    #[test]
    fn any_bytes_are_an_answer(mut bytes in proptest::collection::vec(any::<u8>(), 0..2000), head in any::<bool>()) {
        if head && bytes.len() > 4 {
            bytes[..4].copy_from_slice(b"PK\x03\x04");
        }
        if let Ok(archive) = Archive::open(&bytes[..]) {
            let _ = archive.verify(&bytes[..]);
        }
    }

    /// Whatever is done to a file: either it is refused, or every entry is as it was.
    #[test]
    fn damage_is_noticed_or_harmless(places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
                                     cut in proptest::option::of(any::<prop::sample::Index>())) {
        let storages = vec![vec![1u8; 500], vec![2u8; 3], vec![3u8; 1000]];
        let mut file = written(b"pickle", &storages);
        for (place, value) in places {
            let at = place.index(file.len());
            file[at] ^= value;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        if let Ok(archive) = Archive::open(&file[..]) && archive.verify(&file[..]).is_ok() {
            for (number, bytes) in storages.iter().enumerate() {
                let name = format!("data/{number}");
                if archive.entry(&name).is_some() {
                    prop_assert_eq!(&archive.contents(&file[..], &name).unwrap(), bytes);
                }
            }
        }
    }
}
