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
use rules::shard::protocol::{Arrival, Arrived, Marker, on_arrival};
use std::time::Duration;
use tokio::time::Instant;

/// A write that was entered, with the owner of its keys; or what it must wait for.
pub enum Entered {
    Go(Resolved, WriteInFlight),
    /// A range of this is fenced.
    Wait(Resolved),
    /// The map has changed meanwhile; nothing was entered. What it says now.
    Changed(Resolved),
}

/// The sidecar that sent a request here, and what is served here.
pub struct SendingSidecar<'a> {
    pub marker: &'a Marker,
    /// Whether the owner of the keys is served by this process.
    pub is_here: &'a (dyn Fn(&Resolved) -> bool + Sync),
    /// The shard whose data the application beside us holds.
    pub own_shard: Option<&'a str>,
}

/// A write that is to be admitted.
pub struct PendingWrite<'a> {
    pub rule: &'a ShardRule,
    /// Bytes of its body that were read to find the key.
    pub read_ahead: u64,
    pub what: &'a (dyn Fn() -> WriteKind + Sync),
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

    /// Enters a write before it is sent. `has_begun`: it was entered at its sender before the fence, which
    /// waits for it.
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
        has_begun: bool,
        what: impl FnOnce() -> WriteKind,
    ) -> Result<Entered, Problem> {
        if resolved.must_wait(true) && !has_begun {
            return Ok(Entered::Wait(resolved));
        }
        let settle = Duration::from(rule.settle);
        let mut write = self.writes.begin(resolved.map(), &resolved.keys, what(), settle);
        let newest = self.newest(&resolved);
        if newest.as_ref().is_ok_and(|newest| !resolved.is_outdated_by(newest)) {
            return Ok(Entered::Go(resolved, write));
        }
        // Nothing was sent.
        write.settled();
        newest.map(Entered::Changed)
    }

    /// The limits of requests that wait for this map.
    fn hold_limits(&self, resolved: &Resolved) -> Hold {
        let rules = self.active.rules();
        rules.document.shard_maps.get(&**resolved.map()).map_or_else(Hold::default, |map| map.hold)
    }

    /// The owner of a request's keys, once that is settled with its sender; a write is entered, and waits first
    /// while its range is fenced.
    ///
    /// # Errors
    /// `range-fenced` where it may not wait, or not that long; as [`LiveMaps::newest`] and
    /// [`LiveMaps::settle_with_sender`].
    pub async fn admit(
        &self,
        (holds, drain): (&Holds, &DrainState),
        sender: Option<&SendingSidecar<'_>>,
        resolved: Resolved,
        entry: Option<&PendingWrite<'_>>,
    ) -> Result<(Resolved, Option<WriteInFlight>), Refused> {
        let limits = self.hold_limits(&resolved);
        let until = Instant::now() + Duration::from(limits.time);
        let mut resolved = resolved;
        loop {
            let mut has_begun = false;
            if let Some(sender) = sender {
                let is_write = entry.is_some();
                (resolved, has_begun) = self.settle_with_sender(sender, resolved, is_write).await?;
            }
            let Some(PendingWrite { rule, read_ahead, what }) = entry else {
                return Ok((resolved, None));
            };
            match self.enter(rule, resolved, has_begun, what)? {
                Entered::Go(resolved, write) => return Ok((resolved, Some(write))),
                Entered::Changed(newest) => resolved = newest,
                Entered::Wait(fenced) => {
                    let is_fenced_still =
                        || self.newest(&fenced).is_ok_and(|newest| newest.must_wait(true));
                    let room = (limits, *read_ahead);
                    holds.wait(fenced.map(), room, until, drain, is_fenced_still).await?;
                    resolved = self.newest(&fenced)?;
                }
            }
        }
    }

    /// Settles with the sender of a request which map counts; whether it is a write that began before the fence.
    ///
    /// # Errors
    /// `stale-epoch` to a sender whose map is older, `map-behind` where ours is.
    async fn settle_with_sender(
        &self,
        sender: &SendingSidecar<'_>,
        resolved: Resolved,
        is_write: bool,
    ) -> Result<(Resolved, bool), Refused> {
        let SendingSidecar { marker, is_here, own_shard } = sender;
        let mut resolved = resolved;
        let mut is_refreshed = false;
        loop {
            let here = is_here(&resolved);
            let detail = || {
                let (map, epoch, theirs) = (resolved.map(), resolved.epoch(), marker.epoch);
                format!("map {map}: epoch {epoch} here, {theirs} at the sender")
            };
            let stale = |problem| {
                self.metrics.shards.stale.with_label_values(&["receiver"]).inc();
                Err(Refused::new(problem, detail()))
            };
            let arrived = Arrived { is_here: here, own_shard: *own_shard, is_write, is_refreshed };
            match on_arrival(marker, &resolved, arrived) {
                // A loop is found where the request would be sent on.
                Arrival::Serve | Arrival::Loop => return Ok((resolved, false)),
                Arrival::ServeBegun => return Ok((resolved, true)),
                Arrival::ServeAsSent => return Ok((resolved.as_sent(marker), false)),
                Arrival::Refresh => {
                    self.refresh(resolved.map(), resolved.epoch()).await;
                    resolved = self.newest(&resolved)?;
                    is_refreshed = true;
                }
                Arrival::Stale => return stale(Problem::StaleEpoch),
                Arrival::StaleToOld => return stale(Problem::RangeFenced),
                Arrival::Behind => return Err(Refused::new(Problem::MapBehind, detail())),
            }
        }
    }
}
