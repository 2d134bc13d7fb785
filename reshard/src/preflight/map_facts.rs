//! What is known of the map.

use crate::map::Member;
use std::time::Duration;

/// What is known of the map beside the object itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapFacts {
    /// Names of the shards that the rules file declares.
    pub shards: Vec<String>,
    /// How long a write of a fenced range waits.
    pub hold: Duration,
    /// Sidecars and consumers with what keeps each from a move, as `spillway shards members` says it; none: no
    /// address is given.
    pub members: Option<Vec<Member>>,
}
