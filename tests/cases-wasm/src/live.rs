//! Live shard maps as a case writes them.

use rules::shard::object::{Changed, FORMAT, MapObject, OutsideOwner, StoredRange};
use rules::shard::{RangeState, ShardMap};
use rules::{Rules, UnixMillis};
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc};

/// What the object of a live map says of its ranges. No move is under way: what waits for one is not decided
/// from the head of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LiveMap {
    epoch: u64,
    ranges: Vec<LiveRange>,
    until: Option<String>,
    outside: Option<OutsideOwner>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LiveRange {
    /// The lowest key; none: open below.
    from: Option<String>,
    shard: String,
    since: u64,
}

/// The rules of a process that knows these objects.
///
/// # Errors
/// A map that the rules file does not have, or one that no process would take.
pub(crate) fn known(rules: &Rules, maps: &BTreeMap<String, LiveMap>) -> Result<Rules, String> {
    let mut known = rules.clone();
    for (name, map) in maps {
        let failed = |why: String| format!("live map {name}: {why}");
        let section = rules.document.shard_maps.get(name).filter(|section| section.live);
        let section = section.ok_or_else(|| failed("the rules file has no such".to_owned()))?;
        let object = map.object(name, section.key_type);
        object.check().map_err(failed)?;
        object.fits(section).map_err(|why| failed(why.to_string()))?;
        let map = ShardMap::live(&name.as_str().into(), section, &Arc::new(object));
        known = known.with_map(Arc::new(map.map_err(failed)?));
    }
    Ok(known)
}

impl LiveMap {
    fn object(&self, name: &str, key_type: rules::document::KeyType) -> MapObject {
        let stored = |range: &LiveRange| StoredRange {
            from: range.from.clone(),
            shard: range.shard.clone(),
            since: range.since,
            state: RangeState::Active,
        };
        let (by, why) = ("a case".to_owned(), String::new());
        MapObject {
            format: FORMAT,
            map: name.to_owned(),
            key_type,
            epoch: self.epoch,
            ranges: self.ranges.iter().map(stored).collect(),
            until: self.until.clone(),
            outside: self.outside.clone(),
            moving: None,
            changed: Changed { by, at: UnixMillis(0), why },
            mac: String::new(),
        }
    }
}
