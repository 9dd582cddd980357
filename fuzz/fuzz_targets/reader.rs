//! Any bytes as a checkpoint: an archive or an error, no panic, no memory beyond a multiple of the file.
#![no_main]

use fulmen_core::checkpoint::pickle::parser;
use fulmen_core::checkpoint::reader::Archive;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(archive) = Archive::open(bytes) else { return };
    let whole = archive.verify(bytes).is_ok();
    for entry in &archive.entries {
        let end = entry.start.checked_add(entry.size).expect("checked by `open`");
        assert!(end <= bytes.len() as u64, "an entry beyond the file");
    }
    if let Ok(pickle) = archive.contents(bytes, "data.pkl") {
        let _ = parser::parse(&pickle);
    }
    if whole {
        for entry in &archive.entries {
            archive.contents(bytes, &entry.name).expect("verified");
        }
    }
});
