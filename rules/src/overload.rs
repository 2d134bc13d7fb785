//! How many requests an upstream is sent at once, learned from how long they take.
//!
//! An application that is asked for more than it can do answers everybody late, and in the end
//! nobody in time. What is too much is not known beforehand and changes with every deploy, so it is
//! found out: while requests take about as long as they do without company, more are let in; when
//! they take twice as long, as many wait inside the application as are worked on, and fewer are.
//!
//! After Envoy's adaptive concurrency filter and Netflix's `Gradient2`. As in the first, how long a
//! request takes without company is measured with few let in for a moment, but only under pressure
//! and not every minute. It is known per route, so that a change of what clients ask for is not
//! taken for congestion.

use crate::time::Millis;
use std::collections::BTreeMap;

/// Requests in flight allowed before anything is known.
pub(crate) const LIMIT_START: f64 = 64.0;
/// A lower limit would starve the application.
pub(crate) const LIMIT_MIN: f64 = 3.0;
/// A higher limit than any application beside a sidecar needs.
pub(crate) const LIMIT_MAX: f64 = 10_000.0;
/// The latency, as a multiple of the unloaded one, at which the limit falls: one request waits for
/// each that is worked on.
const TOLERANCE: f64 = 2.0;
/// The multiple up to which the limit rises fast: the effect of new requests shows one window
/// later.
const CLIMB_BELOW: f64 = 1.5;
/// The shortest window over which latencies are averaged, in milliseconds.
const WINDOW: Millis = Millis(250);
/// Requests of such a window, at least.
const SAMPLES_MIN: u64 = 20;
/// The longest window that had any request, in milliseconds.
const WINDOW_MAX: Millis = Millis(2_000);
/// The factor per window by which a route's unloaded latency follows slow changes.
const DRIFT: f64 = 1.01;
/// The multiple up to which a change counts as the route's own, not as congestion.
const DRIFT_BELOW: f64 = 1.25;
/// Under pressure the unloaded latency is measured again after this many milliseconds. Half a
/// second with fewer requests is then 2 % of the time.
const PROBE_EVERY: Millis = Millis(30_000);
/// The same interval where hardly any request is admitted and latencies are high nevertheless.
const PROBE_SOON: Millis = Millis(5_000);
/// The fraction of the limit that is admitted while measuring.
const PROBE_PART: f64 = 0.125;
/// Routes whose latency is tracked; all others share one.
const ROUTES_MAX: usize = 1_000;

/// The latencies of one route.
#[derive(Debug, Default, Clone, Copy)]
struct Times {
    /// The unloaded latency in milliseconds; 0 while unknown.
    own: f64,
    /// The sum of latencies in this window.
    sum: f64,
    count: f64,
}

/// How the limit is currently moving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Steady,
    /// Few requests are admitted. The first window lets earlier requests finish.
    Probing {
        is_settled: bool,
    },
    /// After probing, the limit rises by half with each window until latencies rise.
    Climbing,
}

/// The adaptive limit of one upstream. It is pure: times and counts are arguments.
#[derive(Debug)]
pub struct Adaptive {
    limit: f64,
    routes: BTreeMap<String, Times>,
    since: Millis,
    samples: u64,
    most_at_once: u64,
    phase: Phase,
    probed: Option<Millis>,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            limit: LIMIT_START,
            routes: BTreeMap::new(),
            since: Millis::ZERO,
            samples: 0,
            most_at_once: 0,
            phase: Phase::Steady,
            probed: None,
        }
    }
}

impl Adaptive {
    /// How many requests may be in flight.
    pub fn limit(&self) -> u64 {
        self.limit as u64
    }

    /// Records that a request of the route was answered after `took` milliseconds, with `at_once`
    /// requests in flight. `now` is in milliseconds of any monotonic clock.
    pub fn answered(&mut self, route: &str, took: f64, at_once: u64, now: Millis) {
        let is_known = self.routes.contains_key(route);
        if is_known || self.routes.len() < ROUTES_MAX {
            let times = self.routes.entry(route.to_owned()).or_default();
            times.sum += took;
            times.count += 1.0;
            self.samples += 1;
        }
        self.most_at_once = self.most_at_once.max(at_once);
        if self.since == Millis::ZERO {
            self.since = now;
        }
        let age = now - self.since;
        if (age >= WINDOW && self.samples >= SAMPLES_MIN) || (age >= WINDOW_MAX && self.samples > 0)
        {
            self.end_window(now);
        }
    }

    fn end_window(&mut self, now: Millis) {
        let slowness = self.slowness();
        match self.phase {
            Phase::Probing { is_settled: false } => {
                self.phase = Phase::Probing { is_settled: true };
            }
            Phase::Probing { is_settled: true } => {
                for times in self.routes.values_mut().filter(|times| times.count > 0.0) {
                    times.own = times.sum / times.count;
                }
                self.phase = Phase::Climbing;
                self.limit = (self.limit * 2.0).min(LIMIT_MAX);
            }
            Phase::Climbing | Phase::Steady => {
                self.learn(slowness);
                self.adjust(slowness, now);
            }
        }
        for times in self.routes.values_mut() {
            (times.sum, times.count) = (0.0, 0.0);
        }
        (self.since, self.samples, self.most_at_once) = (now, 0, 0);
    }

    /// The latency of this window as a multiple of the unloaded one.
    fn slowness(&mut self) -> f64 {
        let (mut took, mut own) = (0.0, 0.0);
        for times in self.routes.values_mut().filter(|times| times.count > 0.0) {
            if times.own == 0.0 {
                times.own = times.sum / times.count;
            }
            took += times.sum;
            own += times.own * times.count;
        }
        if own > 0.0 { took / own } else { 1.0 }
    }

    fn learn(&mut self, slowness: f64) {
        for times in self.routes.values_mut().filter(|times| times.count > 0.0) {
            let mean = times.sum / times.count;
            if mean < times.own {
                times.own = mean;
            } else if slowness < DRIFT_BELOW {
                times.own = (times.own * DRIFT).min(mean);
            }
        }
    }

    fn adjust(&mut self, slowness: f64, now: Millis) {
        let is_pressed = self.most_at_once as f64 >= self.limit * 0.8;
        let ago = self.probed.map_or(Millis::MAX, |probed| now - probed);
        let is_stuck = slowness > TOLERANCE && self.limit <= LIMIT_MIN && ago > PROBE_SOON;
        if (is_pressed && ago > PROBE_EVERY) || is_stuck {
            self.probed = Some(now);
            self.phase = Phase::Probing { is_settled: false };
            self.limit = (self.limit * PROBE_PART).max(LIMIT_MIN);
        } else if slowness > TOLERANCE {
            self.phase = Phase::Steady;
            self.limit = (self.limit * (TOLERANCE / slowness).max(0.5)).max(LIMIT_MIN);
        } else if is_pressed {
            if slowness > CLIMB_BELOW {
                self.phase = Phase::Steady;
            }
            let more = match self.phase {
                Phase::Climbing => self.limit / 2.0,
                _ => self.limit.sqrt(),
            };
            self.limit = (self.limit + more).min(LIMIT_MAX);
        }
    }
}

#[cfg(test)]
mod tests;
