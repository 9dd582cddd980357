//! Any bytes as a pickle: a description or an error; a description is never larger than what it was read from.
#![no_main]

use fulmen_core::checkpoint::pickle::parser;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(pickle) = parser::parse(bytes) {
        assert!(pickle.nodes.len() <= bytes.len());
        assert!((pickle.root as usize) < pickle.nodes.len());
        let _ = pickle.globals();
    }
});
