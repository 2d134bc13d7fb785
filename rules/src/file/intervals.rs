//! The ranges of a shard map in either of their two forms, brought into one: lower bounds, ascending.
//!
//! Open: `{ from = 1, shard = "a" }` ends where the next range begins. Closed, as tables in articles and
//! tickets have it: `{ from = 1, to = 10000, shard = "a" }`, both bounds held.

use super::tree::Table;
use crate::document::{KeyType, Range};
use crate::shard::ShardKey;

/// One range as it is written; bounds in canonical form.
pub(super) struct Written {
    /// None: open below.
    pub from: Option<String>,
    /// The last key that the range holds, in the closed form.
    pub to: Option<String>,
    pub shard: String,
}

/// The ranges as lower bounds, and the exclusive upper end.
pub(super) fn ranges(
    table: &Table<'_>,
    key_type: KeyType,
    written: Vec<Written>,
    until: Option<String>,
) -> (Vec<Range>, Option<String>) {
    let closed = written.iter().filter(|range| range.to.is_some()).count();
    let end = if closed == 0 {
        check_order(table, key_type, &written);
        check_until(table, key_type, &written, until.as_deref());
        until
    } else if closed < written.len() {
        table.fault(
            "mixed-ranges",
            format!("{closed} of {} ranges have `to`", written.len()),
            "Give all ranges `to`, or none: without it each ends where the next begins.",
        );
        until
    } else {
        closed_end(table, key_type, &written, until)
    };
    let ranges = written.into_iter().map(|own| Range { from: own.from, shard: own.shard });
    (ranges.collect(), end)
}

/// Lower bounds only, so no gap and no overlap can be written; what remains is the order.
fn check_order(table: &Table<'_>, key_type: KeyType, ranges: &[Written]) {
    let key =
        |range: &Written| range.from.as_deref().and_then(|from| ShardKey::parse(key_type, from));
    for (left, right) in ranges.iter().zip(ranges.iter().skip(1)) {
        if key(right) <= key(left) {
            let show = |range: &Written| range.from.clone().unwrap_or_else(|| "min".to_owned());
            let reason = format!("range from {} comes after {}", show(right), show(left));
            table.fault(
                "ranges-not-ascending",
                reason,
                "Sort the ranges by `from`, each bound once.",
            );
        }
    }
}

fn check_until(table: &Table<'_>, key_type: KeyType, ranges: &[Written], until: Option<&str>) {
    let last = ranges.last().and_then(|range| range.from.as_deref());
    if let (Some(until), Some(last)) = (until, last)
        && ShardKey::parse(key_type, until) <= ShardKey::parse(key_type, last)
    {
        table.fault(
            "until-too-low",
            format!("until = {until} is not above the last range"),
            "`until` is the first key that no range holds.",
        );
    }
}

/// Checks ranges with both bounds; the exclusive upper end of the last one.
fn closed_end(
    table: &Table<'_>,
    key_type: KeyType,
    ranges: &[Written],
    until: Option<String>,
) -> Option<String> {
    if until.is_some() {
        table.fault(
            "mixed-ranges",
            "`until` stands beside ranges that have `to`".to_owned(),
            "Remove `until`: the last range's `to` is the end.",
        );
    }
    if !matches!(key_type, KeyType::Int | KeyType::Uuid) {
        table.fault(
            "closed-range-type",
            format!("between two keys of type {} lie others", key_type.as_str()),
            "Remove `to`: each range ends where the next begins, and `until` ends the last one.",
        );
        return None;
    }
    let key = |text: &Option<String>| text.as_deref().and_then(|it| ShardKey::parse(key_type, it));
    let show = |own: &Written| {
        let (from, to) = (own.from.as_deref().unwrap_or("min"), own.to.as_deref());
        format!("{from}-{}", to.unwrap_or_default())
    };
    for range in ranges.iter().filter(|own| key(&own.to) < key(&own.from)) {
        let reason = format!("the range {} holds no key", show(range));
        table.fault("empty-range", reason, "`to` is the last key of the range.");
    }
    for (left, right) in ranges.iter().zip(ranges.iter().skip(1)) {
        let (end, begin) = (key(&left.to), key(&right.from));
        let next = end.as_ref().and_then(after);
        if begin <= end {
            let least = if key(&right.to) < end { &right.to } else { &left.to };
            let from = right.from.as_deref().unwrap_or("min");
            let last = least.as_deref().unwrap_or_default();
            table.fault(
                "ranges-overlap",
                format!("ranges {} and {} overlap in {from}-{last}", show(left), show(right)),
                "Let each key lie in one range, and sort them by `from`.",
            );
        } else if next != begin {
            let first = next.map_or_else(String::new, |key| key.to_string());
            table.fault(
                "ranges-gap",
                format!("between {} and {} no range holds {first}", show(left), show(right)),
                "Let each range begin at the key after the last one's `to`, or write `outside`.",
            );
        }
    }
    ranges.last().and_then(|last| key(&last.to)).and_then(|end| Some(after(&end)?.to_string()))
}

