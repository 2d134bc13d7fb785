//! What the processes that share a live map decide: a sidecar about an object it is shown and a request that
//! another sidecar sent it, the coordinator about what the members of a move have told it.

use super::find::Resolved;
use super::map::OwnedRange;
use super::object::{MapObject, MoveStage};
use super::range::RangeState;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a process does with an object that it may follow ([`MapObject::admit`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    /// It is newer than what is in force.
    Take,
    /// It is in force; its mac may be a new one.
    Same,
    /// It is older than what is in force, and ignored: a map never goes back.
    Older,
    /// It has the epoch of what is in force and says something else: two maps, of which one is forged or
    /// the store has lost a condition.
    Conflict,
}

/// Compares epoch and hash of what is in force, if anything is, with those of an object.
pub fn adoption(in_force: Option<(u64, &str)>, shown: (u64, &str)) -> Adoption {
    let Some((epoch, hash)) = in_force else { return Adoption::Take };
    match shown.0.cmp(&epoch) {
        std::cmp::Ordering::Greater => Adoption::Take,
        std::cmp::Ordering::Less => Adoption::Older,
        std::cmp::Ordering::Equal if shown.1 == hash => Adoption::Same,
        std::cmp::Ordering::Equal => Adoption::Conflict,
    }
}

/// What the marker of a request says that another sidecar sent here (`X-Shard-Hop`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// Whether the sender knows what a 421 means: it wrote the second form of the marker.
    pub knows_stale: bool,
    /// The map that the sender followed.
    pub map: String,
    /// The shard that it sent the request to.
    pub shard: String,
    /// The map's epoch there; [`super::range::FILE_EPOCH`] in the first form of the marker, which says none.
    pub epoch: u64,
    /// Whether the marker is recent. The clocks of two nodes may be far apart: an old marker still proves
    /// that a sidecar sent the request, but not that its map is newer.
    pub is_recent: bool,
}

/// What becomes of a request that another sidecar sent here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Its shard is ours.
    Serve,
    /// The same, for a write that its sender sent before it knew of the fence. It must not wait here: the
    /// sender's ack waits for it, and the end of the move for that ack.
    ServeBegun,
    /// The sender's map is newer than ours: look for the newest before anything else is decided.
    Refresh,
    /// The sender's map is newer than the newest that can be found, and says that the shard is ours.
    ServeAsSent,
    /// The sender's map is older, and the keys have another owner now: 421.
    Stale,
    /// The same, to a sender that would pass a 421 on to its client: 503.
    StaleToOld,
    /// The sender's map is newer than the newest that can be found, and the shard is not ours: 503.
    Behind,
    /// Both follow the same map and disagree about who serves the shard: 508.
    Loop,
}

/// What is known of a request where it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived<'a> {
    /// Whether this process serves the shard that our map says.
    pub is_here: bool,
    /// The shard whose data the application beside us holds.
    pub own_shard: Option<&'a str>,
    /// Whether the request writes.
    pub is_write: bool,
    /// The newest map was looked for already.
    pub is_refreshed: bool,
}

/// Decides about a request that another sidecar sent here. `own` is what our map says.
pub fn on_arrival(marker: &Marker, own: &Resolved, arrived: Arrived<'_>) -> Arrival {
    let Arrived { is_here, own_shard, is_write, is_refreshed } = arrived;
    // The store is asked also where a clock is wrong: what it says needs no believing.
    let is_ahead = marker.epoch > own.epoch();
    if own.range.is_live && is_ahead && !is_refreshed {
        return Arrival::Refresh;
    }
    match (own.range.is_live, is_ahead && marker.is_recent, is_here) {
        (true, true, _) if own_shard == Some(marker.shard.as_str()) => Arrival::ServeAsSent,
        (true, true, _) => Arrival::Behind,
        (true, false, true) if own.must_wait(is_write) => met_a_fence(marker, own),
        (_, _, true) => Arrival::Serve,
        (true, false, false) if marker.epoch != own.epoch() && marker.knows_stale => Arrival::Stale,
        (true, false, false) if marker.epoch != own.epoch() => Arrival::StaleToOld,
        (_, _, false) => Arrival::Loop,
    }
}

/// Decides about a write of a range that is fenced here.
///
/// A sender that follows the announce of the same move is a member of the move, whose ack will count this
/// write. One that is further behind is none: it must first learn of the fence.
fn met_a_fence(marker: &Marker, own: &Resolved) -> Arrival {
    match marker.epoch + 1 == own.epoch() {
        true if marker.knows_stale => Arrival::ServeBegun,
        false if marker.knows_stale && marker.epoch < own.epoch() => Arrival::Stale,
        // An older program, which passes a 421 on to its client: the write waits here.
        _ => Arrival::Serve,
    }
}

impl Resolved {
    /// The same keys as the sender of a marker resolved them, whose map is newer than the newest that can be
    /// found here ([`Arrival::ServeAsSent`]): the data is here.
    pub fn as_sent(&self, marker: &Marker) -> Self {
        let mut range = OwnedRange::clone(&self.range);
        (range.epoch, range.shard, range.state) =
            (marker.epoch, marker.shard.as_str().into(), RangeState::Active);
        Self::in_one(self.keys.clone(), Arc::new(range))
    }
}

