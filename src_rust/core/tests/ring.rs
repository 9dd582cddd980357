//! The ring: what comes out is what was put in, in whatever order slots are given back; and nothing damaged is believed.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use fulmen_core::prefetch::ring::message::{ALIGN, MESSAGE, parse_table, table};
use fulmen_core::prefetch::ring::{Consumer, Held, Message, Part, Producer, Segment, note_fork};
use proptest::prelude::*;

fn pair(slots: usize) -> (Producer, Consumer) {
    let consumer = Consumer::new(slots).unwrap();
    let file: OwnedFd = consumer.file().try_clone().unwrap();
    (Producer::open(file).unwrap(), consumer)
}

fn seal(producer: &mut Producer, task: u64, parts: &[Vec<u8>]) -> Option<Message> {
    let parts: Vec<Part> = parts.iter().map(|part| Part { start: part.as_ptr(), len: part.len() }).collect();
    // SAFETY: the vectors live, and are not changed meanwhile.
    unsafe { producer.seal(task, 0, &parts) }.unwrap()
}

fn contents(held: &Held) -> Vec<Vec<u8>> {
    (0..held.segments().len()).map(|number| held.copy(number).unwrap()).collect()
}

fn batch(seed: u8, sizes: &[usize]) -> Vec<Vec<u8>> {
    sizes.iter().enumerate().map(|(at, len)| vec![seed.wrapping_mul(7).wrapping_add(at as u8); *len]).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Put(Vec<usize>),
    Reserve(usize, Vec<usize>),
    Take,
    Drop(usize),
    Fork,
}

fn step() -> impl Strategy<Value = Step> {
    let sizes = || prop::collection::vec(prop_oneof![0usize..200, 0usize..100_000], 0..5);
    prop_oneof![
        4 => sizes().prop_map(Step::Put),
        2 => (1usize..70_000, sizes()).prop_map(|(len, sizes)| Step::Reserve(len, sizes)),
        5 => Just(Step::Take),
        4 => (0usize..8).prop_map(Step::Drop),
        1 => Just(Step::Fork),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a queue and a list: batches come out as they went in, and those that are held never change.
    #[test]
    fn like_a_queue(steps in prop::collection::vec(step(), 1..80), slots in 1usize..6) {
        let (mut producer, consumer) = pair(slots);
        let mut sent: VecDeque<(Message, Vec<Vec<u8>>)> = VecDeque::new();
        let mut held: Vec<(Held, Vec<Vec<u8>>)> = Vec::new();
        let mut lent = Vec::new();
        for (task, step) in steps.into_iter().enumerate() {
            let task = task as u64;
            match step {
                Step::Put(sizes) => {
                    let parts = batch(task as u8, &sizes);
                    producer.begin();
                    match seal(&mut producer, task, &parts) {
                        Some(message) => sent.push_back((message, parts)),
                        None => prop_assert_eq!(sent.len() + held.len(), slots),
                    }
                }
                Step::Reserve(len, sizes) => {
                    producer.begin();
                    let Some((start, owner)) = producer.reserve(len) else { continue };
                    // SAFETY: this many bytes were reserved.
                    unsafe { start.write_bytes(task as u8, len) };
                    let rest = batch(task as u8, &sizes);
                    let mut parts = vec![Part { start, len }];
                    parts.extend(rest.iter().map(|part| Part { start: part.as_ptr(), len: part.len() }));
                    // SAFETY: all of them live, and are not changed meanwhile.
                    if let Some(message) = unsafe { producer.seal(task, 0, &parts) }.unwrap() {
                        let mut parts = vec![vec![task as u8; len]];
                        parts.extend(rest);
                        sent.push_back((message, parts));
                    }
                    if task.is_multiple_of(3) && lent.len() < 3 {
                        lent.push(owner);
                    }
                }
                Step::Take => if let Some((message, parts)) = sent.pop_front() {
                    let taken = consumer.take(&Message::parse(&message.to_bytes()).unwrap()).unwrap();
                    prop_assert_eq!(taken.message().task, message.task);
                    // nobody takes it twice
                    prop_assert!(consumer.take(&message).is_err());
                    held.push((taken, parts));
                },
                Step::Drop(at) => if at < held.len() { drop(held.swap_remove(at)); },
                Step::Fork => note_fork(),
            }
            prop_assert_eq!(consumer.held(), held.len());
            for (held, parts) in &held {
                prop_assert_eq!(&contents(held), parts);
            }
        }
        for (message, parts) in sent {
            prop_assert_eq!(&contents(&consumer.take(&message).unwrap()), &parts);
        }
    }

    /// Any bytes: an error, or a message that gives the same bytes again where they mean something.
    #[test]
    fn messages_of_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let (_, consumer) = pair(2);
        if let Ok(message) = Message::parse(&bytes) {
            prop_assert!(consumer.take(&message).is_err());
        }
    }

    /// A good message with some numbers changed: never taken, unless nothing that counts was changed.
    #[test]
    fn damaged_messages(at in 4usize..MESSAGE, value: u8, sizes in prop::collection::vec(0usize..5000, 0..4)) {
        let (mut producer, consumer) = pair(3);
        let parts = batch(1, &sizes);
        let mut bytes = seal(&mut producer, 5, &parts).unwrap().to_bytes();
        bytes[at] = value;
        if let Ok(held) = consumer.take(&Message::parse(&bytes).unwrap()) {
            for segment in held.segments() {
                prop_assert!(segment.start + segment.len <= 1 << 20);
            }
            let _ = contents(&held);
        }
    }

    /// Any bytes as a table: whatever is accepted lies within.
    #[test]
    fn tables_of_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), rows in 0usize..12, end in 0usize..10_000) {
        if let Ok(segments) = parse_table(&bytes, rows, end) {
            prop_assert_eq!(segments.len(), rows);
            for segment in segments {
                prop_assert!(segment.start.is_multiple_of(ALIGN) && segment.start + segment.len <= end);
            }
        }
    }

    #[test]
    fn tables_there_and_back(rows in prop::collection::vec((0usize..1000, 0usize..5000), 0..10)) {
        let segments: Vec<Segment> = rows.into_iter().map(|(at, len)| Segment { start: at * ALIGN, len }).collect();
        let end = segments.iter().map(|segment| segment.start + segment.len).max().unwrap_or(0);
        prop_assert_eq!(&parse_table(&table(&segments), segments.len(), end).unwrap(), &segments);
        if end > 0 {
            prop_assert!(parse_table(&table(&segments), segments.len(), end - 1).is_err());
        }
    }
}

