//! The metrics of a route's requests. Each one is looked up once, when it first counts: a lookup
//! takes a lock, and costs more than counting. What never happened has no series.

use super::metrics::Metrics;
use prometheus::{Histogram, IntCounter, IntCounterVec};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Status classes: five label values instead of sixty.
const CODES: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "1xx"];
/// The most frequent cache results. Others are looked up each time.
const RESULTS: [&str; 4] = ["hit", "bypass", "miss", "stale"];

pub struct Meters {
    route: String,
    metrics: Arc<Metrics>,
    requests: Counters<5>,
    cache: Counters<4>,
    seconds: OnceLock<Histogram>,
}

/// The counters of one vector, by its last label.
struct Counters<const N: usize> {
    labels: [&'static str; N],
    known: [OnceLock<IntCounter>; N],
}

impl<const N: usize> Counters<N> {
    fn new(labels: [&'static str; N]) -> Self {
        Self { labels, known: [const { OnceLock::new() }; N] }
    }

    fn count(&self, all: &IntCounterVec, route: &str, label: &str) {
        let at = self.labels.iter().position(|own| *own == label);
        let look_up = || all.with_label_values(&[route, label]);
        match at.and_then(|at| self.known.get(at)) {
            Some(known) => known.get_or_init(look_up).inc(),
            None => look_up().inc(),
        }
    }
}

impl Meters {
    pub fn new(route: &str, metrics: Arc<Metrics>) -> Self {
        Self {
            route: route.to_owned(),
            metrics,
            requests: Counters::new(CODES),
            cache: Counters::new(RESULTS),
            seconds: OnceLock::new(),
        }
    }

    /// Counts a request that was answered.
    pub fn answered(&self, status: u16, took: Duration) {
        let http = &self.metrics.http;
        self.requests.count(&http.requests, &self.route, code(status));
        let look_up = || http.request_seconds.with_label_values(&[&self.route]);
        self.seconds.get_or_init(look_up).observe(took.as_secs_f64());
    }

    /// Counts the cache's result for a request, by its label.
    pub fn cached(&self, result: &str) {
        self.cache.count(&self.metrics.cache.requests, &self.route, result);
    }
}

fn code(status: u16) -> &'static str {
    match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}
