//! `[shard_map.NAME]`.

use super::names;
use super::tree::{Table, Value};
use crate::document::KeyType;
use crate::document::{Range, Shard, ShardMap};
use crate::shard::Key;

pub(super) fn shard_map(table: &Table<'_>) -> ShardMap {
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
    let ranges: Vec<Range> = items.iter().filter_map(|item| range(item, key_type)).collect();
    ascending(table, &ranges, key_type);
    let until = table.value("until").and_then(|value| bound(&value, key_type));
    if let (Some(until), Some(last)) = (&until, ranges.last().and_then(|range| range.from.as_ref()))
        && Key::parse(key_type, until) <= Key::parse(key_type, last)
    {
        table.fault(
            "until-too-low",
            format!("until = {until} is not above the last range"),
            "`until` is the first key that no range holds.",
        );
    }
    let shards = table.table("shards");
    if let Some(shards) = &shards {
        names::of_entries(shards, "a shard");
    } else {
        table.missing("shards", "{ a = { upstream = \"app-a\" }, … }");
    }
    let shards = shards.map_or_else(Default::default, |shards| {
        shards.entries().filter_map(|(name, value)| Some((name, shard(&value.table()?)))).collect()
    });
    let map = ShardMap { key_type, ranges, until, outside: table.text("outside"), shards };
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

/// A range's lower bound; "min" is open below.
fn range(item: &Value<'_>, key_type: KeyType) -> Option<Range> {
    let table = item.table()?;
    let from = table.value("from");
    if from.is_none() {
        table.missing("from", "the lowest key of the range, or \"min\"");
    }
    let is_open = from.as_ref().is_some_and(|value| value.is_text() && value.text() == Some("min"));
    let from = if is_open { None } else { Some(bound(&from?, key_type)?) };
    let range = Range { from, shard: table.required_text("shard") };
    table.finish();
    Some(range)
}

fn bound(value: &Value<'_>, key_type: KeyType) -> Option<String> {
    let literal = value.literal()?;
    match Key::parse(key_type, &literal) {
        Some(key) => Some(key.to_string()),
        None => {
            let reason = format!("`{literal}` is not a key of type {}", key_type.as_str());
            value.fault("bad-key", reason, "Write the bound in the map's key_type.");
            None
        }
    }
}

/// Lower bounds only, so no gap and no overlap can be written; what remains is the order.
fn ascending(table: &Table<'_>, ranges: &[Range], key_type: KeyType) {
    let key = |range: &Range| range.from.as_deref().and_then(|from| Key::parse(key_type, from));
    for (left, right) in ranges.iter().zip(ranges.iter().skip(1)) {
        if key(right) <= key(left) {
            let show = |range: &Range| range.from.clone().unwrap_or_else(|| "min".to_owned());
            let reason = format!("range from {} comes after {}", show(right), show(left));
            table.fault(
                "ranges-not-ascending",
                reason,
                "Sort the ranges by `from`, each bound once.",
            );
        }
    }
}
