//! Learns how long the requests of a class take, so that the next slow one is queued before it
//! occupies the application.

use crate::time::{Millis, UnixMillis};
use std::collections::VecDeque;

/// Older samples do not count, in milliseconds.
const WINDOW: Millis = Millis(5 * 60_000);
/// The newest samples kept; the 95th percentile of 128 is the seventh longest.
const SAMPLES_MAX: usize = 128;
/// Fewer samples than this decide nothing: of 20 the 95th percentile is the second longest, so that one slow
/// start after a deployment does not count.
const SAMPLES_MIN: usize = 20;
/// While a class is slow, one in this many requests is executed anyway, so that learning continues.
const PROBE_EVERY: u32 = 20;
/// While a class is slow, one request is executed after this many milliseconds. Without it, a class
/// with few requests would go on being queued for minutes.
const PROBE_AFTER: Millis = Millis(10_000);
/// A class is quick again below three quarters of the limit. The gap keeps it from flapping.
const QUICK_QUARTERS: u64 = 3;

/// How long requests of a class take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// There are too few samples.
    Unknown,
    /// The request is executed while the client waits.
    Quick,
    /// The request is queued.
    Slow,
    /// The class is slow, but this request is executed, so that learning continues.
    Probe,
}

/// Identifies a sample, so that its final latency can be reported later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample(u64);

/// The latencies of one class of requests.
#[derive(Debug, Clone, Default)]
pub struct Latency {
    /// Number, time and latency of each sample, the latter in milliseconds.
    samples: VecDeque<(u64, UnixMillis, Millis)>,
    next: u64,
    is_slow: bool,
    since_probe: u32,
    /// When the class became slow, or when its last probe was executed, in milliseconds since 1970.
    probed: UnixMillis,
}

impl Latency {
    /// Records an execution that took so long, or has taken so long and still runs. `now` is in
    /// milliseconds since 1970.
    pub fn record(&mut self, now: UnixMillis, took: Millis) -> Sample {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        let number = self.next;
        self.next += 1;
        self.samples.push_back((number, now, took));
        Sample(number)
    }

    /// Corrects a sample whose execution had not ended when it was recorded.
    pub fn settle(&mut self, sample: Sample, took: Millis) {
        let found = self.samples.iter_mut().find(|(number, _, _)| *number == sample.0);
        if let Some((_, _, own)) = found {
            *own = took;
        }
    }

    /// Whether no sample counts any more.
    pub fn is_forgotten(&self, now: UnixMillis) -> bool {
        self.samples.back().is_none_or(|(_, at, _)| *at + WINDOW < now)
    }

    /// The 95th percentile over the window (nearest rank).
    pub fn p95(&mut self, now: UnixMillis) -> Option<Millis> {
        while self.samples.front().is_some_and(|(_, at, _)| *at + WINDOW < now) {
            self.samples.pop_front();
        }
        if self.samples.len() < SAMPLES_MIN {
            return None;
        }
        let mut sorted: Vec<Millis> = self.samples.iter().map(|(_, _, took)| *took).collect();
        sorted.sort_unstable();
        sorted.get((sorted.len() * 95).div_ceil(100).saturating_sub(1)).copied()
    }

