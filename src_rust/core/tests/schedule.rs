//! The schedule against a slow, obviously right reference, and against itself restored at every event.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that fails is meant to panic

use fulmen_core::schedule::{Config, Due, Kind, Resumption, Schedule, ValInterval};
use proptest::prelude::*;

/// A run's settings and the events that come from outside it.
#[derive(Debug, Clone)]
struct Plan {
    config: Config,
    /// Batches an epoch; None: the loader ends by itself after `loader` batches.
    batches: Option<u64>,
    /// After how many batches a loader without length ends.
    loader: u64,
    validation: bool,
    automatic: bool,
    /// The stop flag is set during this batch of the run.
    stop_at: Option<u64>,
}

/// What happens, in order.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    EpochStart(u64),
    Batch { opens: bool, closes: bool },
    Step(u64),
    Log(u64),
    Validate,
    EpochEnd,
}

/// Longest run that is simulated.
const HORIZON: u64 = 200;

fn plan() -> impl Strategy<Value = Plan> {
    let some = |range: std::ops::Range<u64>| proptest::option::of(range);
    let config = (
        (some(0..5), some(0..5), some(0..30), some(0..30)),
        (1..5u64, 0..6u64, any::<bool>()),
        proptest::option::weighted(0.8, 1..4u64),
        prop_oneof![
            (1..=20u64).prop_map(|n| ValInterval::Fraction(n as f64 / 20.0)),
            (1..8u64).prop_map(ValInterval::Batches),
        ],
    )
        .prop_map(
            |((max_epochs, min_epochs, max_steps, min_steps), (accumulate, every, always), check, interval)| Config {
                max_epochs,
                min_epochs,
                max_steps,
                min_steps,
                accumulate,
                log_every_n_steps: every,
                log_always: always && every % 2 == 0,
                check_val_every_n_epoch: check,
                val_interval: interval,
            },
        );
    (config, some(0..9), 1..9u64, any::<bool>(), any::<bool>(), some(0..40)).prop_map(
        |(mut config, batches, loader, validation, automatic, stop_at)| {
            if !automatic {
                config.accumulate = 1;
            }
            Plan { config, batches, loader, validation, automatic, stop_at }
        },
    )
}

/// Runs the state machine; `between` may replace it by a restored copy after every call.
fn run(plan: &Plan, mut between: impl FnMut(Schedule) -> Schedule) -> Option<(Vec<Event>, Schedule)> {
    let mut s = Schedule::new(plan.config.clone()).ok()?;
    s.set_automatic(plan.automatic);
    s.set_data(plan.batches, plan.validation).ok()?;
    let mut events = Vec::new();
    let mut seen = 0;
    'run: while !s.finished() {
        s.begin_epoch();
        s.epoch_started();
        s = between(s);
        events.push(Event::EpochStart(s.current_epoch()));
        let available = plan.batches.unwrap_or(plan.loader);
        for i in 0..available {
            if seen == HORIZON {
                break 'run;
            }
            if plan.stop_at == Some(seen) {
                s.set_should_stop(true);
            }
            seen += 1;
            let batch = s.begin_batch(i + 1 == available);
            s = between(s);
            events.push(Event::Batch { opens: batch.opens, closes: batch.closes });
            if batch.closes {
                if plan.automatic {
                    s.stepped();
                } else {
                    s.progress_mut(Kind::ManualStep).once();
                }
                s = between(s);
                events.push(Event::Step(s.global_step()));
            }
            s.processed();
            let any = s.tick(None);
            s = between(s);
            assert_eq!(any, s.due().0 != 0);
            if any {
                if s.due().has(Due::LOG) {
                    events.push(Event::Log(s.closed_windows()));
                }
                if s.due().has(Due::VALIDATE) {
                    events.push(Event::Validate);
                }
                if s.settle() {
                    break;
                }
            }
        }
        s.epoch_processed();
        s = between(s);
        events.push(Event::EpochEnd);
        s.epoch_completed();
    }
    Some((events, s))
}

