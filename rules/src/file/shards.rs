//! `[shard_map.NAME]`.

use super::intervals::{self, Written};
use super::names;
use super::tree::{Table, Value};
use crate::document::{Hold, KeyType, Shard, ShardMapSection};
use crate::shard::ShardKey;

/// Each that waits keeps a connection open; more would fill a load balancer.
const HOLD_REQUESTS_MAX: u64 = 100_000;

pub(super) fn shard_map(table: &Table<'_>) -> ShardMapSection {
    let types = [
        ("int", KeyType::Int),
        ("text", KeyType::Text),
        ("uuid", KeyType::Uuid),
        ("timestamp", KeyType::Timestamp),
    ];
    if !table.has("key_type") {
        table.missing("key_type", "\"int\", \"text\", \"uuid\" or \"timestamp\"");
    }
    let key_type = table.choice("key_type", &types).unwrap_or(KeyType::Text);
    let items = table.value("ranges").map_or_else(Vec::new, |value| value.items());
    if items.is_empty() {
        table.missing("ranges", "[{ from = 1, shard = \"a\" }, …]");
    }
    let written: Vec<Written> = items.iter().filter_map(|item| range(item, key_type)).collect();
    let until = table.value("until").and_then(|value| bound(&value, key_type));
    let (ranges, until) = intervals::ranges(table, key_type, written, until);
    let shards = table.table("shards");
    if let Some(shards) = &shards {
        names::of_entries(shards, "a shard");
    } else {
        table.missing("shards", "{ a = { upstream = \"app-a\" }, … }");
    }
    let shards = shards.map_or_else(Default::default, |shards| {
        shards.entries().filter_map(|(name, value)| Some((name, shard(&value.table()?)))).collect()
    });
    let outside = table.text("outside");
    let live = table.flag("live");
    let hold = table.table("hold").map_or_else(Hold::default, |hold| read_hold(&hold));
    let map = ShardMapSection { key_type, ranges, until, outside, shards, live, hold };
    table.finish();
    let used = map.ranges.iter().map(|range| &range.shard).chain(&map.outside);
    for name in used.filter(|name| !map.shards.contains_key(*name)) {
        let reason = format!("shard `{name}` is not in `shards`");
        table.fault(
            "unknown-shard",
            reason,
            &format!("Add it: shards = {{ {name} = {{ upstream = \"…\" }} }}."),
        );
    }
    map
}

fn shard(table: &Table<'_>) -> Shard {
    let shard = Shard { upstream: table.text("upstream") };
    table.finish();
    shard
}

fn read_hold(table: &Table<'_>) -> Hold {
    let usual = Hold::default();
    let hold = Hold {
        time: table.duration("time").unwrap_or(usual.time),
        requests: table.number("requests", 1, HOLD_REQUESTS_MAX).unwrap_or(usual.requests),
        bytes: table.size("bytes").unwrap_or(usual.bytes),
    };
    table.finish();
    hold
}

/// One range as written: its lower bound, where "min" is open below, and its last key if it has one.
fn range(item: &Value<'_>, key_type: KeyType) -> Option<Written> {
    let table = item.table()?;
    let from = table.value("from");
    if from.is_none() {
        table.missing("from", "the lowest key of the range, or \"min\"");
    }
    let is_open = from.as_ref().is_some_and(|value| value.is_text() && value.text() == Some("min"));
    let to = table.value("to");
    let from = if is_open { None } else { Some(bound(&from?, key_type)?) };
    let to = match to {
        Some(value) => Some(bound(&value, key_type)?),
        None => None,
    };
    let written = Written { from, to, shard: table.required_text("shard") };
    table.finish();
    Some(written)
}

fn bound(value: &Value<'_>, key_type: KeyType) -> Option<String> {
    let literal = value.literal()?;
    match ShardKey::parse(key_type, &literal) {
        Some(key) => Some(key.to_string()),
        None => {
            let reason = format!("`{literal}` is not a key of type {}", key_type.as_str());
            value.fault("bad-key", reason, "Write the bound in the map's key_type.");
            None
        }
    }
}
