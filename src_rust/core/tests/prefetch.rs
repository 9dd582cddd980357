//! Gathering against a slow reference, and what may go wrong with threads and buffers. Runs under Miri too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::type_complexity)] // a test that fails is meant to panic

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use fulmen_core::prefetch::{Buffer, Engine, Indices, Located, Node, Plan, Pool, Region, Ticket};
use proptest::prelude::*;

/// Rows in memory, and a description of them.
fn rows(field: usize, rows: usize, stride: usize, width: usize, seed: u8) -> (Node, Vec<Vec<u8>>) {
    // a pattern that no row length divides
    let pattern: Vec<u8> = (0..=250u8).map(|i| i.wrapping_mul(31).wrapping_add(seed)).collect();
    let memory = Arc::new(pattern.repeat((rows * stride + 1).div_ceil(251)));
    let content = (0..rows).map(|row| memory[row * stride..row * stride + width].to_vec()).collect();
    let base = memory.as_ptr();
    // SAFETY: `memory` has `rows * stride` bytes, nobody writes to it, and it is kept.
    let region = unsafe { Region::new(base, rows, stride, width, memory) }.unwrap();
    (Node::Rows { field, region }, content)
}

/// What the buffer of a finished batch holds.
fn content(buffer: &Buffer, bytes: usize) -> Vec<u8> {
    assert!(bytes <= buffer.capacity());
    // SAFETY: the batch is finished, so that its bytes were written, and no thread has the buffer any more.
    unsafe { std::slice::from_raw_parts(buffer.start(), bytes) }.to_vec()
}

fn finish(ticket: Ticket) -> Vec<Buffer> {
    while !ticket.wait(Duration::from_millis(20)) {}
    ticket.take().unwrap()
}

fn at_once(plan: &Plan, indices: &[i64]) -> Option<Vec<Vec<u8>>> {
    let mut found = Located::default();
    if !plan.locate(indices, &mut found) {
        return None;
    }
    let mut into: Vec<Vec<u8>> = plan.widths().iter().map(|width| vec![0; width * indices.len()]).collect();
    let addresses: Vec<*mut u8> = into.iter_mut().map(|field| field.as_mut_ptr()).collect();
    // SAFETY: located just now, and every field has room for its rows.
    unsafe { plan.gather(&found, &addresses) };
    Some(into)
}

/// A dataset of two fields: a subset of a concatenation, and what its rows are.
fn dataset(first: usize, second: usize, width: usize, subset: &[usize]) -> (Node, Vec<(Vec<u8>, Vec<u8>)>) {
    let (a0, a0_rows) = rows(0, first, width + 3, width, 1);
    let (a1, a1_rows) = rows(1, first, 4, 4, 2);
    let (b0, b0_rows) = rows(0, second, width, width, 3);
    let (b1, b1_rows) = rows(1, second, 9, 4, 4);
    let all: Vec<_> = a0_rows.into_iter().chain(b0_rows).zip(a1_rows.into_iter().chain(b1_rows)).collect();
    let concat = Node::Concat {
        ends: vec![first as i64, (first + second) as i64],
        parts: vec![Node::Fields(vec![a0, a1]), Node::Fields(vec![b0, b1])],
    };
    let listed = subset.iter().map(|&i| (i % all.len()) as i64).collect();
    let content = subset.iter().map(|&i| all[i % all.len()].clone()).collect();
    (Node::Subset { indices: Indices::Listed(listed), of: Box::new(concat) }, content)
}

