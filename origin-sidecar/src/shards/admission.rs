//! When a request whose shard is known may be sent: the newest map has its say, writes of a fenced range wait,
//! and what another sidecar sent by another map is settled between the two.

use super::hold::Holds;
use super::live_maps::LiveMaps;
use crate::drain::DrainState;
use crate::message::refused::Refused;
use crate::writes::{WriteInFlight, WriteKind};
use rules::Problem;
use rules::document::{Hold, ShardRule};
use rules::shard::Resolved;
use rules::shard::protocol::{Arrival, Marker, on_arrival};
use std::time::Duration;
use tokio::time::Instant;

/// A write that was entered, with the owner of its keys; or what it must wait for.
pub enum Entered {
    Go(Resolved, WriteInFlight),
    /// A range of this is fenced.
    Wait(Resolved),
}

impl LiveMaps {
    /// What the newest map says of the keys.
    ///
    /// # Errors
    /// As [`Resolved::find`]: a map that has changed may hold the keys no longer.
    pub fn newest(&self, resolved: &Resolved) -> Result<Resolved, Problem> {
        let rules = self.active.rules();
        let map = rules.shard_maps.get(&**resolved.map()).ok_or(Problem::MapUnknown)?;
        Resolved::find(map, resolved.keys.clone())
    }

    /// Enters a write before it is sent.
    ///
    /// The map is looked at once more after that: a process that says that no write is left has put the
    /// fenced map in force before it counted, so this either is counted or sees the fence.
    ///
    /// # Errors
    /// As [`LiveMaps::newest`].
    pub fn enter(
        &self,
        rule: &ShardRule,
        resolved: Resolved,
        what: impl Fn() -> WriteKind,
    ) -> Result<Entered, Problem> {
        let mut resolved = resolved;
        loop {
            if resolved.must_wait(true) {
                return Ok(Entered::Wait(resolved));
            }
            let settle = Duration::from(rule.settle);
            let mut write = self.writes.begin(resolved.map(), &resolved.keys, what(), settle);
            let newest = self.newest(&resolved);
            if newest.as_ref().is_ok_and(|newest| newest.epoch() == resolved.epoch()) {
                return Ok(Entered::Go(resolved, write));
            }
            // Nothing was sent.
            write.settled();
            resolved = newest?;
        }
    }

    /// The limits of requests that wait for this map.
    fn hold_limits(&self, resolved: &Resolved) -> Hold {
        let rules = self.active.rules();
        rules.document.shard_maps.get(&**resolved.map()).map_or_else(Hold::default, |map| map.hold)
    }

    /// Enters a write, and waits first while its range is fenced. `read_ahead`: bytes of its body that were
    /// read to find the key.
    ///
    /// # Errors
    /// `range-fenced` where it may not wait, or not that long; as [`LiveMaps::newest`].
    pub async fn enter_in_turn(
        &self,
        (holds, drain): (&Holds, &DrainState),
        rule: &ShardRule,
        resolved: Resolved,
        read_ahead: u64,
        what: impl Fn() -> WriteKind,
    ) -> Result<(Resolved, WriteInFlight), Refused> {
        let limits = self.hold_limits(&resolved);
        let until = Instant::now() + Duration::from(limits.time);
        let mut resolved = resolved;
        loop {
            match self.enter(rule, resolved, &what)? {
                Entered::Go(resolved, write) => return Ok((resolved, write)),
                Entered::Wait(fenced) => {
                    holds.wait(fenced.map(), limits, read_ahead, until, drain).await?;
                    resolved = self.newest(&fenced)?;
                }
            }
        }
    }

    /// Settles with the sender of a request which map counts. `is_here` says whether a shard is served by
    /// this process.
    ///
    /// # Errors
    /// `stale-epoch` to a sender whose map is older, `map-behind` where ours is.
    pub async fn settle_with_sender(
        &self,
        marker: &Marker,
        resolved: Resolved,
        is_here: impl Fn(&Resolved) -> bool,
        own_shard: Option<&str>,
    ) -> Result<Resolved, Refused> {
        let mut resolved = resolved;
        let mut is_refreshed = false;
        loop {
            let here = is_here(&resolved);
            let detail = || {
                let (map, epoch, theirs) = (resolved.map(), resolved.epoch(), marker.epoch);
                format!("map {map}: epoch {epoch} here, {theirs} at the sender")
            };
            match on_arrival(marker, &resolved, here, own_shard, is_refreshed) {
                // A loop is found where the request would be sent on.
                Arrival::Serve | Arrival::Loop => return Ok(resolved),
                Arrival::ServeAsSent => return Ok(resolved.as_sent(marker)),
                Arrival::Refresh => {
                    self.refresh(resolved.map(), resolved.epoch()).await;
                    resolved = self.newest(&resolved)?;
                    is_refreshed = true;
                }
                Arrival::Stale => {
                    self.metrics.shards.stale.with_label_values(&["receiver"]).inc();
                    return Err(Refused::new(Problem::StaleEpoch, detail()));
                }
                Arrival::StaleToOld => {
                    self.metrics.shards.stale.with_label_values(&["receiver"]).inc();
                    return Err(Refused::new(Problem::RangeFenced, detail()));
                }
                Arrival::Behind => return Err(Refused::new(Problem::MapBehind, detail())),
            }
        }
    }
}
