//! What is counted of each sharded request: by the shard that owns its data, and by the range of its key.
//!
//! A range has its counter at its place in the map, so that a request looks up no labels. There may be 10,000
//! ranges: when metrics are read, those with the most load become series of their own, the rest one together.

use super::registered::{LATENCY_BUCKETS, counters, histograms};
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, Registry};
use rules::shard::{OwnedRange, Resolved, ShardMap};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

/// Ranges of a map that have a series: a dashboard shows no more, and each costs every pod one.
const SERIES_MAX: usize = 64;
/// The label of all further ranges.
const OTHER: &str = "other";
/// What is kept of a range's load from one look to the next: a burst counts half after five looks, so that
/// series do not come and go with it.
const KEPT_LOAD: f64 = 0.87;

/// What becomes of a request for a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardOutput {
    /// The application beside us has the data.
    Annotate,
    /// Another sidecar has it.
    Forward,
}

impl ShardOutput {
    fn as_str(self) -> &'static str {
        match self {
            Self::Annotate => "annotate",
            Self::Forward => "forward",
        }
    }
}

/// The counters of all shard maps.
pub struct ShardMeters {
    requests: IntCounterVec,
    seconds: HistogramVec,
    range_requests: IntCounterVec,
    maps: RwLock<Vec<MapMeters>>,
    /// Taken by whoever shows counters or gives them to another version of a map.
    changing: Mutex<()>,
}

/// The counters of one version of one map.
struct MapMeters {
    name: Arc<str>,
    epoch: u64,
    /// In the order of [`ShardMap::ranges`].
    places: Vec<PlaceMeters>,
    ranges: BTreeMap<Arc<str>, Arc<RangeMeter>>,
    owners: BTreeMap<Arc<str>, Arc<OwnerMeters>>,
    /// Requests of ranges that this version does not have.
    other: AtomicU64,
}

struct PlaceMeters {
    range: Arc<RangeMeter>,
    owner: Arc<OwnerMeters>,
}

/// Text keys of one label share one.
#[derive(Default)]
struct RangeMeter {
    /// Requests since the last look.
    fresh: AtomicU64,
    shown: Mutex<ShownLoad>,
}

/// What the looks so far have made of a range.
#[derive(Debug, Default, Clone, Copy)]
struct ShownLoad {
    load: f64,
    has_series: bool,
}

/// The metrics of one shard. Each is looked up when it first counts: what never happened has no series.
#[derive(Default)]
struct OwnerMeters {
    annotated: OnceLock<IntCounter>,
    forwarded: OnceLock<IntCounter>,
    seconds: OnceLock<Histogram>,
}

impl ShardMeters {
    #[rustfmt::skip]
    pub(super) fn new(r: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            requests: counters(r, "shard_requests_total", "Requests routed to a shard.", &["map", "shard", "output"])?,
            seconds: histograms(r, "shard_request_duration_seconds", "Time from a request to the head of its answer, by the shard that holds its data.", &["map", "shard"], &LATENCY_BUCKETS)?,
            range_requests: counters(r, "shard_range_requests_total", "Requests by the range of their keys; ranges with little load together.", &["map", "range"])?,
            maps: RwLock::default(),
            changing: Mutex::default(),
        })
    }

    /// Counts by this version of a map from now on. A range that begins where one did before goes on with its
    /// counter.
    pub fn follow(&self, map: &ShardMap) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let next = {
            let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
            let before = maps.iter().find(|own| own.name == *map.name());
            MapMeters::new(map, before.map(|own| &own.ranges))
        };
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        match maps.iter_mut().find(|own| own.name == *map.name()) {
            None => maps.push(next),
            Some(own) => {
                let before = std::mem::replace(own, next);
                own.other.fetch_add(before.other.into_inner(), Ordering::Relaxed);
                for (label, range) in &before.ranges {
                    if !own.ranges.contains_key(label) {
                        let _ = self.range_requests.remove_label_values(&[&*own.name, label]);
                        own.other.fetch_add(range.fresh.load(Ordering::Relaxed), Ordering::Relaxed);
                    }
                }
            }
        }
    }

    /// Counts a request where it comes in. One with a list of keys counts in each of their ranges.
    pub fn entered(&self, resolved: &Resolved, output: ShardOutput) {
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
        let map = maps.iter().find(|own| *own.name == **resolved.map());
        for range in resolved.ranges() {
            if let Some(map) = map {
                map.fresh(range).fetch_add(1, Ordering::Relaxed);
            }
        }
        let labels = [&**resolved.map(), resolved.shard(), output.as_str()];
        let look_up = || self.requests.with_label_values(&labels);
        match map.and_then(|map| map.owner(&resolved.range)) {
            Some(own) => own.requests(output).get_or_init(look_up).inc(),
            None => look_up().inc(),
        }
    }

    /// Counts the time to the head of an answer.
    pub fn answered(&self, resolved: &Resolved, took: Duration) {
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
        let map = maps.iter().find(|own| *own.name == **resolved.map());
        let labels = [&**resolved.map(), &**resolved.shard()];
        let look_up = || self.seconds.with_label_values(&labels);
        match map.and_then(|map| map.owner(&resolved.range)) {
            Some(own) => own.seconds.get_or_init(look_up).observe(took.as_secs_f64()),
            None => look_up().observe(took.as_secs_f64()),
        }
    }

    /// Gives the series of the ranges what was counted since the last look; called when metrics are read.
    pub(super) fn show(&self) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        for map in self.maps.read().unwrap_or_else(PoisonError::into_inner).iter() {
            map.show(&self.range_requests);
        }
    }
}