fn expected(rows: &[(Vec<u8>, Vec<u8>)], indices: &[i64]) -> Vec<Vec<u8>> {
    let pick = |i: &i64| &rows[usize::try_from(*i).unwrap()];
    vec![
        indices.iter().flat_map(|i| pick(i).0.clone()).collect(),
        indices.iter().flat_map(|i| pick(i).1.clone()).collect(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 12 } else { 256 }, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn rows_come_from_where_the_reference_finds_them(
        (first, second) in (1usize..9, 1usize..9),
        width in prop_oneof![0usize..40, Just(300usize)],
        subset in prop::collection::vec(0usize..64, 1..20),
        wanted in prop::collection::vec(0usize..64, 0..40),
    ) {
        let (node, content_of) = dataset(first, second, width, &subset);
        let plan = Arc::new(Plan::new(node).unwrap());
        let indices: Vec<i64> = wanted.iter().map(|i| (i % subset.len()) as i64).collect();
        let right = expected(&content_of, &indices);
        prop_assert_eq!(at_once(&plan, &indices), Some(right.clone()));
        let (engine, pool) = (Engine::new(2), Pool::new(1 << 16));
        let buffers = finish(engine.start(&plan, &indices, &pool).unwrap().unwrap());
        for (buffer, right) in buffers.iter().zip(&right) {
            prop_assert_eq!(&content(buffer, right.len()), right);
        }
    }

    #[test]
    fn an_index_out_of_bounds_finds_nothing(
        subset in prop::collection::vec(0usize..64, 1..10), beyond in 0i64..5, at in 0usize..4
    ) {
        let (node, _) = dataset(3, 4, 8, &subset);
        let plan = Arc::new(Plan::new(node).unwrap());
        for bad in [-1 - beyond, subset.len() as i64 + beyond, i64::MIN, i64::MAX] {
            let mut indices = vec![0; 4];
            indices[at] = bad;
            prop_assert!(at_once(&plan, &indices).is_none());
            prop_assert!(Engine::new(1).start(&plan, &indices, &Pool::new(0)).unwrap().is_none());
        }
    }
}

#[test]
fn wide_rows_are_divided_and_complete() {
    let width = if cfg!(miri) { 40_000 } else { 700_001 };
    let (node, content_of) = rows(0, 2, width + 1, width, 9);
    let plan = Arc::new(Plan::new(node).unwrap());
    let (engine, pool) = (Engine::new(2), Pool::new(1 << 24));
    let indices = [1i64, 0, 0, 1, 1, 0, 1, 1];
    for _ in 0..if cfg!(miri) { 1 } else { 50 } {
        let buffers = finish(engine.start(&plan, &indices, &pool).unwrap().unwrap());
        let right: Vec<u8> = indices.iter().map(|&i| content_of[i as usize].clone()).collect::<Vec<_>>().concat();
        assert!(content(&buffers[0], right.len()) == right);
    }
}

#[test]
fn ranges_step_and_end() {
    let (node, content_of) = rows(0, 10, 4, 4, 5);
    let subset = Node::Subset { indices: Indices::Range { start: 8, step: -3, len: 3 }, of: Box::new(node) };
    let plan = Plan::new(subset).unwrap();
    let right: Vec<u8> = [8, 5, 2].iter().flat_map(|&i: &usize| content_of[i].clone()).collect();
    assert_eq!(at_once(&plan, &[0, 1, 2]), Some(vec![right]));
    assert_eq!(at_once(&plan, &[3]), None);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let wide = || rows(0, 3, 8, 8, 0).0;
    let narrow = || rows(0, 3, 4, 4, 0).0;
    let other = || rows(1, 3, 4, 4, 0).0;
    let concat = |ends: Vec<i64>, parts| Plan::new(Node::Concat { ends, parts });
    assert!(concat(vec![3, 6], vec![wide(), narrow()]).is_err());
    assert!(concat(vec![3, 6], vec![Node::Fields(vec![wide(), other()]), wide()]).is_err());
    assert!(concat(vec![6, 3], vec![wide(), wide()]).is_err());
    assert!(concat(vec![3], vec![wide(), wide()]).is_err());
    assert!(concat(vec![3, 6], vec![wide(), wide()]).is_ok());
    assert!(Plan::new(Node::Fields(vec![wide(), wide()])).is_err());
    assert!(Plan::new(other()).is_err());
    let memory: Arc<Vec<u8>> = Arc::new(vec![0; 8]);
    // SAFETY: refused before anything is read.
    assert!(unsafe { Region::new(memory.as_ptr(), 3, 2, 4, memory.clone()) }.is_err());
    // SAFETY: as above.
    assert!(unsafe { Region::new(memory.as_ptr(), usize::MAX, 8, 8, memory.clone()) }.is_err());
}

#[test]
fn a_buffer_returns_when_it_is_dropped_and_not_before() {
    let pool = Pool::new(3 * 4096);
    let first = pool.take(4096).unwrap();
    let address = first.start();
    let second = pool.take(4096).unwrap();
    assert_ne!(second.start(), address);
    drop(first);
    assert_eq!(pool.counts(), (2, 4096));
    assert_eq!(pool.take(4090).unwrap().start(), address);
    let many: Vec<Buffer> = (0..10).map(|_| pool.take(4096).unwrap()).collect();
    drop(many);
    drop(second);
    assert_eq!(pool.counts().1, 3 * 4096);
    // Miri takes a failing allocation for its own
    assert!(cfg!(miri) || pool.take(usize::MAX / 4).is_err());
}

#[test]
fn a_pool_may_go_before_its_buffers() {
    let pool = Pool::new(1 << 20);
    let buffer = pool.take(100).unwrap();
    drop(pool);
    // SAFETY: it has 100 bytes, and nobody else has it.
    unsafe { buffer.start().write_bytes(7, 100) };
    assert_eq!(content(&buffer, 100), vec![7; 100]);
}

/// Counts when the memory of a dataset is let go of.
struct Kept(Vec<u8>, Arc<AtomicUsize>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.fill(0xEE);
        self.1.fetch_add(1, Relaxed);
    }
}

