//! Which shard a request belongs to.

use super::basic::{KeySource, KeyType, Mode};
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `shard` of a route: a request belongs to the shard that holds its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRule {
    /// Whether requests are routed by it.
    pub mode: Mode,
    /// The key's `[shard_map.NAME]`.
    pub map: String,
    /// Where the key may be in a request; the first source that it has counts.
    pub from: Vec<KeySource>,
    /// How many bytes of a body are read to find a key; a longer body gets 413 `body-too-large`.
    pub body_limit: u64,
    /// Whether requests of the route write; none: those with an unsafe method do (RFC 9110 section 9.2.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<bool>,
    /// How long a write counts as in flight whose connection broke: the application may still
    /// be writing.
    #[serde(default = "settle_default", skip_serializing_if = "is_settle_default")]
    pub settle: Millis,
}

impl ShardRule {
    /// Whether a request with this method writes.
    pub fn is_write(&self, method: &str) -> bool {
        let is_safe = matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE");
        self.writes.unwrap_or(!is_safe)
    }
}

/// `shard.settle` where a route says nothing else: as long as an application usually takes to answer.
pub const SETTLE_DEFAULT: Millis = Millis(30_000);

fn settle_default() -> Millis {
    SETTLE_DEFAULT
}

fn is_settle_default(settle: &Millis) -> bool {
    *settle == SETTLE_DEFAULT
}

/// `[shard_map.NAME]`: which shard holds which keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardMapSection {
    /// How keys are read and ordered.
    pub key_type: KeyType,
    /// Lower bounds, ascending; each range ends where the next begins. `None` = open below.
    pub ranges: Vec<Range>,
    /// Exclusive upper end of the last range; `None` = open.
    pub until: Option<String>,
    /// The shard of every key that no range holds. None: such a request is refused with `key-unmapped`.
    pub outside: Option<String>,
    /// The shards by name.
    pub shards: BTreeMap<String, Shard>,
    /// Whether the authority is an object in the result store; the ranges are its seed then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub live: bool,
    /// How long and how many writes of a fenced range may wait, in each process.
    #[serde(default, skip_serializing_if = "Hold::is_default")]
    pub hold: Hold,
}

/// `[shard_map.NAME.hold]`: limits of the requests that wait while a range moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// How long one may wait.
    pub time: Millis,
    /// How many may wait at once.
    pub requests: u64,
    /// Bytes of bodies that had to be read to find their keys.
    pub bytes: u64,
}

impl Default for Hold {
    /// A move stands still for about a second; load balancers give up after 60 s.
    fn default() -> Self {
        Self { time: Millis(5_000), requests: 1_000, bytes: 16 * 1024 * 1024 }
    }
}

impl Hold {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One range of a shard map, up to where the next begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The lowest key that it holds. None: open below.
    pub from: Option<String>,
    /// The shard that holds these keys.
    pub shard: String,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Name of its upstream, as `--upstream` binds it. None: the local application serves it.
    pub upstream: Option<String>,
}