impl OwnerMeters {
    fn requests(&self, output: ShardOutput) -> &OnceLock<IntCounter> {
        match output {
            ShardOutput::Annotate => &self.annotated,
            ShardOutput::Forward => &self.forwarded,
        }
    }
}

impl MapMeters {
    fn new(map: &ShardMap, before: Option<&BTreeMap<Arc<str>, Arc<RangeMeter>>>) -> Self {
        let (mut ranges, mut owners) = (BTreeMap::new(), BTreeMap::new());
        let places = map.ranges().map(|own| {
            let known = before.and_then(|before| before.get(&*own.label));
            let label: Arc<str> = own.label.as_str().into();
            let range = ranges.entry(label).or_insert_with(|| known.cloned().unwrap_or_default());
            let owner: &mut Arc<OwnerMeters> = owners.entry(Arc::clone(&own.shard)).or_default();
            PlaceMeters { range: Arc::clone(range), owner: Arc::clone(owner) }
        });
        let places = places.collect();
        let (name, epoch) = (Arc::clone(map.name()), map.epoch());
        Self { name, epoch, places, ranges, owners, other: AtomicU64::new(0) }
    }

    /// None for a range of another version of the map: its request was there before the change.
    fn place(&self, range: &OwnedRange) -> Option<&PlaceMeters> {
        (range.epoch == self.epoch).then(|| self.places.get(range.place)).flatten()
    }

    fn fresh(&self, range: &OwnedRange) -> &AtomicU64 {
        let place = self.place(range).map(|place| &place.range);
        let found = place.or_else(|| self.ranges.get(&*range.label));
        found.map_or(&self.other, |own| &own.fresh)
    }

    fn owner(&self, range: &OwnedRange) -> Option<&OwnerMeters> {
        let place = self.place(range).map(|place| &place.owner);
        place.or_else(|| self.owners.get(&range.shard)).map(|own| &**own)
    }

    fn show(&self, series: &IntCounterVec) {
        let mut rest = self.other.swap(0, Ordering::Relaxed);
        let mut loaded: Vec<_> =
            self.ranges.iter().filter_map(|(label, range)| range.look(label)).collect();
        // Of two with the same load the one that has a series keeps it.
        loaded.sort_by(|left, right| {
            right.load.total_cmp(&left.load).then(right.has_series.cmp(&left.has_series))
        });
        for (at, own) in loaded.iter().enumerate() {
            let (labels, has_series) = ([&*self.name, own.label], at < SERIES_MAX);
            if has_series {
                series.with_label_values(&labels).inc_by(own.fresh);
            } else {
                rest += own.fresh;
            }
            if own.has_series && !has_series {
                let _ = series.remove_label_values(&labels);
            }
            own.range.keep(ShownLoad { load: own.load, has_series });
        }
        if rest > 0 {
            series.with_label_values(&[&*self.name, OTHER]).inc_by(rest);
        }
    }
}

/// A range that has ever had a request, at one look.
struct LoadedRange<'a> {
    label: &'a str,
    range: &'a RangeMeter,
    fresh: u64,
    load: f64,
    has_series: bool,
}

impl RangeMeter {
    fn look<'a>(&'a self, label: &'a str) -> Option<LoadedRange<'a>> {
        let fresh = self.fresh.swap(0, Ordering::Relaxed);
        let shown = *self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        #[expect(clippy::cast_precision_loss, reason = "a load is compared, not counted")]
        let load = shown.load * KEPT_LOAD + fresh as f64;
        let has_series = shown.has_series;
        (load > 0.0).then_some(LoadedRange { label, range: self, fresh, load, has_series })
    }

    fn keep(&self, shown: ShownLoad) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }
}

#[cfg(test)]
mod tests;