/// The rules once more, as one would tell them: everything is counted anew from the list of events.
fn reference(plan: &Plan) -> Vec<Event> {
    let c = &plan.config;
    let mut events: Vec<Event> = Vec::new();
    let count = |events: &[Event], f: &dyn Fn(&Event) -> bool| events.iter().filter(|e| f(e)).count() as u64;
    let steps = |events: &[Event]| count(events, &|e| matches!(e, Event::Step(_)));
    let windows = |events: &[Event]| steps(events);
    let epochs = |events: &[Event]| count(events, &|e| *e == Event::EpochEnd);
    let mut flag = false;
    let mut seen = 0;
    loop {
        let over = |events: &[Event], flag: bool| {
            let minimums = epochs(events) >= c.min_epochs.unwrap_or(0) && steps(events) >= c.min_steps.unwrap_or(0);
            c.max_steps.is_some_and(|n| steps(events) >= n) || flag && minimums
        };
        if plan.batches == Some(0) || c.max_epochs.is_some_and(|n| epochs(&events) >= n) || over(&events, flag) {
            return events;
        }
        let epoch = epochs(&events);
        events.push(Event::EpochStart(epoch));
        let n = plan.batches.unwrap_or(plan.loader);
        for i in 0..n {
            if seen == HORIZON {
                return events;
            }
            flag |= plan.stop_at == Some(seen);
            seen += 1;
            let last = i + 1 == n;
            let closes = (i + 1) % c.accumulate == 0 || last;
            events.push(Event::Batch { opens: i % c.accumulate == 0, closes });
            let before = windows(&events);
            if closes {
                events.push(Event::Step(steps(&events) + 1));
                let regular = c.log_every_n_steps > 0 && (before + 1) % c.log_every_n_steps == 0;
                if c.log_always || regular || flag && c.log_every_n_steps > 0 {
                    events.push(Event::Log(before));
                }
            }
            let minimums = epochs(&events) >= c.min_epochs.unwrap_or(0) && steps(&events) >= c.min_steps.unwrap_or(0);
            let right_epoch = c.check_val_every_n_epoch.is_none_or(|every| (epoch + 1) % every == 0);
            let hit = match c.val_interval {
                ValInterval::Fraction(share) => match plan.batches {
                    Some(batches) => {
                        let every = ((batches as f64 * share) as u64).max(1);
                        let counted = if c.check_val_every_n_epoch.is_none() { seen } else { i + 1 };
                        counted % every == 0
                    }
                    None => last,
                },
                ValInterval::Batches(every) => {
                    (if c.check_val_every_n_epoch.is_none() { seen } else { i + 1 }) % every == 0
                }
                ValInterval::Seconds(_) => false,
            };
            if plan.validation && right_epoch && (hit || flag && minimums) {
                events.push(Event::Validate);
            }
            if over(&events, flag) {
                break;
            }
        }
        events.push(Event::EpochEnd);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn does_what_the_rules_say(plan in plan()) {
        if let Some((events, _)) = run(&plan, |s| s) {
            prop_assert_eq!(events, reference(&plan));
        }
    }

    #[test]
    fn goes_on_the_same_after_being_saved_at_every_event(plan in plan()) {
        let restored = |s: Schedule| -> Schedule {
            let text = serde_json::to_string(&s).unwrap();
            let back: Schedule = serde_json::from_str(&text).unwrap();
            assert_eq!(back, s);
            back
        };
        let straight = run(&plan, |s| s);
        let broken = run(&plan, restored);
        prop_assert_eq!(straight, broken);
    }

    #[test]
    fn counts_never_run_ahead_of_each_other(plan in plan()) {
        run(&plan, |s| {
            for kind in [Kind::Epoch, Kind::Batch] {
                let p = s.progress(kind);
                for c in [p.total, p.current] {
                    assert!(c.ready >= c.started && c.started >= c.processed && c.processed >= c.completed, "{p:?}");
                }
            }
            s
        });
    }
}

/// A run of two epochs with four batches each, up to some point.
fn begun(batches: u64) -> Schedule {
    let mut s = Schedule::new(Config { max_epochs: Some(2), ..Config::default() }).unwrap();
    s.set_data(Some(4), false).unwrap();
    s.begin_epoch();
    s.epoch_started();
    for _ in 0..batches {
        s.begin_batch(false);
        s.zeroed();
        s.stepped();
        s.processed();
        s.tick(None);
        s.settle();
    }
    s
}

#[test]
fn a_state_from_the_middle_goes_on_with_the_next_batch() {
    let mut s = begun(2);
    s.begin_batch(false); // fetched, then the process died
    s.set_restarting(true);
    assert_eq!(s.resume(), Resumption::MidEpoch);
    assert_eq!(s.progress(Kind::Batch).current.ready, 2);
    assert_eq!(s.progress(Kind::Batch).total.ready, 2);
    assert_eq!(s.global_step(), 2);
}

#[test]
fn a_state_saved_by_a_batch_end_hook_holds_the_batch() {
    let mut s = begun(1);
    s.begin_batch(false);
    s.stepped();
    s.processed();
    s.set_restarting(true);
    assert_eq!(s.resume(), Resumption::MidEpoch);
    assert_eq!(s.progress(Kind::Batch).current.completed, 2);
}

#[test]
fn a_state_saved_by_the_epochs_end_hooks_goes_on_with_the_next_epoch() {
    let mut s = begun(4);
    s.epoch_processed();
    s.set_restarting(true);
    assert_eq!(s.resume(), Resumption::Fresh);
    assert_eq!(s.current_epoch(), 1);
}

#[test]
fn a_state_saved_after_the_last_batch_still_owes_the_end_hooks() {
    let mut s = begun(4);
    s.set_restarting(true);
    assert_eq!(s.resume(), Resumption::EpochEnd);
    assert_eq!(s.current_epoch(), 0);
}

#[test]
fn time_decides_when_an_interval_of_time_is_set() {
    let mut s = Schedule::new(Config { val_interval: ValInterval::Seconds(2.0), ..Config::default() }).unwrap();
    s.set_data(Some(10), true).unwrap();
    assert!(s.needs_time());
    s.start_clock(100.0);
    s.begin_epoch();
    let mut at = Vec::new();
    for second in 1..=6 {
        let now = 100.0 + f64::from(second);
        s.begin_batch(false);
        if s.tick(Some(now)) {
            if s.due().has(Due::VALIDATE) {
                at.push(second);
                s.validated(Some(now));
            }
            s.settle();
        }
    }
    assert_eq!(at, [2, 4, 6]);
}

#[test]
fn steps_of_a_run_are_counted_by_windows() {
    let s = Schedule::new(Config { max_epochs: Some(3), accumulate: 2, ..Config::default() }).unwrap();
    assert_eq!(s.estimated_steps(Some(5)), Some(9));
    assert_eq!(s.estimated_steps(None), None);
    let s = Schedule::new(Config { max_steps: Some(7), ..Config::default() }).unwrap();
    assert_eq!(s.estimated_steps(Some(5)), Some(7));
    assert_eq!(s.estimated_steps(None), Some(7));
}

#[test]
fn settings_that_cannot_be_are_refused() {
    for config in [
        Config { accumulate: 0, ..Config::default() },
        Config { check_val_every_n_epoch: Some(0), ..Config::default() },
        Config { val_interval: ValInterval::Batches(0), ..Config::default() },
        Config { val_interval: ValInterval::Fraction(1.5), ..Config::default() },
    ] {
        assert!(Schedule::new(config).is_err());
    }
    let mut s = Schedule::new(Config { val_interval: ValInterval::Batches(6), ..Config::default() }).unwrap();
    let text = s.set_data(Some(5), true).unwrap_err().to_string();
    assert!(text.contains("val_check_interval") && text.contains("(5)"), "{text}");
    assert!(s.configure(|c| c.accumulate = 0).is_err());
    assert_eq!(s.config().accumulate, 1);
}
