//! What this process learns about its routes: latencies, and executions in flight.

use rules::hex::hex;
use rules::offload::Load;
use rules::offload::learned::{Latency, Learned, Sample};
use rules::{Millis, UnixMillis};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Classes of one route that are told apart. Values chosen by clients must not cost memory, so
/// further ones share one class.
const CLASSES_MAX: usize = 64;
/// The longest class name that is kept, in bytes: the length of a hash.
const CLASS_BYTES_MAX: usize = 64;
/// The class of all further values.
const OTHERS: &str = "\0others";

#[derive(Default)]
pub struct Latencies {
    routes: Mutex<HashMap<String, Route>>,
}

#[derive(Default)]
struct Route {
    classes: HashMap<String, Latency>,
    executing: Arc<()>,
}

/// An execution in flight, counted until it is dropped.
pub(super) struct Executing(#[expect(dead_code, reason = "counted, never read")] Arc<()>);

impl Latencies {
    /// What is known when a request of the class comes that is slow after so long.
    /// Whether the upstream is full is known elsewhere.
    pub(super) fn load(
        &self,
        route: &str,
        class: &str,
        now: UnixMillis,
        after: Option<Millis>,
    ) -> Load {
        let mut routes = self.lock();
        let Some(route) = routes.get_mut(route) else {
            return Load {
                learned: Learned::Unknown,
                executing: 0,
                is_full: false,
                is_cross_site: false,
            };
        };
        let executing = Arc::strong_count(&route.executing) as u64 - 1;
        let learned = match after {
            Some(after) => route.class(class, now).judge(now, after),
            None => Learned::Unknown,
        };
        Load { learned, executing, is_full: false, is_cross_site: false }
    }

    pub(super) fn begin(&self, route: &str) -> Executing {
        let mut routes = self.lock();
        Executing(Arc::clone(&routes.entry(route.to_owned()).or_default().executing))
    }

    pub(super) fn record(&self, route: &str, class: &str, now: UnixMillis, took: Millis) -> Sample {
        self.lock().entry(route.to_owned()).or_default().class(class, now).record(now, took)
    }

    pub(super) fn settle(
        &self,
        route: &str,
        class: &str,
        now: UnixMillis,
        sample: Sample,
        took: Millis,
    ) {
        self.lock().entry(route.to_owned()).or_default().class(class, now).settle(sample, took);
    }

    /// The 95th percentile of each route's slowest class.
    pub fn slowest(&self, now: UnixMillis) -> Vec<(String, Millis)> {
        let mut routes = self.lock();
        let slowest = routes.iter_mut().filter_map(|(name, route)| {
            let p95 = route.classes.values_mut().filter_map(|latency| latency.p95(now)).max()?;
            Some((name.clone(), p95))
        });
        slowest.collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Route>> {
        // A panic can't leave a sample half written.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Route {
    fn class(&mut self, class: &str, now: UnixMillis) -> &mut Latency {
        let class = name(class);
        if self.classes.len() >= CLASSES_MAX && !self.classes.contains_key(class.as_ref()) {
            self.classes.retain(|_, latency| !latency.is_forgotten(now));
        }
        let has_room =
            self.classes.len() < CLASSES_MAX || self.classes.contains_key(class.as_ref());
        let class = if has_room { class } else { Cow::Borrowed(OTHERS) };
        self.classes.entry(class.into_owned()).or_default()
    }
}

/// A long value is replaced by its hash.
fn name(class: &str) -> Cow<'_, str> {
    if class.len() <= CLASS_BYTES_MAX {
        return Cow::Borrowed(class);
    }
    Cow::Owned(hex(&Sha256::digest(class.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_that_clients_make_up_share_one() {
        let latencies = Latencies::default();
        for at in 0..1000 {
            latencies.record("r", &at.to_string(), UnixMillis(0), Millis(5000));
        }
        assert_eq!(latencies.lock()["r"].classes.len(), CLASSES_MAX + 1);
        assert_eq!(
            latencies.load("r", "new", UnixMillis(0), Some(Millis(2000))).learned,
            Learned::Slow
        );
        assert_eq!(
            latencies.load("r", "1", UnixMillis(0), Some(Millis(2000))).learned,
            Learned::Unknown
        );
        assert_eq!(latencies.slowest(UnixMillis(0)), [("r".to_owned(), Millis(5000))]);
    }

    #[test]
    fn classes_that_nobody_asks_for_any_more_make_room() {
        const LATER: u64 = 6 * 60_000;
        let latencies = Latencies::default();
        for at in 0..CLASSES_MAX {
            latencies.record(
                "r",
                &format!("{at}{}", "x".repeat(9_000)),
                UnixMillis(0),
                Millis(5000),
            );
        }
        assert!(latencies.lock()["r"].classes.keys().all(|name| name.len() <= CLASS_BYTES_MAX));
        for _ in 0..20 {
            latencies.record("r", "new", UnixMillis(LATER), Millis(5000));
        }
        assert_eq!(
            latencies.load("r", "new", UnixMillis(LATER), Some(Millis(2000))).learned,
            Learned::Slow
        );
        assert_eq!(latencies.lock()["r"].classes.len(), 1);
    }

    #[test]
    fn an_execution_counts_until_it_ends() {
        let latencies = Latencies::default();
        let first = latencies.begin("r");
        let executing = || latencies.load("r", "", UnixMillis(0), None).executing;
        assert_eq!(executing(), 1);
        drop(first);
        assert_eq!(executing(), 0);
    }
}
