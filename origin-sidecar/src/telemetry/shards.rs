//! Metrics of shard maps, live ones above all.

use super::registered::{LATENCY_BUCKETS, counters, gauges, histograms};
use super::shard_meters::ShardMeters;
use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec, Registry};

/// Shard maps, and what waits while a range moves.
pub struct Shards {
    /// Of each request.
    pub meters: ShardMeters,
    pub epoch: IntGaugeVec,
    pub age_seconds: IntGaugeVec,
    pub lost: IntGaugeVec,
    pub signed_by_first_key: IntGaugeVec,
    pub seed_differs: IntGaugeVec,
    pub refused: IntCounterVec,
    /// Ranges that are about to move.
    pub range_state: IntGaugeVec,
    pub held: IntGaugeVec,
    pub held_seconds: HistogramVec,
    pub hold_refused: IntCounterVec,
    /// By side: `receiver` refused a request, `sender` was refused, `clock`: a marker was old.
    pub stale: IntCounterVec,
}

#[rustfmt::skip]
impl Shards {
    pub(super) fn new(r: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            meters: ShardMeters::new(r)?,
            epoch: gauges(r, "shard_map_epoch", "Epoch of the shard map in force; 0 while a live map is unknown.", &["map"])?,
            age_seconds: gauges(r, "shard_map_age_seconds", "Time since the live map was last confirmed by the result store.", &["map"])?,
            lost: gauges(r, "shard_map_lost", "1 while the live map's object is missing from the result store.", &["map"])?,
            signed_by_first_key: gauges(r, "shard_map_signed_by_first_key", "1 if the first root key signed the live map in force.", &["map"])?,
            seed_differs: gauges(r, "shard_seed_differs", "1 if the rules file has other ranges than the live map.", &["map"])?,
            refused: counters(r, "shard_map_refused_total", "Objects of live maps that were not taken, by reason.", &["map", "reason"])?,
            range_state: gauges(r, "shard_range_state", "1 for each range that is about to move.", &["map", "range", "state"])?,
            held: gauges(r, "shard_held", "Writes of a fenced range that wait.", &["map"])?,
            held_seconds: histograms(r, "shard_held_seconds", "Time that writes of a fenced range waited.", &["map"], &LATENCY_BUCKETS)?,
            hold_refused: counters(r, "shard_hold_refused_total", "Writes of a fenced range that were refused, by reason.", &["map", "reason"])?,
            stale: counters(r, "shard_stale_total", "Requests between sidecars that followed an older map or bore an old marker, by side.", &["side"])?,
        })
    }
}