#[test]
fn what_was_reserved_is_not_copied() {
    let (mut producer, consumer) = pair(2);
    drop(consumer.take(&seal(&mut producer, 0, &[vec![0; 10_000]]).unwrap()).unwrap());
    producer.begin();
    let (start, _owner) = producer.reserve(5000).unwrap();
    let parts = [Part { start, len: 5000 }];
    // SAFETY: reserved above.
    let message = unsafe { producer.seal(1, 0, &parts) }.unwrap().unwrap();
    let held = consumer.take(&message).unwrap();
    // SAFETY: as above; the consumer maps the same page.
    unsafe { start.write(9) };
    assert_eq!(held.copy(0).unwrap()[0], 9);
}

#[test]
fn a_slot_without_memory_gets_some_where_the_others_are_busy() {
    let (mut producer, consumer) = pair(2);
    let first = seal(&mut producer, 0, &[vec![0; 10_000]]).unwrap();
    producer.begin();
    let (start, _owner) = producer.reserve(5000).expect("the second slot is free");
    // SAFETY: reserved above.
    let second = unsafe { producer.seal(1, 0, &[Part { start, len: 5000 }]) }.unwrap().unwrap();
    assert_ne!(first.slot, second.slot);
    producer.begin();
    assert!(producer.reserve(5000).is_none(), "both are full");
    drop(consumer.take(&first).unwrap());
    assert!(producer.reserve(5000).is_some());
}

#[test]
fn memory_that_a_child_may_see_is_not_written_to() {
    let (mut producer, consumer) = pair(1);
    let held = consumer.take(&seal(&mut producer, 0, &[vec![1; 100]]).unwrap()).unwrap();
    let (seen, _) = held.part(0).unwrap();
    note_fork();
    let mapping = consumer.take(&Message { slot: 9, ..*held.message() });
    assert!(mapping.is_err());
    let offset = held.message().offset;
    // SAFETY: the consumer keeps the mapping until the slot has other memory.
    let before = unsafe { seen.read() };
    drop(held);
    let message = seal(&mut producer, 1, &[vec![2; 100]]).unwrap();
    assert_ne!(message.offset, offset);
    // SAFETY: nothing was taken since, so that the old mapping is still there.
    assert_eq!(unsafe { seen.read() }, before);
    assert_eq!(contents(&consumer.take(&message).unwrap()), vec![vec![2; 100]]);
}

#[test]
fn a_worker_that_keeps_everything_does_not_stop_itself() {
    let (mut producer, consumer) = pair(2);
    let mut kept = Vec::new();
    for task in 0..50 {
        producer.begin();
        let own = [3; 100];
        let (parts, owner) = match producer.reserve(100) {
            Some((start, owner)) => (vec![Part { start, len: 100 }], Some(owner)),
            None => (vec![Part { start: own.as_ptr(), len: 100 }], None),
        };
        kept.extend(owner);
        // SAFETY: reserved, or alive.
        let message = unsafe { producer.seal(task, 0, &parts) }.unwrap().expect("a slot");
        drop(consumer.take(&message).unwrap());
    }
}

#[test]
fn the_file_does_not_grow_with_use() {
    let (mut producer, consumer) = pair(3);
    for task in 0..1000 {
        drop(consumer.take(&seal(&mut producer, task, &[vec![0; 30_000]]).unwrap()).unwrap());
    }
    assert!(producer.bytes() <= 64 * 1024);
}

#[test]
fn tasks_below_the_floor_are_not_wanted() {
    let (producer, consumer) = pair(1);
    assert!(producer.wanted(0));
    consumer.set_floor(7);
    assert!(!producer.wanted(6) && producer.wanted(7));
}

#[test]
fn no_ring() {
    assert!(Consumer::new(0).is_err());
    assert!(Consumer::new(100_000).is_err());
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    assert!(Producer::open(file.into()).is_err());
    let (reader, _writer) = std::io::pipe().unwrap();
    assert!(Producer::open(reader.into()).is_err());
}