#[test]
fn batches_that_are_given_up_leave_nothing_behind() {
    let gone = Arc::new(AtomicUsize::new(0));
    let width = if cfg!(miri) { 5000 } else { 300_000 };
    let kept = Arc::new(Kept(vec![1; 8 * width], Arc::clone(&gone)));
    let base = kept.0.as_ptr();
    // SAFETY: eight rows of `width` bytes, kept.
    let region = unsafe { Region::new(base, 8, width, width, kept) }.unwrap();
    let plan = Arc::new(Plan::new(Node::Rows { field: 0, region }).unwrap());
    let (engine, pool) = (Engine::new(2), Pool::new(1 << 26));
    for round in 0..if cfg!(miri) { 3 } else { 40 } {
        let tickets: Vec<Ticket> =
            (0..4).map(|_| engine.start(&plan, &[0, 1, 2, 3, 4, 5, 6, 7], &pool).unwrap().unwrap()).collect();
        if round % 2 == 0 {
            tickets[0].wait(Duration::from_micros(50));
        }
    }
    drop(plan);
    // whatever is still queued is passed over by the next job's threads
    let mut patience = 500;
    while gone.load(Relaxed) == 0 && patience > 0 {
        std::thread::sleep(Duration::from_millis(10));
        patience -= 1;
    }
    assert_eq!(gone.load(Relaxed), 1);
}

#[test]
fn many_consumers_at_once() {
    let (node, content_of) = rows(0, 64, 1000, 900, 3);
    let plan = Arc::new(Plan::new(node).unwrap());
    let (engine, pool) = (Arc::new(Engine::new(2)), Pool::new(1 << 20));
    std::thread::scope(|scope| {
        for consumer in 0..if cfg!(miri) { 2 } else { 4 } {
            let (engine, plan, pool, content_of) = (&engine, &plan, &pool, &content_of);
            scope.spawn(move || {
                for round in 0..if cfg!(miri) { 4 } else { 300 } {
                    let indices: Vec<i64> = (0..16).map(|i| (i * 7 + consumer + round) % 64).collect();
                    let coming = engine.start(plan, &indices, pool).unwrap().unwrap();
                    let next = engine.start(plan, &indices, pool).unwrap().unwrap();
                    let right: Vec<u8> =
                        indices.iter().map(|&i| content_of[i as usize].clone()).collect::<Vec<_>>().concat();
                    assert!(content(&finish(coming)[0], right.len()) == right);
                    assert!(content(&finish(next)[0], right.len()) == right);
                }
            });
        }
    });
}

#[test]
fn without_threads_who_waits_does_the_work() {
    let (node, content_of) = rows(0, 4, 10, 10, 3);
    let plan = Arc::new(Plan::new(node).unwrap());
    let (engine, pool) = (Engine::new(0), Pool::new(0));
    let ticket = engine.start(&plan, &[3, 1], &pool).unwrap().unwrap();
    assert!(ticket.wait(Duration::ZERO));
    assert_eq!(content(&ticket.take().unwrap()[0], 20), [content_of[3].clone(), content_of[1].clone()].concat());
    let empty = engine.start(&plan, &[], &pool).unwrap().unwrap();
    assert!(empty.wait(Duration::ZERO));
}