/// The next key; none after the last one, where the range is open above.
fn after(key: &ShardKey) -> Option<ShardKey> {
    match key {
        ShardKey::Int(number) => number.checked_add(1).map(ShardKey::Int),
        ShardKey::Uuid(number) => number.checked_add(1).map(ShardKey::Uuid),
        ShardKey::Text(_) | ShardKey::Timestamp(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::file::check;

    fn map(key_type: &str, ranges: &str) -> String {
        format!(
            "[shard_map.m]\nkey_type = \"{key_type}\"\nranges = [{ranges}]\nshards = {{ a = {{}}, b = {{}} }}\n"
        )
    }

    fn faults(key_type: &str, ranges: &str) -> Vec<String> {
        let found = check(&map(key_type, ranges)).expect_err("a fault");
        found.iter().map(|own| format!("{}: {}", own.name, own.reason)).collect()
    }

    #[test]
    fn both_forms_of_a_table_are_one_document_and_one_hash() {
        let closed = map(
            "int",
            "{ from = 1, to = 10000, shard = \"a\" }, { from = 10001, to = 20000, shard = \"b\" }",
        );
        let open = map("int", "{ from = 1, shard = \"a\" }, { from = 10001, shard = \"b\" }");
        let open = open.replace("shards =", "until = 20001\nshards =");
        let document = |text: &str| check(text).expect("good").document;
        assert_eq!(document(&closed), document(&open));
        assert_eq!(document(&closed).hash(), document(&open).hash());
    }

    #[test]
    fn the_last_key_of_a_type_leaves_the_map_open_above() {
        let text = map("int", &format!("{{ from = 1, to = {}, shard = \"a\" }}", i64::MAX));
        assert_eq!(check(&text).expect("good").document.shard_maps["m"].until, None);
    }

    #[test]
    fn what_closed_ranges_can_get_wrong_names_both_bounds() {
        let one = "{ from = 1, to = 10000, shard = \"a\" }";
        assert_eq!(
            faults("int", &format!("{one}, {{ from = 9000, to = 20000, shard = \"b\" }}")),
            ["ranges-overlap: ranges 1-10000 and 9000-20000 overlap in 9000-10000"]
        );
        assert_eq!(
            faults("int", &format!("{one}, {{ from = 10003, to = 20000, shard = \"b\" }}")),
            ["ranges-gap: between 1-10000 and 10003-20000 no range holds 10001"]
        );
        assert_eq!(
            faults("int", "{ from = 5, to = 4, shard = \"a\" }"),
            ["empty-range: the range 5-4 holds no key"]
        );
        assert_eq!(
            faults("int", &format!("{one}, {{ from = 10001, shard = \"b\" }}")),
            ["mixed-ranges: 1 of 2 ranges have `to`"]
        );
        assert_eq!(
            faults("text", "{ from = \"a\", to = \"m\", shard = \"a\" }"),
            ["closed-range-type: between two keys of type text lie others"]
        );
    }
}
