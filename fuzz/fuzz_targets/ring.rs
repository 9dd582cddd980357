//! Any bytes as a worker's message and as the table of a batch: what is taken lies within its slot, the rest is refused.
#![no_main]

use std::os::fd::OwnedFd;

use fulmen_core::prefetch::ring::message::{ALIGN, MESSAGE, parse_table};
use fulmen_core::prefetch::ring::{Consumer, Message, Part, Producer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (Some((&rows, rest)), len) = (bytes.split_first(), bytes.len()) else { return };
    if let Ok(segments) = parse_table(rest, usize::from(rows), len * ALIGN) {
        assert!(segments.iter().all(|s| s.start % ALIGN == 0 && s.start + s.len <= len * ALIGN));
    }
    let consumer = Consumer::new(2).expect("memory");
    let file: OwnedFd = consumer.file().try_clone().expect("a descriptor");
    let mut producer = Producer::open(file).expect("a ring");
    let part = Part { start: bytes.as_ptr(), len };
    // SAFETY: the bytes live, and nobody changes them.
    let sent = unsafe { producer.seal(1, 0, &[part]) }.expect("memory").expect("a free slot");
    // a good message, overwritten from some place on; the first word says that it is one
    let mut message = sent.to_bytes();
    let at = 4 + usize::from(rows) % (MESSAGE - 4);
    for (byte, other) in message[at..].iter_mut().zip(rest) {
        *byte = *other;
    }
    let Ok(message) = Message::parse(&message) else { return };
    if let Ok(held) = consumer.take(&message) {
        for number in 0..held.segments().len() {
            held.copy(number);
        }
    }
});