/// What one member of a move, a sidecar or a consumer, says of the map that it follows: the answer to
/// `POST /shards/map`, and what it writes to `shards-members/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Host name and random digits: one process, not one machine.
    pub pod: String,
    /// Version of the program.
    pub version: String,
    /// Name of the map.
    pub map: String,
    /// Whether the member's rules file says `live = true`.
    pub is_live: bool,
    /// Epoch in force; 0 when it knows none.
    pub epoch: u64,
    /// [`MapObject::hash`] of what is in force.
    pub hash: String,
    /// Hash of shards, key type and shard rules of the map in its rules file.
    pub map_rules: String,
    /// Hash of the ranges of the map in its rules file; empty from a version that does not say it.
    #[serde(default)]
    pub seed: String,
    /// Hash of its whole rules file.
    pub config_hash: String,
    /// Requests that write in the range of the move and have not ended.
    pub in_flight: u64,
    /// Of them, those whose connection broke while the application may still be writing.
    pub unsettled: u64,
    /// Ids of adopted requests among them: they run on as jobs.
    pub adopted: Vec<String>,
    /// Ids of jobs of the range that run.
    pub jobs: Vec<String>,
    /// What is in flight, for people: route, method, age; at most [`NAMED_MAX`].
    pub writes: Vec<String>,
    /// Requests that wait for the end of the move.
    pub held: u64,
    /// Shards of the object that its rules file does not declare.
    pub unknown_shards: Vec<String>,
    /// Upstreams of shards that nothing is bound to.
    pub unbound: Vec<String>,
}

/// Writes in flight that an ack names.
pub const NAMED_MAX: usize = 16;

/// What keeps a member from following a move to its next stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    /// It has not answered.
    Silent,
    /// It follows an older version of the map.
    Behind(u64),
    /// It follows another map of the same epoch.
    Conflict,
    /// Writes of the range have not ended there.
    Writing {
        /// Requests, jobs and adopted executions.
        count: u64,
        /// Some of them by name.
        named: Vec<String>,
    },
    /// It can't serve the target: the rules file of this pod does not declare it, or nothing is bound.
    Unfit(String),
}

impl Hindrance {
    /// Whether waiting may help. What is unfit must be mended by a rollout.
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::Unfit(_) | Self::Conflict)
    }
}

impl std::fmt::Display for Hindrance {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Silent => out.write_str("does not answer"),
            Self::Behind(0) => out.write_str("knows no map yet"),
            Self::Behind(epoch) => write!(out, "follows epoch {epoch}"),
            Self::Conflict => out.write_str("follows another map of the same epoch"),
            Self::Writing { count, named } if named.is_empty() => {
                write!(out, "has {count} writes in flight")
            }
            Self::Writing { count, named } => {
                write!(out, "has {count} writes in flight: {}", named.join(", "))
            }
            Self::Unfit(why) => out.write_str(why),
        }
    }
}

/// What keeps a member from the stage that the object is at; none: it has followed.
///
/// `map_rules` is that of the coordinator's rules file. An ack is worth nothing once a newer object exists,
/// so each stage asks anew.
pub fn hindrance(object: &MapObject, map_rules: &str, ack: Option<&Ack>) -> Option<Hindrance> {
    let Some(ack) = ack else { return Some(Hindrance::Silent) };
    if !ack.is_live {
        let why = "its rules file does not say `live = true` for this map";
        return Some(Hindrance::Unfit(why.to_owned()));
    }
    if !ack.unknown_shards.is_empty() {
        let why = format!("its rules file does not declare {}", ack.unknown_shards.join(", "));
        return Some(Hindrance::Unfit(why));
    }
    let target = object.moving.as_ref().map(|moving| moving.target.as_str());
    if let Some(shard) = ack.unbound.iter().find(|own| Some(own.as_str()) == target) {
        return Some(Hindrance::Unfit(format!(
            "nothing is bound to the upstream of shard {shard}"
        )));
    }
    if ack.map_rules != map_rules {
        let why = "its rules file has other shards, keys or shard rules for this map";
        return Some(Hindrance::Unfit(why.to_owned()));
    }
    if ack.epoch < object.epoch {
        return Some(Hindrance::Behind(ack.epoch));
    }
    if ack.epoch > object.epoch || ack.hash != object.hash() {
        return Some(Hindrance::Conflict);
    }
    let is_fenced = object.moving.as_ref().is_some_and(|own| own.stage == MoveStage::Fenced);
    let count = ack.in_flight + ack.adopted.len() as u64 + ack.jobs.len() as u64;
    if is_fenced && count > 0 {
        let ids = ack.jobs.iter().chain(&ack.adopted).map(|id| format!("job {id}"));
        let named = ids.chain(ack.writes.iter().cloned()).take(NAMED_MAX).collect();
        return Some(Hindrance::Writing { count, named });
    }
    None
}
