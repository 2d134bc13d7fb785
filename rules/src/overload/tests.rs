//! An application with workers and a queue, asked for more than it can do.

use super::*;
use crate::time::Millis;
use std::collections::BinaryHeap;

/// Clients give up after this; what is done for them later helps nobody.
const PATIENCE_MS: f64 = 1_000.0;

struct Load {
    workers: usize,
    /// Name, milliseconds of work, share of the requests.
    routes: Vec<(&'static str, f64, f64)>,
    /// Times the capacity.
    factor: f64,
    seconds: f64,
    /// From the middle of the time on everything takes so many times as long.
    slower: f64,
}

#[derive(Debug)]
struct Outcome {
    /// Answers in time, of what the application could have given.
    goodput: f64,
    /// Of the requests that were let in.
    p99_ms: f64,
    limit: u64,
}

/// Numbers between 0 and 1 that are the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Whole microseconds, which a heap can order.
fn us(milliseconds: f64) -> u64 {
    (milliseconds * 1000.0) as u64
}

/// The second half of the time counts: the first is for learning.
fn run(load: &Load, is_limited: bool) -> Outcome {
    let mut random = Random(0x5eed_1234_5678_9abc);
    let mut adaptive = Adaptive::default();
    let mean: f64 = load.routes.iter().map(|(_, work, share)| work * share).sum();
    let capacity = load.workers as f64 / mean;
    // When each worker is free, and when those under way are answered.
    let mut workers: BinaryHeap<std::cmp::Reverse<u64>> =
        (0..load.workers).map(|_| std::cmp::Reverse(0)).collect();
    let mut under_way: BinaryHeap<std::cmp::Reverse<(u64, u64, usize)>> = BinaryHeap::new();
    let (mut now, end) = (0.0, load.seconds * 1000.0);
    let mut times = Vec::new();
    let mut good = 0.0;
    while now < end {
        now += -random.next().max(1e-12).ln() / (capacity * load.factor);
        while let Some(std::cmp::Reverse((done, began, route))) = under_way.peek().copied() {
            if done > us(now) {
                break;
            }
            let at_once = under_way.len() as u64;
            under_way.pop();
            let took = (done - began) as f64 / 1000.0;
            adaptive.answered(load.routes[route].0, took, at_once, Millis(done / 1000));
            if began > us(end / 2.0) {
                times.push(took);
                good += f64::from(u8::from(took <= PATIENCE_MS));
            }
        }
        if is_limited && under_way.len() as u64 >= adaptive.limit() {
            continue;
        }
        let mut choice = random.next();
        let is_chosen = |(_, _, share): &(&str, f64, f64)| {
            choice -= share;
            choice <= 0.0
        };
        let route = load.routes.iter().position(is_chosen).unwrap_or(0);
        let slower = if now > end / 4.0 { load.slower } else { 1.0 };
        // Half of it is the same for all.
        let work = load.routes[route].1 * slower * (0.5 + random.next());
        let std::cmp::Reverse(free) = workers.pop().expect("a worker");
        let done = free.max(us(now)) + us(work);
        workers.push(std::cmp::Reverse(done));
        under_way.push(std::cmp::Reverse((done, us(now), route)));
    }
    times.sort_by(f64::total_cmp);
    let p99_ms = times.get(times.len() * 99 / 100).copied().unwrap_or(f64::INFINITY);
    let possible = capacity / load.slower * end / 2.0;
    Outcome { goodput: good / possible, p99_ms, limit: adaptive.limit() }
}

fn load(workers: usize, work: f64) -> Load {
    Load { workers, routes: vec![("a", work, 1.0)], factor: 3.0, seconds: 45.0, slower: 1.0 }
}

#[test]
fn at_three_times_the_load_answers_come_in_time_and_nearly_all_that_can_be_done_is() {
    for (workers, work) in [(1, 5.0), (2, 50.0), (8, 10.0), (16, 100.0), (64, 20.0), (200, 5.0)] {
        let load = load(workers, work);
        let plain = run(&Load { seconds: 6.0, ..self::load(workers, work) }, false);
        let limited = run(&load, true);
        assert!(limited.goodput >= 0.9, "{workers} x {work} ms: {limited:?}");
        let longest = 10.0 * work * (1.0 + LIMIT_MIN / workers as f64);
        assert!(limited.p99_ms <= longest, "{workers} x {work} ms: {limited:?}");
        assert!(plain.goodput < 0.1, "a plain queue: {plain:?}");
        eprintln!(
            "{workers} x {work} ms: limit {} {limited:?}, a plain queue {plain:?}",
            limited.limit
        );
    }
}

#[test]
fn below_its_capacity_nobody_is_turned_away() {
    for factor in [0.2, 0.5, 0.7] {
        let load = Load { factor, ..load(8, 10.0) };
        let outcome = run(&load, true);
        assert!(outcome.goodput >= factor * 0.97, "{factor}: {outcome:?}");
    }
}

#[test]
fn routes_of_different_speed_are_not_taken_for_congestion() {
    let routes = vec![("fast", 2.0, 0.9), ("slow", 200.0, 0.1)];
    let load = Load { routes, ..load(16, 0.0) };
    let calm = run(&Load { factor: 0.6, routes: load.routes.clone(), ..load }, true);
    assert!(calm.goodput >= 0.57, "{calm:?}");
    let crowded = run(&load, true);
    assert!(crowded.goodput >= 0.9 && crowded.p99_ms < PATIENCE_MS, "{crowded:?}");
}

#[test]
fn an_application_that_becomes_slower_is_learned_anew() {
    let load = Load { slower: 3.0, ..load(8, 10.0) };
    let outcome = run(&load, true);
    assert!(outcome.goodput >= 0.9 && outcome.p99_ms <= 200.0, "{outcome:?}");
}

#[test]
fn no_input_makes_the_limit_leave_its_bounds() {
    let mut random = Random(7);
    let mut adaptive = Adaptive::default();
    let mut now = 0;
    for step in 0..20_000 {
        let took = match step % 5 {
            0 => 0.0,
            1 => f64::MAX / 1e9,
            _ => random.next() * 1e4,
        };
        now += (random.next() * 100.0) as u64;
        let route = format!("r{}", step % 3_000);
        adaptive.answered(&route, took, (random.next() * 1e5) as u64, Millis(now));
        let limit = adaptive.limit() as f64;
        assert!((LIMIT_MIN..=LIMIT_MAX).contains(&limit), "{limit}");
    }
}
