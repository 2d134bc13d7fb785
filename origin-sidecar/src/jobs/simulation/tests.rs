//! The schedules, the broken variants, and the proof that a seed replays.

use super::log;
use super::schedule::{Report, run};
use super::variants::Variant;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Without `SPILLWAY_SIM_SCHEDULES`: a short round, as the code is not optimised.
const SCHEDULES: u64 = 200;
/// Each broken variant is caught within so many.
const CAUGHT_WITHIN: u64 = 300;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn show(seed: u64, variant: Variant, report: &Report) -> String {
    format!(
        "{}\nseed {seed} of {variant:?}: {}\nagain: SPILLWAY_SIM_SEED={seed} cargo test -p origin-sidecar simulation",
        log::text(&report.events),
        report.violation.as_deref().unwrap_or("nothing is wrong"),
    )
}

/// The lowest seed that fails among `count` from `first`, on all cores, and how many calls it took.
fn search(variant: Variant, first: u64, count: u64) -> (Option<u64>, u64) {
    let (next, calls) = (AtomicU64::new(first), AtomicU64::new(0));
    let found = AtomicU64::new(u64::MAX);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || found.load(Ordering::Relaxed) < seed {
                        return;
                    }
                    let report = run(seed, variant);
                    calls.fetch_add(report.calls, Ordering::Relaxed);
                    if report.violation.is_some() {
                        found.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let found = Some(found.into_inner()).filter(|seed| *seed != u64::MAX);
    (found, calls.into_inner())
}

#[test]
fn every_promise_is_kept_in_every_schedule() {
    if let Some(seed) = setting("SPILLWAY_SIM_SEED") {
        let report = run(seed, Variant::Whole);
        assert!(report.violation.is_none(), "{}", show(seed, Variant::Whole, &report));
        return eprintln!("{}", show(seed, Variant::Whole, &report));
    }
    let count = setting("SPILLWAY_SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let first = setting("SPILLWAY_SIM_FIRST").unwrap_or(0);
    let started = Instant::now();
    let (found, calls) = search(Variant::Whole, first, count);
    if let Some(seed) = found {
        panic!("{}", show(seed, Variant::Whole, &run(seed, Variant::Whole)));
    }
    let took = started.elapsed();
    eprintln!("{count} schedules with {calls} calls in {took:?}");
}

#[test]
fn the_same_seed_is_the_same_schedule() {
    for seed in 0..20 {
        let (first, second) = (run(seed, Variant::Whole), run(seed, Variant::Whole));
        if first.hash != second.hash {
            let at =
                first.events.iter().zip(&second.events).position(|(left, right)| left != right);
            panic!("seed {seed} differs at event {at:?}:\n{}", log::text(&first.events));
        }
    }
}

/// Which invariants may be the first that a broken variant violates.
fn catches(variant: Variant) -> &'static [&'static str] {
    match variant {
        Variant::Whole => &[],
        Variant::SendsLater => &["durable"],
        Variant::LeasesNot => &["leased", "durable", "one at a time"],
        // An adopted execution is durable by its lease alone.
        Variant::RenewsNot => &["one at a time", "durable"],
        Variant::DeletesFirst => &["every promise ends", "at rest"],
        Variant::QueuesAdopted => &["adopted once"],
        Variant::IgnoresConditions => &["one outcome", "one at a time"],
        Variant::TakesKeysAgain => &["executed once"],
        Variant::BeatsNot => &["in hand"],
        Variant::SkipsDuplicates => &["dead letters"],
    }
}

#[test]
fn every_broken_variant_is_caught() {
    for variant in Variant::BROKEN {
        let (found, _) = search(variant, 0, CAUGHT_WITHIN);
        let Some(seed) = found else {
            panic!("{variant:?} is not caught by {CAUGHT_WITHIN} schedules");
        };
        let violation = run(seed, variant).violation.unwrap_or_default();
        let invariant = violation.split(':').next().unwrap_or_default();
        assert!(catches(variant).contains(&invariant), "{variant:?} violates {violation:?}");
        assert_eq!(run(seed, Variant::Whole).violation, None, "seed {seed} fails by itself");
        eprintln!("{variant:?} is caught by seed {seed}: {violation}");
    }
}

#[test]
fn the_schedules_reach_what_they_are_made_for() {
    let mut seen = std::collections::BTreeMap::<String, u64>::new();
    for seed in 0..SCHEDULES {
        for event in run(seed, Variant::Whole).events {
            let name = format!("{:?}", event.what);
            let name = name.split([' ', '{']).next().unwrap_or_default().to_owned();
            *seen.entry(name).or_default() += 1;
        }
    }
    let wanted = [
        "Adopted", "Answered", "Began", "Calm", "Crashed", "CutOff", "Deleted", "Done", "Draining",
        "Dropped", "Ended", "Hidden", "Jumped", "Leased", "Left", "Looked", "Met", "Outage",
        "Received", "Removed", "Reset", "Sent", "Stale", "Told", "Trouble", "Twice", "Undead",
        "Written",
    ];
    for name in wanted {
        assert!(seen.contains_key(name), "no schedule has {name}: {seen:?}");
    }
    eprintln!("{seen:?}");
}