    /// Whether the next request is likely to take longer than `after` milliseconds.
    pub fn judge(&mut self, now: UnixMillis, after: Millis) -> Learned {
        let Some(p95) = self.p95(now) else {
            self.is_slow = false;
            return Learned::Unknown;
        };
        let was_slow = self.is_slow;
        self.is_slow = if was_slow { p95 * 4 >= after * QUICK_QUARTERS } else { p95 >= after };
        if !self.is_slow {
            return Learned::Quick;
        }
        if !was_slow {
            (self.since_probe, self.probed) = (0, now);
        }
        self.since_probe = self.since_probe.saturating_add(1);
        let is_due = now - self.probed >= PROBE_AFTER;
        if self.since_probe < PROBE_EVERY && !is_due {
            return Learned::Slow;
        }
        (self.since_probe, self.probed) = (0, now);
        Learned::Probe
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(samples: &[u64]) -> Latency {
        let mut latency = Latency::default();
        for took in samples {
            latency.record(UnixMillis(0), Millis(*took));
        }
        latency
    }

    /// Fills the window with new samples.
    fn again(latency: &mut Latency, took: u64) {
        for _ in 0..SAMPLES_MAX {
            latency.record(UnixMillis(0), Millis(took));
        }
    }

    #[test]
    fn a_few_samples_decide_nothing() {
        assert_eq!(of(&[9000; 19]).judge(UnixMillis(0), Millis(2000)), Learned::Unknown);
        assert_eq!(of(&[9000; 20]).judge(UnixMillis(0), Millis(2000)), Learned::Slow);
        assert_eq!(of(&[100; 20]).judge(UnixMillis(0), Millis(2000)), Learned::Quick);
    }

    #[test]
    fn one_slow_start_does_not_make_a_class_slow() {
        let mut samples = vec![9000];
        samples.extend([10; 19]);
        assert_eq!(of(&samples).judge(UnixMillis(0), Millis(2000)), Learned::Quick);
        samples[1] = 9000;
        assert_eq!(
            of(&samples).judge(UnixMillis(0), Millis(2000)),
            Learned::Slow,
            "two of twenty do"
        );
    }

    #[test]
    fn a_slow_class_that_few_ask_for_is_probed_every_ten_seconds() {
        let mut latency = of(&[9000; 20]);
        assert_eq!(latency.judge(UnixMillis(0), Millis(2000)), Learned::Slow);
        assert_eq!(
            latency.judge(UnixMillis(0) + PROBE_AFTER - Millis(1), Millis(2000)),
            Learned::Slow
        );
        assert_eq!(latency.judge(UnixMillis(0) + PROBE_AFTER, Millis(2000)), Learned::Probe);
        assert_eq!(
            latency.judge(UnixMillis(0) + PROBE_AFTER + Millis(1), Millis(2000)),
            Learned::Slow
        );
        assert_eq!(latency.judge(UnixMillis(0) + PROBE_AFTER * 2, Millis(2000)), Learned::Probe);
    }

    #[test]
    fn a_rare_slow_one_does_not_make_a_class_slow() {
        let mut samples = vec![100; 99];
        samples.push(9000);
        assert_eq!(of(&samples).judge(UnixMillis(0), Millis(2000)), Learned::Quick);
    }

    #[test]
    fn a_slow_class_stays_slow_until_it_is_clearly_quick() {
        let mut latency = of(&[2000; 128]);
        assert_eq!(latency.judge(UnixMillis(0), Millis(2000)), Learned::Slow);
        again(&mut latency, 1600);
        assert_eq!(latency.judge(UnixMillis(0), Millis(2000)), Learned::Slow);
        again(&mut latency, 1400);
        assert_eq!(latency.judge(UnixMillis(0), Millis(2000)), Learned::Quick);
        again(&mut latency, 1600);
        assert_eq!(latency.judge(UnixMillis(0), Millis(2000)), Learned::Quick);
    }

    #[test]
    fn one_in_twenty_is_executed_to_go_on_learning() {
        let mut latency = of(&[9000; 20]);
        let probes = (0..100)
            .filter(|_| latency.judge(UnixMillis(0), Millis(2000)) == Learned::Probe)
            .count();
        assert_eq!(probes, 5);
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut latency = of(&[9000; 128]);
        assert_eq!(latency.judge(UnixMillis(0) + WINDOW, Millis(2000)), Learned::Slow);
        assert_eq!(
            latency.judge(UnixMillis(0) + WINDOW + Millis(1), Millis(2000)),
            Learned::Unknown
        );
    }

    #[test]
    fn an_execution_under_way_counts_with_what_it_took_so_far() {
        let mut latency = of(&[100; 18]);
        latency.record(UnixMillis(0), Millis(1000));
        let sample = latency.record(UnixMillis(0), Millis(900));
        assert_eq!(latency.p95(UnixMillis(0)), Some(Millis(900)));
        latency.settle(sample, Millis(60_000));
        assert_eq!(latency.p95(UnixMillis(0)), Some(Millis(1000)));
    }

    proptest! {
        #[test]
        fn no_input_breaks_it(samples in prop::collection::vec((any::<u64>(), any::<u64>()), 0..300), after: u64) {
            let mut latency = Latency::default();
            for (now, took) in samples {
                latency.record(UnixMillis(now), Millis(took));
                latency.judge(UnixMillis(now), Millis(after));
            }
        }
    }
}
