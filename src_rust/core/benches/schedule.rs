//! What one training step pays for its bookkeeping.
#![allow(clippy::expect_used, missing_docs)] // a bench has no caller to tell

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use fulmen_core::schedule::{Config, Schedule};

fn schedule(accumulate: u64) -> Schedule {
    let mut schedule = Schedule::new(Config { accumulate, ..Config::default() }).expect("valid settings");
    schedule.set_data(Some(u64::MAX), true).expect("valid data");
    schedule.begin_epoch();
    schedule
}

fn step(c: &mut Criterion) {
    for accumulate in [1, 4] {
        let mut s = schedule(accumulate);
        c.bench_function(&format!("begin, step, tick; accumulate {accumulate}"), |b| {
            b.iter(|| {
                let batch = s.begin_batch(black_box(false));
                if batch.closes {
                    s.stepped();
                }
                s.processed();
                if s.tick(None) {
                    s.settle();
                }
            });
        });
    }
    let mut s = schedule(1);
    s.begin_batch(false);
    c.bench_function("tick alone", |b| {
        b.iter(|| {
            if s.tick(black_box(None)) {
                s.settle();
            }
        });
    });
}

criterion_group!(benches, step);
criterion_main!(benches);
