//! Which shard a request belongs to.

use super::basic::{KeySource, KeyType, Mode};
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
    /// Where the key may be; the first source that a request has counts.
    pub from: Vec<KeySource>,
    /// Bytes of a body that are read to find a key in it; a longer body is 413 `body-too-large`.
    pub body_limit: u64,
}

/// `[shard_map.NAME]`: which shard holds which keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardMap {
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
